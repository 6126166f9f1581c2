"""A channel's bias and LeakyReLU: z = x + bias[c], y = gain·(z if z > 0 else slope·z).

With slope ≥ 0 and gain > 0, y > 0 exactly where z > 0: y alone gives the derivative,
dx = dy·gain·(1 if y > 0 else slope) and dbias[c] = Σ dx, and that is linear in dy, so that its own
is (v + w[c])·(the same).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import REDUCTION_TILE, WARPS, on_device_of, tuned, wrap_triton
from .moments import parts_of
from .tiles import channel_sums, images_of, store, tile_at


@tuned
@triton.jit(do_not_specialize=["samples"])
def _gate_kernel(
    input,
    bias,
    gate,
    output,
    samples,
    channels,
    pixels,
    negative_slope,
    gain,
    WITH_BIAS: tl.constexpr,
    WITH_GATE: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    TILE: tl.constexpr,
):
    """(input + bias)·gain·(1 if gate > 0 else slope); if there is no gate, that sum is."""
    columns = tl.cdiv(channels, BLOCK_CHANNELS)
    program = tl.program_id(0)
    _, c, offsets, inside, _ = tile_at(
        program // columns, program % columns, samples, channels, pixels,
        TILE, BLOCK_PIXELS, BLOCK_CHANNELS, CHANNELS_LAST,
    )  # fmt: skip
    z = tl.load(input + offsets, inside, 0.0).to(tl.float32)
    if WITH_BIAS:
        z += tl.load(bias + c, c < channels, 0.0)[None, None, :]
    sign = tl.load(gate + offsets, inside, 0.0).to(tl.float32) if WITH_GATE else z
    store(output + offsets, tl.where(sign > 0, z, z * negative_slope) * gain, inside)


@triton.jit(do_not_specialize=["samples", "part_tiles", "tiles"])
def _backward_kernel(
    grad,
    output,
    grad_input,
    sums,
    samples,
    channels,
    pixels,
    part_tiles,
    tiles,
    negative_slope,
    gain,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    TILE: tl.constexpr,
):
    """Dx, and its sums over each part of a channel."""
    columns = tl.cdiv(channels, BLOCK_CHANNELS)
    part, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    c = tl.cast(column, tl.int64) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    total = tl.zeros([BLOCK_CHANNELS], tl.float32)
    first = part * part_tiles
    for tile in range(first, tl.minimum(first + part_tiles, tiles)):
        _, _, offsets, inside, _ = tile_at(
            tile, column, samples, channels, pixels,
            TILE, BLOCK_PIXELS, BLOCK_CHANNELS, CHANNELS_LAST,
        )  # fmt: skip
        d = tl.load(grad + offsets, inside, 0.0).to(tl.float32)
        y = tl.load(output + offsets, inside, 0.0).to(tl.float32)
        d = tl.where(y > 0, d, d * negative_slope) * gain
        store(grad_input + offsets, d, inside)
        total += channel_sums(d)
    tl.store(sums + tl.cast(part, tl.int64) * channels + c, total, c < channels)


def _launch_gate(
    input: Tensor, bias: Tensor | None, gate: Tensor | None, negative_slope: float, gain: float
) -> Tensor:
    result = torch.empty_like(input)
    if input.numel() == 0:
        return result
    images = images_of(input)
    with on_device_of(input):
        wrap_triton(_gate_kernel)[
            lambda meta: (images.tiles(meta["TILE"]) * images.channel_blocks,)
        ](
            input,
            input if bias is None else bias,
            input if gate is None else gate,
            result,
            images.samples,
            images.channels,
            images.pixels,
            negative_slope,
            gain,
            WITH_BIAS=bias is not None,
            WITH_GATE=gate is not None,
            BLOCK_PIXELS=images.block_pixels,
            BLOCK_CHANNELS=images.block_channels,
            CHANNELS_LAST=images.channels_last,
        )
    return result


def act(input: Tensor, bias: Tensor | None, negative_slope: float, gain: float = 1.0) -> Tensor:
    """Add a bias, (C,) float32 or None, to dense images (N, C, H, W), then LeakyReLU and gain."""
    return _launch_gate(input, bias, None, negative_slope, gain)


def gate(
    grad: Tensor, bias: Tensor | None, output: Tensor, negative_slope: float, gain: float = 1.0
) -> Tensor:
    """Compute (grad + bias)·gain·(1 if output > 0 else slope).

    Args:
        grad: gradient of the output, in the dtype and layout of ``output``.
        bias: (C,) float32 or None.
        output: what :func:`act` returned.
        negative_slope: slope for z ≤ 0.
        gain: what :func:`act` multiplied by.

    Returns:
        A tensor like ``output``.
    """
    return _launch_gate(grad, bias, output, negative_slope, gain)


def backward(
    grad: Tensor, output: Tensor, negative_slope: float, gain: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of :func:`act`.

    Args:
        grad: the output's gradient, in its dtype and layout.
        output: what :func:`act` returned.
        negative_slope: slope for z ≤ 0.
        gain: what :func:`act` multiplied by.

    Returns:
        The input's gradient, like ``output``, and that of the bias, (C,) float32.
    """
    grad_input = torch.empty_like(output)
    if output.numel() == 0:
        return grad_input, torch.zeros(output.shape[1], dtype=torch.float32, device=output.device)
    images = images_of(output)
    parts = parts_of(images, REDUCTION_TILE)
    sums = torch.empty((parts.count, images.channels), dtype=torch.float32, device=output.device)
    with on_device_of(output):
        wrap_triton(_backward_kernel)[(parts.count * images.channel_blocks,)](
            grad,
            output,
            grad_input,
            sums,
            images.samples,
            images.channels,
            images.pixels,
            parts.tiles,
            images.tiles(REDUCTION_TILE),
            negative_slope,
            gain,
            BLOCK_PIXELS=images.block_pixels,
            BLOCK_CHANNELS=images.block_channels,
            CHANNELS_LAST=images.channels_last,
            TILE=REDUCTION_TILE,
            num_warps=WARPS,
        )
    return grad_input, sums.sum(0)

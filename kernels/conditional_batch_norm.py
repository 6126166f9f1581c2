"""Class-conditional batch normalisation and LeakyReLU.

For channel c over all N·H·W values, with r = 1/√(σ²+eps):

    z = γ[label,c]·r·(x−μ) + β[label,c],  y = z if z > 0 else slope·z

With d = dy·(1 if z > 0 else slope), S₀ = Σ d and S₁ = Σ d·(x−μ) over a sample's pixels:

    dβ[k,c] = Σ S₀,  dγ[k,c] = r·Σ S₁ over the samples of class k
    dx = r·γ·d − r·Σγ·S₀/M − (x−μ)·r³·Σγ·S₁/M over all samples   (evaluation: dx = r·γ·d)

Forward: moments of parts, their merging (by the next kernel where they are few), the output.
Backward: S₀ and S₁, their sums by class and over all, dx. In evaluation the first kernel of each is
left out, or writes dx itself. The last kernel walks the images backwards: what was read last is
still in the cache.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from .conditional_batch_norm_kernels import (
    apply_kernel,
    backward_apply_kernel,
    backward_reduce_kernel,
    class_gradients_kernel,
    running_statistics_kernel,
)
from .launch import PAIR_REDUCTION_TILE, WARPS, on_device_of, wrap_triton
from .moments import few_parts, merged_statistics, partial_moments
from .tiles import images_of

_RUNNING_TILE = 256  # channels
_MOST_UNITS = 1024  # of sums over pixels in a channel, if it has no more samples than that


def act(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    """Normalise, scale and shift by class, LeakyReLU.

    Args:
        input: (N, C, H, W), dense.
        labels: (N,) int64; where one is not in [0, K), that sample's output is NaN.
        weight: (K, C) float32, contiguous: γ.
        bias: (K, C) float32, contiguous: β.
        running_mean: (C,) float32 to normalise with, or None: with the batch's own.
        running_var: (C,) float32, biased, or None.
        eps: added to the variance.
        negative_slope: slope for z ≤ 0.

    Returns:
        The output, like ``input``, and the mean, the biased variance and 1/√(σ²+eps) that
        normalised it, (3, C) float32: mean and variance 0 where there are no values.
    """
    output = torch.empty_like(input)
    statistics = torch.empty((3, weight.shape[1]), dtype=torch.float32, device=input.device)
    if input.numel() == 0:
        mean, var = running_mean, running_var
        if mean is None or var is None:
            mean = var = torch.zeros_like(statistics[0])
        return output, torch.stack((mean, var, torch.rsqrt(var + eps)))
    images = images_of(input)
    with on_device_of(input):
        parts = 1
        if running_mean is not None and running_var is not None:
            source, source_mean, source_var = "running", running_mean, running_var
        else:
            moments, shares = partial_moments(input, images)
            if shares.count <= few_parts(images):
                parts = shares.count
                source, source_mean, source_var = "moments", moments, moments
            else:
                merged_statistics(moments, statistics, images, shares, eps)
                source, source_mean, source_var = "statistics", statistics, statistics
        wrap_triton(apply_kernel)[
            lambda meta: (images.tiles(meta["TILE"]) * images.channel_blocks,)
        ](
            input,
            labels,
            weight,
            bias,
            source_mean,
            source_var,
            statistics,
            output,
            images.samples,
            images.channels,
            images.pixels,
            weight.shape[0],
            parts,
            eps,
            negative_slope,
            SOURCE=source,
            BLOCK_PARTS=few_parts(images),
            BLOCK_PIXELS=images.block_pixels,
            BLOCK_CHANNELS=images.block_channels,
            CHANNELS_LAST=images.channels_last,
        )
    return output, statistics


def backward(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    eps: float,
    negative_slope: float,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of :func:`act`.

    Args:
        grad: the output's gradient, in the dtype and layout of ``input``.
        input: as ``act`` got it.
        labels: as ``act`` got them; a sample whose label is no class has NaN for its gradient.
        weight: as ``act`` got it.
        bias: as ``act`` got it.
        statistics: as ``act`` returned them.
        eps: not used: it is in the statistics.
        negative_slope: as ``act`` got it.
        training: whether the statistics were the batch's own, and not constants.

    Returns:
        Gradients of ``input``, in its dtype and layout, of ``weight`` and of ``bias``, (K, C)
        float32; a class that no sample has gets 0.
    """
    grad_input = torch.empty_like(input)
    if input.numel() == 0:
        return grad_input, torch.zeros_like(weight), torch.zeros_like(bias)
    images, classes = images_of(input), weight.shape[0]
    grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
    blocks = images.pixel_blocks(PAIR_REDUCTION_TILE)
    # A sample's pixels in as many sums as there is room for, so that few samples keep a GPU busy.
    segment_tiles = triton.cdiv(blocks, max(1, _MOST_UNITS // images.samples))
    segments = triton.cdiv(blocks, segment_tiles)
    sums = torch.empty(
        (2, images.samples * segments * images.channels), dtype=torch.float32, device=input.device
    )
    corrections = torch.empty((2, images.channels), dtype=torch.float32, device=input.device)
    columns = min(images.block_channels, 16) if images.channels_last else 4
    with on_device_of(input):
        sample_blocks = images.tiles(PAIR_REDUCTION_TILE) // blocks
        wrap_triton(backward_reduce_kernel)[(sample_blocks * segments * images.channel_blocks,)](
            grad,
            input,
            labels,
            weight,
            bias,
            statistics,
            sums,
            grad_input,
            images.samples,
            images.channels,
            images.pixels,
            classes,
            segments,
            segment_tiles,
            blocks,
            negative_slope,
            TRAINING=training,
            BLOCK_PIXELS=images.block_pixels,
            BLOCK_CHANNELS=images.block_channels,
            CHANNELS_LAST=images.channels_last,
            TILE=PAIR_REDUCTION_TILE,
            num_warps=WARPS,
        )
        # In training one more row of programs: the terms of dx that all samples share.
        rows = classes + 1 if training else classes
        wrap_triton(class_gradients_kernel)[(rows * triton.cdiv(images.channels, columns),)](
            sums,
            labels,
            weight,
            statistics,
            grad_weight,
            grad_bias,
            corrections,
            images.samples,
            images.channels,
            images.pixels,
            classes,
            segments,
            BLOCK_UNITS=512 // columns,
            BLOCK_CHANNELS=columns,
            CHANNELS_LAST=images.channels_last,
            CHAIN=16,
            num_warps=2,
        )
        if training:
            wrap_triton(backward_apply_kernel)[
                lambda meta: (images.tiles(meta["TILE"]) * images.channel_blocks,)
            ](
                grad,
                input,
                labels,
                weight,
                bias,
                statistics,
                corrections,
                grad_input,
                images.samples,
                images.channels,
                images.pixels,
                classes,
                negative_slope,
                BLOCK_PIXELS=images.block_pixels,
                BLOCK_CHANNELS=images.block_channels,
                CHANNELS_LAST=images.channels_last,
            )
    return grad_input, grad_weight, grad_bias


def update_running_statistics(
    running_mean: Tensor, running_var: Tensor, statistics: Tensor, count: int, momentum: float
) -> None:
    """Take a batch into the running statistics, in place, in one launch.

    Args:
        running_mean: (C,) float32, contiguous, updated.
        running_var: (C,) float32, contiguous, updated.
        statistics: (3, C), what :func:`act` returned in training.
        count: M = N·H·W. The running variance takes the unbiased variance; for M = 1, where that
            does not exist, the biased one. An empty batch (0) changes nothing.
        momentum: weight of the batch.
    """
    channels = statistics.shape[1]
    if count == 0 or channels == 0:
        return
    with on_device_of(statistics):
        wrap_triton(running_statistics_kernel)[(triton.cdiv(channels, _RUNNING_TILE),)](
            running_mean,
            running_var,
            statistics,
            channels,
            count / max(count - 1, 1),
            float(momentum),
            BLOCK=_RUNNING_TILE,
            num_warps=WARPS,
        )
    # Autograd has to know, as of any change in place.
    torch.autograd.graph.increment_version((running_mean, running_var))

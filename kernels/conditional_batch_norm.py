"""Class-conditional batch normalization and LeakyReLU.

For channel c over all N·H·W values, with r = 1/√(σ²+eps):

    z = γ[label,c]·r·(x−μ) + β[label,c],  y = z if z > 0 else slope·z

With d = dy·(1 if z > 0 else slope), S₀ = Σ d and S₁ = Σ d·(x−μ) over a sample's pixels:

    dβ[k,c] = Σ S₀,  dγ[k,c] = r·Σ S₁ over the samples of class k
    A = Σγ·dβ/M,  B = Σγ·dγ/M over the classes
    dx = r·γ·d − r·A − (x−μ)·r²·B   (evaluation: dx = r·γ·d)

``forward`` is ``statistics`` and ``apply``, ``backward`` is ``backward_reduce`` and
``backward_apply``; between them processes that share a batch exchange what they have.

Forward: moments of parts, their merging (by the next kernel where they are few), the output.
Backward: S₀ and S₁, their sums by class, dx. In evaluation the first kernel of each is left out, or
writes dx itself. The last kernel walks the images backwards: what was read last is still in the
cache.
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
from .tiles import Images, images_of

_RUNNING_TILE = 256  # channels
_BLOCK_CLASSES = {False: 64, True: 8}  # by Images.channels_last: added side by side
_MOST_UNITS = 1024  # of sums over pixels in a channel, if it has no more samples than that


def statistics(input: Tensor, eps: float) -> Tensor:
    """Compute what normalizes a batch.

    Args:
        input: (N, C, H, W), dense.
        eps: added to the variance.

    Returns:
        The mean, the biased variance and 1/√(σ²+eps), (3, C) float32: mean and variance 0 where
        there are no values.
    """
    result = torch.empty((3, input.shape[1]), dtype=torch.float32, device=input.device)
    if input.numel() == 0:
        return _constants(torch.zeros_like(result[0]), torch.zeros_like(result[0]), eps)
    images = images_of(input)
    with on_device_of(input):
        moments, shares = partial_moments(input, images)
        merged_statistics(moments, result, images, shares, eps)
    return result


def apply(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    negative_slope: float,
) -> Tensor:
    """Normalize with given statistics, scale and shift by class, LeakyReLU.

    Args:
        input: as :func:`forward` gets it, and so are the others.
        labels: (N,).
        weight: γ.
        bias: β.
        statistics: (3, C) float32, contiguous, as :func:`statistics` returns them.
        negative_slope: slope for z ≤ 0.

    Returns:
        The output, like ``input``.
    """
    output = torch.empty_like(input)
    if input.numel() > 0:
        source = "statistics", statistics, statistics, 1
        with on_device_of(input):
            _apply(
                images_of(input), input, labels, weight, bias, statistics, output, source,
                0.0, negative_slope,
            )  # fmt: skip
    return output


def forward(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    """Normalize, scale and shift by class, LeakyReLU.

    Args:
        input: (N, C, H, W), dense.
        labels: (N,) int64; where one is not in [0, K), that sample's output is NaN.
        weight: (K, C) float32, contiguous: γ.
        bias: (K, C) float32, contiguous: β.
        running_mean: (C,) float32 to normalize with, or None: with the batch's own.
        running_var: (C,) float32, biased, or None.
        eps: added to the variance.
        negative_slope: slope for z ≤ 0.

    Returns:
        The output, like ``input``, and the mean, the biased variance and 1/√(σ²+eps) that
        normalized it, (3, C) float32: mean and variance 0 where there are no values.
    """
    output = torch.empty_like(input)
    statistics = torch.empty((3, weight.shape[1]), dtype=torch.float32, device=input.device)
    if input.numel() == 0:
        mean, var = running_mean, running_var
        if mean is None or var is None:
            mean = var = torch.zeros_like(statistics[0])
        return output, _constants(mean, var, eps)
    images = images_of(input)
    with on_device_of(input):
        if running_mean is not None and running_var is not None:
            source = "running", running_mean, running_var, 1
        else:
            moments, shares = partial_moments(input, images)
            if shares.count <= few_parts(images):
                source = "moments", moments, moments, shares.count
            else:
                merged_statistics(moments, statistics, images, shares, eps)
                source = "statistics", statistics, statistics, 1
        _apply(images, input, labels, weight, bias, statistics, output, source, eps, negative_slope)
    return output, statistics


def _constants(mean: Tensor, var: Tensor, eps: float) -> Tensor:
    return torch.stack((mean, var, torch.rsqrt(var + eps)))


def _apply(
    images: Images,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    output: Tensor,
    source: tuple[str, Tensor, Tensor, int],
    eps: float,
    negative_slope: float,
) -> None:
    """Write the output.

    Where the source is not ``"statistics"``, write these too: from ``"running"`` mean and variance,
    or by merging so many parts of ``"moments"``.
    """
    name, mean, var, parts = source
    wrap_triton(apply_kernel)[lambda meta: (images.tiles(meta["TILE"]) * images.channel_blocks,)](
        input,
        labels,
        weight,
        bias,
        mean,
        var,
        statistics,
        output,
        images.samples,
        images.channels,
        images.pixels,
        weight.shape[0],
        parts,
        eps,
        negative_slope,
        SOURCE=name,
        BLOCK_PARTS=few_parts(images),
        BLOCK_PIXELS=images.block_pixels,
        BLOCK_CHANNELS=images.block_channels,
        CHANNELS_LAST=images.channels_last,
    )


def backward_reduce(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of γ and β.

    Args:
        grad: the output's gradient, in the dtype and layout of ``input``.
        input: as ``forward`` got it.
        labels: as ``forward`` got them.
        weight: as ``forward`` got it.
        bias: as ``forward`` got it.
        statistics: as ``forward`` returned them.
        negative_slope: as ``forward`` got it.

    Returns:
        Gradients of ``weight`` and of ``bias``, (K, C) float32; a class that no sample has gets 0.
    """
    if input.numel() == 0:
        return torch.zeros_like(weight), torch.zeros_like(bias)
    return _reduce(grad, input, labels, weight, bias, statistics, None, negative_slope)


def _reduce(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    grad_input: Tensor | None,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    """The gradients of γ and β; and dx with constant statistics, if there is where to write it."""
    images, classes = images_of(input), weight.shape[0]
    grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
    blocks = images.pixel_blocks(PAIR_REDUCTION_TILE)
    # A sample's pixels in as many sums as there is room for, so that few samples keep a GPU busy.
    segment_tiles = triton.cdiv(blocks, max(1, _MOST_UNITS // images.samples))
    segments = triton.cdiv(blocks, segment_tiles)
    sums = torch.empty(
        (2, images.samples * segments * images.channels), dtype=torch.float32, device=input.device
    )
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
            sums if grad_input is None else grad_input,  # then it is not written
            images.samples,
            images.channels,
            images.pixels,
            classes,
            segments,
            segment_tiles,
            blocks,
            negative_slope,
            TRAINING=grad_input is None,
            BLOCK_PIXELS=images.block_pixels,
            BLOCK_CHANNELS=images.block_channels,
            CHANNELS_LAST=images.channels_last,
            TILE=PAIR_REDUCTION_TILE,
            num_warps=WARPS,
        )
        wrap_triton(class_gradients_kernel)[(classes * triton.cdiv(images.channels, columns),)](
            sums,
            labels,
            statistics,
            grad_weight,
            grad_bias,
            images.samples,
            images.channels,
            classes,
            segments,
            BLOCK_UNITS=512 // columns,
            BLOCK_CHANNELS=columns,
            CHANNELS_LAST=images.channels_last,
            CHAIN=16,
            num_warps=2,
        )
    return grad_weight, grad_bias


def backward_apply(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    count: int,
    negative_slope: float,
) -> Tensor:
    """Compute the gradient of the input from those of γ and β.

    Args:
        grad: as in :func:`backward_reduce`, and so are the others up to ``statistics``.
        input: the images.
        labels: (N,); a sample whose label is no class has NaN for its gradient.
        weight: γ.
        bias: β.
        statistics: what normalized the images.
        grad_weight: (K, C) float32, contiguous, summed over all values that the statistics are of.
        grad_bias: (K, C) float32, contiguous, summed over the same values.
        count: M, how many values of a channel these are; 0 for constant statistics.
        negative_slope: as ``forward`` got it.

    Returns:
        The gradient, in the dtype and layout of ``input``.
    """
    grad_input = torch.empty_like(input)
    if input.numel() == 0:
        return grad_input
    images = images_of(input)
    with on_device_of(input):
        wrap_triton(backward_apply_kernel)[
            lambda meta: (images.tiles(meta["TILE"]) * images.channel_blocks,)
        ](
            grad,
            input,
            labels,
            weight,
            bias,
            statistics,
            grad_weight,
            grad_bias,
            grad_input,
            images.samples,
            images.channels,
            images.pixels,
            weight.shape[0],
            count,
            negative_slope,
            CONSTANT=count == 0,
            BLOCK_CLASSES=_BLOCK_CLASSES[images.channels_last],
            BLOCK_PIXELS=images.block_pixels,
            BLOCK_CHANNELS=images.block_channels,
            CHANNELS_LAST=images.channels_last,
        )
    return grad_input


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
    """Compute the gradients of :func:`forward`.

    Args:
        grad: the output's gradient, in the dtype and layout of ``input``.
        input: as ``forward`` got it.
        labels: as ``forward`` got them; a sample whose label is no class has NaN for its gradient.
        weight: as ``forward`` got it.
        bias: as ``forward`` got it.
        statistics: as ``forward`` returned them.
        eps: not used: it is in the statistics.
        negative_slope: as ``forward`` got it.
        training: whether the statistics were the batch's own, and not constants.

    Returns:
        Gradients of ``input``, in its dtype and layout, of ``weight`` and of ``bias``, (K, C)
        float32; a class that no sample has gets 0.
    """
    shared = grad, input, labels, weight, bias, statistics
    if training or input.numel() == 0:
        gradients = backward_reduce(*shared, negative_slope)
        count = input.numel() // max(input.shape[1], 1)
        return backward_apply(*shared, *gradients, count, negative_slope), *gradients
    grad_input = torch.empty_like(input)
    return grad_input, *_reduce(*shared, grad_input, negative_slope)


def update_running_statistics(
    running_mean: Tensor, running_var: Tensor, statistics: Tensor, count: int, momentum: float
) -> None:
    """Take a batch into the running statistics, in place, in one launch.

    Args:
        running_mean: (C,) float32, contiguous, updated.
        running_var: (C,) float32, contiguous, updated.
        statistics: (3, C), what :func:`statistics` or :func:`forward` returned.
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

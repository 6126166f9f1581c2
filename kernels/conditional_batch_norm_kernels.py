"""The kernels of conditional batch norm; conditional_batch_norm.py has the formulas.

A sample whose label is no class has NaN for γ and β, and is left out of every class's sums. The
sign of z is recomputed in backward by the same operations on the same numbers.
"""

import triton
import triton.language as tl

from .launch import tuned
from .moments import merge_moments, reciprocal_deviation, variance
from .tiles import sample_sums, store, tile_at


@triton.jit
def _scale_and_shift(labels, weight, bias, rstd, n, c, samples, channels, classes):
    """γ·r and β of each sample and channel, (S, C); NaN where the label is no class."""
    label = tl.load(labels + n, n < samples, -1)
    known = ((label >= 0) & (label < classes))[:, None] & (c < channels)[None, :]
    row = label[:, None] * channels + c[None, :]
    gamma = tl.load(weight + row, known, float("nan"))
    return gamma * rstd[None, :], tl.load(bias + row, known, float("nan"))


@triton.jit
def _pre_activation(centered, scale, shift):
    # One rounding, asked for: left to the compiler, forward and backward could differ in the sign.
    scale = tl.broadcast_to(scale[:, None, :], centered.shape)
    return tl.fma(centered, scale, tl.broadcast_to(shift[:, None, :], centered.shape))


@tuned
@triton.jit(do_not_specialize=["samples", "parts"])
def apply_kernel(
    input,
    labels,
    weight,
    bias,
    source_mean,
    source_var,
    statistics,
    output,
    samples,
    channels,
    pixels,
    classes,
    parts,
    eps,
    negative_slope,
    SOURCE: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    TILE: tl.constexpr,
):
    columns = tl.cdiv(channels, BLOCK_CHANNELS)
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    tile, column = program // columns, program % columns
    n, c, offsets, inside, _ = tile_at(
        tile, column, samples, channels, pixels, TILE, BLOCK_PIXELS, BLOCK_CHANNELS, CHANNELS_LAST
    )
    x = tl.load(input + offsets, inside, 0.0).to(tl.float32)
    if SOURCE == "statistics":
        mean = tl.load(statistics + c, c < channels, 0.0)
        rstd = tl.load(statistics + 2 * channels + c, c < channels, 0.0)
    else:
        if SOURCE == "moments":
            count, mean, rest, square = merge_moments(
                source_mean, 0, parts, c, channels, BLOCK_PARTS, CHANNELS_LAST
            )
            mean += rest
            var = variance(square, count)
        else:
            mean = tl.load(source_mean + c, c < channels, 0.0)
            var = tl.load(source_var + c, c < channels, 0.0)
        rstd = reciprocal_deviation(var, eps)
        first = (c < channels) & (tile == 0)
        tl.store(statistics + c, mean, first)
        tl.store(statistics + channels + c, var, first)
        tl.store(statistics + 2 * channels + c, rstd, first)
    scale, shift = _scale_and_shift(labels, weight, bias, rstd, n, c, samples, channels, classes)
    z = _pre_activation(x - mean[None, None, :], scale, shift)
    store(output + offsets, tl.where(z > 0, z, z * negative_slope), inside)


@triton.jit(do_not_specialize=["samples", "segments", "segment_tiles", "pixel_blocks"])
def backward_reduce_kernel(
    grad,
    input,
    labels,
    weight,
    bias,
    statistics,
    sums,
    grad_input,
    samples,
    channels,
    pixels,
    classes,
    segments,
    segment_tiles,
    pixel_blocks,
    negative_slope,
    TRAINING: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    TILE: tl.constexpr,
):
    """Sum S₀ and S₁ of each sample and segment of pixels; with constant statistics, write dx."""
    columns = tl.cdiv(channels, BLOCK_CHANNELS)
    column = tl.program_id(0) % columns
    segment = tl.program_id(0) // columns % segments
    sample_block = tl.program_id(0) // columns // segments
    first = segment * segment_tiles
    n, c, offsets, inside, _ = tile_at(
        sample_block * pixel_blocks + first, column, samples, channels, pixels,
        TILE, BLOCK_PIXELS, BLOCK_CHANNELS, CHANNELS_LAST,
    )  # fmt: skip
    mean = tl.load(statistics + c, c < channels, 0.0)
    rstd = tl.load(statistics + 2 * channels + c, c < channels, 0.0)
    scale, shift = _scale_and_shift(labels, weight, bias, rstd, n, c, samples, channels, classes)
    sum_0 = tl.zeros(offsets.shape, tl.float32)
    sum_1 = tl.zeros(offsets.shape, tl.float32)
    for block in range(first, tl.minimum(first + segment_tiles, pixel_blocks)):
        _, _, offsets, inside, _ = tile_at(
            sample_block * pixel_blocks + block, column, samples, channels, pixels,
            TILE, BLOCK_PIXELS, BLOCK_CHANNELS, CHANNELS_LAST,
        )  # fmt: skip
        x = tl.load(input + offsets, inside, 0.0).to(tl.float32)
        centered = x - mean[None, None, :]
        d = tl.load(grad + offsets, inside, 0.0).to(tl.float32)
        d = tl.where(_pre_activation(centered, scale, shift) > 0, d, d * negative_slope)
        sum_0 += d
        sum_1 += tl.where(inside, d * centered, 0.0)
        if not TRAINING:
            store(grad_input + offsets, scale[:, None, :] * d, inside)
    units = tl.cast(samples, tl.int64) * segments
    unit = n * segments + segment
    if CHANNELS_LAST:
        index = unit[:, None] * channels + c[None, :]
    else:
        index = c[None, :] * units + unit[:, None]
    inside = (n < samples)[:, None] & (c < channels)[None, :]
    tl.store(sums + index, sample_sums(sum_0), inside)
    tl.store(sums + units * channels + index, sample_sums(sum_1), inside)


@triton.jit(do_not_specialize=["samples", "segments"])
def class_gradients_kernel(
    sums,
    labels,
    statistics,
    grad_weight,
    grad_bias,
    samples,
    channels,
    classes,
    segments,
    BLOCK_UNITS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    CHAIN: tl.constexpr,
):
    """Compute dγ and dβ of a class from the sums of its samples."""
    columns = tl.cdiv(channels, BLOCK_CHANNELS)
    k, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    c = tl.cast(column, tl.int64) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    units = tl.cast(samples, tl.int64) * segments
    total_0 = tl.zeros([BLOCK_UNITS, BLOCK_CHANNELS], tl.float32)
    total_1 = tl.zeros([BLOCK_UNITS, BLOCK_CHANNELS], tl.float32)
    taken = tl.zeros([BLOCK_UNITS], tl.int32)
    for start in range(0, units, BLOCK_UNITS * CHAIN):
        # Long sums in pieces, so that no long chain of additions rounds the same way each time.
        chain_0 = tl.zeros([BLOCK_UNITS, BLOCK_CHANNELS], tl.float32)
        chain_1 = tl.zeros([BLOCK_UNITS, BLOCK_CHANNELS], tl.float32)
        for first in range(start, tl.minimum(start + BLOCK_UNITS * CHAIN, units), BLOCK_UNITS):
            unit = tl.cast(first, tl.int64) + tl.arange(0, BLOCK_UNITS)
            label = tl.load(labels + unit // segments, unit < units, -1)
            taken |= (label == k).to(tl.int32)
            inside = (label == k)[:, None] & (c < channels)[None, :]
            if CHANNELS_LAST:
                index = unit[:, None] * channels + c[None, :]
            else:
                index = c[None, :] * units + unit[:, None]
            chain_0 += tl.load(sums + index, inside, 0.0)
            chain_1 += tl.load(sums + units * channels + index, inside, 0.0)
        total_0 += chain_0
        total_1 += chain_1
    sum_0, sum_1 = tl.sum(total_0, 0), tl.sum(total_1, 0)
    rstd = tl.load(statistics + 2 * channels + c, c < channels, 0.0)
    # Not r·0 for a class without samples: r can be NaN.
    product = tl.where(tl.max(taken) > 0, rstd * sum_1, 0.0)
    tl.store(grad_weight + tl.cast(k, tl.int64) * channels + c, product, c < channels)
    tl.store(grad_bias + tl.cast(k, tl.int64) * channels + c, sum_0, c < channels)


@triton.jit
def _correction(
    weight, grad_weight, grad_bias, rstd, c, channels, classes, count, BLOCK_CLASSES: tl.constexpr
):
    """r·A and r²·B of each channel, (C,): what dx has less than with constant statistics.

    A = Σγ·dβ/M and B = Σγ·dγ/M over the classes, in an order that no tile changes.
    """
    total_0 = tl.zeros([BLOCK_CLASSES, c.shape[0]], tl.float32)
    total_1 = tl.zeros([BLOCK_CLASSES, c.shape[0]], tl.float32)
    for first in range(0, classes, BLOCK_CLASSES):
        k = tl.cast(first, tl.int64) + tl.arange(0, BLOCK_CLASSES)
        inside = (k < classes)[:, None] & (c < channels)[None, :]
        row = k[:, None] * channels + c[None, :]
        gamma = tl.load(weight + row, inside, 0.0)
        of_bias = tl.load(grad_bias + row, inside, 0.0)
        of_weight = tl.load(grad_weight + row, inside, 0.0)
        # What no sample used has no part in it, though its γ be infinite.
        total_0 += tl.where(of_bias != 0, gamma * of_bias, 0.0)
        total_1 += tl.where(of_weight != 0, gamma * of_weight, 0.0)
    sum_0, sum_1 = tl.sum(total_0, 0), tl.sum(total_1, 0)
    if c.shape[0] == 1:
        # As scalars, as merge_moments has them: no conversion to the tile's layout.
        sum_0 = tl.full([1], tl.sum(sum_0, 0), tl.float32)
        sum_1 = tl.full([1], tl.sum(sum_1, 0), tl.float32)
    values = tl.cast(count, tl.float32)
    return rstd * (sum_0 / values), rstd * rstd * (sum_1 / values)


@tuned
@triton.jit(do_not_specialize=["samples", "count"])
def backward_apply_kernel(
    grad,
    input,
    labels,
    weight,
    bias,
    statistics,
    grad_weight,
    grad_bias,
    grad_input,
    samples,
    channels,
    pixels,
    classes,
    count,
    negative_slope,
    CONSTANT: tl.constexpr,
    BLOCK_CLASSES: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    TILE: tl.constexpr,
):
    columns = tl.cdiv(channels, BLOCK_CHANNELS)
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    n, c, offsets, inside, _ = tile_at(
        program // columns, program % columns, samples, channels, pixels,
        TILE, BLOCK_PIXELS, BLOCK_CHANNELS, CHANNELS_LAST,
    )  # fmt: skip
    mean = tl.load(statistics + c, c < channels, 0.0)
    rstd = tl.load(statistics + 2 * channels + c, c < channels, 0.0)
    if not CONSTANT:  # before the tile takes the registers
        offset, factor = _correction(
            weight, grad_weight, grad_bias, rstd, c, channels, classes, count, BLOCK_CLASSES
        )
    x = tl.load(input + offsets, inside, 0.0).to(tl.float32)
    d = tl.load(grad + offsets, inside, 0.0).to(tl.float32)
    scale, shift = _scale_and_shift(labels, weight, bias, rstd, n, c, samples, channels, classes)
    centered = x - mean[None, None, :]
    d = tl.where(_pre_activation(centered, scale, shift) > 0, d, d * negative_slope)
    dx = scale[:, None, :] * d
    if not CONSTANT:
        dx = dx - offset[None, None, :] - centered * factor[None, None, :]
    store(grad_input + offsets, dx, inside)


@triton.jit
def running_statistics_kernel(
    running_mean, running_var, statistics, channels, unbiased, momentum, BLOCK: tl.constexpr
):
    """Add momentum·(the batch's − running) to the running statistics; σ² is times ``unbiased``."""
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = c < channels
    mean = tl.load(statistics + c, inside, 0.0)
    var = tl.load(statistics + channels + c, inside, 0.0) * unbiased
    old_mean, old_var = tl.load(running_mean + c, inside), tl.load(running_var + c, inside)
    tl.store(running_mean + c, _lerp(old_mean, mean, momentum), inside)
    tl.store(running_var + c, _lerp(old_var, var, momentum), inside)


@triton.jit
def _lerp(start, end, weight):
    """From the nearer end, as PyTorch does: with a weight of 1 the result is ``end`` itself."""
    forth = start + weight * (end - start)
    back = end - (end - start) * (1 - weight)
    return tl.where(tl.abs(weight) < 0.5, forth, back)

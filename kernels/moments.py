"""Mean and variance of each channel: moments of parts of it, and their merging.

Sums are centered, never E[x²]−E[x]². A mean comes with what its float32 leaves of it, so that means
far from 0, or far from each other, cost no digits of the variance (Chan, Golub & LeVeque 1983).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import REDUCTION_TILE, WARPS, wrap_triton
from .tiles import Images, channel_sums, tile_at

# As many parts are merged by every program that needs the statistics, which saves a launch.
_FEW_PARTS = {False: 64, True: 32}  # by Images.channels_last
_MOST_PARTS = 1024
_SMALL = 4096  # tiles; with more a launch does not matter
_FILLED = 512  # programs keep a GPU busy
_A_LAUNCH = 2  # tiles of a program, of which the second takes less time than a launch would
_MERGED = 1024  # parts × channels in one step of the merging kernel


class Parts(NamedTuple):
    """How a channel's tiles are shared out to programs, for sums over the channel."""

    count: int
    tiles: int
    """In each of them, but the last."""


def parts_of(images: Images, tile: int) -> Parts:
    """Choose parts that keep a GPU busy and, if possible, are few enough to be merged at once."""
    tiles, columns = images.tiles(tile), images.channel_blocks
    few = _FEW_PARTS[images.channels_last]
    busy = few * columns >= _FILLED and tiles * columns <= _SMALL
    most = few if busy or tiles <= _A_LAUNCH * few else _MOST_PARTS
    each = triton.cdiv(tiles, most)
    return Parts(triton.cdiv(tiles, each), each)


@triton.jit
def _merge(count, mean, rest, square, count_2, mean_2, rest_2, square_2):
    """Count, mean, what is left of the mean, and sum of squares about both, of two sets of values.

    Args:
        count: number of values of one set, a scalar; it may be 0.
        mean: (C,), as the others.
        rest: the mean less ``mean``, of a lesser size than its rounding.
        square: sum of squares about the mean.
        count_2: number of values of the other set, which is not empty.
        mean_2: mean of the other set.
        rest_2: what float32 leaves of that mean.
        square_2: centered sum of squares of the other set.
    """
    total = count + count_2
    distance = (mean_2 - mean) + (rest_2 - rest)
    step = distance * (count_2 / total)
    moved = mean + step
    # What rounding took from that sum, whichever of the two is larger (Knuth).
    taken = moved - mean
    lost = (mean - (moved - taken)) + (step - taken)
    square += square_2 + distance * (count * (count_2 / total)) * distance
    empty = count == 0
    return total, tl.where(empty, mean_2, moved), tl.where(empty, rest_2, rest + lost), square


@triton.jit(do_not_specialize=["samples", "parts", "part_tiles", "tiles"])
def _moments_kernel(
    input,
    moments,
    samples,
    channels,
    pixels,
    parts,
    part_tiles,
    tiles,
    TILE: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
):
    columns = tl.cdiv(channels, BLOCK_CHANNELS)
    part, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    c = tl.cast(column, tl.int64) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    count = 0.0
    mean = tl.zeros([BLOCK_CHANNELS], tl.float32)
    rest, square = mean, mean
    first = part * part_tiles
    for tile in range(first, tl.minimum(first + part_tiles, tiles)):
        _, _, offsets, inside, tile_count = tile_at(
            tile, column, samples, channels, pixels,
            TILE, BLOCK_PIXELS, BLOCK_CHANNELS, CHANNELS_LAST,
        )  # fmt: skip
        x = tl.load(input + offsets, inside, 0.0).to(tl.float32)
        tile_mean = channel_sums(x) / tile_count
        centered = tl.where(inside, x - tile_mean[None, None, :], 0.0)
        tile_sum = channel_sums(centered)
        tile_rest = tile_sum / tile_count
        tile_square = channel_sums(centered * centered) - tile_sum * tile_rest
        count, mean, rest, square = _merge(
            count, mean, rest, square, tile_count, tile_mean, tile_rest, tile_square
        )
    size = tl.cast(channels, tl.int64) * parts
    index = tl.cast(part, tl.int64) * channels + c if CHANNELS_LAST else c * parts + part
    tl.store(moments + index, mean, c < channels)
    tl.store(moments + size + index, rest, c < channels)
    tl.store(moments + 2 * size + index, square, c < channels)
    tl.store(moments + 3 * size + part, count, column == 0)


@triton.jit
def merge_moments(
    moments, first, parts, c, channels, BLOCK_PARTS: tl.constexpr, CHANNELS_LAST: tl.constexpr
):
    """Merge the moments of BLOCK_PARTS parts; returns what :func:`_merge` does.

    Args:
        moments: what the moments kernel wrote.
        first: the first part.
        parts: how many there are in all.
        c: (C,) int64, the channels.
        channels: how many there are in all.
        BLOCK_PARTS: how many parts to merge.
        CHANNELS_LAST: the layout of the images, and so of the moments.
    """
    part = tl.cast(first, tl.int64) + tl.arange(0, BLOCK_PARTS)
    inside = (part < parts)[:, None] & (c < channels)[None, :]
    size = tl.cast(channels, tl.int64) * parts
    if CHANNELS_LAST:
        index = part[:, None] * channels + c[None, :]
    else:
        index = c[None, :] * parts + part[:, None]
    means = tl.load(moments + index, inside, 0.0)
    rests = tl.load(moments + size + index, inside, 0.0)
    squares = tl.load(moments + 2 * size + index, inside, 0.0)
    counts = tl.load(moments + 3 * size + part, part < parts, 0.0)
    count = tl.sum(counts, 0)
    mean = tl.sum(counts[:, None] * means, 0) / count
    distance = (means - mean[None, :]) + rests
    total = tl.sum(counts[:, None] * distance, 0)
    rest = total / count
    square = tl.sum(squares + counts[:, None] * distance * distance, 0) - total * rest
    if c.shape[0] == 1:
        # As scalars, for which there is no layout: this one would be converted to the tile's, once
        # for each element of a thread.
        mean = tl.full([1], tl.sum(mean, 0), tl.float32)
        rest = tl.full([1], tl.sum(rest, 0), tl.float32)
        square = tl.full([1], tl.sum(square, 0), tl.float32)
    return count, mean, rest, square


@triton.jit
def variance(square, count):
    """Compute σ² from the sum of squares; what rounding leaves below 0 becomes 0, NaN stays NaN."""
    return tl.where(square < 0, 0.0, square) / count


@triton.jit
def reciprocal_deviation(var, eps):
    """Compute r = 1/√(σ²+eps), rounded once a step, the same wherever it is computed."""
    return tl.div_rn(1.0, tl.sqrt_rn(var + eps))


@triton.jit(do_not_specialize=["parts"])
def _merge_kernel(
    moments,
    statistics,
    channels,
    parts,
    eps,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
):
    c = tl.cast(tl.program_id(0), tl.int64) * BLOCK_CHANNELS
    c += tl.arange(0, BLOCK_CHANNELS)
    count = 0.0
    mean = tl.zeros([BLOCK_CHANNELS], tl.float32)
    rest, square = mean, mean
    for first in range(0, parts, BLOCK_PARTS):
        block_count, block_mean, block_rest, block_square = merge_moments(
            moments, first, parts, c, channels, BLOCK_PARTS, CHANNELS_LAST
        )
        count, mean, rest, square = _merge(
            count, mean, rest, square, block_count, block_mean, block_rest, block_square
        )
    mean += rest
    var = variance(square, count)
    tl.store(statistics + c, mean, c < channels)
    tl.store(statistics + channels + c, var, c < channels)
    tl.store(statistics + 2 * channels + c, reciprocal_deviation(var, eps), c < channels)


def partial_moments(input: Tensor, images: Images) -> tuple[Tensor, Parts]:
    """Compute the moments of the parts of each channel, for :func:`merge_moments`."""
    parts = parts_of(images, REDUCTION_TILE)
    moments = torch.empty(
        parts.count * (3 * images.channels + 1), dtype=torch.float32, device=input.device
    )
    wrap_triton(_moments_kernel)[(parts.count * images.channel_blocks,)](
        input,
        moments,
        images.samples,
        images.channels,
        images.pixels,
        parts.count,
        parts.tiles,
        images.tiles(REDUCTION_TILE),
        TILE=REDUCTION_TILE,
        BLOCK_PIXELS=images.block_pixels,
        BLOCK_CHANNELS=images.block_channels,
        CHANNELS_LAST=images.channels_last,
        num_warps=WARPS,
    )
    return moments, parts


def few_parts(images: Images) -> int:
    """Return how many parts are merged at once by whoever needs the statistics."""
    return _FEW_PARTS[images.channels_last]


def merged_statistics(
    moments: Tensor, statistics: Tensor, images: Images, parts: Parts, eps: float
) -> None:
    """Write mean, variance and 1/√(σ²+eps), (3, C), of many parts."""
    columns = 8 if images.channels_last else 1
    wrap_triton(_merge_kernel)[(triton.cdiv(images.channels, columns),)](
        moments,
        statistics,
        images.channels,
        parts.count,
        eps,
        BLOCK_PARTS=_MERGED // columns,
        BLOCK_CHANNELS=columns,
        CHANNELS_LAST=images.channels_last,
        num_warps=WARPS,
    )

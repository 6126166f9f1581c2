"""Images cut into tiles of samples × pixels × channels, one way for both memory layouts.

A tile holds TILE elements. In contiguous images it lies in one channel: as many pixels of a plane
as fit, of several samples where planes are small, so that tiny images do not make tiny programs. In
channels_last it has a row of channels as long as a memory transaction, and so many fewer pixels.
Tiles follow from the class that a shape is in (the powers of two around it), never from the number
of samples: no batch size compiles a kernel anew.

Tiles are numbered along samples and pixels, and their rows of channels apart from that.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from .launch import INTERPRETED, LARGEST_TILE, PLANES_AT_ONCE

_TRANSACTION = 128  # bytes that a warp reads at once


class Images(NamedTuple):
    """What the kernels have to know of an image tensor's shape and layout."""

    samples: int
    channels: int
    pixels: int
    channels_last: bool
    block_pixels: int
    """The class of H·W: the power of two from it on, at most the largest tile."""
    block_channels: int
    """Channels in a tile."""

    @property
    def channel_blocks(self) -> int:
        """Count the tiles side by side along channels."""
        return triton.cdiv(self.channels, self.block_channels)

    def pixel_blocks(self, tile: int) -> int:
        """Count the tiles of so many elements along pixels."""
        return triton.cdiv(self.pixels, min(self.block_pixels, tile // self.block_channels))

    def tiles(self, tile: int) -> int:
        """Count the tiles of so many elements along samples and pixels."""
        height = max(1, tile // (self.block_pixels * self.block_channels))
        return triton.cdiv(self.samples, height) * self.pixel_blocks(tile)


def images_of(tensor: Tensor) -> Images:
    """Describe the shape and layout of a dense image tensor.

    Raises:
        ValueError: channels_last images whose tiles would span more than 32 bits can count.
    """
    samples = tensor.shape[0]
    channels, height, width = (int(each) for each in tensor.shape[1:])
    pixels = height * width
    # With one pixel both layouts are the same, and what is contiguous are rows of channels.
    channels_last = pixels == 1 or not tensor.is_contiguous()
    block_pixels = min(triton.next_power_of_2(pixels), LARGEST_TILE)
    if channels_last:
        row = _TRANSACTION // tensor.element_size()
        if channels * LARGEST_TILE // row >= 2**31:
            raise ValueError(f"channels_last images of {channels} channels are too wide for Triton")
    else:
        if channels * LARGEST_TILE >= 2**31:
            block_pixels = LARGEST_TILE  # no tile of several samples
        row = min(PLANES_AT_ONCE, LARGEST_TILE // block_pixels)
    block_channels = min(triton.next_power_of_2(channels), row)
    return Images(samples, channels, pixels, channels_last, block_pixels, block_channels)


@triton.jit
def tile_at(
    tile,
    channel_block,
    samples,
    channels,
    pixels,
    TILE: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
):
    """Locate a tile: its indices, offsets and how much of it is inside the images.

    Args:
        tile: its number along samples and pixels.
        channel_block: its number along channels.
        samples: number of images.
        channels: number of channels.
        pixels: pixels of an image, H·W.
        TILE: elements in a tile.
        BLOCK_PIXELS: ``Images.block_pixels``.
        BLOCK_CHANNELS: ``Images.block_channels``.
        CHANNELS_LAST: the layout.

    Returns:
        Its samples (S,) and channels (C,), int64; the offsets of its elements, (S, P, C) int64, and
        which of them are inside the images; how many values of a channel are, float32.
    """
    WIDTH: tl.constexpr = (
        BLOCK_PIXELS if BLOCK_PIXELS * BLOCK_CHANNELS <= TILE else TILE // BLOCK_CHANNELS
    )
    HEIGHT: tl.constexpr = TILE // (WIDTH * BLOCK_CHANNELS)
    pixel_blocks = tl.cdiv(pixels, WIDTH)
    first_sample = tl.cast(tile // pixel_blocks, tl.int64) * HEIGHT
    first_pixel = tl.cast(tile % pixel_blocks, tl.int64) * WIDTH
    first_channel = tl.cast(channel_block, tl.int64) * BLOCK_CHANNELS
    height = tl.minimum(samples - first_sample, HEIGHT).to(tl.int32)
    width = tl.minimum(pixels - first_pixel, WIDTH).to(tl.int32)
    depth = tl.minimum(channels - first_channel, BLOCK_CHANNELS).to(tl.int32)
    # 64 bits for where the tile is, 32 within it: those are in registers for every vector.
    n = tl.arange(0, HEIGHT)
    p = tl.arange(0, WIDTH)[None, :, None]
    c = tl.arange(0, BLOCK_CHANNELS)
    # What belongs to samples or channels stays a vector until it meets the tile: a tensor with
    # dimensions of 1 would be loaded by every thread as often as that has elements of the tile.
    if CHANNELS_LAST:
        first = (first_sample * pixels + first_pixel) * channels + first_channel
        offsets = (n[:, None, None] * pixels + p) * channels + c[None, None, :]
    else:
        first = (first_sample * channels + first_channel) * pixels + first_pixel
        offsets = (n[:, None, None] * channels + c[None, None, :]) * pixels + p
    inside = (n < height)[:, None, None] & (p < width) & (c < depth)[None, None, :]
    count = (height * width).to(tl.float32)
    return first_sample + n, first_channel + c, first + offsets, inside, count


@triton.jit
def channel_sums(tile):
    """Sum a tile over samples and pixels: (C,)."""
    if INTERPRETED:
        # NumPy adds these one after another, a GPU as a tree: twice the bits stand in for that.
        tile = tile.to(tl.float64)
    rows = tl.reshape(tile, [tile.shape[0] * tile.shape[1], tile.shape[2]])
    return tl.sum(rows, 0).to(tl.float32)


@triton.jit
def sample_sums(tile):
    """Sum a tile over pixels: (S, C)."""
    if INTERPRETED:
        tile = tile.to(tl.float64)
    return tl.sum(tile, 1).to(tl.float32)


@triton.jit
def store(pointers, values, inside):
    """Store float32 values, rounded to what the pointers point to."""
    dtype: tl.constexpr = pointers.dtype.element_ty
    if INTERPRETED and dtype == tl.bfloat16:
        # The interpreter cuts bits off where a GPU rounds to nearest even.
        bits = values.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        values = tl.where(values == values, rounded.to(tl.float32, bitcast=True), values)
    tl.store(pointers, values.to(dtype), inside)

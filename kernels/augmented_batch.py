"""Images as a discriminator sees them: stored and generated ones, moved, covered, with noise.

    y[n, c, h, w] = fill in the sample's hole and where (h, w) + shift is outside,
                    x[n, c, (h, w) + shift] elsewhere
    out = y + std·noise

One kernel for that, for what it does to a change of the generated images, and for the transpose of
the latter, which is a gather by the inverse shift.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import INTERPRETED, LARGEST_TILE, WARPS, on_device_of, wrap_triton
from .tiles import store

# Elements in a program's tile: a few for each thread.
_MOST = LARGEST_TILE if INTERPRETED else 1024
_FEWEST = 128


@triton.jit
def _uniform_integer(uniform, least, count):
    """An integer in [least, least + count), each as likely, from a number uniform in [0, 1)."""
    # Bounded first, for NaN and 1e30 are no integers; 0.99999994·count may round up to count.
    scaled = tl.minimum(tl.maximum(uniform * count, 0.0), count - 1.0)
    return least + scaled.to(tl.int32)


@triton.jit(do_not_specialize=["stored_samples", "stored_count", "first"])
def _move_kernel(
    pixels,
    rows,
    mirror,
    images,
    translation,
    cutout,
    noise,
    noise_std,
    output,
    stored_samples,
    stored_count,
    first,
    channels,
    height,
    width,
    translation_stride,
    cutout_stride,
    scale,
    low,
    fill,
    WITH_PIXELS: tl.constexpr,
    WITH_MIRROR: tl.constexpr,
    WITH_TRANSLATION: tl.constexpr,
    WITH_CUTOUT: tl.constexpr,
    WITH_NOISE: tl.constexpr,
    INVERSE: tl.constexpr,
    IMAGES_CHANNELS_LAST: tl.constexpr,
    NOISE_CHANNELS_LAST: tl.constexpr,
    OUTPUT_CHANNELS_LAST: tl.constexpr,
    TILE: tl.constexpr,
):
    """A tile of one sample's elements, in the order in which the output has them in memory.

    The output's samples begin at sample ``first`` of the images and of the uniform numbers.
    """
    values = channels * height * width
    tiles = tl.cdiv(values, TILE)
    sample = tl.cast(tl.program_id(0) // tiles, tl.int64)
    at = (tl.program_id(0) % tiles) * TILE + tl.arange(0, TILE)
    inside = at < values
    if OUTPUT_CHANNELS_LAST:
        c, pixel = at % channels, at // channels
    else:
        c, pixel = at // (height * width), at % (height * width)
    y, x = pixel // width, pixel % width
    from_y, from_x = y, x
    keeps = inside
    if WITH_TRANSLATION:
        # An eighth of the size, to nearest, ties to even.
        most_y, most_x = (height + 3 + height // 8 % 2) // 8, (width + 3 + width // 8 % 2) // 8
        pair = translation + (first + sample) * translation_stride
        shift_y = _uniform_integer(tl.load(pair), -most_y, 2 * most_y + 1)
        shift_x = _uniform_integer(tl.load(pair + 1), -most_x, 2 * most_x + 1)
        if INVERSE:
            shift_y, shift_x = -shift_y, -shift_x
        from_y, from_x = y + shift_y, x + shift_x
        keeps = keeps & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
    if WITH_CUTOUT:
        # The hole's side is half of the size, rounded in the same way. The hole is in what is seen,
        # which is where a gradient comes from.
        size_y, size_x = (height + height // 2 % 2) // 2, (width + width // 2 % 2) // 2
        pair = cutout + (first + sample) * cutout_stride
        top = _uniform_integer(tl.load(pair), -(size_y // 2), height)
        left = _uniform_integer(tl.load(pair + 1), -(size_x // 2), width)
        if INVERSE:
            down, right = from_y - top, from_x - left
        else:
            down, right = y - top, x - left
        # Not the negation of what is inside: the interpreter of Triton before 3.4 has none.
        keeps = keeps & ((down < 0) | (down >= size_y) | (right < 0) | (right >= size_x))

    is_stored = sample < stored_samples
    reads = keeps & (sample >= stored_samples)
    from_pixel = from_y * width + from_x
    if IMAGES_CHANNELS_LAST:
        source = from_pixel * channels + c
    else:
        source = c * (height * width) + from_pixel
    image = first + sample - stored_samples
    value = tl.load(images + image * values + source, reads, 0.0)
    value = tl.where(reads, value.to(tl.float32), fill)
    if WITH_PIXELS:
        row = tl.load(rows + sample, is_stored, 0)
        there = (row >= 0) & (row < stored_count)
        missing = (row < 0) | (row >= stored_count)
        column = from_x
        if WITH_MIRROR:
            mirrored = tl.load(mirror + sample, is_stored, 0) != 0
            column = tl.where(mirrored, width - 1 - from_x, from_x)
        source = (c * height + from_y) * width + column
        reads = keeps & is_stored & there
        byte = tl.load(pixels + row * values + source, reads, 0)
        value = tl.where(reads, byte.to(tl.float32) * scale + low, value)
        value = tl.where(is_stored & missing, float("nan"), value)
    if WITH_NOISE:
        if NOISE_CHANNELS_LAST:
            source = pixel * channels + c
        else:
            source = c * (height * width) + pixel
        value += tl.load(noise_std) * tl.load(noise + sample * values + source, inside, 0.0)
    store(output + sample * values + at, value, inside)


def _move(
    images: Tensor,
    output: Tensor,
    stored_samples: int,
    translation: Tensor | None,
    cutout: Tensor | None,
    *,
    first: int = 0,
    inverse: bool = False,
    stored: Tensor | None = None,
    rows: Tensor | None = None,
    mirror: Tensor | None = None,
    noise: Tensor | None = None,
    noise_std: Tensor | None = None,
    value_range: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    if output.numel() == 0:
        return output
    channels, height, width = (int(each) for each in output.shape[1:])
    values = channels * height * width
    if values >= 2**31 - _MOST:
        raise ValueError(f"images of {values} values are too large for Triton")
    tile = min(max(triton.next_power_of_2(values), _FEWEST), _MOST)
    low, high = value_range
    with on_device_of(output):
        wrap_triton(_move_kernel)[(output.shape[0] * triton.cdiv(values, tile),)](
            images if stored is None else stored,
            images if rows is None else rows,
            images if mirror is None else mirror.view(torch.uint8),
            images,
            images if translation is None else translation,
            images if cutout is None else cutout,
            images if noise is None else noise,
            images if noise_std is None else noise_std,
            output,
            stored_samples,
            0 if stored is None else stored.shape[0],
            first,
            channels,
            height,
            width,
            0 if translation is None else translation.stride(0),
            0 if cutout is None else cutout.stride(0),
            (high - low) / 255,
            low,
            (low + high) / 2,
            WITH_PIXELS=stored is not None,
            WITH_MIRROR=mirror is not None,
            WITH_TRANSLATION=translation is not None,
            WITH_CUTOUT=cutout is not None,
            WITH_NOISE=noise is not None,
            INVERSE=inverse,
            IMAGES_CHANNELS_LAST=_is_channels_last(images),
            NOISE_CHANNELS_LAST=noise is not None and _is_channels_last(noise),
            OUTPUT_CHANNELS_LAST=_is_channels_last(output),
            TILE=tile,
            num_warps=WARPS,
        )
    return output


def _is_channels_last(image: Tensor) -> bool:
    return image.stride(1) == 1


def forward(
    fake: Tensor,
    stored: Tensor | None,
    rows: Tensor | None,
    mirror: Tensor | None,
    translation: Tensor | None,
    cutout: Tensor | None,
    noise: Tensor | None,
    noise_std: Tensor | None,
    value_range: tuple[float, float],
    output: Tensor,
) -> Tensor:
    """Write what the discriminator sees of stored and generated images to ``output``.

    Args:
        fake: (F, C, H, W).
        stored: (M, C, H, W) uint8, contiguous, or None.
        rows: (N,) int64 or None. Where one is out of range the sample is NaN.
        mirror: (N,) bool or None.
        translation: (N + F, 2) float32, each pair side by side, or None.
        cutout: (N + F, 2) float32, the same for the holes, or None.
        noise: (N + F, C, H, W) float32 or None.
        noise_std: one float32 number, with ``noise``.
        value_range: what 0 and 255 stand for.
        output: (N + F, C, H, W).

    Returns:
        ``output``.
    """
    return _move(
        fake,
        output,
        output.shape[0] - fake.shape[0],
        translation,
        cutout,
        stored=stored,
        rows=rows,
        mirror=mirror,
        noise=noise,
        noise_std=noise_std,
        value_range=value_range,
    )


def linear(
    tangent: Tensor,
    translation: Tensor | None,
    cutout: Tensor | None,
    stored_samples: int,
    output: Tensor,
) -> Tensor:
    """Write to ``output`` how what is seen changes with the generated images (F, C, H, W).

    Args:
        tangent: the change.
        translation: as in :func:`forward`.
        cutout: as in :func:`forward`.
        stored_samples: N, whose change is zero.
        output: (N + F, C, H, W), written.

    Returns:
        ``output``.
    """
    return _move(tangent, output, stored_samples, translation, cutout)


def backward(
    grad: Tensor,
    translation: Tensor | None,
    cutout: Tensor | None,
    stored_samples: int,
    output: Tensor,
) -> Tensor:
    """Compute the gradient of the generated images: the transpose of :func:`linear`.

    Args:
        grad: (N + F, C, H, W), that of what is seen.
        translation: as in :func:`forward`.
        cutout: as in :func:`forward`.
        stored_samples: N, which have no gradient.
        output: (F, C, H, W), written.

    Returns:
        ``output``.
    """
    return _move(grad, output, 0, translation, cutout, first=stored_samples, inverse=True)

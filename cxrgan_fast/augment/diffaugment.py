"""Differentiable augmentation of what the discriminator sees (Zhao et al. 2020, DiffAugment).

Real and generated images go through the same random changes, and the generator's gradient goes
through them too, so that a discriminator with few images cannot learn them by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Policy = Literal["brightness", "contrast", "translation", "cutout"]
POLICIES: tuple[str, ...] = get_args(Policy)
"""What suits radiographs: the paper's list without saturation, which one channel has not."""

_SHIFT = 1 / 8  # of the height and width, either way
_HOLE = 1 / 2  # of the height and width


def diff_augment(
    images: Tensor,
    policy: Sequence[str],
    generator: torch.Generator | None = None,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> Tensor:
    """Change every image at random, differentiably.

    Differentiable any number of times with respect to ``images``; without host synchronisation.
    The range's centre fills what translation and cutout uncover, whatever the range. It is the
    paper's zero. Black would be wrong for radiographs: they have black borders of their own, so a
    shifted image would pass for another real one and the generator would learn to make shifted
    ones.

    Args:
        images: (N, C, H, W), floating, nominally in ``value_range``; nothing is clamped.
        policy: names from :data:`POLICIES`, applied in this order; empty leaves the images alone.

            - brightness: adds up to a quarter of the range, either way.
            - contrast: scales by 0.5 to 1.5 around the image's mean.
            - translation: shifts by up to an eighth of the size, each direction.
            - cutout: covers a square of half the size, whose centre is anywhere.
        generator: where all randomness comes from, on the images' device; None for torch's own.
        value_range: least and greatest pixel value.

    Returns:
        (N, C, H, W) in the dtype of ``images``.

    Raises:
        ValueError: an unknown policy, or images that have not four dimensions.
    """
    uniform = torch.rand((len(images), len(policy), 2), generator=generator, device=images.device)
    return augment_as_drawn(images, policy, uniform, value_range)


def augment_as_drawn(
    images: Tensor,
    policy: Sequence[str],
    uniform: Tensor,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> Tensor:
    """Augment images by numbers that were drawn before; this is a pure function.

    For ``torch.compile``, which cannot take a ``torch.Generator`` into its graph, and for showing
    several batches the same changes.

    Args:
        images: as in :func:`diff_augment`.
        policy: as in :func:`diff_augment`.
        uniform: (N, len(policy), 2), uniform in [0, 1), on the images' device.
        value_range: as in :func:`diff_augment`.

    Returns:
        (N, C, H, W) in the dtype of ``images``.

    Raises:
        ValueError: an unknown policy, or a shape that does not fit.
    """
    if images.dim() != 4:
        raise ValueError(f"images must have shape (N, C, H, W), got {tuple(images.shape)}")
    for name in policy:
        if name not in POLICIES:
            raise ValueError(f"policy must name {', '.join(POLICIES)}; got {name!r}")
    if uniform.shape != (len(images), len(policy), 2):
        raise ValueError(
            f"uniform must have shape {(len(images), len(policy), 2)}, got {tuple(uniform.shape)}"
        )
    low, high = value_range
    center = (low + high) / 2
    # Two numbers for each change of each image, whatever the change uses: (N, 1, 1, 1) each.
    numbers = uniform.view(len(images), len(policy), 2, 1, 1, 1).unbind(1)
    for name, pair in zip(policy, numbers, strict=True):
        a, b = pair.unbind(1)
        if name == "brightness":
            images = images + ((a - 0.5) * ((high - low) / 2)).to(images.dtype)
        elif name == "contrast":
            mean = images.mean(dim=(1, 2, 3), keepdim=True)
            images = (images - mean) * (a + 0.5).to(images.dtype) + mean
        elif name == "translation":
            images = _translate(images, a, b, center)
        else:
            images = _cut_out(images, a, b, center)
    return images


def _translate(images: Tensor, a: Tensor, b: Tensor, fill: float) -> Tensor:
    """Shift by whole pixels, uniform over −size/8 … size/8 both included."""
    channels, height, width = images.shape[1:]
    rows, columns = _coordinates(images)
    rows = rows + _integer(a, -round(height * _SHIFT), round(height * _SHIFT))  # (N, 1, H, 1)
    columns = columns + _integer(b, -round(width * _SHIFT), round(width * _SHIFT))  # (N, 1, 1, W)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)  # (N, 1, H, W)
    # One gather over flattened pixels. Pixels from outside read some pixel inside and drop it.
    source = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    source = source.flatten(2).expand(-1, channels, -1)  # (N, C, H·W)
    moved = images.flatten(2).gather(2, source).view(images.shape)
    return torch.where(inside, moved, fill)


def _cut_out(images: Tensor, a: Tensor, b: Tensor, fill: float) -> Tensor:
    """Cover a square that may stick out of the image by half of itself."""
    height, width = images.shape[2:]
    hole_height, hole_width = round(height * _HOLE), round(width * _HOLE)
    rows, columns = _coordinates(images)
    rows = rows - _integer(a, -(hole_height // 2), height - 1 - hole_height // 2)
    columns = columns - _integer(b, -(hole_width // 2), width - 1 - hole_width // 2)
    hole = (rows >= 0) & (rows < hole_height) & (columns >= 0) & (columns < hole_width)
    return torch.where(hole, fill, images)


def _coordinates(images: Tensor) -> tuple[Tensor, Tensor]:
    """The row of each pixel (1, 1, H, 1) and its column (1, 1, 1, W), int64."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device).view(1, 1, height, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, 1, width)
    return rows, columns


def _integer(uniform: Tensor, least: int, greatest: int) -> Tensor:
    """Integers in least … greatest, each as likely, from numbers uniform in [0, 1)."""
    count = greatest - least + 1
    return (uniform * count).long().clamp(max=count - 1) + least  # 0.99999994·count may round up

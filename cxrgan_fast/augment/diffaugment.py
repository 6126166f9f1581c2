"""Differentiable augmentation of what the discriminator sees.

Real and generated images go through the same random changes, and the generator's gradient goes
through them too, so that a discriminator with few images cannot learn them by heart. Every change
is made to every image (Zhao et al. 2020, DiffAugment), or to each with a probability (Karras et
al. 2020, ADA; `cxrgan_fast.augment.adaptive` steers it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from cxrgan_fast.augment.geometry import Placement, resample

Policy = Literal["brightness", "contrast", "rotation", "scale", "translation", "cutout"]
POLICIES: tuple[str, ...] = get_args(Policy)
"""What suits radiographs: nothing flips or turns a patient, and one channel has no colors."""

_SHIFT = 1 / 8  # of the height and width, either way
_HOLE = 1 / 2  # of the height and width
_ROTATION = math.radians(10)  # either way
_SCALE = 0.1  # standard deviation of the scale's logarithm to base 2, as ADA takes it
_FARTHEST = 5.0  # standard deviations from there: a scale of 2^±0.5, as far as a resampling goes
_RESAMPLED = ("rotation", "scale")
_MOVING = (*_RESAMPLED, "translation")


def diff_augment(
    images: Tensor,
    policy: Sequence[str],
    generator: torch.Generator | None = None,
    value_range: tuple[float, float] = (-1.0, 1.0),
    probability: Tensor | None = None,
) -> Tensor:
    """Change every image at random, differentiably.

    Differentiable any number of times with respect to ``images``; without host synchronisation.
    The range's centre fills what translation and cutout uncover, whatever the range. It is the
    paper's zero. Black would be wrong for radiographs: they have black borders of their own, so a
    shifted image would pass for another real one and the generator would learn to make shifted
    ones. The same holds for what rotation and scale uncover.

    Args:
        images: (N, C, H, W), floating, nominally in ``value_range``; nothing is clamped.
        policy: names from :data:`POLICIES`, applied in this order; empty leaves the images alone.

            - brightness: adds up to a quarter of the range, either way.
            - contrast: scales by 0.5 to 1.5 around the image's mean.
            - rotation: rotates about the center by up to 10 degrees, either way.
            - scale: enlarges by 2^(0.1·z), z standard normal.
            - translation: shifts by up to an eighth of the size, each direction.
            - cutout: covers a square of half the size, whose centre is anywhere.

            Neighbors among rotation, scale and translation are one resampling, so that an image is
            interpolated once and nothing is lost between them.
        generator: where all randomness comes from, on the images' device; None for torch's own.
        value_range: least and greatest pixel value.
        probability: 0-dimensional: each change is made to each image with this probability, drawn
            for it alone; None makes every change to every image.

    Returns:
        (N, C, H, W) in the dtype of ``images``.

    Raises:
        ValueError: an unknown policy, or images that have not four dimensions.
    """
    shape = (len(images), len(policy), numbers_of_a_change(probability is not None))
    uniform = torch.rand(shape, generator=generator, device=images.device)
    return augment_as_drawn(images, policy, uniform, value_range, probability)


def numbers_of_a_change(at_random: bool) -> int:
    """Return how many numbers have to be drawn for each change of each image.

    Args:
        at_random: whether changes are made with a probability.
    """
    return 3 if at_random else 2


def augment_as_drawn(
    images: Tensor,
    policy: Sequence[str],
    uniform: Tensor,
    value_range: tuple[float, float] = (-1.0, 1.0),
    probability: Tensor | None = None,
) -> Tensor:
    """Augment images by numbers that were drawn before; this is a pure function.

    For ``torch.compile``, which cannot take a ``torch.Generator`` into its graph, and for showing
    several batches the same changes.

    Args:
        images: as in :func:`diff_augment`.
        policy: as in :func:`diff_augment`.
        uniform: (N, len(policy), 2), or with a probability (N, len(policy), 3), uniform in [0, 1),
            on the images' device. A change is made where the third number is below the
            probability.
        value_range: as in :func:`diff_augment`.
        probability: as in :func:`diff_augment`.

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
    shape = (len(images), len(policy), numbers_of_a_change(probability is not None))
    if uniform.shape != shape:
        raise ValueError(f"uniform must have shape {shape}, got {tuple(uniform.shape)}")
    numbers = iter(uniform.unbind(1))  # (N, 2 or 3) each
    for names in in_one_go(policy):
        drawn = [(name, next(numbers)) for name in names]
        made = [None if probability is None else each[:, 2] < probability for _, each in drawn]
        changed = _changed(images, drawn, made, value_range)
        if probability is None:
            images = changed
        else:
            anything = torch.stack([each for each in made if each is not None]).any(0)
            images = torch.where(anything.view(-1, 1, 1, 1), changed, images)
    return images


def in_one_go(policy: Sequence[str]) -> list[tuple[str, ...]]:
    """Split a policy into what is done at once: single changes, and neighbors that resample."""
    groups: list[tuple[str, ...]] = []
    for name in policy:
        before = groups[-1] if groups else ()
        joins = all(each in _MOVING for each in (*before, name))
        if before and joins and any(each in _RESAMPLED for each in (*before, name)):
            groups[-1] = (*before, name)
        else:
            groups.append((name,))
    return groups


def _changed(
    images: Tensor,
    drawn: Sequence[tuple[str, Tensor]],
    made: Sequence[Tensor | None],
    value_range: tuple[float, float],
) -> Tensor:
    """Make one of the groups of :func:`in_one_go`, the change of a single name on every image."""
    low, high = value_range
    center = (low + high) / 2
    name, numbers = drawn[0]
    if any(each in _RESAMPLED for each, _ in drawn):
        return resample(images, _placement(images, drawn, made), center)
    a, b = numbers.view(*numbers.shape, 1, 1, 1).unbind(1)[:2]  # (N, 1, 1, 1) each
    if name == "brightness":
        return images + ((a - 0.5) * ((high - low) / 2)).to(images.dtype)
    if name == "contrast":
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return (images - mean) * (a + 0.5).to(images.dtype) + mean
    if name == "translation":
        return _translate(images, a, b, center)
    return _cut_out(images, a, b, center)


def _placement(
    images: Tensor, drawn: Sequence[tuple[str, Tensor]], made: Sequence[Tensor | None]
) -> Placement:
    """Join rotation, scale and translation of each image, as far as they are made, in order."""
    height, width = images.shape[2:]
    dtype = torch.promote_types(images.dtype, torch.float32)
    placement = Placement.identity(torch.empty(len(images), device=images.device, dtype=dtype))
    for (name, numbers), is_made in zip(drawn, made, strict=True):
        a, b = numbers.to(dtype).unbind(1)[:2]
        # By nothing where it is not made.
        share = torch.ones_like(a) if is_made is None else is_made.to(dtype)
        if name == "rotation":
            placement = placement.rotated(share * (2 * a - 1) * _ROTATION)
        elif name == "scale":
            # Box and Muller's: what is below one gives no infinity.
            normal = (-2 * (1 - a).log()).sqrt() * (2 * math.pi * b).cos()
            normal = normal.clamp(-_FARTHEST, _FARTHEST)
            placement = placement.scaled((share * normal * _SCALE).exp2())
        else:
            placement = placement.shifted(
                share * _shift(a, height).to(dtype), share * _shift(b, width).to(dtype)
            )
    return placement


def _translate(images: Tensor, a: Tensor, b: Tensor, fill: float) -> Tensor:
    """Shift by whole pixels, uniform over −size/8 … size/8 both included."""
    channels, height, width = images.shape[1:]
    rows, columns = _coordinates(images)
    rows = rows + _shift(a, height)  # (N, 1, H, 1)
    columns = columns + _shift(b, width)  # (N, 1, 1, W)
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


def _shift(uniform: Tensor, size: int) -> Tensor:
    """Whole pixels that a side of that size is shifted by."""
    most = round(size * _SHIFT)
    return _integer(uniform, -most, most)


def _integer(uniform: Tensor, least: int, greatest: int) -> Tensor:
    """Integers in least … greatest, each as likely, from numbers uniform in [0, 1)."""
    count = greatest - least + 1
    return (uniform * count).long().clamp(max=count - 1) + least  # 0.99999994·count may round up

"""Rotation, scale and shift of images as one resampling, differentiable to any order.

`torch.nn.functional.grid_sample` has no second derivative, which R1 takes. A resampling is linear
in the images: here it and its transpose are each other's derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SMALLEST = 2 / 3
"""Smallest scale: three pixels a side are then all that a pixel is made of."""

_TAPS = 3


@dataclass(frozen=True)
class Placement:
    """Where the pixels of images come from: a rotation, a scale and a shift about the center.

    With rows y and columns x counted from the center, and a pixel y + ix as a complex number, pixel
    p is taken from ``turn·p + shift``. Each attribute is (N,), floating.

    Attributes:
        turn_real: the scale's inverse times the cosine of the rotation.
        turn_imaginary: the same with its sine.
        down: rows of the shift.
        right: columns of the shift.
    """

    turn_real: Tensor
    turn_imaginary: Tensor
    down: Tensor
    right: Tensor

    @classmethod
    def identity(cls, like: Tensor) -> Placement:
        """Leave so many images as there are numbers in ``like`` where they are."""
        zero = torch.zeros_like(like)
        return cls(torch.ones_like(like), zero, zero, zero)

    def rotated(self, radians: Tensor) -> Placement:
        """Rotate what this gives, clockwise: (N,) radians."""
        cosine, sine = radians.cos(), radians.sin()
        return Placement(
            self.turn_real * cosine - self.turn_imaginary * sine,
            self.turn_imaginary * cosine + self.turn_real * sine,
            self.down,
            self.right,
        )

    def scaled(self, factor: Tensor) -> Placement:
        """Enlarge what this gives about the center: (N,), at least `SMALLEST` in all."""
        return Placement(
            self.turn_real / factor, self.turn_imaginary / factor, self.down, self.right
        )

    def shifted(self, down: Tensor, right: Tensor) -> Placement:
        """Let each pixel of what this gives come from so many pixels further down and right."""
        return Placement(
            self.turn_real,
            self.turn_imaginary,
            self.down + self.turn_real * down - self.turn_imaginary * right,
            self.right + self.turn_imaginary * down + self.turn_real * right,
        )


def resample(images: Tensor, placement: Placement, fill: float) -> Tensor:
    """Take every pixel from where the placement says, with ``fill`` outside of the images.

    Between pixels it is bilinear. Where images become smaller, the triangles of bilinear
    interpolation become as much wider, as in antialiased resizing, so that no detail is skipped.
    No rotation, no scale and a shift by whole pixels leave a pixel as it is.

    Args:
        images: (N, C, H, W), floating; differentiable any number of times.
        placement: where the pixels of N images come from; takes no gradient.
        fill: what lies outside.

    Returns:
        (N, C, H, W) in the dtype of ``images``; half precision is computed in float32.
    """
    numbers = torch.stack(
        (placement.turn_real, placement.turn_imaginary, placement.down, placement.right), 1
    )
    moved: Tensor = _Resampled.apply(images.to(numbers.dtype) - fill, numbers)
    return (moved + fill).to(images.dtype)


class _Resampled(torch.autograd.Function):
    """Zero outside; of the placement only four numbers an image are kept for the derivative."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, numbers: Tensor) -> Tensor:
        ctx.save_for_backward(numbers)
        rows, columns = _taps_of(images, numbers)
        flat = images.flatten(2)
        result = torch.zeros_like(flat)
        for index, weights in _row_by_row(rows, columns, images.shape):
            taken = flat.gather(2, index).unflatten(2, (_TAPS, flat.shape[2]))
            result += (taken * weights).sum(2)
        return result.view(images.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (numbers,) = ctx.saved_tensors
        return _Transposed.apply(grad, numbers), None


class _Transposed(torch.autograd.Function):
    """The transpose of `_Resampled`: every pixel goes back to those that it was made of."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, numbers: Tensor) -> Tensor:
        ctx.save_for_backward(numbers)
        rows, columns = _taps_of(grad, numbers)
        flat = grad.flatten(2)
        result = torch.zeros_like(flat)
        for index, weights in _row_by_row(rows, columns, grad.shape):
            result.scatter_add_(2, index, (flat.unsqueeze(2) * weights).flatten(2))
        return result.view(grad.shape)

    @staticmethod
    def backward(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        (numbers,) = ctx.saved_tensors
        return _Resampled.apply(tangent, numbers), None


@dataclass(frozen=True)
class _Taps:
    """The pixels along one side that each pixel is made of."""

    index: Tensor
    """(N, _TAPS, H·W) int64, inside of the image."""
    weight: Tensor
    """(N, _TAPS, H·W); 0 for a pixel outside."""


def _taps_of(images: Tensor, numbers: Tensor) -> tuple[_Taps, _Taps]:
    """The taps among the rows, and those among the columns."""
    height, width = images.shape[2:]
    real, imaginary, down, right = numbers.view(len(numbers), 4, 1, 1).unbind(1)  # (N, 1, 1) each
    y = _from_the_center(height, numbers).view(1, height, 1)
    x = _from_the_center(width, numbers).view(1, 1, width)
    rows = real * y - imaginary * x + (down + (height - 1) / 2)  # (N, H, W)
    columns = imaginary * y + real * x + (right + (width - 1) / 2)
    reach = (real.square() + imaginary.square()).sqrt().clamp(min=1.0)
    return _taps(rows, reach, height), _taps(columns, reach, width)


def _from_the_center(size: int, like: Tensor) -> Tensor:
    """The pixels along a side, (size,), counted from its middle."""
    return torch.arange(size, device=like.device, dtype=like.dtype) - (size - 1) / 2


def _taps(position: Tensor, reach: Tensor, size: int) -> _Taps:
    """What lies within ``reach`` (N, 1, 1) of a position (N, H, W), by triangles of that reach."""
    position = position.flatten(1).unsqueeze(1)  # (N, 1, H·W)
    offsets = torch.arange(1, 1 + _TAPS, device=position.device).view(1, _TAPS, 1)
    tap = (position - reach).floor() + offsets
    weight = (1 - (tap - position).abs() / reach).clamp(min=0)
    inside = (tap >= 0) & (tap < size)
    weight = weight / weight.sum(1, keepdim=True) * inside
    return _Taps(tap.clamp(0, size - 1).long(), weight)


def _row_by_row(rows: _Taps, columns: _Taps, shape: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
    """For each row of taps their places (N, C, _TAPS·H·W) and weights (N, 1, _TAPS, H·W)."""
    _, channels, _, width = shape
    for tap in range(_TAPS):
        one = slice(tap, tap + 1)
        index = (rows.index[:, one] * width + columns.index).flatten(1)
        weights = rows.weight[:, one] * columns.weight
        yield index.unsqueeze(1).expand(-1, channels, -1), weights.unsqueeze(1)

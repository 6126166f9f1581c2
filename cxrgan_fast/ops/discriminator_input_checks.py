"""What discriminator_input takes and refuses."""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import FLOATING, check_image, check_same_device, dtype_name, shape_of


def check_arguments(
    stored: Tensor | None,
    rows: Tensor | None,
    fake: Tensor | None,
    value_range: tuple[float, float],
    mirror: Tensor | None,
    translation: Tensor | None,
    cutout: Tensor | None,
    noise: Tensor | None,
    noise_std: Tensor | None,
    dtype: torch.dtype | None,
) -> None:
    """Raise a ValueError or TypeError that names the argument that does not fit the others."""
    _check_pair("stored", stored, "rows", rows)
    _check_pair("noise", noise, "noise_std", noise_std)
    if stored is not None and rows is not None:
        _check(stored, "stored", torch.uint8, stored, "stored")
        if stored.dim() != 4:
            raise ValueError(f"stored must have shape (M, C, H, W), got {shape_of(stored)}")
        if not stored.is_contiguous():  # a copy of the whole set at every call
            raise ValueError(f"stored must be contiguous, got strides {stored.stride()}")
        _check(rows, "rows", torch.int64, stored, "stored")
        if rows.dim() != 1:
            raise ValueError(f"rows must have shape (N,), got {shape_of(rows)}")
        images, name = stored, "stored"
    if fake is not None:
        check_image("fake", fake)
        if stored is not None:
            if fake.shape[1:] != stored.shape[1:]:
                expected = ", ".join(str(each) for each in stored.shape[1:])
                raise ValueError(f"fake must have shape (F, {expected}), got {shape_of(fake)}")
            check_same_device("fake", fake, stored, "stored")
        images, name = fake, "fake"
    elif stored is None:
        raise ValueError("stored or fake must be given, got None for both")
    real_samples = 0 if rows is None else rows.shape[0]
    samples = real_samples + (0 if fake is None else fake.shape[0])
    if mirror is not None:
        _check(mirror, "mirror", torch.bool, images, name, (real_samples,))
    if translation is not None:
        _check(translation, "translation", torch.float32, images, name, (samples, 2))
    if cutout is not None:
        _check(cutout, "cutout", torch.float32, images, name, (samples, 2))
    if noise is not None and noise_std is not None:
        _check(noise, "noise", torch.float32, images, name, (samples, *images.shape[1:]))
        _check(noise_std, "noise_std", torch.float32, images, name, ())
    if not value_range[0] < value_range[1]:
        raise ValueError(f"value_range must be (low, high) with low < high, got {value_range}")
    if dtype is not None and dtype not in FLOATING:
        raise TypeError(
            f"dtype must be float32, bfloat16, float16 or float64, got {dtype_name(dtype)}"
        )


def _check_pair(name: str, value: object, other_name: str, other: object) -> None:
    if (value is None) != (other is None):
        absent = name if value is None else other_name
        raise ValueError(f"{name} and {other_name} go together, got None for {absent}")


def _check(
    value: Tensor,
    name: str,
    dtype: torch.dtype,
    images: Tensor,
    images_name: str,
    shape: tuple[int, ...] | None = None,
) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(value).__name__}")
    if value.dtype != dtype:
        raise TypeError(f"{name} must be {dtype_name(dtype)}, got {dtype_name(value.dtype)}")
    if shape is not None and tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {shape_of(value)}")
    check_same_device(name, value, images, images_name)

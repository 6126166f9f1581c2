"""What augmented_batch takes and refuses."""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import (
    FLOATING,
    KERNEL_DTYPES,
    check_exactly,
    check_image,
    check_kernel_image,
    check_same_device,
    dtype_name,
    shape_of,
)


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
        check_exactly("stored", stored, torch.uint8, None, stored, "stored")
        if stored.dim() != 4:
            raise ValueError(f"stored must have shape (M, C, H, W), got {shape_of(stored)}")
        if not stored.is_contiguous():  # a copy of the whole set at every call
            raise ValueError(f"stored must be contiguous, got strides {stored.stride()}")
        check_exactly("rows", rows, torch.int64, None, stored, "stored")
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
        check_exactly("mirror", mirror, torch.bool, (real_samples,), images, name)
    _check_uniform(samples, images, name, translation, cutout)
    if noise is not None and noise_std is not None:
        shape = (samples, *images.shape[1:])
        check_exactly("noise", noise, torch.float32, shape, images, name)
        check_exactly("noise_std", noise_std, torch.float32, (), images, name)
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


def _check_uniform(
    samples: int, images: Tensor, name: str, translation: Tensor | None, cutout: Tensor | None
) -> None:
    """Two numbers for each of the samples, where the images of that name are."""
    for each, pairs in (("translation", translation), ("cutout", cutout)):
        if pairs is not None:
            check_exactly(each, pairs, torch.float32, (samples, 2), images, name)


# --- What the registered ops take: kernels rely on it -------------------------------------------


def check_forward(
    fake: Tensor,
    stored: Tensor | None,
    rows: Tensor | None,
    mirror: Tensor | None,
    translation: Tensor | None,
    cutout: Tensor | None,
    noise: Tensor | None,
    noise_std: Tensor | None,
    low: float,
    high: float,
    dtype: str,
) -> None:
    """Raise unless these fit each other, as ``augmented_batch`` has them."""
    check_kernel_image("fake", fake)
    check_arguments(
        stored, rows, fake, (low, high), mirror, translation, cutout, noise, noise_std, None
    )
    _check_dtype_name(dtype)


def check_linear(
    tangent: Tensor, translation: Tensor | None, cutout: Tensor | None, stored: int, dtype: str
) -> None:
    """Raise unless these fit each other, as ``augmented_batch_linear`` has them."""
    check_kernel_image("tangent", tangent)
    if stored < 0:
        raise ValueError(f"stored must be at least 0, a number of samples, got {stored}")
    _check_uniform(stored + tangent.shape[0], tangent, "tangent", translation, cutout)
    _check_dtype_name(dtype)


def check_backward(
    grad: Tensor,
    translation: Tensor | None,
    cutout: Tensor | None,
    stored: int,
    dtype: str,
    channels_last: bool,
) -> None:
    """Raise unless these fit each other, as ``augmented_batch_backward`` has them."""
    check_kernel_image("grad", grad)
    if not 0 <= stored <= grad.shape[0]:
        raise ValueError(
            f"stored must be from 0 to {grad.shape[0]}, the samples of grad, got {stored}"
        )
    _check_uniform(grad.shape[0], grad, "grad", translation, cutout)
    _check_dtype_name(dtype)


def _check_dtype_name(dtype: str) -> None:
    if dtype not in [dtype_name(each) for each in KERNEL_DTYPES]:
        raise TypeError(f"dtype must be float32, bfloat16 or float16, got {dtype}")

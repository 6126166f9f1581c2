"""Argument checks shared by the ops: each names the argument, what came and what was expected.

Public functions take what can be converted to what kernels take. Registered ops, which anyone can
call past them, take just that: ``check_kernel_image`` and ``check_exactly`` are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The image dtypes of the native and Triton kernels."""
FLOATING = (*KERNEL_DTYPES, torch.float64)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the short name of a dtype: ``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def check_floating(name: str, value: object) -> Tensor:
    """Return ``value`` if it is a float32, bfloat16, float16 or float64 tensor.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(value).__name__}")
    if value.dtype not in FLOATING:
        raise TypeError(
            f"{name} must be float32, bfloat16, float16 or float64, got {dtype_name(value.dtype)}"
        )
    return value


def check_image(name: str, value: object) -> Tensor:
    """Return ``value`` if it is a floating tensor of shape (N, C, H, W).

    Raises:
        TypeError: if it is not a floating tensor.
        ValueError: if it has not four dimensions.
    """
    tensor = check_floating(name, value)
    if tensor.dim() != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {shape_of(tensor)}")
    return tensor


def check_kernel_dtype(name: str, value: Tensor) -> None:
    """Raise ``TypeError`` unless the kernels take this floating dtype."""
    if value.dtype not in KERNEL_DTYPES:
        raise TypeError(
            f"{name} must be float32, bfloat16 or float16, got {dtype_name(value.dtype)}"
        )


def check_kernel_image(name: str, value: Tensor, like: Tensor | None = None, of: str = "") -> None:
    """Raise unless the kernels take this image: its shape, dtype and, like another's, device.

    Args:
        name: the argument's name, for messages.
        value: what came.
        like: the image whose shape, dtype and device it must have; None for any.
        of: the name of ``like``.

    Raises:
        TypeError: wrong dtype.
        ValueError: wrong shape or device.
    """
    if like is not None:
        check_exactly(name, value, like.dtype, tuple(like.shape), like, of)
        return
    check_kernel_dtype(name, value)
    if value.dim() != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {shape_of(value)}")


def check_exactly(
    name: str,
    value: object,
    dtype: torch.dtype,
    shape: tuple[int, ...] | None,
    like: Tensor,
    of: str,
) -> None:
    """Raise unless ``value`` is a tensor of that dtype and shape on the device of ``like``.

    Args:
        name: the argument's name, for messages.
        value: what came.
        dtype: the only one.
        shape: the only one, or None for any.
        like: where it must be.
        of: the name of ``like``.

    Raises:
        TypeError: no tensor, or wrong dtype.
        ValueError: wrong shape or device.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(value).__name__}")
    if value.dtype != dtype:
        raise TypeError(f"{name} must be {dtype_name(dtype)}, got {dtype_name(value.dtype)}")
    if shape is not None and tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {shape_of(value)}")
    check_same_device(name, value, like, of)


def check_parameter(name: str, value: object, shape: Sequence[int], input: Tensor) -> Tensor:
    """Return ``value`` if it is a parameter that fits ``input``.

    A parameter has the given shape, is on the device of ``input``, and is float32 whatever the
    image dtype, or has the image dtype.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape or device.
    """
    tensor = check_floating(name, value)
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {shape_of(tensor)}")
    if tensor.dtype not in (torch.float32, input.dtype):
        expected = " or ".join(sorted({"float32", dtype_name(input.dtype)}, reverse=True))
        raise TypeError(f"{name} must be {expected}, got {dtype_name(tensor.dtype)}")
    check_same_device(name, tensor, input)
    return tensor


def check_same_device(name: str, tensor: Tensor, input: Tensor, input_name: str = "input") -> None:
    """Raise ``ValueError`` unless ``tensor`` is on the device of ``input``."""
    if tensor.device != input.device:
        raise ValueError(f"{name} must be on {input.device} like {input_name}, got {tensor.device}")


def check_negative_slope(value: float) -> float:
    """Return the slope as a float; it is refused below 0, where an output's sign hides its input's.

    Raises:
        ValueError: if ``value`` is negative or NaN.
    """
    if not value >= 0:
        raise ValueError(f"negative_slope must be at least 0, got {value}")
    return float(value)


def check_gain(value: float) -> float:
    """Return the gain as a float; it is refused at or below 0, where it would turn the sign.

    Raises:
        ValueError: if ``value`` is no finite number above 0.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"gain must be a finite number above 0, got {value}")
    return float(value)


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape as a plain tuple, as messages print it."""
    return tuple(tensor.shape)

"""What conditional_batch_norm_act and its registered ops take and refuse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cxrgan_fast.ops.backend import NATIVE_DTYPES
from cxrgan_fast.ops.checks import (
    check_exactly,
    check_image,
    check_kernel_image,
    check_parameter,
    shape_of,
)


def check_arguments(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
) -> None:
    """Raise a ValueError or TypeError that names the argument that does not fit the others."""
    if _fits(input, labels, weight, bias, running_mean, running_var, training):
        return
    check_image("input", input)
    samples, channels, height, width = input.shape
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64, got {labels.dtype}")
    if labels.shape != (samples,):
        raise ValueError(f"labels must have shape ({samples},), got {shape_of(labels)}")
    if labels.device != input.device:
        raise ValueError(f"labels must be on {input.device} like input, got {labels.device}")
    if weight.dim() != 2 or weight.shape[1] != channels:
        raise ValueError(
            f"weight must have shape (K, {channels}), a row for each class, got {shape_of(weight)}"
        )
    check_parameter("weight", weight, weight.shape, input)
    check_parameter("bias", bias, weight.shape, input)
    if (running_mean is None) != (running_var is None):
        absent = "running_mean" if running_mean is None else "running_var"
        raise ValueError(f"running_mean and running_var go together, got None for {absent}")
    if running_mean is not None:
        check_parameter("running_mean", running_mean, (channels,), input)
        check_parameter("running_var", running_var, (channels,), input)
    elif not training:
        raise ValueError("running_mean and running_var are needed when training=False, got None")
    if training and samples * height * width == 1:
        raise ValueError(
            f"training needs more than one value per channel, got input of shape {shape_of(input)}"
        )


def _fits(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
) -> bool:
    """Whether the usual call, in training, is plainly right: a call is checked each time.

    Saying what is wrong with one that is not takes several times as long.
    """
    shape = weight.shape
    if not (
        training
        and input.dim() == 4
        and input.dtype in NATIVE_DTYPES
        and labels.dtype == torch.int64
        and weight.dtype == bias.dtype == torch.float32
        and (
            (input.is_cpu and labels.is_cpu and weight.is_cpu and bias.is_cpu)
            or _on_one_gpu(input, labels, weight, bias)
        )
        and len(shape) == 2
        and bias.shape == shape
    ):
        return False
    samples, channels, height, width = input.shape
    fits = (
        shape[1] == channels and labels.shape == (samples,) and (samples > 1 or height * width > 1)
    )
    if running_mean is None or running_var is None:
        return fits and running_mean is running_var
    return (
        fits
        and running_mean.shape == running_var.shape == (channels,)
        and running_mean.dtype == running_var.dtype == torch.float32
        and (
            (input.is_cpu and running_mean.is_cpu and running_var.is_cpu)
            or _on_one_gpu(input, running_mean, running_var)
        )
    )


def _on_one_gpu(*tensors: Tensor) -> bool:
    index = tensors[0].get_device()
    return all(each.is_cuda and each.get_device() == index for each in tensors)


# --- What the registered ops take: kernels rely on it -------------------------------------------
#
# Whether a label is in range is for the kernels, which look at it anyway. The numbers behind the
# tensors fit any shape: a check names what it looks at, and takes the others as they come.


def check_forward(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *_: Any,
) -> None:
    """Raise unless these fit each other, as ``conditional_batch_norm_act`` has them."""
    _check_kernel_arguments(input, labels, weight, bias)
    if (running_mean is None) != (running_var is None):
        absent = "running_mean" if running_mean is None else "running_var"
        raise ValueError(f"running_mean and running_var go together, got None for {absent}")
    for name, each in (("running_mean", running_mean), ("running_var", running_var)):
        if each is not None:
            check_exactly(name, each, torch.float32, (weight.shape[1],), input, "input")


def check_backward(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    *_: Any,
) -> None:
    """Raise unless these fit each other, as ``conditional_batch_norm_backward`` has them."""
    _check_kernel_arguments(input, labels, weight, bias)
    check_kernel_image("grad", grad, input, "input")
    _check_statistics(statistics, input)


def check_statistics(input: Tensor, *_: Any) -> None:
    """Raise unless these are what ``conditional_batch_norm_statistics`` takes."""
    check_kernel_image("input", input)


def check_apply(
    input: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, *_: Any
) -> None:
    """Raise unless these fit each other, as ``conditional_batch_norm_apply`` has them."""
    _check_kernel_arguments(input, labels, weight, bias)
    _check_statistics(statistics, input)


def check_backward_reduce(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    *_: Any,
) -> None:
    """Raise unless these fit each other, as ``conditional_batch_norm_backward_reduce`` has them."""
    check_apply(input, labels, weight, bias, statistics)
    check_kernel_image("grad", grad, input, "input")


def check_backward_apply(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    count: int,
    *_: Any,
) -> None:
    """Raise unless these fit each other, as ``conditional_batch_norm_backward_apply`` has them."""
    check_backward_reduce(grad, input, labels, weight, bias, statistics)
    for name, each in (("grad_weight", grad_weight), ("grad_bias", grad_bias)):
        check_exactly(name, each, torch.float32, shape_of(weight), input, "input")
    if count < 0:
        raise ValueError(
            f"count must be at least 0, the values of a channel in all processes, got {count}"
        )


def _check_statistics(statistics: Tensor, input: Tensor) -> None:
    check_exactly("statistics", statistics, torch.float32, (3, input.shape[1]), input, "input")


def _check_kernel_arguments(input: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> None:
    check_kernel_image("input", input)
    check_exactly("labels", labels, torch.int64, (input.shape[0],), input, "input")
    if weight.dim() != 2 or weight.shape[1] != input.shape[1]:
        raise ValueError(
            f"weight must have shape (K, {input.shape[1]}), a row for each class, "
            f"got {shape_of(weight)}"
        )
    check_exactly("weight", weight, torch.float32, None, input, "input")
    check_exactly("bias", bias, torch.float32, shape_of(weight), input, "input")

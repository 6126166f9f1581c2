"""The steps of conditional_batch_norm_act, each an op: for a batch that several processes share.

    conditional_batch_norm_statistics        mean, variance and 1/√(σ²+eps) of a process's images
    conditional_batch_norm_apply             the output, from the statistics of the whole batch
    conditional_batch_norm_backward_reduce   dγ and dβ of a process's samples
    conditional_batch_norm_backward_apply    dx, from dγ and dβ of the whole batch and its count

What processes exchange goes between the first and the second, and between the third and the fourth:
counts, means and variances are merged, dγ and dβ are summed. One process that exchanges nothing has
the results of conditional_batch_norm_act and of its gradient.

The steps have no derivatives: they are what a torch.autograd.Function is made of. Each is a
registered op with kernels for each backend (``torch.ops.cxrgan_fast.NAME``, and ``NAME_triton``);
the functions here choose the backend by the images, as every op does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cxrgan_fast.ops import conditional_batch_norm_kernels as kernels
from cxrgan_fast.ops import reference
from cxrgan_fast.ops.backend import choose_backend
from cxrgan_fast.ops.conditional_batch_norm_checks import (
    check_apply,
    check_backward_apply,
    check_backward_reduce,
    check_statistics,
)
from cxrgan_fast.ops.registration import Op, dense, dense_gradient_inputs, register

_NAME = "conditional_batch_norm"


def statistics(input: Tensor, eps: float) -> Tensor:
    """Compute what normalises images.

    Args:
        input: (N, C, H, W), float32, bfloat16 or float16, contiguous or channels_last (anything
            else is made contiguous). So are all images here.
        eps: added to the variance.

    Returns:
        (3, C) float32: the mean, the biased variance σ² and r = 1/√(σ²+eps) of each channel; mean
        and variance are 0 where there are no values.

    Raises:
        TypeError: a dtype does not fit.
        ValueError: a shape does not fit.
    """
    check_statistics(input, eps)
    backend = choose_backend(input, f"{_NAME}_statistics")
    step = reference.statistics if backend == "reference" else _statistics[backend]
    result: Tensor = step(input, eps)
    return result


def apply(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    negative_slope: float,
) -> Tensor:
    """Normalize images with given statistics, scale and shift them by class, then LeakyReLU.

    Args:
        input: (N, C, H, W).
        labels: (N,), int64, each in [0, K). Out of range is an IndexError on the CPU; on a GPU
            that sample's output is NaN.
        weight: (K, C), float32: γ of each class.
        bias: (K, C), float32: β of each class.
        statistics: (3, C), float32, as :func:`statistics` returns them; the variance is not used.
        negative_slope: slope for z ≤ 0.

    Returns:
        (N, C, H, W) in the dtype and layout of ``input``.

    Raises:
        TypeError: a dtype does not fit.
        ValueError: a shape or a device does not fit.
        IndexError: a label is out of range (CPU).
    """
    inputs = input, labels, weight, bias, statistics, negative_slope
    check_apply(*inputs)
    backend = choose_backend(input, f"{_NAME}_apply")
    result: Tensor = (reference.apply if backend == "reference" else _apply[backend])(*inputs)
    return result


def backward_reduce(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of γ and β.

    Args:
        grad: (N, C, H, W), the output's gradient, in the dtype of ``input``.
        input: as :func:`apply` got it, and so are the others.
        labels: (N,); a sample whose label is out of range is of no class (GPU).
        weight: (K, C).
        bias: (K, C).
        statistics: (3, C).
        negative_slope: slope for z ≤ 0.

    Returns:
        dγ and dβ, (K, C) float32 each; 0 for a class that no sample has.

    Raises:
        TypeError: a dtype does not fit.
        ValueError: a shape or a device does not fit.
        IndexError: a label is out of range (CPU).
    """
    inputs = grad, input, labels, weight, bias, statistics, negative_slope
    check_backward_reduce(*inputs)
    backend = choose_backend(input, f"{_NAME}_backward_reduce")
    step = reference.backward_reduce if backend == "reference" else _backward_reduce[backend]
    result: tuple[Tensor, Tensor] = step(*inputs)
    return result


def backward_apply(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    count: int,
    negative_slope: float,
) -> Tensor:
    """Compute the gradient of the images from those of γ and β.

    Args:
        grad: as in :func:`backward_reduce`, and so are the others up to ``statistics``.
        input: (N, C, H, W).
        labels: (N,); a sample whose label is out of range has NaN for its gradient (GPU).
        weight: (K, C).
        bias: (K, C).
        statistics: (3, C).
        grad_weight: (K, C) float32, dγ summed over all that the statistics are of.
        grad_bias: (K, C) float32, dβ summed over the same values.
        count: how many values of a channel the statistics are of, M = N·H·W summed over processes;
            0 where the statistics are constants.
        negative_slope: slope for z ≤ 0.

    Returns:
        (N, C, H, W) in the dtype and layout of ``input``.

    Raises:
        TypeError: a dtype does not fit.
        ValueError: a shape, a device or the count does not fit.
        IndexError: a label is out of range (CPU).
    """
    inputs = (
        grad, input, labels, weight, bias, statistics, grad_weight, grad_bias, count,
        negative_slope,
    )  # fmt: skip
    check_backward_apply(*inputs)
    backend = choose_backend(input, f"{_NAME}_backward_apply")
    step = reference.backward_apply if backend == "reference" else _backward_apply[backend]
    result: Tensor = step(*inputs)
    return result


# --- What comes out, without computing it -------------------------------------------------------


def _statistics_fake(input: Tensor, eps: float) -> Tensor:
    return input.new_empty((3, input.shape[1]), dtype=torch.float32)


def _apply_fake(input: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(dense(input))


def _backward_reduce_fake(
    grad: Tensor, input: Tensor, labels: Tensor, weight: Tensor, *_: Any
) -> tuple[Tensor, Tensor]:
    return weight.new_empty(weight.shape), weight.new_empty(weight.shape)


def _backward_apply_fake(grad: Tensor, input: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(dense(input))


# --- Registration --------------------------------------------------------------------------------

_GIVEN = "Tensor input, Tensor labels, Tensor weight, Tensor bias, Tensor statistics"

_statistics = register(
    Op(
        f"{_NAME}_statistics",
        "(Tensor input, float eps) -> Tensor",
        kernels.statistics_native,
        f"{_NAME}.statistics",
        _statistics_fake,
        check_statistics,
    )
)
_apply = register(
    Op(
        f"{_NAME}_apply",
        f"({_GIVEN}, float negative_slope) -> Tensor",
        kernels.apply_native,
        f"{_NAME}.apply",
        _apply_fake,
        check_apply,
    )
)
_backward_reduce = register(
    Op(
        f"{_NAME}_backward_reduce",
        f"(Tensor grad, {_GIVEN}, float negative_slope) -> (Tensor, Tensor)",
        kernels.backward_reduce_native,
        f"{_NAME}.backward_reduce",
        _backward_reduce_fake,
        check_backward_reduce,
        triton_inputs=dense_gradient_inputs,
    )
)
_backward_apply = register(
    Op(
        f"{_NAME}_backward_apply",
        f"(Tensor grad, {_GIVEN}, Tensor grad_weight, Tensor grad_bias, SymInt count, "
        "float negative_slope) -> Tensor",
        kernels.backward_apply_native,
        f"{_NAME}.backward_apply",
        _backward_apply_fake,
        check_backward_apply,
        triton_inputs=dense_gradient_inputs,
    )
)

"""What conditional_batch_norm_act and its steps are to the native kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.ops.backend import NATIVE_DTYPES, native, place, workspace
from cxrgan_fast.ops.registration import dense, like

if TYPE_CHECKING:
    from cxrgan_fast._C import ConditionalBatchNorm

_cuda_path = ("auto", 0)  # its name and number


@contextmanager
def use_cuda_path(name: str) -> Iterator[None]:
    """Choose how the native CUDA kernels go over the images, in the block; for measurements.

    Args:
        name: ``"two_pass"`` (a launch for each step), ``"slab"`` (each block keeps its channels in
            shared memory, so that images are read once), ``"cluster"`` (the same by clusters of
            blocks, from compute capability 9.0 on), ``"persistent"`` (the same by all blocks that
            run at once; what they cannot keep is read again) or ``"auto"``.

    Raises:
        UserError: the name is unknown; or, from an op in the block, that path cannot take its
            images on its device.
    """
    global _cuda_path
    numbers = native().NORM_PATHS
    if name not in numbers:
        raise UserError(f"use_cuda_path: unknown path {name!r}; expected one of {list(numbers)}")
    before, _cuda_path = _cuda_path, (name, numbers[name])
    try:
        yield
    finally:
        _cuda_path = before


def _problem(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    negative_slope: float,
    direction: int | None = None,
    eps: float = 0.0,
) -> ConditionalBatchNorm:
    """The C++ side's view of a call; the tensors, all dense, must outlive it.

    A path asked for must be possible in the direction: 0 is forward, 1 backward. Only what computes
    statistics reads eps.
    """
    core, (path, number) = native(), _cuda_path
    samples, channels, height, width = input.shape
    problem = core.ConditionalBatchNorm(
        getattr(core, NATIVE_DTYPES[input.dtype]),
        core.CONTIGUOUS if input.is_contiguous() else core.CHANNELS_LAST,
        samples,
        channels,
        height * width,
        eps,
        negative_slope,
        weight.shape[0],
        labels.data_ptr(),
        weight.data_ptr(),
        bias.data_ptr(),
        *place(input),
        number,
    )
    if path != "auto" and direction is not None and place(input)[0] >= 0:
        possible = problem.paths(input.data_ptr())[direction]
        if possible != path:
            raise UserError(
                f"conditional_batch_norm_act: path {path!r} cannot take input of shape "
                f"{tuple(input.shape)} and {input.dtype} {('forward', 'backward')[direction]} "
                f"on this GPU; {possible!r} can"
            )
    return problem


def _rows(statistics: Tensor) -> tuple[int, int, int]:
    """Addresses of mean, variance and r."""
    first, row = statistics.data_ptr(), 4 * statistics.shape[1]
    return first, first + row, first + 2 * row


def act_native(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    if running_mean is None or running_var is None:
        return _forward_native(input, labels, weight, bias, eps, negative_slope, (0, 0, 0.0))
    statistics = weight.new_empty(3, weight.shape[1])
    running_mean, running_var = running_mean.contiguous(), running_var.contiguous()
    native().given_statistics(
        statistics.shape[1],
        eps,
        running_mean.data_ptr(),
        running_var.data_ptr(),
        statistics.data_ptr(),
        *place(input),
    )
    return apply_native(input, labels, weight, bias, statistics, negative_slope), statistics


def act_and_update_native(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    no_mean: None,
    no_var: None,
    eps: float,
    negative_slope: float,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
) -> tuple[Tensor, Tensor]:
    """Compute act_native in training, and update running statistics that can_update accepts."""
    running = running_mean.data_ptr(), running_var.data_ptr(), momentum
    results = _forward_native(input, labels, weight, bias, eps, negative_slope, running)
    torch.autograd.graph.increment_version((running_mean, running_var))
    return results


def _forward_native(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    negative_slope: float,
    running: tuple[int, int, float],
) -> tuple[Tensor, Tensor]:
    """With the batch's statistics. running: addresses of mean and variance, or 0, and momentum."""
    input = dense(input)
    labels, weight, bias = labels.contiguous(), weight.contiguous(), bias.contiguous()
    output, statistics = torch.empty_like(input), weight.new_empty(3, weight.shape[1])
    problem = _problem(input, labels, weight, bias, negative_slope, 0, eps)
    x = input.data_ptr()
    scratch = workspace(problem.forward_workspace(x), input)
    problem.forward(x, output.data_ptr(), *_rows(statistics), *running, scratch.memory)
    return output, statistics


def backward_native(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    eps: float,
    negative_slope: float,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    input = dense(input)
    grad = like(grad, input)
    labels, weight, bias = labels.contiguous(), weight.contiguous(), bias.contiguous()
    statistics = statistics.contiguous()
    grad_input = torch.empty_like(input)
    grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
    mean, _, rstd = _rows(statistics)
    problem = _problem(input, labels, weight, bias, negative_slope, 1)
    dy, x = grad.data_ptr(), input.data_ptr()
    scratch = workspace(problem.backward_workspace(dy, x), input)
    problem.backward(
        dy,
        x,
        mean,
        rstd,
        training,
        grad_input.data_ptr(),
        grad_weight.data_ptr(),
        grad_bias.data_ptr(),
        scratch.memory,
    )
    return grad_input, grad_weight, grad_bias


def can_update(running_mean: Tensor, running_var: Tensor) -> bool:
    """Tell whether kernels can update the running statistics in place."""
    return (
        running_mean.dtype == running_var.dtype == torch.float32
        and running_mean.is_contiguous()
        and running_var.is_contiguous()
    )


def update_native(
    running_mean: Tensor, running_var: Tensor, statistics: Tensor, count: int, momentum: float
) -> None:
    """Update the running statistics as the reference does, in one native call.

    Args:
        running_mean: (C,), float32, updated.
        running_var: (C,), float32, updated.
        statistics: (3, C), what act_native returns.
        count: M = N·H·W.
        momentum: weight of the batch.
    """
    native().update_running_statistics(
        statistics.shape[1],
        count,
        momentum,
        statistics.data_ptr(),
        running_mean.data_ptr(),
        running_var.data_ptr(),
        *place(statistics),
    )
    torch.autograd.graph.increment_version((running_mean, running_var))


# --- The steps ------------------------------------------------------------------------------------


def statistics_native(input: Tensor, eps: float) -> Tensor:
    input = dense(input)
    statistics = torch.empty((3, input.shape[1]), dtype=torch.float32, device=input.device)
    none = input.new_empty(0)  # neither labels nor parameters
    problem = _problem(input, none, none, none, 1.0, eps=eps)
    x = input.data_ptr()
    scratch = workspace(problem.forward_workspace(x), input)
    problem.statistics(x, *_rows(statistics), scratch.memory)
    return statistics


def apply_native(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    negative_slope: float,
) -> Tensor:
    input = dense(input)
    labels, weight, bias = labels.contiguous(), weight.contiguous(), bias.contiguous()
    statistics, output = statistics.contiguous(), torch.empty_like(input)
    mean, _, rstd = _rows(statistics)
    problem = _problem(input, labels, weight, bias, negative_slope)
    problem.apply(input.data_ptr(), mean, rstd, output.data_ptr())
    return output


def backward_reduce_native(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    input = dense(input)
    grad = like(grad, input)
    labels, weight, bias = labels.contiguous(), weight.contiguous(), bias.contiguous()
    statistics = statistics.contiguous()
    grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
    mean, _, rstd = _rows(statistics)
    problem = _problem(input, labels, weight, bias, negative_slope)
    dy, x = grad.data_ptr(), input.data_ptr()
    scratch = workspace(problem.backward_workspace(dy, x), input)
    sums = grad_weight.data_ptr(), grad_bias.data_ptr()
    problem.backward_reduce(dy, x, mean, rstd, *sums, scratch.memory)
    return grad_weight, grad_bias


def backward_apply_native(
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
    input = dense(input)
    grad = like(grad, input)
    labels, weight, bias = labels.contiguous(), weight.contiguous(), bias.contiguous()
    statistics, grad_input = statistics.contiguous(), torch.empty_like(input)
    grad_weight, grad_bias = grad_weight.contiguous(), grad_bias.contiguous()
    mean, _, rstd = _rows(statistics)
    problem = _problem(input, labels, weight, bias, negative_slope)
    dy, x = grad.data_ptr(), input.data_ptr()
    scratch = workspace(problem.backward_workspace(dy, x), input)
    sums = grad_weight.data_ptr(), grad_bias.data_ptr()
    problem.backward_apply(dy, x, mean, rstd, *sums, count, grad_input.data_ptr(), scratch.memory)
    return grad_input

"""Conditional batch normalisation followed by (leaky) ReLU, as one op.

Batch normalisation whose scale and shift depend on the class (de Vries et al. 2017, Miyato &
Koyama 2018), fused with the activation that follows it in every generator.

The registered ops are functional, so that torch.compile and CUDA graphs can hold them; the running
statistics are updated outside, in place, or in a plain eager call by the native kernels themselves:

    conditional_batch_norm_act        output, and the mean, variance and r = 1/√(σ²+eps) that
                                      normalised it, (3, C): the batch's, or those given
    conditional_batch_norm_backward   the gradients

The steps that these are made of are ops too: conditional_batch_norm_steps.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cxrgan_fast.ops import conditional_batch_norm_kernels as kernels
from cxrgan_fast.ops import reference
from cxrgan_fast.ops.backend import choose_backend
from cxrgan_fast.ops.checks import check_negative_slope
from cxrgan_fast.ops.conditional_batch_norm_checks import (
    check_arguments,
    check_backward,
    check_forward,
)
from cxrgan_fast.ops.registration import (
    Op,
    dense,
    dense_gradient_inputs,
    direct,
    is_direct,
    register,
    triton_function,
)

_NAME = "conditional_batch_norm_act"


def conditional_batch_norm_act(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
) -> Tensor:
    """Apply batch norm with a scale and a shift for each class, then LeakyReLU.

    For channel c over all N·H·W values, with mean μ and biased variance σ²:
    ``z = weight[label, c] · (x − μ) / √(σ² + eps) + bias[label, c]`` and ``y = z if z > 0 else
    negative_slope · z``. Statistics are float32 whatever the image dtype. Differentiable twice
    with respect to input, weight and bias.

    Args:
        input: (N, C, H, W), float32, bfloat16 or float16, contiguous or channels_last (anything
            else is made contiguous). float64 is taken by the reference backend only.
        labels: (N,), int64, each in [0, K). Out of range is an IndexError on the CPU; on a GPU
            that sample's output is NaN.
        weight: (K, C), float32: γ of each class. For one γ a sample pass K = N rows and
            ``labels = arange(N)``.
        bias: (K, C), float32: β of each class.
        running_mean: (C,), updated in place in training; what evaluation normalises with.
        running_var: (C,), the unbiased variance, as in ``nn.BatchNorm2d``.
        training: normalise with the batch's statistics (else with the running ones).
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        negative_slope: slope for z ≤ 0, at least 0: 0 is ReLU, 1 is no activation at all.

    Returns:
        (N, C, H, W) in the input's dtype and memory layout.

    Raises:
        ValueError: a shape, a device or the slope does not fit, running statistics are missing, or
            there is a single value per channel in training.
        TypeError: a dtype does not fit.
        IndexError: a label is out of range (CPU).
    """
    check_arguments(input, labels, weight, bias, running_mean, running_var, training)
    slope = check_negative_slope(negative_slope)
    backend = choose_backend(input, _NAME)
    if backend == "reference":
        # Cast here, once: x has two uses there, and their gradients are to be added in float32.
        output = reference.conditional_batch_norm_act(
            input.to(reference.accumulation_dtype(input.dtype)),
            *_rows_by_sample(labels, weight, bias),
            running_mean,
            running_var,
            training=training,
            momentum=momentum,
            eps=eps,
            negative_slope=slope,
        )
        return output.to(input.dtype)
    weight, bias = weight.float(), bias.float()
    if not training:
        assert running_mean is not None
        assert running_var is not None
        output, _ = _act[backend](
            input, labels, weight, bias, running_mean.float(), running_var.float(), eps, slope
        )
        return output
    inputs = input, labels, weight, bias, None, None, eps, slope
    if running_mean is None or running_var is None:
        return _act[backend](*inputs)[0]
    running = running_mean, running_var, momentum
    if (
        backend == "native"
        and kernels.can_update(running_mean, running_var)
        and is_direct((*inputs, *running))
    ):
        return _act_and_update(*inputs, *running)[0]
    output, statistics = _act[backend](*inputs)
    _update_running_statistics(backend, *running, statistics, input)
    return output


def _update_running_statistics(
    backend: str,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    statistics: Tensor,
    input: Tensor,
) -> None:
    count = input.numel() // max(input.shape[1], 1)
    tensors = running_mean, running_var, statistics
    if is_direct(tensors) and kernels.can_update(running_mean, running_var):
        if backend == "native":
            kernels.update_native(*tensors, count, momentum)
        else:
            update = triton_function("conditional_batch_norm.update_running_statistics")
            update(*tensors, count, momentum)
        return
    mean, var, _ = statistics.unbind()
    reference.update_running_statistics(
        running_mean, running_var, mean, var, count=count, momentum=momentum
    )


def _rows_by_sample(labels: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, γ and β that plain indexing takes: it wraps negative labels, and kills a GPU context.

    Raises:
        IndexError: a label is out of range, and looking does not wait for a device.
    """
    classes = weight.shape[0]
    valid = (labels >= 0) & (labels < classes)  # (N,)
    looks = not (torch.compiler.is_compiling() or torch.jit.is_tracing())
    if labels.device.type == "cpu" and looks:
        if not valid.all():
            sample = int((~valid).nonzero()[0])
            raise IndexError(
                f"labels[{sample}] is {int(labels[sample])}, expected 0 <= label < {classes}"
            )
        return labels, weight, bias
    rows = labels.clamp(0, classes - 1)
    return (
        torch.arange(labels.shape[0], device=labels.device),
        weight[rows].where(valid[:, None], torch.nan),  # (N, C)
        bias[rows].where(valid[:, None], torch.nan),
    )


# --- What comes out, without computing it -------------------------------------------------------


def _act_fake(input: Tensor, labels: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(dense(input)), weight.new_empty(3, weight.shape[1])


def _backward_fake(
    grad: Tensor, input: Tensor, labels: Tensor, weight: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    grad_weight, grad_bias = (weight.new_empty(weight.shape) for _ in range(2))
    return torch.empty_like(dense(input)), grad_weight, grad_bias


# --- Autograd: only x, μ, σ², r, the labels and the parameters are saved ------------------------


def _save_act(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, labels, weight, bias, running_mean, _, ctx.eps, ctx.negative_slope = inputs
    ctx.training = running_mean is None
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(input, labels, weight, bias, output[1])


def _act_backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    grad_input, grad_weight, grad_bias = _backward[ctx.backend](
        grad, *ctx.saved_tensors, ctx.eps, ctx.negative_slope, ctx.training
    )
    return grad_input, None, grad_weight, grad_bias, None, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, ctx.negative_slope, ctx.training = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _double_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    """Second derivatives, rare in training: autograd through the reference formula.

    The gradients are taken as functions of (grad, input, weight, bias) alone: in training the
    statistics are input's own, and the derivative through them is part of the result.
    """
    grad, input, labels, weight, bias, statistics = ctx.saved_tensors
    dtypes = [each.dtype for each in (grad, input, weight, bias)]
    with torch.enable_grad():
        # In float32 from the first to the last, so that 16-bit images are rounded once.
        variables = [each.detach().float().requires_grad_() for each in (grad, input, weight, bias)]
        grad, input, weight, bias = variables
        slope = ctx.negative_slope
        if ctx.training:
            output = reference.conditional_batch_norm_act(
                input, labels, weight, bias, eps=ctx.eps, negative_slope=slope
            )
        else:
            mean, var, _ = statistics.unbind()
            output = reference.normalize_act(
                input, labels, weight, bias, mean, var, eps=ctx.eps, negative_slope=slope
            )
        first = torch.autograd.grad(output, (input, weight, bias), grad, create_graph=True)
        given = [(each, of) for each, of in zip(first, grads, strict=True) if of is not None]
        second = torch.autograd.grad(
            [each for each, _ in given],
            variables,
            [of.float() for _, of in given],
            allow_unused=True,
        )
    of_grad, of_input, of_weight, of_bias = (
        None if each is None else each.to(dtype) for each, dtype in zip(second, dtypes, strict=True)
    )
    return of_grad, of_input, None, of_weight, of_bias, None, None, None, None


# --- Registration --------------------------------------------------------------------------------

_PARAMETERS = "Tensor input, Tensor labels, Tensor weight, Tensor bias"

_act_op = Op(
    "conditional_batch_norm_act",
    f"({_PARAMETERS}, Tensor? running_mean, Tensor? running_var, float eps, "
    "float negative_slope) -> (Tensor, Tensor)",
    kernels.act_native,
    "conditional_batch_norm.forward",
    _act_fake,
    check_forward,
    _save_act,
    _act_backward,
)
_act = register(_act_op)
# The kernel that has the statistics of a channel updates the running ones at once, where nothing
# but autograd has to know of it: a registered op must be functional.
_act_and_update = direct(_act_op, _NAME, "native", kernels.act_and_update_native, also=3)
_backward = register(
    Op(
        "conditional_batch_norm_backward",
        f"(Tensor grad, {_PARAMETERS}, Tensor statistics, float eps, float negative_slope, "
        "bool training) -> (Tensor, Tensor, Tensor)",
        kernels.backward_native,
        "conditional_batch_norm.backward",
        _backward_fake,
        check_backward,
        _save_backward,
        _double_backward,
        dense_gradient_inputs,
    )
)

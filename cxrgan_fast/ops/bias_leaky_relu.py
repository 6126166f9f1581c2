"""A channel's bias, LeakyReLU and a gain in one op, the activation after layers without norm.

The registered ops are functional. Their derivatives are each other, to any order, because the first
derivative is linear in what comes in:

    bias_leaky_relu            y = gain·(z if z > 0 else slope·z), z = x + bias[c]
    bias_leaky_relu_backward   dx = g·gain·(1 if y > 0 else slope) and dbias[c] = Σ dx
    bias_leaky_relu_gate       (g + bias[c])·gain·(1 if y > 0 else slope)

They take images (N, C, H, W), and the public function makes such of what it gets.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import reference
from .backend import NATIVE_DTYPES, choose_backend, native, place, workspace
from .checks import (
    check_exactly,
    check_floating,
    check_gain,
    check_kernel_image,
    check_negative_slope,
    check_parameter,
    shape_of,
)
from .registration import Op, dense, dense_gradient_inputs, like, register

_NAME = "bias_leaky_relu"


def bias_leaky_relu(
    input: Tensor,
    bias: Tensor | None = None,
    *,
    negative_slope: float = 0.2,
    gain: float = 1.0,
) -> Tensor:
    """Add a bias to each channel, then LeakyReLU and a gain.

    z = x + bias[c], y = gain·(z if z > 0 else slope·z). A gain of √(2/(1 + slope²)) keeps the
    variance (He et al. 2015); √2 is that of StyleGAN's layers (Karras et al. 2019).

    Differentiable twice, as R1 and gradient penalties need (Mescheder et al. 2018). Only y is kept
    for that: its sign is that of z.

    Args:
        input: (N, C) or (N, C, ...), such as images (N, C, H, W), any floating dtype and layout.
        bias: (C,), float32 or the dtype of ``input``, or None for no bias.
        negative_slope: slope below 0, at least 0; 0 is ReLU.
        gain: what the activation is multiplied by, above 0.

    Returns:
        The shape, dtype and layout of ``input``. The result is rounded once, to that dtype.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device, slope or gain.
    """
    check_floating("input", input)
    if input.dim() < 2:
        raise ValueError(f"input must have shape (N, C) or (N, C, ...), got {shape_of(input)}")
    if bias is not None:
        check_parameter("bias", bias, (input.shape[1],), input)
    slope, gain = check_negative_slope(negative_slope), check_gain(gain)
    backend = choose_backend(input, _NAME)
    if backend == "reference":
        return reference.bias_leaky_relu(input, bias, negative_slope=slope, gain=gain)
    bias = None if bias is None else bias.float()
    if input.dim() == 4:
        return _act[backend](input, bias, slope, gain)
    return _act[backend](_as_image(input), bias, slope, gain).reshape(input.shape)


def _as_image(input: Tensor) -> Tensor:
    """The same as (N, C, H, W), a view if there is one: of dense tensors there is."""
    if input.dim() > 4:
        return input.flatten(3)
    while input.dim() < 4:
        input = input.unsqueeze(-1)
    return input


# --- The native backend -------------------------------------------------------------------------


def _shape(image: Tensor) -> tuple[int, int, int, int, int]:
    """The C++ side's view of a dense image: dtype, layout, N, C, H·W."""
    core = native()
    samples, channels, height, width = image.shape
    layout = core.CONTIGUOUS if image.is_contiguous() else core.CHANNELS_LAST
    dtype = getattr(core, NATIVE_DTYPES[image.dtype])
    return dtype, layout, samples, channels, height * width


def _address(bias: Tensor | None) -> int:
    return 0 if bias is None else bias.data_ptr()


def _act_native(input: Tensor, bias: Tensor | None, negative_slope: float, gain: float) -> Tensor:
    input = dense(input)
    bias = None if bias is None else bias.contiguous()
    output, where = torch.empty_like(input), place(input)
    native().bias_leaky_relu(
        *_shape(input),
        negative_slope,
        gain,
        input.data_ptr(),
        _address(bias),
        output.data_ptr(),
        *where,
    )
    return output


def _gate_native(
    grad: Tensor, bias: Tensor | None, output: Tensor, negative_slope: float, gain: float
) -> Tensor:
    output = dense(output)
    grad = like(grad, output)
    bias = None if bias is None else bias.contiguous()
    result, where = torch.empty_like(output), place(output)
    native().bias_leaky_relu_gate(
        *_shape(output),
        negative_slope,
        gain,
        grad.data_ptr(),
        _address(bias),
        output.data_ptr(),
        result.data_ptr(),
        *where,
    )
    return result


def _backward_native(
    grad: Tensor, output: Tensor, negative_slope: float, gain: float
) -> tuple[Tensor, Tensor]:
    output = dense(output)
    grad = like(grad, output)
    grad_input, grad_bias = _backward_fake(grad, output)
    shape, where = _shape(output), place(output)
    scratch = workspace(native().bias_leaky_relu_workspace(*shape, where[0]), output)
    native().bias_leaky_relu_backward(
        *shape,
        negative_slope,
        gain,
        grad.data_ptr(),
        output.data_ptr(),
        grad_input.data_ptr(),
        grad_bias.data_ptr(),
        scratch.memory,
        *where,
    )
    return grad_input, grad_bias


# --- The Triton backend ---------------------------------------------------------------------------


def _gate_inputs(
    grad: Tensor, bias: Tensor | None, output: Tensor, *others: Any
) -> tuple[Any, ...]:
    grad, output, bias = dense_gradient_inputs(grad, output, bias)
    return grad, bias, output, *others


# --- What comes out, without computing it -------------------------------------------------------


def _act_fake(input: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(dense(input))


def _gate_fake(grad: Tensor, bias: Tensor | None, output: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(dense(output))


def _backward_fake(grad: Tensor, output: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    grad_bias = output.new_empty(output.shape[1], dtype=torch.float32)
    return torch.empty_like(dense(output)), grad_bias


# --- What the registered ops take: kernels rely on it -------------------------------------------


def _check_act(input: Tensor, bias: Tensor | None, negative_slope: float, gain: float) -> None:
    check_kernel_image("input", input)
    _check_bias(bias, input, "input")
    check_negative_slope(negative_slope)
    check_gain(gain)


def _check_gate(
    grad: Tensor, bias: Tensor | None, output: Tensor, negative_slope: float, gain: float
) -> None:
    _check_backward(grad, output, negative_slope, gain)
    _check_bias(bias, output, "output")


def _check_backward(grad: Tensor, output: Tensor, negative_slope: float, gain: float) -> None:
    check_kernel_image("output", output)
    check_kernel_image("grad", grad, output, "output")
    check_negative_slope(negative_slope)
    check_gain(gain)


def _check_bias(bias: Tensor | None, image: Tensor, name: str) -> None:
    if bias is not None:
        check_exactly("bias", bias, torch.float32, (image.shape[1],), image, name)


# --- Autograd: only y is saved --------------------------------------------------------------------


def _save_act(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, ctx.negative_slope, ctx.gain = inputs
    ctx.save_for_backward(output)


def _act_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (output,) = ctx.saved_tensors
    if ctx.needs_input_grad[1]:
        grads = _backward[ctx.backend](grad, output, ctx.negative_slope, ctx.gain)
        return *grads, None, None
    return _gate[ctx.backend](grad, None, output, ctx.negative_slope, ctx.gain), None, None, None


def _save_gate(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, activated, ctx.negative_slope, ctx.gain = inputs
    ctx.save_for_backward(activated)


def _gate_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_input, grad_bias, *_ = _act_backward(ctx, grad)
    return grad_input, grad_bias, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, activated, ctx.negative_slope, ctx.gain = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(activated)


def _double_backward(
    ctx: Any, of_grad_input: Tensor | None, of_grad_bias: Tensor | None
) -> tuple[Tensor | None, ...]:
    (output,) = ctx.saved_tensors
    if of_grad_input is None and of_grad_bias is None:
        return (None,) * 4
    if of_grad_input is None:
        of_grad_input = torch.zeros_like(output)
    gate = _gate[ctx.backend]
    change = gate(of_grad_input, of_grad_bias, output, ctx.negative_slope, ctx.gain)
    return change, None, None, None


# --- Registration --------------------------------------------------------------------------------

_act = register(
    Op(
        "bias_leaky_relu",
        "(Tensor input, Tensor? bias, float negative_slope, float gain) -> Tensor",
        _act_native,
        "bias_leaky_relu.act",
        _act_fake,
        _check_act,
        _save_act,
        _act_backward,
    )
)
_gate = register(
    Op(
        "bias_leaky_relu_gate",
        "(Tensor grad, Tensor? bias, Tensor output, float negative_slope, float gain) -> Tensor",
        _gate_native,
        "bias_leaky_relu.gate",
        _gate_fake,
        _check_gate,
        _save_gate,
        _gate_backward,
        _gate_inputs,
    )
)
_backward = register(
    Op(
        "bias_leaky_relu_backward",
        "(Tensor grad, Tensor output, float negative_slope, float gain) -> (Tensor, Tensor)",
        _backward_native,
        "bias_leaky_relu.backward",
        _backward_fake,
        _check_backward,
        _save_backward,
        _double_backward,
        dense_gradient_inputs,
    )
)

"""A convolution whose second derivatives cost what its first ones do.

R1 (Mescheder et al. 2018) differentiates the discriminator twice. PyTorch computes such a second
derivative for a weight as a convolution with a kernel as large as the image, and does so once for
each group of channels. Here it is one more call of the first derivative (as in the conv2d_gradfix
of Karras et al. 2020, StyleGAN2-ADA): conv(x, w), its gradient dx(g, w) for x and its gradient
dw(x, g) for w are each linear in both arguments, and the derivatives of each are the other two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_Sizes = tuple[int, int, int]
"""Stride, padding and groups."""


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Tensor:
    """Convolve as ``F.conv2d`` does, with second derivatives that cost what the first ones do.

    Differentiable any number of times. Under autocast it runs in the autocast dtype. Functions that
    are compiled or traced contain ``F.conv2d``.

    Args:
        input: images (N, I, H, W), any floating dtype and layout.
        weight: (O, I / groups, kh, kw), in the dtype of ``input`` unless autocast casts both.
        bias: (O,) in the dtype of ``weight``, or None.
        stride: in pixels, in both directions.
        padding: zeros on each side, in pixels.
        groups: into how many parts the channels are split; each sees only its own inputs.

    Returns:
        (N, O, H', W'), as ``F.conv2d``.

    Raises:
        RuntimeError: what ``F.conv2d`` refuses: a shape, a dtype or a device that does not fit.
    """
    of_weight = weight.requires_grad or (bias is not None and bias.requires_grad)
    differentiable = torch.is_grad_enabled() and (input.requires_grad or of_weight)
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if recorded or not differentiable:
        return F.conv2d(input, weight, bias, stride, padding, 1, groups)
    if torch.is_autocast_enabled(input.device.type):
        dtype = torch.get_autocast_dtype(input.device.type)
        input, weight = input.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    sizes = stride, padding, groups
    handle = _Handle.apply(weight, bias, (input,), sizes) if of_weight else None
    output: Tensor = _Convolve.apply(input, weight, bias, handle, sizes)
    return output


class _Function(torch.autograd.Function):
    """A function that keeps its first two inputs, and the sizes, which come last."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.sizes = inputs[-1]


class _Convolve(_Function):
    """conv(x, w), with the gradient of x; that of w and the bias goes to the handle."""

    @staticmethod
    def forward(
        input: Tensor, weight: Tensor, bias: Tensor | None, handle: Tensor | None, sizes: _Sizes
    ) -> Tensor:
        stride, padding, groups = sizes
        return F.conv2d(input, weight, bias, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        of_input = None
        if ctx.needs_input_grad[0]:
            of_input = _OfInput.apply(grad, weight, input.detach(), ctx.sizes)
        return of_input, None, None, grad if ctx.needs_input_grad[3] else None, None


class _Handle(torch.autograd.Function):
    """What has the shape of conv(x, w) and no memory, and is given the gradient for w and the bias.

    A function in Python is not told which of its gradients are asked for. This is a node of its
    own, which R1's first derivatives, those of the images, leave out: x comes in a tuple, so that
    it is no input whose gradient would lead through here.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        weight: Tensor, bias: Tensor | None, inputs: tuple[Tensor], sizes: _Sizes
    ) -> Tensor:
        (input,), (stride, padding, _) = inputs, sizes
        height, width = (
            (extent + 2 * padding - kernel) // stride + 1
            for extent, kernel in zip(input.shape[2:], weight.shape[2:], strict=True)
        )
        return input.new_empty(()).expand(len(input), len(weight), height, width)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight, _, (input,), ctx.sizes = inputs
        ctx.save_for_backward(input, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_weight = _OfWeight.apply(input, grad, weight.detach(), ctx.sizes)
        if ctx.needs_input_grad[1]:
            of_bias = grad.sum((0, 2, 3))
        return of_weight, of_bias, None, None


class _OfInput(_Function):
    """dx(g, w); of x only the shape counts."""

    @staticmethod
    def forward(grad: Tensor, weight: Tensor, input: Tensor, sizes: _Sizes) -> Tensor:
        return _gradient(grad, input, weight, sizes, of_input=True)

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
        grad, weight = ctx.saved_tensors
        of_grad = of_weight = None
        if ctx.needs_input_grad[0]:
            of_grad = _again(change, weight, ctx.sizes)
        if ctx.needs_input_grad[1]:
            of_weight = _OfWeight.apply(change, grad, weight.detach(), ctx.sizes)
        return of_grad, of_weight, None, None


class _OfWeight(_Function):
    """dw(x, g); of w only the shape counts."""

    @staticmethod
    def forward(input: Tensor, grad: Tensor, weight: Tensor, sizes: _Sizes) -> Tensor:
        return _gradient(grad, input, weight, sizes, of_input=False)

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
        input, grad = ctx.saved_tensors
        of_input = of_grad = None
        if ctx.needs_input_grad[0]:
            of_input = _OfInput.apply(grad, change, input.detach(), ctx.sizes)
        if ctx.needs_input_grad[1]:
            of_grad = _again(input, change, ctx.sizes)
        return of_input, of_grad, None, None


def _again(input: Tensor, weight: Tensor, sizes: _Sizes) -> Tensor:
    stride, padding, groups = sizes
    return conv2d(input, weight, stride=stride, padding=padding, groups=groups)


def _gradient(
    grad: Tensor, input: Tensor, weight: Tensor, sizes: _Sizes, *, of_input: bool
) -> Tensor:
    stride, padding, groups = sizes
    places = None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups
    wanted = [of_input, not of_input, False]
    gradients = torch.ops.aten.convolution_backward.default(grad, input, weight, *places, wanted)
    gradient: Tensor = gradients[0 if of_input else 1]
    return gradient

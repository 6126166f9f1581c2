"""How an op becomes known to PyTorch: its schema, kernels, shapes and derivative, in one place.

Registered ops are functional and opaque: ``torch.compile(fullgraph=True)``, ``opcheck`` and CUDA
graphs take them as they are. Their way through PyTorch's dispatcher, which serves all of that,
costs several times what a small image's kernel does, so a plain eager call takes a shorter one: the
same functions, behind a ``torch.autograd.Function``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from cxrgan_fast.ops.backend import load_triton, triton_interpreter

_library = torch.library.Library("cxrgan_fast", "FRAGMENT")


@dataclass(frozen=True)
class Op:
    """One op of the ``cxrgan_fast`` namespace."""

    name: str
    signature: str
    """The schema without the name: ``(Tensor input) -> Tensor``."""
    native: Callable[..., Any]
    """What the extension's kernels compute, on CPU and CUDA tensors."""
    triton: str
    """What the Triton kernels compute: ``module.function`` of cxrgan_fast.kernels."""
    fake: Callable[..., Any]
    """Empty outputs of the right shape, dtype and layout."""
    check: Callable[..., None]
    """Raises, naming the argument, unless all are what the kernels and ``fake`` rely on."""
    save: Callable[..., None] | None = None
    """Keeps what the derivative needs: ``setup_context`` of ``torch.library.register_autograd``."""
    backward: Callable[..., Any] | None = None
    """The derivative. ``ctx.backend`` tells which backend is to compute it, as it did the op.

    None for a step of an op, which is called where derivatives are written.
    """
    triton_inputs: Callable[..., tuple[Any, ...]] | None = None
    """What the Triton function gets, made of the op's inputs; by default :func:`dense_inputs`."""

    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what the derivative needs, if there is one."""
        if self.save is not None:
            self.save(ctx, inputs, output)

    def derive(self, ctx: Any, *grads: Any) -> Any:
        """Compute the derivative.

        Raises:
            RuntimeError: the op is a step and has none.
        """
        if self.backward is None:
            raise RuntimeError(
                f"{self.name} is a step without a derivative of its own: call it from the forward "
                "or the backward method of a torch.autograd.Function, or under torch.no_grad()"
            )
        return self.backward(ctx, *grads)


def register(op: Op) -> dict[str, Callable[..., Any]]:
    """Make ``torch.ops.cxrgan_fast.NAME`` callable, differentiable and compilable.

    Triton's kernels are an op of their own, ``NAME_triton``, which torch.compile looks into; there
    is none where they cannot be used.

    Returns:
        For each backend with kernels, the op as the package calls it: that one, by the shortest way
        that the call at hand allows. Arguments are positional.
    """
    fake = _checked(op, op.fake)
    _library.define(op.name + op.signature, tags=torch.Tag.pt2_compliant_tag)
    _library.impl(op.name, _checked(op, op.native), "CPU")
    _library.impl(op.name, _checked(op, _on_its_device(op.native)), "CUDA")
    torch.library.register_fake(f"cxrgan_fast::{op.name}", fake, lib=_library)
    calls = {"native": _differentiable(op, op.name, "native", op.native)}
    if load_triton():
        return calls
    name, kernels = f"{op.name}_triton", _on_dense(op)
    checked = _checked(op, kernels)
    if triton_interpreter():  # which cannot be traced
        _library.define(name + op.signature, tags=torch.Tag.pt2_compliant_tag)
        _library.impl(name, checked, "CPU")
        torch.library.register_fake(f"cxrgan_fast::{name}", fake, lib=_library)
    else:
        # Versions before 2.9 take the schema, do not use it, and infer one of the annotations.
        checked.__signature__ = _annotated(op.signature)  # type: ignore[attr-defined]
        torch.library.triton_op(
            f"cxrgan_fast::{name}", checked, mutates_args=(), schema=op.signature
        )
    return {**calls, "triton": _differentiable(op, name, "triton", kernels)}


def triton_function(name: str) -> Callable[..., Any]:
    """Import ``module.function`` of cxrgan_fast.kernels, for what load_triton can load."""
    module, _, function = name.partition(".")
    return getattr(importlib.import_module(f"cxrgan_fast.kernels.{module}"), function)


def _on_dense(op: Op) -> Callable[..., Any]:
    """The op's Triton function, for inputs of any strides."""
    function, inputs_of = triton_function(op.triton), op.triton_inputs or dense_inputs

    def kernels(*inputs: Any) -> Any:
        return function(*inputs_of(*inputs))

    return kernels


def _checked(op: Op, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for arguments that the op's check lets through.

    Anyone can call a registered op, and kernels read as many bytes as the shapes say. The package's
    own eager calls come another way, from functions that have checked: they do not pay for this.
    """
    check = op.check

    def call(*inputs: Any) -> Any:
        check(*inputs)
        return function(*inputs)

    return call


_PYTHON_TYPES = {
    "Tensor": Tensor,
    "Optional[Tensor]": Tensor | None,
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
}


def _annotated(signature: str) -> inspect.Signature:
    """The Python signature that PyTorch infers an op's schema from.

    Args:
        signature: the schema without a name, such as ``(Tensor x, float eps) -> Tensor``.
    """
    schema = torch._C.parse_schema(f"cxrgan_fast::op{signature}")
    parameters = [
        inspect.Parameter(
            argument.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=_PYTHON_TYPES[str(argument.type)],
        )
        for argument in schema.arguments
    ]
    results: Any = tuple(_PYTHON_TYPES[str(result.type)] for result in schema.returns)
    returned = results[0] if len(results) == 1 else tuple.__class_getitem__(results)
    return inspect.Signature(parameters, return_annotation=returned)


def _on_its_device(kernels: Callable[..., Any]) -> Callable[..., Any]:
    """The same with the GPU of the first tensor as PyTorch's current one.

    Kernels make a device current for themselves, but what was current again afterwards only so that
    a GPU that nothing had been done on yet gets a context.
    """

    def guarded(first: Tensor, *others: Any) -> Any:
        with torch.cuda.device(first.device):
            return kernels(first, *others)

    return guarded


def _differentiable(
    op: Op, name: str, backend: str, kernels: Callable[..., Any]
) -> Callable[..., Any]:
    """The registered op of that name, with its derivative, by the shortest way."""

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.backend = backend
        op.keep(ctx, inputs, output)

    torch.library.register_autograd(
        f"cxrgan_fast::{name}", op.derive, setup_context=save, lib=_library
    )
    dispatched = getattr(torch.ops.cxrgan_fast, name).default
    directly = direct(op, name, backend, kernels)

    class Functional(torch.autograd.Function):
        """As torch.func's transforms take it; register_autograd makes none that they do."""

        @staticmethod
        def forward(*inputs: Any) -> Any:
            return call(*inputs)

        setup_context = staticmethod(save)
        backward = staticmethod(op.derive)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
            outputs = [
                call(
                    *(
                        each if dim is None else each.select(dim, index)
                        for each, dim in zip(inputs, in_dims, strict=True)
                    )
                )
                for index in range(info.batch_size)
            ]
            if isinstance(outputs[0], Tensor):
                return torch.stack(outputs), 0
            stacked = tuple(torch.stack(part) for part in zip(*outputs, strict=True))
            return stacked, (0,) * len(stacked)

    def call(*inputs: Any) -> Any:
        if not is_direct(inputs):
            if torch._C._are_functorch_transforms_active() and not torch.compiler.is_compiling():
                return Functional.apply(*inputs)
            return dispatched(*inputs)
        return directly(*inputs)

    return call


def direct(
    op: Op, name: str, backend: str, kernels: Callable[..., Any], also: int = 0
) -> Callable[..., Any]:
    """Make a function of kernels that has the op's derivative, for calls that are direct.

    Args:
        op: op whose inputs, saved tensors and derivative they have.
        name: as profilers show it.
        backend: what computes the derivative.
        kernels: gets the op's inputs, and behind them as many more as ``also`` says.
        also: how many inputs without a derivative the op does not know of, such as tensors that are
            updated in place.
    """
    op_save, op_backward, nothing = op.save or op.keep, op.backward or op.derive, (None,) * also

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = kernels(*inputs)
            ctx.backend = backend
            op_save(ctx, inputs[: len(inputs) - also], output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return (*op_backward(ctx, *grads), *nothing)

    if not also:  # a derivative as it is, which may be of one input and no tuple
        Direct.backward = staticmethod(op_backward)  # type: ignore[method-assign]
    Direct.__name__ = Direct.__qualname__ = name
    # Without the Python half of Function.apply, 3 µs that serve functorch: is_direct rules it out.
    apply = super(torch.autograd.Function, Direct).apply

    def call(*inputs: Any) -> Any:
        if torch.is_grad_enabled():
            return apply(*inputs)
        return kernels(*inputs)

    return call


def is_direct(inputs: tuple[Any, ...]) -> bool:
    """Tell whether only autograd sees this call: no compiler, no tracer, no wrapped tensor."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
    ):
        return False
    for each in inputs:
        kind = type(each)
        if kind is Tensor or kind is Parameter:
            # A tensor can outlive the functorch transform that wrapped it.
            if not each.is_cpu and not (
                each.is_cuda and each.get_device() == torch.cuda.current_device()
            ):
                return False
            # A view of memory that holds the negatives, or zeros without any memory: the dispatcher
            # makes tensors of them.
            if each.is_neg() or each._is_zerotensor():
                return False
            if torch._C._functorch.is_functorch_wrapped_tensor(each):
                return False
        elif kind not in _NO_TENSORS:
            return False
    return True


_NO_TENSORS = frozenset((type(None), bool, int, float, str))


def dense(image: Tensor) -> Tensor:
    """Return the image itself if contiguous or channels_last, else a contiguous copy."""
    if image.is_contiguous() or image.is_contiguous(memory_format=torch.channels_last):
        return image
    return image.contiguous()


def like(image: Tensor, dense_image: Tensor) -> Tensor:
    """Return the image in the layout of a dense one."""
    if dense_image.is_contiguous():
        return image.contiguous()
    return image.contiguous(memory_format=torch.channels_last)


def contiguous_inputs(*inputs: Any) -> tuple[Any, ...]:
    """Make the tensors contiguous; other inputs stay as they are."""
    return tuple(each.contiguous() if isinstance(each, Tensor) else each for each in inputs)


def dense_inputs(image: Tensor, *others: Any) -> tuple[Any, ...]:
    """Make an image dense and the other tensors contiguous."""
    return dense(image), *contiguous_inputs(*others)


def dense_gradient_inputs(grad: Tensor, image: Tensor, *others: Any) -> tuple[Any, ...]:
    """Make an image dense, its gradient like it, and the other tensors contiguous."""
    image = dense(image)
    return like(grad, image), image, *contiguous_inputs(*others)

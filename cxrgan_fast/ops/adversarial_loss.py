"""The two adversarial losses, in five kinds, from logits of any shape.

============== ================================================= =====================
kind           discriminator                                     generator
============== ================================================= =====================
minimax        mean(softplus(−r) + s·r) + mean(softplus(f))      −mean(softplus(f))
non_saturating the same                                          mean(softplus(−f))
hinge          mean(relu(1−r)) + mean(relu(1+f))                 −mean(f)
least_squares  ½·mean((r−1+s)²) + ½·mean(f²)                     ½·mean((f−1)²)
wasserstein    mean(f) − mean(r)                                 −mean(f)
============== ================================================= =====================

r and f are the logits of real and generated images, s the label smoothing: the target of real
images is 1−s. Goodfellow et al. 2014 (minimax, non_saturating), Salimans et al. 2016 (smoothing),
Mao et al. 2017 (least_squares), Arjovsky et al. 2017 (wasserstein), Lim & Ye 2017 (hinge).

The registered ops return the loss and its gradients for the logits, all from one pass, so that the
derivative only scales. The gradient of a plain mean is one number, (), the same for each logit. The
gradients are outputs, and differentiable ones: their own derivative, the curvature φ''/n of a term
mean(φ), follows from the gradient φ'/n alone, to any order:

    softplus        σ(1−σ)/n, where σ is the sigmoid in the gradient
    squares         1/n
    relu, mean      0
"""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from . import reference
from .backend import NATIVE_DTYPES, choose_backend, native, place, selected_backend, workspace
from .checks import check_floating, check_kernel_dtype, check_same_device
from .registration import Op, contiguous_inputs, register

LossKind = Literal["minimax", "non_saturating", "hinge", "least_squares", "wasserstein"]
LOSS_KINDS: tuple[str, ...] = get_args(LossKind)

# A smoothed target needs a loss that has targets: the hinge and the critic's difference have none.
SMOOTHED_KINDS = ("minimax", "non_saturating", "least_squares")

# Plain means, of which the gradient is one number.
_LINEAR_FOR_DISCRIMINATOR = ("wasserstein",)
_LINEAR_FOR_GENERATOR = ("hinge", "wasserstein")

# Up to so many logits on the CPU PyTorch has a mean and its derivative in less time than it takes
# to come to a kernel of our own.
_FEW = 1024


def discriminator_loss(
    real_logits: Tensor,
    fake_logits: Tensor,
    *,
    kind: LossKind = "non_saturating",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Compute the loss that the discriminator minimizes.

    Args:
        real_logits: logits of real images, any shape and strides, any floating dtype.
        fake_logits: logits of generated images, any shape, on the same device; it may differ
            in shape from ``real_logits``, each has its own mean.
        kind: one of the five losses in the module's table.
        label_smoothing: s in [0, 1), one-sided; only for kinds with a target (minimax,
            non_saturating, least_squares).

    Returns:
        A scalar, computed in float32 whatever the logits' dtype (float64 if they are float64).

    Raises:
        TypeError: logits that are no floating tensors.
        ValueError: unknown kind, smoothing out of range or without a target, different devices.
    """
    check_floating("real_logits", real_logits)
    check_floating("fake_logits", fake_logits)
    check_same_device("fake_logits", fake_logits, real_logits, "real_logits")
    _check_kind(kind)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    if label_smoothing and kind not in SMOOTHED_KINDS:
        raise ValueError(
            f"label_smoothing must be 0 for kind {kind!r}, which has no target to smooth, "
            f"got {label_smoothing}"
        )
    smoothing = float(label_smoothing)
    if kind in _LINEAR_FOR_DISCRIMINATOR and _are_few(real_logits, fake_logits):
        return reference.discriminator_loss(real_logits, fake_logits, kind=kind)
    backend = choose_backend(real_logits, "discriminator_loss")
    if backend != "reference" and fake_logits.dtype != real_logits.dtype:
        backend = choose_backend(fake_logits, "discriminator_loss")
    if backend == "reference":
        return reference.discriminator_loss(
            real_logits, fake_logits, kind=kind, label_smoothing=smoothing
        )
    return _discriminator[backend](real_logits, fake_logits, kind, smoothing)[0]


def generator_loss(fake_logits: Tensor, *, kind: LossKind = "non_saturating") -> Tensor:
    """Compute the loss that the generator minimizes.

    Args:
        fake_logits: logits of generated images, any shape and strides, any floating dtype.
        kind: one of the five losses in the module's table.

    Returns:
        A scalar, computed in float32 whatever the logits' dtype (float64 if they are float64).

    Raises:
        TypeError: logits that are no floating tensor.
        ValueError: unknown kind.
    """
    check_floating("fake_logits", fake_logits)
    _check_kind(kind)
    if kind in _LINEAR_FOR_GENERATOR and _are_few(fake_logits):
        return reference.generator_loss(fake_logits, kind=kind)
    backend = choose_backend(fake_logits, "generator_loss")
    if backend == "reference":
        return reference.generator_loss(fake_logits, kind=kind)
    return _generator[backend](fake_logits, kind)[0]


def _are_few(*logits: Tensor) -> bool:
    """Whether ``auto`` leaves the mean of these to PyTorch."""
    return selected_backend() == "auto" and all(
        each.is_cpu and each.numel() <= _FEW for each in logits
    )


def _check_kind(kind: str) -> None:
    if kind not in LOSS_KINDS:
        raise ValueError(f"kind must be one of {', '.join(LOSS_KINDS)}, got {kind!r}")


# --- The native backend -------------------------------------------------------------------------


@functools.cache
def _code(dtype: torch.dtype) -> int:
    return getattr(native(), NATIVE_DTYPES[dtype])


def _discriminator_native(
    real_logits: Tensor, fake_logits: Tensor, kind: str, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    real, fake, core = real_logits.contiguous(), fake_logits.contiguous(), native()
    loss, real_gradient, fake_gradient = _discriminator_fake(real, fake, kind)
    where = place(fake)
    count = real.numel() + fake.numel()
    scratch = workspace(core.adversarial_loss_workspace(count, where[0]), fake)
    core.discriminator_loss(
        core.LOSS_KINDS[kind],
        label_smoothing,
        _code(real.dtype),
        real.numel(),
        real.data_ptr(),
        real_gradient.data_ptr(),
        _code(fake.dtype),
        fake.numel(),
        fake.data_ptr(),
        fake_gradient.data_ptr(),
        loss.data_ptr(),
        scratch.memory,
        *where,
    )
    return loss, real_gradient, fake_gradient


def _generator_native(fake_logits: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    fake, core = fake_logits.contiguous(), native()
    loss, gradient = _generator_fake(fake, kind)
    where = place(fake)
    scratch = workspace(core.adversarial_loss_workspace(fake.numel(), where[0]), fake)
    core.generator_loss(
        core.LOSS_KINDS[kind],
        _code(fake.dtype),
        fake.numel(),
        fake.data_ptr(),
        gradient.data_ptr(),
        loss.data_ptr(),
        scratch.memory,
        *where,
    )
    return loss, gradient


# --- What comes out, without computing it -------------------------------------------------------


def _empty_gradient(logits: Tensor) -> Tensor:
    # float32 for 16-bit logits too: a mean's gradients, near 1/n, are subnormal in float16.
    return torch.empty_like(logits, dtype=torch.float32, memory_format=torch.contiguous_format)


def _discriminator_fake(
    real_logits: Tensor, fake_logits: Tensor, kind: str, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    loss = real_logits.new_empty((), dtype=torch.float32)
    if kind in _LINEAR_FOR_DISCRIMINATOR:
        return loss, torch.empty_like(loss), torch.empty_like(loss)
    return loss, _empty_gradient(real_logits), _empty_gradient(fake_logits)


def _generator_fake(fake_logits: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    loss = fake_logits.new_empty((), dtype=torch.float32)
    if kind in _LINEAR_FOR_GENERATOR:
        return loss, torch.empty_like(loss)
    return loss, _empty_gradient(fake_logits)


# --- What the registered ops take: kernels rely on it -------------------------------------------


def _check_discriminator(
    real_logits: Tensor, fake_logits: Tensor, kind: str, label_smoothing: float
) -> None:
    check_kernel_dtype("real_logits", real_logits)
    check_kernel_dtype("fake_logits", fake_logits)
    check_same_device("fake_logits", fake_logits, real_logits, "real_logits")
    _check_kind(kind)


def _check_generator(fake_logits: Tensor, kind: str) -> None:
    check_kernel_dtype("fake_logits", fake_logits)
    _check_kind(kind)


# --- Autograd: only the gradients are saved ---------------------------------------------------
#
# Plain operations on tensors that are outputs of the op are differentiable to any order. What
# reaches 16-bit logits is cast to their dtype by autograd.


def _save_discriminator(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    real, fake, ctx.kind, ctx.label_smoothing = inputs
    _, real_gradient, fake_gradient = output
    ctx.shapes = (real.shape, fake.shape) if ctx.kind in _LINEAR_FOR_DISCRIMINATOR else None
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(real_gradient, fake_gradient)


def _discriminator_backward(
    ctx: Any, of_loss: Tensor | None, of_real: Tensor | None, of_fake: Tensor | None
) -> tuple[Tensor | None, ...]:
    real_gradient, fake_gradient = ctx.saved_tensors
    needs_real, needs_fake, _, _ = ctx.needs_input_grad
    real = fake = None
    if of_loss is not None:
        real = of_loss * real_gradient if needs_real else None
        fake = of_loss * fake_gradient if needs_fake else None
        if ctx.shapes is not None:
            real = None if real is None else torch.broadcast_to(real, ctx.shapes[0])
            fake = None if fake is None else torch.broadcast_to(fake, ctx.shapes[1])
    if of_real is not None and needs_real:
        real = _add_curvature(real, of_real, real_gradient, ctx.kind, slope=ctx.label_smoothing)
    if of_fake is not None and needs_fake:
        fake = _add_curvature(fake, of_fake, fake_gradient, ctx.kind)
    return real, fake, None, None


def _save_generator(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    fake, ctx.kind = inputs
    _, gradient = output
    ctx.shape = fake.shape if ctx.kind in _LINEAR_FOR_GENERATOR else None
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(gradient)


def _generator_backward(
    ctx: Any, of_loss: Tensor | None, of_fake: Tensor | None
) -> tuple[Tensor | None, ...]:
    (gradient,) = ctx.saved_tensors
    fake = None
    if of_loss is not None:
        fake = of_loss * gradient
        if ctx.shape is not None:
            fake = torch.broadcast_to(fake, ctx.shape)
    if of_fake is not None:
        sign = -1 if ctx.kind == "minimax" else 1  # of softplus in the loss
        fake = _add_curvature(fake, of_fake, gradient, ctx.kind, sign=sign)
    return fake, None


def _add_curvature(
    to: Tensor | None,
    of_gradient: Tensor,
    gradient: Tensor,
    kind: str,
    *,
    sign: int = 1,
    slope: float = 0.0,
) -> Tensor | None:
    """``to`` and what the logits get from the gradient's own derivative, of_gradient·φ''/n.

    In the softplus kinds φ(x) = sign·softplus(±x) + slope·x.
    """
    if kind in ("hinge", "wasserstein"):
        return to
    count = gradient.numel()
    curvature = of_gradient / (sign * count)
    if kind != "least_squares":
        sigmoid = (gradient * count - slope).abs()
        curvature = curvature * sigmoid * (1 - sigmoid)
    return curvature if to is None else to + curvature


# --- Registration --------------------------------------------------------------------------------

_discriminator = register(
    Op(
        "discriminator_loss",
        "(Tensor real_logits, Tensor fake_logits, str kind, float label_smoothing) "
        "-> (Tensor loss, Tensor real_gradient, Tensor fake_gradient)",
        _discriminator_native,
        "adversarial_loss.discriminator",
        _discriminator_fake,
        _check_discriminator,
        _save_discriminator,
        _discriminator_backward,
        contiguous_inputs,
    )
)
_generator = register(
    Op(
        "generator_loss",
        "(Tensor fake_logits, str kind) -> (Tensor loss, Tensor gradient)",
        _generator_native,
        "adversarial_loss.generator",
        _generator_fake,
        _check_generator,
        _save_generator,
        _generator_backward,
        contiguous_inputs,
    )
)

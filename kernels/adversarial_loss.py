"""The two adversarial losses and their gradients, in one pass over the logits.

With r and f the logits of real and generated images, s the label smoothing, σ the sigmoid and
softplus(x) = log(1 + exp(x)), σ its derivative:

============== ================================================= =====================
kind           discriminator                                     generator
============== ================================================= =====================
minimax        mean(softplus(−r) + s·r) + mean(softplus(f))      −mean(softplus(f))
non_saturating the same                                          mean(softplus(−f))
hinge          mean(relu(1−r)) + mean(relu(1+f))                 −mean(f)
least_squares  ½·mean((r−1+s)²) + ½·mean(f²)                     ½·mean((f−1)²)
wasserstein    mean(f) − mean(r)                                 −mean(f)
============== ================================================= =====================

Each of these is one of four terms of ±x, so that is what the kernels know. A program takes some
thousand logits; the loss is what it writes, or where there are more, the sum of what all write.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import WARPS, on_device_of, wrap_triton

_STEP = 1024
_STEPS = 4
_LOGITS = _STEP * _STEPS  # of a program

# Losses are ±mean(φ(sign·x)): φ and the sign in it, and for the generator the one before the mean.
_REAL = {
    "minimax": ("softplus", -1),
    "non_saturating": ("softplus", -1),
    "hinge": ("hinge", -1),
    "least_squares": ("squares", 1),
    "wasserstein": ("mean", -1),
}
_FAKE = {
    "minimax": ("softplus", 1),
    "non_saturating": ("softplus", 1),
    "hinge": ("hinge", 1),
    "least_squares": ("squares", 1),
    "wasserstein": ("mean", 1),
}
_GENERATOR = {
    "minimax": ("softplus", 1, -1),
    "non_saturating": ("softplus", -1, 1),
    "hinge": ("mean", -1, 1),
    "least_squares": ("squares", 1, 1),
    "wasserstein": ("mean", -1, 1),
}


@triton.jit
def _softplus(x):
    """Softplus and its derivative, the sigmoid, to float32's last digits also where tiny.

    The exp and log of GPUs are fast, and off by the size of the exponent, or of 1 near log 1.
    """
    size = tl.abs(x)
    size = tl.where(size > 100, 100.0, size)  # exp(−100) is 0 beside 1; NaN stays
    # exp(−|x|) = 2^whole·exp(rest), with whole·ln 2 in two parts of which the first is exact.
    whole = tl.floor(0.5 - size * 1.4426950408889634)
    rest = (-size - whole * 0.693359375) + whole * 2.12194440e-4
    e = tl.exp2(rest * 1.4426950408889634) * tl.exp2(whole)
    # log(1+e) = 2·atanh(e/(2+e)), a series in the square of at most 1/3.
    ratio = e / (2 + e)
    square = ratio * ratio
    series = square * (1 / 15) + 1 / 13
    series = series * square + 1 / 11
    series = series * square + 1 / 9
    series = series * square + 1 / 7
    series = series * square + 1 / 5
    series = series * square + 1 / 3
    series = series * square + 1
    return tl.where(x > 0, x, 0.0) + 2 * ratio * series, tl.where(x > 0, 1.0, e) / (1 + e)


@triton.jit
def _term(x, target, TERM: tl.constexpr):
    """φ(x) and φ'(x)."""
    if TERM == "softplus":
        value, derivative = _softplus(x)
    elif TERM == "hinge":
        off = 1 + x <= 0  # so that NaN is on, as in torch.relu
        value, derivative = tl.where(off, 0.0, 1 + x), tl.where(off, 0.0, 1.0)
    elif TERM == "squares":
        derivative = x - target
        value = derivative * derivative * 0.5
    else:
        value, derivative = x, x
    return value, derivative


@triton.jit
def _mean_term(
    logits,
    gradient,
    count,
    slope,
    target,
    TERM: tl.constexpr,
    SIGN: tl.constexpr,
    OUTER: tl.constexpr,
    WITH_SLOPE: tl.constexpr,
    STEP: tl.constexpr,
    STEPS: tl.constexpr,
):
    """A program's part of OUTER·mean(φ(SIGN·x) + slope·x), and its logits' gradients."""
    one = tl.div_rn(1.0, tl.cast(count, tl.float32)) * OUTER
    total = tl.zeros([STEP], tl.float32)
    first = tl.cast(tl.program_id(0), tl.int64) * (STEP * STEPS)
    for start in range(first, tl.minimum(first + STEP * STEPS, count), STEP):
        index = start + tl.arange(0, STEP)
        inside = index < count
        x = tl.load(logits + index, inside, 0.0).to(tl.float32)
        value, derivative = _term(x * SIGN, target, TERM)
        derivative = derivative * SIGN
        if WITH_SLOPE:
            value += slope * x
            derivative += slope
        total += tl.where(inside, value, 0.0)
        if TERM != "mean":
            tl.store(gradient + index, derivative * one, inside)
    if TERM == "mean":
        tl.store(gradient, one * SIGN, tl.program_id(0) == 0)
    return tl.sum(total, 0) * one


@triton.jit(do_not_specialize=["real_count", "fake_count"])
def _discriminator_kernel(
    real,
    fake,
    real_gradient,
    fake_gradient,
    loss,
    real_count,
    fake_count,
    label_smoothing,
    REAL_TERM: tl.constexpr,
    REAL_SIGN: tl.constexpr,
    FAKE_TERM: tl.constexpr,
    FAKE_SIGN: tl.constexpr,
    STEP: tl.constexpr,
    STEPS: tl.constexpr,
):
    of_real = _mean_term(
        real, real_gradient, real_count, label_smoothing, 1 - label_smoothing,
        REAL_TERM, REAL_SIGN, 1, REAL_TERM == "softplus", STEP, STEPS,
    )  # fmt: skip
    of_fake = _mean_term(
        fake, fake_gradient, fake_count, 0.0, 0.0,
        FAKE_TERM, FAKE_SIGN, 1, False, STEP, STEPS,
    )  # fmt: skip
    tl.store(loss + tl.program_id(0), of_real + of_fake)


@triton.jit(do_not_specialize=["count"])
def _generator_kernel(
    fake,
    gradient,
    loss,
    count,
    TERM: tl.constexpr,
    SIGN: tl.constexpr,
    OUTER: tl.constexpr,
    STEP: tl.constexpr,
    STEPS: tl.constexpr,
):
    value = _mean_term(fake, gradient, count, 0.0, 1.0, TERM, SIGN, OUTER, False, STEP, STEPS)
    tl.store(loss + tl.program_id(0), value)


def _programs(count: int) -> int:
    return triton.cdiv(max(count, 1), _LOGITS)  # one also for the mean of no logits, NaN


def _parts(logits: Tensor, programs: int) -> Tensor:
    """What each program writes: the loss itself if it is alone."""
    shape = () if programs == 1 else (programs,)
    return torch.empty(shape, dtype=torch.float32, device=logits.device)


def _empty_gradient(logits: Tensor, term: str) -> Tensor:
    shape = () if term == "mean" else logits.shape
    return torch.empty(shape, dtype=torch.float32, device=logits.device)


def discriminator(
    real: Tensor, fake: Tensor, kind: str, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the discriminator's loss and its gradients.

    Args:
        real: logits of real images, any shape, contiguous, float32, bfloat16 or float16.
        fake: logits of generated images, any shape, contiguous, of one of those dtypes.
        kind: one of the module's table.
        label_smoothing: s.

    Returns:
        The loss, (), and its gradients for ``real`` and ``fake``, in their shapes, or () where
        they are the same for every logit (wasserstein); all float32.
    """
    real_term, real_sign = _REAL[kind]
    fake_term, fake_sign = _FAKE[kind]
    real_gradient = _empty_gradient(real, real_term)
    fake_gradient = _empty_gradient(fake, fake_term)
    programs = _programs(max(real.numel(), fake.numel()))
    parts = _parts(real, programs)
    with on_device_of(real):
        wrap_triton(_discriminator_kernel)[(programs,)](
            real,
            fake,
            real_gradient,
            fake_gradient,
            parts,
            real.numel(),
            fake.numel(),
            label_smoothing,
            REAL_TERM=real_term,
            REAL_SIGN=real_sign,
            FAKE_TERM=fake_term,
            FAKE_SIGN=fake_sign,
            STEP=_STEP,
            STEPS=_STEPS,
            num_warps=WARPS,
        )
    return (parts if programs == 1 else parts.sum()), real_gradient, fake_gradient


def generator(fake: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Compute the generator's loss and its gradient.

    Args:
        fake: logits of generated images, any shape, contiguous, float32, bfloat16 or float16.
        kind: one of the module's table.

    Returns:
        The loss, (), and its gradient in the shape of ``fake``, or () where that is the same for
        every logit (hinge, wasserstein); both float32.
    """
    term, sign, outer = _GENERATOR[kind]
    gradient = _empty_gradient(fake, term)
    programs = _programs(fake.numel())
    parts = _parts(fake, programs)
    with on_device_of(fake):
        wrap_triton(_generator_kernel)[(programs,)](
            fake,
            gradient,
            parts,
            fake.numel(),
            TERM=term,
            SIGN=sign,
            OUTER=outer,
            STEP=_STEP,
            STEPS=_STEPS,
            num_warps=WARPS,
        )
    return (parts if programs == 1 else parts.sum()), gradient

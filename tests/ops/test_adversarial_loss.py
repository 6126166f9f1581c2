"""The two losses on every backend against their definition in float64.

Values by hand are in test_reference, what only the native kernels have to show in
test_adversarial_loss_native.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast.errors import UserError
from cxrgan_fast.ops import adversarial_loss as module
from cxrgan_fast.ops import discriminator_loss, generator_loss, reference, use_backend
from cxrgan_fast.ops.adversarial_loss import LOSS_KINDS, SMOOTHED_KINDS
from properties import on_examples, on_few_examples

CASES = [(kind, 0.0) for kind in LOSS_KINDS] + [(kind, 0.1) for kind in SMOOTHED_KINDS]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(), (1,), (7,), (64, 1), (5, 1, 37, 29), (64, 1, 30, 30)]

INFINITY, NAN = float("inf"), float("nan")

every_backend = pytest.mark.usefixtures("backend")


def losses(
    real: Tensor, fake: Tensor, kind: str, smoothing: float = 0.0, source: object = module
) -> list[Tensor]:
    """Discriminator's and generator's, then their gradients: real, fake, fake."""
    real, fake = (each.detach().requires_grad_() for each in (real, fake))
    d = source.discriminator_loss(real, fake, kind=kind, label_smoothing=smoothing)
    g = source.generator_loss(fake, kind=kind)
    return [d.detach(), g.detach(), *torch.autograd.grad(d, (real, fake)),
            *torch.autograd.grad(g, fake)]  # fmt: skip


def relative_error(value: Tensor, truth: Tensor) -> float:
    """‖value − truth‖ / ‖truth‖, or over ten times the smallest normal float32 if that is larger.

    Between subnormal numbers and 0 there is nothing to choose.
    """
    norm = truth.norm().clamp_min(10 * torch.finfo(torch.float32).tiny)
    return ((value.double() - truth).norm() / norm).item()


def check(real: Tensor, fake: Tensor, kind: str, smoothing: float) -> None:
    """Losses to 1e-6 of the logits' size; gradients to 1e-6, or as torch's own in 16 bits."""
    got = losses(real, fake, kind, smoothing)
    truth = losses(real.double(), fake.double(), kind, smoothing, reference)
    eager = losses(real, fake, kind, smoothing, reference)
    size = 1 + sum(each.double().abs().mean().item() for each in (real, fake))
    for value, true in zip(got[:2], truth[:2], strict=True):
        assert value.dtype == torch.float32
        assert value.shape == ()
        assert abs(value.item() - true.item()) <= 1e-6 * max(size, abs(true.item()))
    for value, true, torchs in zip(got[2:], truth[2:], eager[2:], strict=True):
        assert value.dtype == torchs.dtype
        assert value.shape == torchs.shape
        limit = 1e-6 if value.dtype == torch.float32 else 1.1 * relative_error(torchs, true)
        assert relative_error(value, true) <= max(limit, 1e-6)


@every_backend
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_value_and_gradients(device, kind, smoothing, dtype, shape) -> None:
    real, fake = (2 * torch.randn(2, *shape)).to(device, dtype)
    check(real, fake, kind, smoothing)


@pytest.mark.first_tier(3)
@every_backend
@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_any_strides(device, kind) -> None:
    large = torch.randn(20, 30, 40).to(device)
    views = {
        "step": large.flatten()[::1000],
        "transposed": large.permute(2, 0, 1),
        "expanded": large[0, 0, :, None].expand(40, 25),
        "one number": torch.tensor(0.3, device=device).expand(3, 5),
        "huge": torch.randn(1 << 20).to(device).as_strided((3, 2), (1 << 18, 1 << 18)),
        "channels_last": torch.randn(3, 4, 5, 6).to(device, memory_format=torch.channels_last),
    }
    for real in views.values():
        for fake in (large[:, 3], *views.values()):
            check(real, fake, kind, 0.0)


@every_backend
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_mean_of_nothing_is_nan(device, kind, smoothing) -> None:
    some, none = torch.randn(5).to(device), torch.randn(3, 0).to(device)
    for real, fake in ((some, none), (none, some), (none, none)):
        got = losses(real, fake, kind, smoothing)
        truth = losses(real.double(), fake.double(), kind, smoothing, reference)
        assert got[0].isnan()
        for value, true in zip(got, truth, strict=True):
            torch.testing.assert_close(
                value.double(), true, rtol=1e-6, atol=0, equal_nan=True, check_stride=False
            )


@every_backend
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_extreme_logits(device, kind, smoothing, dtype) -> None:
    extremes = torch.tensor([-1e4, -30.0, -1.0, 0.0, 1.0, 30.0, 1e4])  # and the kinks
    extremes = extremes.to(device, dtype)
    got = losses(extremes, extremes.flip(0), kind, smoothing)
    truth = losses(extremes.double(), extremes.flip(0).double(), kind, smoothing, reference)
    for value, true in zip(got, truth, strict=True):
        assert value.isfinite().all()
        torch.testing.assert_close(value, true.to(value.dtype), rtol=1e-6, atol=1e-8)


@every_backend
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
@pytest.mark.parametrize("extreme", [NAN, INFINITY, -INFINITY])
def test_not_a_number_and_infinity_go_through(device, extreme, kind, smoothing) -> None:
    """Among others, in a vector's lane and in a tail, as the formulas have it in float32."""
    for count in (1, 5, 100):
        for at in {0, count - 1}:
            logits, others = torch.randn(2, count).to(device)
            logits[at] = extreme
            for real, fake in ((logits, others), (others, logits)):
                got = losses(real, fake, kind, smoothing)
                expected = losses(real, fake, kind, smoothing, reference)
                for value, true in zip(got, expected, strict=True):
                    torch.testing.assert_close(value, true, rtol=1e-5, atol=1e-6, equal_nan=True)


@every_backend
@pytest.mark.parametrize("count", [1, 64])  # a tail, vectors
@pytest.mark.parametrize("logit", [-85.0, -30.0, -17.0, -3.0, -1e-3, 0.0, 1e-3, 3.0, 30.0])
def test_small_tails_of_softplus(device, logit, count) -> None:
    """softplus(−30) is 9e-14, not the 0 of log(1 + exp(−30)) in float32; likewise σ(−30)."""
    fake = torch.full((count,), -logit, device=device, requires_grad=True)
    loss = generator_loss(fake)  # softplus(logit)
    (gradient,) = torch.autograd.grad(loss, fake)
    assert loss.item() == pytest.approx(math.log1p(math.exp(logit)), rel=4e-7)
    sigmoid = math.exp(logit) / (1 + math.exp(logit))
    assert (-gradient * count).tolist() == pytest.approx([sigmoid] * count, rel=4e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_non_saturating_is_cross_entropy(smoothing: float) -> None:
    real, fake = torch.randn(2, 16, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(
        real, torch.full_like(real, 1 - smoothing)
    ) + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    loss = discriminator_loss(real, fake, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    expected = F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
    torch.testing.assert_close(generator_loss(fake), expected)
    expected = -F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    torch.testing.assert_close(generator_loss(fake, kind="minimax"), expected)


# float64 is the reference's own; the native kernels' higher derivatives are tested below.
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_first_and_second_derivatives(kind: str, smoothing: float) -> None:
    real, fake = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)

    def discriminator(real, fake):
        return discriminator_loss(real, fake, kind=kind, label_smoothing=smoothing)

    def generator(fake):
        return generator_loss(fake, kind=kind)

    for function, arguments in ((discriminator, (real, fake)), (generator, (fake,))):
        assert torch.autograd.gradcheck(function, arguments)
        assert torch.autograd.gradgradcheck(function, arguments)


def derivatives(
    loss: Callable[..., Tensor], logits: list[Tensor], directions: list[Tensor], orders: int
) -> list[Tensor]:
    """Gradients of loss², then again and again those of their products with the directions."""
    value, found = loss(*logits).square(), []
    for order in range(orders):
        grads = torch.autograd.grad(value, logits, create_graph=order < orders - 1)
        found += [each.detach() for each in grads]
        value = sum(
            (each * way.to(each.dtype)).sum() for each, way in zip(grads, directions, strict=True)
        )
    return found


@every_backend
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_derivatives_of_higher_order(device, kind, smoothing, dtype) -> None:
    """Through the loss and its gradients at once: the square makes them meet."""
    values, directions = torch.randn(2, 2, 33).to(device, dtype)
    for source_loss, which in (
        (lambda source, r, f: source.discriminator_loss(r, f, kind=kind, label_smoothing=smoothing),
         slice(2)),
        (lambda source, f: source.generator_loss(f, kind=kind), slice(1)),
    ):  # fmt: skip

        def run(source, dtype, loss=source_loss, which=which):
            logits = [each.to(dtype).requires_grad_() for each in values[which]]
            return derivatives(lambda *x: loss(source, *x), logits, directions[which], 3)

        got, eager = run(module, dtype), run(reference, dtype)
        truth = run(reference, torch.float64)
        for value, torchs, true in zip(got, eager, truth, strict=True):
            assert value.dtype == dtype
            limit = 2e-6 if dtype == torch.float32 else 1.1 * relative_error(torchs, true)
            assert relative_error(value, true) <= max(limit, 2e-6)


@every_backend
def test_second_derivative_where_the_first_vanishes_or_saturates(device) -> None:
    """σ(1−σ) is at most 1/4: an error far below one rounding of that, wherever the logit is."""
    fake = torch.tensor([-1e4, -100.0, -30.0, -5.0, 0.0, 5.0, 30.0, 100.0, 1e4], device=device)
    fake.requires_grad_()
    for kind, sign in (("non_saturating", 1), ("minimax", -1)):
        (gradient,) = torch.autograd.grad(generator_loss(fake, kind=kind), fake, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), fake)
        sigmoid = fake.detach().double().sigmoid()
        expected = sign * sigmoid * (1 - sigmoid) / fake.numel()
        torch.testing.assert_close(second.double(), expected, rtol=1e-6, atol=1e-7 / fake.numel())


@every_backend
@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_only_what_is_asked_for_gets_a_gradient(device, kind) -> None:
    real, fake = torch.randn(2, 8).to(device)
    assert not discriminator_loss(real, fake, kind=kind).requires_grad
    assert not generator_loss(real, kind=kind).requires_grad
    for variable in (real, fake):
        expected = losses(real, fake, kind)[2 if variable is real else 3]
        variable.requires_grad_()
        discriminator_loss(real, fake, kind=kind).backward()
        torch.testing.assert_close(variable.grad, expected)
        assert (fake if variable is real else real).grad is None
        variable.grad = None
        variable.requires_grad_(False)


@every_backend
@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_logits_of_different_dtypes_and_shapes(device, kind) -> None:
    real, fake = torch.randn(4, 3).to(device, torch.bfloat16), torch.randn(7).to(device)
    check(real, fake, kind, 0.0)
    check(fake.half(), real, kind, 0.0)


def test_float64_is_the_references() -> None:
    double, single = torch.randn(4, dtype=torch.float64), torch.randn(4)
    with use_backend("auto"):
        for real, fake in ((double, double), (double, single), (single, double)):
            loss = discriminator_loss(real, fake)
            assert loss.dtype == torch.float64
            assert torch.equal(loss, reference.discriminator_loss(real, fake))
    with use_backend("native"):
        for real, fake in ((double, single), (single, double)):
            with pytest.raises(UserError, match=r"discriminator_loss: backend 'native' .*float64"):
                discriminator_loss(real, fake)
        with pytest.raises(UserError, match=r"generator_loss: backend 'native' .*float64"):
            generator_loss(double)


@pytest.mark.first_tier(2)
@every_backend
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_compiles_whole(device, kind, smoothing) -> None:
    torch.compiler.reset()
    real, fake = torch.randn(2, 6, 5).to(device).requires_grad_()

    def function(real: Tensor, fake: Tensor) -> Tensor:
        d = discriminator_loss(real.sin(), fake * 2, kind=kind, label_smoothing=smoothing)
        return d * 3 + generator_loss(fake.t(), kind=kind).square()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    value, expected = compiled(real, fake), function(real, fake)
    torch.testing.assert_close(value, expected)
    for got, true in zip(
        torch.autograd.grad(value, (real, fake)),
        torch.autograd.grad(expected, (real, fake)),
        strict=True,
    ):
        torch.testing.assert_close(got, true)


@every_backend
@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_modes_without_gradients_and_autocast(device, kind) -> None:
    real, fake = torch.randn(2, 8).to(device).requires_grad_()
    d, g, *_ = losses(real, fake, kind)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(discriminator_loss(real, fake, kind=kind), d)
            assert torch.equal(generator_loss(fake, kind=kind), g)
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = discriminator_loss(real, fake, kind=kind)
    assert torch.equal(loss, d)
    loss.backward()


shapes = st.lists(st.integers(1, 5), max_size=3)

VALUES = {
    "real_shape": shapes,
    "fake_shape": shapes,
    "stride": st.integers(1, 3),
    "size": st.sampled_from([0.1, 1.0, 10.0, 1e3]),
    "case": st.sampled_from(CASES),
    "dtype": st.sampled_from(DTYPES),
    "seed": st.integers(0, 2**31),
}


def any_values(device, real_shape, fake_shape, stride, size, case, dtype, seed) -> None:
    torch.manual_seed(seed)
    real = (size * torch.randn(*real_shape, 3 * stride)).to(device, dtype)[..., ::stride]
    fake = (size * torch.randn(3 * stride, *fake_shape)).to(device, dtype)[::stride]
    check(real, fake.movedim(0, -1), *case)


test_any_shape_stride_and_value = on_examples(VALUES, any_values)
test_any_shape_stride_and_value_on_few_examples = on_few_examples(VALUES, any_values)

PAIRS = {
    "real_shape": shapes,
    "fake_shape": shapes,
    "kind": st.sampled_from(LOSS_KINDS),
}


def any_shapes(device, real_shape, fake_shape, kind) -> None:
    real, fake = torch.randn(real_shape).to(device), torch.randn(fake_shape).to(device)
    loss = discriminator_loss(real, fake, kind=kind)
    assert loss.shape == ()
    doubled = discriminator_loss(real, torch.stack([fake, fake]), kind=kind)
    torch.testing.assert_close(loss, doubled)
    flat = generator_loss(fake.flatten(), kind=kind)
    torch.testing.assert_close(generator_loss(fake, kind=kind), flat)


test_any_shapes_each_with_its_own_mean = on_examples(PAIRS, any_shapes)
test_any_shapes_each_with_its_own_mean_on_few_examples = on_few_examples(PAIRS, any_shapes)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([1.0], torch.zeros(1)), {}, TypeError, "real_logits must be a Tensor, got list"),
        ((torch.zeros(1), torch.zeros(1).int()), {}, TypeError, "fake_logits.*got int32"),
        ((torch.zeros(1), torch.zeros(1, device="meta")), {}, ValueError, "fake_logits.*meta"),
        ((torch.zeros(1),) * 2, {"kind": "hing"}, ValueError, "kind must be one of.*'hing'"),
        ((torch.zeros(1),) * 2, {"label_smoothing": 1.0}, ValueError, r"\[0, 1\), got 1.0"),
        ((torch.zeros(1),) * 2, {"label_smoothing": float("nan")}, ValueError, "got nan"),
        (
            (torch.zeros(1),) * 2,
            {"label_smoothing": 0.1, "kind": "hinge"},
            ValueError,
            "label_smoothing must be 0 for kind 'hinge'",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, options, error, message) -> None:
    with pytest.raises(error, match=message):
        discriminator_loss(*arguments, **options)


def test_generator_loss_names_what_does_not_fit() -> None:
    with pytest.raises(TypeError, match="fake_logits"):
        generator_loss(torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="kind must be one of"):
        generator_loss(torch.zeros(1), kind="logistic")

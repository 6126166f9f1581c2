"""The losses' gradients, extremes and refusals; their values by hand are in test_reference."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from cxrgan_fast.ops.adversarial_loss import (
    LOSS_KINDS,
    SMOOTHED_KINDS,
    discriminator_loss,
    generator_loss,
)

CASES = [(kind, 0.0) for kind in LOSS_KINDS] + [(kind, 0.1) for kind in SMOOTHED_KINDS]


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


@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_first_and_second_derivatives(kind: str, smoothing: float) -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)

    def discriminator(real, fake):
        return discriminator_loss(real, fake, kind=kind, label_smoothing=smoothing)

    def generator(fake):
        return generator_loss(fake, kind=kind)

    for function, arguments in ((discriminator, (real, fake)), (generator, (fake,))):
        assert torch.autograd.gradcheck(function, arguments)
        assert torch.autograd.gradgradcheck(function, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_extreme_logits(kind: str, smoothing: float, dtype: torch.dtype) -> None:
    extremes = torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4]).to(dtype)
    real, fake = extremes.clone().requires_grad_(), extremes.flip(0).requires_grad_()
    real64, fake64 = (x.detach().double().requires_grad_() for x in (real, fake))
    losses = []
    for r, f in ((real, fake), (real64, fake64)):
        d = discriminator_loss(r, f, kind=kind, label_smoothing=smoothing)
        g = generator_loss(f, kind=kind)
        losses.append((d, g, *torch.autograd.grad(d, (r, f)), *torch.autograd.grad(g, f)))
    for value, truth in zip(*losses, strict=True):
        assert value.isfinite().all()
        if value.dim() == 0:
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.double(), truth, rtol=1e-6, atol=1e-6)
        else:
            assert value.dtype == dtype
            torch.testing.assert_close(value, truth.to(dtype))


@given(
    real_shape=st.lists(st.integers(1, 4), max_size=3),
    fake_shape=st.lists(st.integers(1, 4), max_size=3),
    kind=st.sampled_from(LOSS_KINDS),
)
def test_any_shapes_each_with_its_own_mean(real_shape, fake_shape, kind) -> None:
    real, fake = torch.randn(real_shape), torch.randn(fake_shape)
    loss = discriminator_loss(real, fake, kind=kind)
    assert loss.shape == ()
    doubled = discriminator_loss(real, torch.stack([fake, fake]), kind=kind)
    torch.testing.assert_close(loss, doubled)
    flat = generator_loss(fake.flatten(), kind=kind)
    torch.testing.assert_close(generator_loss(fake, kind=kind), flat)


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

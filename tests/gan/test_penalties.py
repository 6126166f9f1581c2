"""R1 and R2: the discriminator's gradient at the real images and at the generated ones."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cxrgan_fast.augment.diffaugment import augment_as_drawn
from cxrgan_fast.gan.penalties import squared_gradient_norms
from cxrgan_fast.training.step import TrainingStep

LOSSES = ("minimax", "non_saturating", "hinge", "least_squares", "wasserstein", "relativistic")
BOTH = {"r1_gamma": 3.0, "r2_gamma": 5.0, "r1_interval": 2}


class Smooth(nn.Module):
    """A discriminator whose derivatives have no kink, and which can look at its minibatch."""

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.samples_see_each_other = looks
        random = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, 32 * 32, generator=random) / 32)
        self.sizes: list[int] = []

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.sizes.append(len(images))
        pixels = images.flatten(1)
        if self.samples_see_each_other:
            pixels = pixels * (1 + pixels.mean(0))
        return (pixels * self.weight.index_select(0, labels)).sum(1).tanh()


def with_smooth(step: TrainingStep, looks: bool = False) -> Smooth:
    discriminator = Smooth(looks)
    step.objective.networks["discriminator"] = discriminator
    step.objective.run["discriminator"] = discriminator
    step.begin()
    return discriminator


def by_hand(discriminator: Smooth, images: Tensor, labels: Tensor, std: Tensor | None = None,
            noise: Tensor | None = None) -> Tensor:  # fmt: skip
    """E‖∇D‖² in float64; of a looking one, over a minibatch of these images alone."""
    images = images.double().requires_grad_()
    seen = images if noise is None or std is None else images + std.double() * noise.double()
    (gradient,) = torch.autograd.grad(discriminator(seen, labels).sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def test_each_image_has_its_own_norm():
    """Of a function whose gradient is known: D(x) = |x|² / 2 has ∇D = x."""
    images = torch.randn(3, 1, 4, 4, requires_grad=True)
    logits = images.square().sum((1, 2, 3)) / 2
    norms = squared_gradient_norms(logits, images, half_range=0.5)
    torch.testing.assert_close(norms, images.square().sum((1, 2, 3)) / 4)
    (slope,) = torch.autograd.grad(norms.sum(), images)  # of Σ ‖x‖² / 4
    torch.testing.assert_close(slope, images / 2)


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
def test_both_are_those_of_float64_by_hand_and_so_are_their_gradients(
    step_with, loss, noise, looks
):
    step = step_with(loss=loss, noise_std=noise, **BOTH)
    discriminator = with_smooth(step, looks)
    kind = step.kind()
    draws = step.draws.for_discriminator(
        noise=kind.noise, r1=kind.r1, r2=kind.r2, paired=loss == "relativistic"
    )
    std = torch.tensor(noise) if noise else None
    real = step.objective.inputs.real(draws.rows, None)
    real_labels = step.draws.labels_of(draws.rows)
    with torch.no_grad():
        fake = step.networks["generator"](draws.latents, draws.labels)
    discriminator.sizes.clear()
    with_penalties = step.objective.discriminator_update(draws, std, step.share)
    assert discriminator.sizes == ([4, 4, 4, 4] if looks else [8, 8])
    exact = copy.deepcopy(discriminator).double()
    r1 = by_hand(exact, real, real_labels, std, draws.r1_noise)
    r2 = by_hand(exact, fake, draws.labels, std, draws.r2_noise)
    assert float(with_penalties.numbers["r1"]) == pytest.approx(float(r1.detach()), rel=1e-5)
    assert float(with_penalties.numbers["r2"]) == pytest.approx(float(r2.detach()), rel=1e-5)
    assert abs(float((r1 / r2).detach()) - 1) > 0.1
    weighted = with_penalties.loss - with_penalties.numbers["d_loss"]
    assert float(weighted.detach()) == pytest.approx(float((3 * r1 + 5 * r2).detach()), rel=1e-4)
    # The gradient of the penalties is that of the whole less that of the loss alone.
    plain = replace(draws, r1_augment=None, r1_noise=None, r2_augment=None, r2_noise=None)
    without = step.objective.discriminator_update(plain, std, step.share)
    assert set(with_penalties.numbers) - set(without.numbers) == {"r1", "r2"}
    slopes = [
        torch.autograd.grad(update.loss, discriminator.weight)[0]
        for update in (with_penalties, without)
    ]
    (expected,) = torch.autograd.grad(3 * r1 + 5 * r2, exact.weight)
    found, largest = (slopes[0] - slopes[1]).double(), float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * largest)
    # And by differences of the penalty itself, which differentiates it once less.
    direction = torch.randn_like(exact.weight)
    ends = []
    for sign in (1, -1):
        moved = copy.deepcopy(exact)
        moved.weight.data += sign * 1e-5 * direction
        ends.append(
            3 * by_hand(moved, real, real_labels, std, draws.r1_noise)
            + 5 * by_hand(moved, fake, draws.labels, std, draws.r2_noise)
        )
    numerical = float((ends[0] - ends[1]).detach()) / 2e-5
    assert float((found * direction).sum()) == pytest.approx(
        numerical, rel=1e-3, abs=1e-4 * float(expected.norm())
    )


def test_r2_is_of_augmented_images_with_the_numbers_drawn_for_it(step_with):
    policy = ("contrast", "translation", "cutout")
    step = step_with(augment=policy, r1_gamma=0.0, r2_gamma=1.0)
    discriminator = with_smooth(step)
    draws = step.draws.for_discriminator(noise=False, r1=False, r2=True)
    with torch.no_grad():
        fake = step.networks["generator"](draws.latents, draws.labels)
    (value,) = step.objective.penalties(draws, draws.labels, fake, None).values()
    exact, images = copy.deepcopy(discriminator).double(), fake.double().requires_grad_()
    seen = augment_as_drawn(images, policy, draws.r2_augment.double(), step.value_range)
    (gradient,) = torch.autograd.grad(exact(seen, draws.labels).sum(), images)
    assert float(value.detach()) == pytest.approx(
        float(gradient.square().sum().detach() / 4), rel=1e-5
    )


@pytest.mark.parametrize("output", ["tanh", "sigmoid"])
def test_r2_means_the_same_in_either_range(step_with, output):
    step = step_with(output=output, r1_gamma=0.0, r2_gamma=1.0)
    step.begin()
    low, high = step.value_range
    step.networks["discriminator"].forward = lambda images, labels: (
        images.sum((1, 2, 3)) / (high - low)
    )
    draws = step.draws.for_discriminator(noise=False, r1=False, r2=True)
    found = step.objective.penalties(draws, draws.labels, torch.zeros(4, 1, 32, 32), None)
    assert {name: float(value) for name, value in found.items()} == {
        "r2": pytest.approx(32 * 32 / 4, rel=1e-6)
    }


@pytest.mark.parametrize("loss", LOSSES)
def test_r2_comes_at_its_interval_with_every_loss_and_acts(step_with, loss):
    step = step_with(loss=loss, r1_gamma=0.0, r2_gamma=50.0, r1_interval=2)
    without = step_with(loss=loss, r1_gamma=0.0)
    without.load_state_dict(step.state_dict())
    reported = []
    for _ in range(3):
        step()
        reported.append(step.meters.read())
        assert step.meters.describe(step.meters.flags(), step.steps_done) is None
    assert ["r2" in numbers for numbers in reported] == [True, False, True]
    assert all("r1" not in numbers for numbers in reported)
    assert reported[0]["r2"] > 0
    without()
    assert "r2" not in without.meters.read()
    weights = (
        torch.cat([p.flatten() for p in each.networks["discriminator"].parameters()])
        for each in (step, without)
    )
    assert not torch.equal(*weights)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_both_train_in_16_bits(step_with, precision):
    step = step_with(precision=precision, loss="relativistic", **BOTH)
    for _ in range(3):
        step()
    assert step.meters.describe(step.meters.flags(), step.steps_done) is None
    read = step.meters.read()
    assert read["r1"] > 0
    assert read["r2"] > 0


def test_the_penalties_move_no_generator(step_with):
    step = step_with(**BOTH)
    step.begin()
    draws = step.draws.for_discriminator(noise=False, r1=True, r2=True)
    step.objective.discriminator_update(draws, None, step.share).loss.backward()
    assert all(p.grad is None for p in step.networks["generator"].parameters())
    assert any(p.grad is not None for p in step.networks["discriminator"].parameters())

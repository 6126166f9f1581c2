"""The relativistic pairing game: its losses, its pairs, and what they leave alone."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxrgan_fast.data import to_uint8
from cxrgan_fast.gan.relativistic import Relativistic
from cxrgan_fast.gan.schedules import Progress
from cxrgan_fast.training.step import TrainingStep

PAIRS = {"loss": "relativistic", "r1_gamma": 0.0}


class Smooth(nn.Module):
    """A discriminator without a kink, which keeps what it has been shown."""

    samples_see_each_other = False

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, 32 * 32, generator=random) / 32)
        self.offset = nn.Parameter(torch.zeros(()))
        self.shown: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.shown.append((images.detach(), labels))
        return (images.flatten(1) * self.weight[labels]).sum(1).tanh() + self.offset


def with_smooth(step: TrainingStep) -> Smooth:
    discriminator = Smooth()
    step.objective.networks["discriminator"] = discriminator
    step.objective.run["discriminator"] = discriminator
    step.begin()
    return discriminator


def updates(step: TrainingStep) -> Iterator[Any]:
    """Yield the updates of a step, of which none is carried out."""
    return step.objective.updates(step.kind(), Progress(step.clock, step.share))


def loss_by_hand(winners: Tensor, losers: Tensor) -> Tensor:
    return torch.log1p(torch.exp(losers - winners)).mean()


def split(shown: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The real and the generated half of what a discriminator has been shown at once."""
    return list(zip(*(each.chunk(2) for each in shown), strict=True))


# ---------------------------------------------------------------------------------- the losses


@pytest.mark.parametrize("reuse", [False, True])
def test_both_losses_and_all_gradients_are_those_of_float64_by_hand(step_with, reuse):
    step = step_with(**PAIRS, reuse_real_logits=reuse)
    discriminator = with_smooth(step)
    exact = copy.deepcopy(discriminator).double()
    game = updates(step)
    update = next(game)
    (both,) = discriminator.shown
    (real, labels), (fake, fake_labels) = split(both)
    expected = loss_by_hand(exact(real.double(), labels), exact(fake.double(), fake_labels))
    assert float(update.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    (slope,) = torch.autograd.grad(update.loss, discriminator.weight)
    (exact_slope,) = torch.autograd.grad(expected, exact.weight)
    torch.testing.assert_close(slope.double(), exact_slope, rtol=1e-4, atol=1e-7)

    generator = step.networks["generator"]
    parameters = list(generator.parameters())
    generated: list[Tensor] = []

    def keeps(latents: Tensor, labels: Tensor) -> Tensor:
        generated.append(generator(latents, labels))
        return generated[-1]

    step.objective.run["generator"] = keeps
    discriminator.shown.clear()
    update = next(game)
    *real_part, (fake, fake_labels) = discriminator.shown
    assert len(real_part) == (0 if reuse else 1)
    if real_part:
        ((real, labels),) = real_part
    assert torch.equal(fake_labels, labels)
    seen = generated[0].detach().double().requires_grad_()
    with torch.no_grad():
        real_logits = exact(real.double(), labels)
    expected = loss_by_hand(exact(seen, fake_labels), real_logits)
    assert float(update.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    (from_above,) = torch.autograd.grad(expected, seen)
    by_hand = torch.autograd.grad(
        generated[0], parameters, from_above.float(), retain_graph=True, allow_unused=True
    )
    found = torch.autograd.grad(update.loss, parameters, allow_unused=True)
    for ours, theirs in zip(found, by_hand, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)


def test_the_loss_of_equal_logits_is_ln_2_and_no_pair_is_ordered(step_with):
    objective = step_with(**PAIRS).objective
    assert isinstance(objective, Relativistic)
    for value, dtype in ((0.0, torch.float32), (-3e4, torch.float16), (1e4, torch.bfloat16)):
        logits = torch.full((4,), value, dtype=dtype)
        loss, accuracies = objective.judge(logits, logits)
        assert loss.dtype == torch.float32
        assert float(loss) == pytest.approx(math.log(2), rel=1e-6)
        found = {name: float(number) for name, number in accuracies.items()}
        assert found == {"r_t": 0.0, "d_pair_accuracy": 0.0}


def test_the_accuracy_is_the_share_of_pairs_in_the_right_order(step_with):
    objective = step_with(**PAIRS).objective
    # With a plain discriminator's rule, 0, both kinds would be told wrongly in each of them.
    real, fake = torch.tensor([-5.0, -6.0, -9.0, -1.0]), torch.tensor([5.0, -7.0, -9.5, -1.0])
    _, accuracies = objective.judge(real, fake)
    assert float(accuracies["d_pair_accuracy"]) == 0.5


def test_differences_of_16_bit_logits_are_not_rounded(step_with):
    objective = step_with(**PAIRS).objective
    real, fake = torch.tensor([-256.0]), torch.tensor([0.5])  # in bfloat16, apart by 256
    loss, _ = objective.judge(real.bfloat16(), fake.bfloat16())
    assert float(loss) == 256.5


@pytest.mark.parametrize("reuse", [False, True])
def test_a_constant_added_to_all_logits_changes_nothing(step_with, reuse):
    results = []
    for offset in (0.0, 4.0):
        step = step_with(**PAIRS, reuse_real_logits=reuse)
        discriminator = with_smooth(step)
        discriminator.offset.data.fill_(offset)
        game = updates(step)
        first = next(game)
        slopes = torch.autograd.grad(first.loss, (discriminator.weight, discriminator.offset))
        assert float(slopes[1]) == pytest.approx(0.0, abs=1e-7)
        second = next(game)
        second.loss.backward()
        of_generator = [p.grad for p in step.networks["generator"].parameters()]
        results.append([first.loss, second.loss, slopes[0], *of_generator])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# ----------------------------------------------------------------------------------- the pairs


@pytest.mark.parametrize("resident_share", [0.0, 1.0])
@pytest.mark.parametrize("class_balance", [False, True])
@pytest.mark.parametrize("reuse", [False, True])
def test_pairs_are_of_one_class(step_with, reuse, class_balance, resident_share):
    step = step_with(
        **PAIRS, reuse_real_logits=reuse, discriminator_steps=2, class_balance=class_balance,
        resident_share=resident_share, mirror=True,
    )  # fmt: skip
    discriminator = with_smooth(step)
    several = set()
    for _ in range(6):
        discriminator.shown.clear()
        step.begin()
        game = updates(step)
        pairs = []
        for _ in range(2):
            next(game)
            pairs.append(split(discriminator.shown.pop()))
        next(game)
        if reuse:
            (fake,) = discriminator.shown
            pairs.append([pairs[-1][0], fake])  # with those shown last
        else:
            pairs.append(discriminator.shown)
        for (real, real_labels), (_, fake_labels) in pairs:
            brightness = real.mean((1, 2, 3)) > 0  # the second class's
            assert torch.equal(brightness.long(), real_labels)
            assert torch.equal(real_labels, fake_labels)
            several.add(tuple(real_labels.tolist()))
        step.end()
    assert len(several) > 3


@pytest.mark.parametrize("reuse", [False, True])
def test_the_generator_s_update_has_real_images_of_its_own(step_with, dataset, reuse):
    """Twelve images, four a batch: those of a step's updates are all different."""
    step = step_with(**PAIRS, reuse_real_logits=reuse, discriminator_steps=2)
    discriminator = with_smooth(step)
    shown = []
    for _ in range(3):
        discriminator.shown.clear()
        step()
        assert len(discriminator.shown) == (3 if reuse else 4)
        shown += [split(both)[0][0] for both in discriminator.shown[:2]]
        if not reuse:
            shown.append(discriminator.shown[2][0])
    assert step.images_seen == 24  # those that the discriminator has learnt from
    seen = to_uint8(torch.cat(shown), step.value_range)
    for epoch in seen.split(12):
        assert torch.equal(epoch.unique(dim=0), dataset.images.unique(dim=0))


def test_the_generator_s_real_images_are_changed_as_its_own_are(step_with):
    settings = {**PAIRS, "augment": ("brightness",), "noise_std": 0.2, "mirror": True}
    step = step_with(**settings)
    discriminator = with_smooth(step)
    game = updates(step)
    next(game)
    draws = step.objective.generator_draws(
        step.draws.for_discriminator(noise=True, r1=False, paired=True), noise=True
    )
    discriminator.shown.clear()
    std = torch.tensor(0.2)
    step.objective.generator_update(draws, std, "relativistic")
    (real, _), (fake, _) = discriminator.shown
    with torch.no_grad():
        generated = step.networks["generator"](draws.latents, draws.labels)
    for seen, plain, half in (
        (real, step.objective.inputs.real(draws.rows, draws.mirror), slice(0, 4)),
        (fake, generated, slice(4, 8)),
    ):
        brighter = (draws.augment[half, 0, :1, None, None] - 0.5) * 1.0
        expected = plain + brighter + 0.2 * draws.noise[half]
        torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------- what is left alone


@pytest.mark.parametrize("reuse", [False, True])
def test_each_update_moves_its_own_network_alone(step_with, reuse):
    step = step_with(loss="relativistic", reuse_real_logits=reuse, r2_gamma=1.0)
    networks = step.networks
    game = updates(step)
    step.begin()
    next(game).loss.backward()
    assert all(p.grad is None for p in networks["generator"].parameters())
    for parameter in networks["discriminator"].parameters():
        parameter.grad = None
    next(game).loss.backward()
    assert all(p.grad is None for p in networks["discriminator"].parameters())
    assert any(float(p.grad.abs().sum()) for p in networks["generator"].parameters())
    game.close()
    assert all(p.requires_grad for p in networks["discriminator"].parameters())


def test_frozen_parameters_stay_frozen(step_with):
    step = step_with(loss="relativistic", r2_gamma=1.0, r1_interval=1)
    layers = [next(iter(step.networks["discriminator"].blocks)),
              next(iter(step.networks["generator"].blocks))]  # fmt: skip
    for layer in layers:
        layer.requires_grad_(False)
    before = [[p.clone() for p in layer.parameters()] for layer in layers]
    for _ in range(2):
        step()
    for layer, parameters in zip(layers, before, strict=True):
        assert not any(p.requires_grad for p in layer.parameters())
        assert all(map(torch.equal, layer.parameters(), parameters))


def test_real_and_generated_images_of_a_batch_that_looks_go_apart(step_with):
    step = step_with(loss="relativistic", r1_gamma=1.0, r2_gamma=1.0)
    discriminator = with_smooth(step)
    for looks in (True, False):
        discriminator.samples_see_each_other = looks
        discriminator.shown.clear()
        step.begin()
        game = updates(step)
        next(game)
        sizes = [len(labels) for _, labels in discriminator.shown]
        assert sizes == ([4, 4, 4, 4] if looks else [8, 8])
        next(game)
        assert [len(labels) for _, labels in discriminator.shown[len(sizes) :]] == [4, 4]


def test_what_is_reported_has_the_names_of_this_game(step_with):
    step = step_with(loss="relativistic", r2_gamma=1.0, r1_interval=2)
    step()
    assert list(step.meters.read()) == [
        "d_loss", "r_t", "d_pair_accuracy", "g_loss", "r1", "r2",
    ]  # fmt: skip
    step()
    read = step.meters.read()
    assert list(read) == ["d_loss", "r_t", "d_pair_accuracy", "g_loss"]
    assert read["r_t"] == pytest.approx(2 * read["d_pair_accuracy"] - 1)
    assert 0 <= read["d_pair_accuracy"] <= 1


def test_the_generator_s_images_come_to_win(step_with):
    """Against a discriminator that only looks at brightness the generator gets brighter."""
    step = step_with(**PAIRS, d_lr=0.0, g_lr=2e-3)
    bright = nn.Module()
    bright.forward = lambda images, labels: images.mean((1, 2, 3))
    step.objective.networks["discriminator"] = step.objective.run["discriminator"] = bright
    bright.samples_see_each_other = False
    losses = []
    latents, labels = torch.randn(8, 8), torch.arange(8) % 2
    before = step.networks["generator"](latents, labels).detach().mean()
    for _ in range(20):
        step.begin()
        (_, update) = updates(step)
        step._descend(update)
        step.end()
        losses.append(float(update.loss.detach()))
    assert sum(losses[-5:]) < sum(losses[:5])
    assert float(step.networks["generator"](latents, labels).detach().mean() - before) > 0.2

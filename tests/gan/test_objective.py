"""A game by itself: what it freezes, what it reports, and that a step runs any."""

from collections.abc import Generator, Hashable

import pytest
import torch
from torch import Tensor, nn

from cxrgan_fast.gan.objective import Objective, Player, Update, frozen
from cxrgan_fast.gan.schedules import Progress
from cxrgan_fast.nn import build_discriminator, samples_see_each_other
from cxrgan_fast.nn.config import NetworkConfig
from cxrgan_fast.nn.family import FAMILIES
from cxrgan_fast.training import step as step_module

# ----------------------------------------------------------------------------------- freezing


def test_frozen_spares_what_was_frozen_before():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)

    def fails() -> None:
        with frozen(network):
            assert not any(p.requires_grad for p in network.parameters())
            raise RuntimeError("amid")

    with pytest.raises(RuntimeError, match="amid"):
        fails()
    assert [p.requires_grad for p in network.parameters()] == [False, False, True, True]


def test_a_frozen_layer_of_the_discriminator_stays_as_it_is(step_with):
    step = step_with()
    layer = next(iter(step.networks["discriminator"].blocks))
    layer.requires_grad_(False)
    before = [p.clone() for p in layer.parameters()]
    others = [p for p in step.networks["discriminator"].parameters() if p.requires_grad]
    others_before = [p.detach().clone() for p in others]
    for _ in range(3):
        step()
    assert not any(p.requires_grad for p in layer.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(others, others_before, strict=True))


def test_an_update_that_fails_leaves_nothing_frozen(step_with):
    step = step_with()
    descend, calls = step._descend, []

    def fails_at_the_generator(update: Update) -> None:
        calls.append(update.player.network)
        if update.player.network == "generator":
            raise RuntimeError("no memory, say")
        descend(update)

    step._descend = fails_at_the_generator
    step.begin()
    with pytest.raises(RuntimeError, match="no memory"):
        step.body(step.kind())
    assert calls == ["discriminator", "generator"]
    assert all(p.requires_grad for p in step.networks["discriminator"].parameters())


# ----------------------------------------------------------------- samples that see each other


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_discriminators_say_the_truth_of_themselves(family):
    network = build_discriminator(NetworkConfig(family=family, resolution=32, base_channels=8), 2)
    assert not samples_see_each_other(network)
    images, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        together = network(images, labels)
        with_others = network(torch.cat((images[:2], 9 * images[2:])), labels)
    torch.testing.assert_close(with_others[:2], together[:2])


def test_a_network_that_says_nothing_is_taken_to_look():
    assert samples_see_each_other(nn.BatchNorm2d(3))


class Looking(nn.Module):
    """A discriminator whose logits hold the deviation of its minibatch."""

    samples_see_each_other = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.batches: list[int] = []

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.batches.append(len(images))
        return self.weight * (images.mean((1, 2, 3)) + images.std(0).mean())


@pytest.mark.parametrize("looks", [True, False])
def test_real_and_generated_images_of_a_batch_that_looks_go_apart(step_with, looks):
    step = step_with(r1_gamma=0.0)
    discriminator = Looking()
    discriminator.samples_see_each_other = looks
    step.objective.networks["discriminator"] = discriminator
    step.objective.run["discriminator"] = discriminator
    step.begin()
    draws = step.draws.for_discriminator(noise=False, r1=False)
    real = step.objective.inputs.real(draws.rows, None)
    with torch.no_grad():
        fake = step.networks["generator"](draws.latents, draws.labels)
        alone = [discriminator(images, draws.labels) for images in (real, fake)]
    discriminator.batches.clear()
    update = step.objective.discriminator_update(draws, None, step.share)
    assert discriminator.batches == ([4, 4] if looks else [8])
    loss = sum(
        nn.functional.softplus(sign * x).mean() for sign, x in zip((-1, 1), alone, strict=True)
    )
    assert torch.allclose(update.loss, loss, atol=1e-6) == looks


# ------------------------------------------------------------------------------ any other game


class Autoencoder(Objective):
    """One network, which is no GAN's: what a step needs of a game is in `Objective` alone."""

    numbers = ("error", "brightness")
    averaged = "coder"

    def __init__(self, config, draws, inputs, device, autocast) -> None:
        self.draws, self.inputs = draws, inputs
        coder = nn.Conv2d(1, 1, 3, padding=1)
        self.networks, self.run = {"coder": coder}, {"coder": coder}
        self.players = (Player("coder", "coder_optimizer", 1e-2),)

    def kind(self, progress: Progress[float]) -> str:
        return "bright" if progress.steps % 2 else "plain"

    def updates(self, kind: Hashable, progress: Progress[Tensor]) -> Generator[Update, None, None]:
        draws = self.draws.for_discriminator(noise=False, r1=False)
        real = self.inputs.real(draws.rows, draws.mirror)
        drawn = self.run["coder"](real)
        loss = (drawn - real).square().mean()
        numbers = {"error": loss.detach()}
        if kind == "bright":
            numbers["brightness"] = drawn.detach().mean()
        yield Update(self.players[0], loss, numbers)


def test_a_step_runs_a_game_of_other_networks_and_numbers(step_with, monkeypatch):
    monkeypatch.setattr(step_module, "Adversarial", Autoencoder)
    step, again = step_with(seed=1), step_with(seed=1)
    again.load_state_dict(step.state_dict())
    first: list[float] = []
    for _ in range(200):
        step()
        again()
        first.append(step.meters.read()["error"])
    assert first[-1] < first[0] / 10
    assert int(step.meters.counts.sum()) == 0
    step()  # the 201st, at 200: plain
    assert set(step.meters.read()) == {"error"}
    step()
    assert set(step.meters.read()) == {"error", "brightness"}
    state = again.state_dict()
    assert {"coder", "coder_optimizer", "ema"} <= state.keys()
    assert "generator" not in state
    resumed = step_with(seed=1)
    resumed.load_state_dict(state)
    for one in (again, resumed):
        one()
        one()
    assert torch.equal(again.networks["coder"].weight, resumed.networks["coder"].weight)


def test_the_numbers_of_several_updates_are_averaged_by_name(step_with):
    step = step_with(discriminator_steps=3, r1_gamma=1.0)
    seen: list[dict[str, float]] = []
    descend = step._descend

    def looking(update: Update) -> None:
        seen.append({name: float(value) for name, value in update.numbers.items()})
        descend(update)

    step._descend = looking
    step()
    read = step.meters.read()
    assert [set(numbers) for numbers in seen] == [
        *[{"d_loss", "r_t", "d_real_accuracy", "d_fake_accuracy", "r1"}] * 3,
        {"g_loss"},
    ]
    for name in ("d_loss", "r_t", "d_real_accuracy", "d_fake_accuracy", "r1"):
        assert read[name] == pytest.approx(sum(numbers[name] for numbers in seen[:3]) / 3, rel=1e-6)
    assert read["g_loss"] == pytest.approx(seen[3]["g_loss"])


def test_a_number_that_was_not_announced_is_refused(step_with):
    step = step_with()
    with pytest.raises(ValueError, match=r"got \['lpips'\]"):
        step.meters.record({"lpips": torch.zeros(())}, step.clock)

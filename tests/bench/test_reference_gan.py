"""The reference GAN trains as the package does, from the same weights, batches and noise.

Rounding does not stay small in a GAN: within it a LeakyReLU takes its other branch, R1's gradient
jumps there, and Adam without a first moment turns the sign of a small gradient into a whole step.
At the default learning rates two right programs are 1e-6 to 3 apart after 30 steps in float32.
So float32 is held to 1e-4 at learning rates of 1e-6, at which the programs are apart by less than
3e-5, and the default rates are held to 1e-6 in float64, where nothing else separates them.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import reference_gan, reference_weights
from bench.reference_gan import ReferenceTraining
from bench.reference_settings import OPTIONS_WITHOUT_REFERENCE, Settings
from cxrgan_fast.data import ImageDataset, to_float
from cxrgan_fast.gan.draws import Draws
from cxrgan_fast.nn import NetworkConfig, build_discriminator, build_generator
from cxrgan_fast.settings.config import TrainConfig, flatten, override
from cxrgan_fast.training.step import TrainingStep

CPU = torch.device("cpu")
LOSSES = ("minimax", "non_saturating", "hinge", "least_squares", "wasserstein", "relativistic")
FAMILIES = ("resnet", "dcgan")
GENTLE = {"g_lr": 1e-6, "d_lr": 1e-6}
# R1, augmentation and noise throughout; noise that ends would leave covered pixels exactly alike,
# and so a whole area of them on one side of a kink.
SETTINGS = {
    "resolution": 32,
    "base_channels": 8,
    "latent_size": 16,
    "batch_size": 4,
    "precision": "fp32",
    "r1_interval": 4,
    "augment": ("brightness", "contrast", "translation", "cutout"),
    "noise_std": 0.1,
    "noise_decay_steps": 100,
    "mirror": True,
    "ema_ramp": 2.0,  # so that the average is not the last generator
}
# Beside each loss what goes with it, so that all that an update can have is somewhere.
BESIDE: dict[str, dict[str, Any]] = {
    "minimax": {"early_steps": 10},
    "non_saturating": {"label_smoothing": 0.1},
    "hinge": {"discriminator_steps": 2},
    "least_squares": {"label_smoothing": 0.1},
    "wasserstein": {"discriminator_steps": 2},
    "relativistic": {"discriminator_steps": 2, "r2_gamma": 0.5},
}


def small_set(channels: int = 1) -> ImageDataset:
    random = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (12, channels, 8, 8), generator=random).float()
    images = nn.functional.interpolate(coarse, size=32, mode="bilinear").to(torch.uint8)
    names = [str(row) for row in range(12)]
    return ImageDataset(images, torch.arange(12) % 2, ("a", "b"), names, names, "made")


@dataclass
class Errors:
    """How far the reference is from the package."""

    loss: float
    """Of any loss at any step, relative; losses below 0.1 count as 0.1.

    A loss may be a difference of means, which crosses zero.
    """
    movement: float
    """Of how the weights of a network, or of the average, have moved; relative, of the whole."""
    statistics: float
    """Of the running statistics, relative, of the whole."""


def train_both(
    monkeypatch: pytest.MonkeyPatch,
    *,
    steps: int,
    double: bool = False,
    plant: Callable[[ReferenceTraining], object] = lambda reference: None,
    **settings: Any,
) -> Errors:
    """Train both from the same weights with the same draws."""
    config = override(TrainConfig(), {**SETTINGS, **settings})
    dataset = small_set(config.network.image_channels)
    step = TrainingStep(config, dataset, CPU)
    reference = ReferenceTraining(Settings.of(flatten(config)), dataset, CPU, num_workers=0)
    ours = step.networks
    reference.load_weights(ours["generator"].state_dict(), ours["discriminator"].state_dict())
    plant(reference)
    if double:
        compute_in_float64(step, reference, monkeypatch)
    before = states(step, reference)
    own_images = reference_gan.Images(dataset, config.network.image_range, mirror=False)

    def pixels(draws: Any) -> Tensor:
        # In float64 not the reference's own pixels, which differ by float32's rounding.
        real = to_float(dataset.images[draws.rows], config.network.image_range)
        if not double:
            real = torch.stack([own_images[row][0] for row in draws.rows.tolist()])
        return torch.where(draws.mirror.view(-1, 1, 1, 1), real.flip(3), real)

    drawn: list[Any] = []
    for name in ("for_discriminator", "for_generator", "for_generator_with_real"):
        record(drawn, step.draws, name, monkeypatch)
    worst = 0.0
    for _ in range(steps):
        drawn.clear()
        step()
        theirs = step.meters.read()
        d_losses = [
            reference.update_discriminator(
                pixels(draws),
                dataset.labels[draws.rows],
                draws.latents,
                draws.labels,
                draws.augment,
                draws.noise,
                draws.r1_augment,
                draws.r1_noise,
                draws.r2_augment,
                draws.r2_noise,
            )
            for draws in drawn[:-1]
        ]
        draws = drawn[-1]
        real = None if draws.rows is None else pixels(draws)
        g_loss = reference.update_generator(
            draws.latents, draws.labels, draws.augment, draws.noise, real
        )
        reference.finish_step()
        assert len(d_losses) == config.objective.discriminator_steps
        d_loss = sum(d_losses) / len(d_losses)
        for name, ours in (("d_loss", d_loss), ("g_loss", g_loss)):
            worst = max(worst, abs(ours - theirs[name]) / max(abs(theirs[name]), 0.1))
    return compared(before, states(step, reference), worst)


def record(drawn: list[Any], draws: Draws, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything in the list that ``draws`` draws by that name."""
    draw = getattr(draws, name)

    def recording(**arguments: Any) -> object:
        drawn.append(draw(**arguments))
        return drawn[-1]

    monkeypatch.setattr(draws, name, recording)


def compute_in_float64(
    step: TrainingStep, reference: ReferenceTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    for network in (*step.networks.values(), reference.generator, reference.discriminator):
        network.double()
        network.register_forward_pre_hook(lambda module, given: (given[0].double(), given[1]))
    for optimizer in (*step.optimizers.values(), reference.g_optimizer, reference.d_optimizer):
        for state in optimizer.state.values():
            for key in state.keys() - {"step"}:
                state[key] = state[key].double()
    step.ema.module.double()
    step.objective.inputs.dtype = torch.float64
    reference.ema.double()


def states(step: TrainingStep, reference: ReferenceTraining) -> list[tuple[Any, Any]]:
    """The state of each network in the package, under the reference's names, and in it."""
    settings = reference.settings
    of_generator = reference_weights.generator_weights
    of_discriminator = reference_weights.discriminator_weights
    pairs = [
        (of_generator(step.networks["generator"].state_dict(), settings), reference.generator),
        (of_generator(step.ema.state_dict(), settings), reference.ema),
        (
            of_discriminator(step.networks["discriminator"].state_dict(), settings),
            reference.discriminator,
        ),
    ]
    return [
        ({name: tensor.clone() for name, tensor in theirs.items()},
         {name: tensor.clone() for name, tensor in network.state_dict().items()})
        for theirs, network in pairs
    ]  # fmt: skip


def compared(before: list[tuple[Any, Any]], after: list[tuple[Any, Any]], loss: float) -> Errors:
    def distance(pairs: list[tuple[Tensor, Tensor]]) -> float:
        a, b = (
            torch.cat([tensor.flatten().double() for tensor in side])
            for side in zip(*pairs, strict=True)
        )
        return float((a - b).norm() / a.norm())

    movement, statistics = 0.0, 0.0
    for (theirs_0, ours_0), (theirs, ours) in zip(before, after, strict=True):
        assert {n for n in ours if not n.endswith("num_batches_tracked")} == set(theirs)
        running = [name for name in theirs if ".running_" in name]
        moved = [n for n in theirs if n not in running and not n.endswith(("_u", "_v"))]
        pairs = [(theirs[n] - theirs_0[n], ours[n] - ours_0[n]) for n in moved]
        movement = max(movement, distance(pairs))
        if running:
            statistics = max(statistics, distance([(theirs[n], ours[n]) for n in running]))
    return Errors(loss, movement, statistics)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("steps", [5, pytest.param(30, marks=pytest.mark.long)])
def test_float32_trainings_stay_together(monkeypatch, steps, loss, family):
    settings = {"family": family, "loss": loss, **GENTLE, **BESIDE[loss]}
    errors = train_both(monkeypatch, steps=steps, **settings)
    assert errors.loss < 1e-4, errors
    # A step of 1e-6 is some ten units in the last place of a weight: that is how it is rounded.
    assert errors.movement < 0.05, errors
    assert errors.statistics < 1e-5, errors


OPTIONS: dict[str, dict[str, Any]] = {
    "resnet": {"loss": "minimax", "extra_layers": 1, "optimizer": "adamw", "l2": 0.01},
    "resnet concat": {"conditioning": "concat", "spectral_norm": True, "optimizer": "rmsprop"},
    "resnet projection": {"spectral_norm": True, "loss": "least_squares", "output": "sigmoid"},
    "resnet none": {"conditioning": "concat", "generator_norm": "none", "loss": "hinge"},
    "dcgan": {
        "family": "dcgan", "loss": "wasserstein", "image_channels": 3, "ema_ramp": 0.0,
        "d_lr": 2e-4, "beta1": 0.5,
    },
    "dcgan concat": {"family": "dcgan", "conditioning": "concat", "spectral_norm": True},
    "dcgan transposed": {
        "family": "dcgan", "upsampling": "transposed", "extra_layers": 1, "activation": "relu",
        "optimizer": "sgd", "g_lr": 1e-3, "d_lr": 1e-3, "discriminator_steps": 2,
    },
    "resnet pairs": {"loss": "relativistic", "spectral_norm": True, "r2_gamma": 1.0},
    "dcgan pairs": {
        "family": "dcgan", "loss": "relativistic", "reuse_real_logits": True, "r1_gamma": 0.0,
        "r2_gamma": 2.0, "discriminator_steps": 2, "output": "sigmoid",
    },
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_float64_trainings_are_the_same_at_the_default_rates(monkeypatch, options):
    errors = train_both(monkeypatch, steps=10, double=True, **options)
    assert errors.loss < 1e-6, errors  # the package adds up its losses in float32
    assert errors.movement < 1e-5, errors
    assert errors.statistics < 1e-6, errors


def _with_settings(**changes: Any) -> Callable[[ReferenceTraining], None]:
    def plant(reference: ReferenceTraining) -> None:
        reference.settings = dataclasses.replace(reference.settings, **changes)

    return plant


def _wrong_slope(reference: ReferenceTraining) -> None:
    for module in reference.discriminator.modules():
        if isinstance(module, nn.LeakyReLU):
            module.negative_slope = 0.21


def _wrong_momentum(reference: ReferenceTraining) -> None:
    for module in reference.generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.11


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (_wrong_slope, "loss"),
        (_with_settings(noise_std=0.11), "loss"),
        (_with_settings(augment=("brightness", "contrast", "cutout", "translation")), "loss"),
        (_with_settings(label_smoothing=0.0), "loss"),
        (_with_settings(r1_gamma=0.5), "movement"),  # a lost factor 1/2
        (_with_settings(r2_gamma=1.0), "movement"),
        (_with_settings(ema_ramp=3.0), "movement"),
        (_wrong_momentum, "statistics"),
    ],
    ids=["slope", "noise", "order", "smoothing", "r1", "r2", "ema", "statistics"],
)
def test_a_planted_difference_is_found(monkeypatch, plant, found):
    """Of the trainings in float32, with the limits of their test."""
    settings = {"loss": "non_saturating", "r2_gamma": 2.0, **GENTLE, **BESIDE["non_saturating"]}
    errors = train_both(monkeypatch, steps=5, plant=plant, **settings)
    limit = {"loss": 1e-4, "movement": 0.05, "statistics": 1e-5}[found]
    assert getattr(errors, found) > 2 * limit, errors


def test_the_settings_are_the_package_s():
    # Of the default family, and what only the other has.
    families = (override(TrainConfig(), {"family": name}) for name in ("dcgan", "resnet"))
    theirs = {name: value for each in families for name, value in flatten(each).items()}
    ours = vars(Settings())
    assert {name: theirs[name] for name in ours} == ours
    deciding = {"network", "objective", "optimization"}
    names = {n for part in deciding for n in flatten(getattr(TrainConfig(), part))}
    names.discard("power_ema_every")  # which says what is kept of a training, and changes none
    assert names - ours.keys() == set(OPTIONS_WITHOUT_REFERENCE)
    for option in OPTIONS_WITHOUT_REFERENCE:  # none is passed over in silence
        value = 4 if option == "minibatch_std" else True
        with pytest.raises(ValueError, match=f"the reference has no {option}"):
            Settings.of(flatten(override(TrainConfig(), {option: value})))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conditioning", ["projection", "concat"])
def test_weights_begin_alike(family, conditioning):
    settings = {"family": family, "conditioning": conditioning, "resolution": 32}
    config, ours = NetworkConfig(**settings), Settings(**settings)
    reference = ReferenceTraining(Settings(**settings, batch_size=4), small_set(), CPU)
    for theirs, network in (
        (reference_weights.generator_weights(build_generator(config, 2).state_dict(), ours),
         reference.generator),
        (reference_weights.discriminator_weights(build_discriminator(config, 2).state_dict(), ours),
         reference.discriminator),
    ):  # fmt: skip
        own = network.state_dict()
        for name, tensor in theirs.items():
            assert float(own[name].mean()) == pytest.approx(float(tensor.mean()), abs=0.15), name
            if tensor.numel() > 1000 and float(tensor.std()):
                assert float(own[name].std()) == pytest.approx(float(tensor.std()), rel=0.15), name


def test_weights_of_other_networks_are_refused():
    reference = ReferenceTraining(Settings(resolution=32, batch_size=4), small_set(), CPU)
    config = NetworkConfig(resolution=32, extra_layers=1)
    networks = (build_generator(config, 2), build_discriminator(config, 2))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        reference.load_weights(*(network.state_dict() for network in networks))

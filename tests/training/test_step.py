"""One training step: what it updates, what it draws, and what it notices."""

import math

import pytest
import torch

from cxrgan_fast.data import ImageDataset, to_uint8
from cxrgan_fast.gan.adversarial import Adversarial
from cxrgan_fast.gan.draws import stream_seeds
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.step import TrainingStep

SMALL = {"resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4,
         "precision": "fp32"}  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    images = torch.randint(0, 256, (12, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 2
    names = [str(i) for i in range(12)]
    return ImageDataset(images.to(torch.uint8), labels, ("a", "b"), names, names, "made")


def step_with(dataset: ImageDataset, **settings: object) -> TrainingStep:
    return TrainingStep(override(TrainConfig(), {**SMALL, **settings}), dataset, CPU)


def weights(step: TrainingStep) -> dict[str, list[torch.Tensor]]:
    return {
        name: [p.detach().clone() for p in step.networks[name].parameters()]
        for name in ("generator", "discriminator")
    }


def non_finite(step: TrainingStep) -> tuple[int, str] | None:
    return step.meters.describe(step.meters.flags(), step.steps_done)


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "loss",
    ["minimax", "non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"],
)
def test_each_loss_trains_both_networks(dataset, loss):
    step = step_with(dataset, loss=loss)
    before = weights(step)
    step()
    after = weights(step)
    assert not same(before["generator"], after["generator"])
    assert not same(before["discriminator"], after["discriminator"])
    assert all(math.isfinite(value) for value in step.meters.read().values())


def test_the_losses_differ(dataset):
    def trained_with(loss: str) -> list[torch.Tensor]:
        step = step_with(dataset, loss=loss)
        step()
        return weights(step)["generator"]

    kinds = ["minimax", "non_saturating", "least_squares", "wasserstein", "relativistic"]
    results = [trained_with(kind) for kind in kinds]
    for i, first in enumerate(results):
        for second in results[i + 1 :]:
            assert not same(first, second)


@pytest.mark.first_tier(2)
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_each_optimizer_moves_weights_and_l2_shrinks_them(dataset, optimizer):
    def norm_after(l2: float) -> float:
        step = step_with(dataset, optimizer=optimizer, l2=l2, g_lr=1e-3, d_lr=1e-3)
        for _ in range(3):
            step()
        assert non_finite(step) is None
        return sum(
            float(p.detach().square().sum()) for p in step.networks["discriminator"].parameters()
        )

    assert norm_after(10.0) < norm_after(0.0)


def test_separate_learning_rates(dataset):
    step = step_with(dataset, g_lr=0.0)
    before = weights(step)
    step()
    after = weights(step)
    assert same(before["generator"], after["generator"])
    assert not same(before["discriminator"], after["discriminator"])


def test_discriminator_steps_come_before_a_generator_step(dataset):
    step = step_with(dataset, discriminator_steps=3)
    step()
    assert step.images_seen == 12
    discriminator, generator = (
        optimizer.state_dict()["state"][0]["step"]
        for optimizer in (step.optimizers["d_optimizer"], step.optimizers["g_optimizer"])
    )
    assert (int(discriminator), int(generator)) == (3, 1)


def test_r1_comes_at_its_interval_and_acts(dataset):
    step = step_with(dataset, r1_interval=2, r1_gamma=5.0)
    for _ in range(3):
        step()
    assert int(step.meters.counts[Adversarial.numbers.index("r1")]) == 2  # steps 0 and 2
    assert step.meters.read()["r1"] > 0
    without, strong = step_with(dataset, r1_gamma=0.0), step_with(dataset, r1_gamma=50.0)
    without()
    strong()
    assert "r1" not in without.meters.read()
    assert not same(weights(without)["discriminator"], weights(strong)["discriminator"])


def penalty(step: TrainingStep) -> float:
    step.begin()
    draws = step.draws.for_discriminator(noise=False, r1=True)
    none = torch.zeros(0, 1, 32, 32)
    return float(step.objective.penalties(draws, draws.labels, none, None)["r1"])


def test_r1_is_the_squared_norm_of_the_gradient(dataset):
    """Of a discriminator whose gradient is known: D(x) = Σ 3x has ‖∇D‖² = 9·32·32."""
    step = step_with(dataset, augment=())
    step.networks["discriminator"].forward = lambda images, labels: (3 * images).sum((1, 2, 3))
    assert penalty(step) == pytest.approx(9 * 32 * 32, rel=1e-6)


def seen_by_the_discriminator(step: TrainingStep) -> list[torch.Tensor]:
    """The images of the discriminator's passes of one step, plain and then of the generator."""
    seen = []

    def discriminator(images, labels):
        seen.append(images.detach().clone())
        return step.networks["discriminator"](images, labels)

    step.objective.run["discriminator"] = discriminator
    step()
    return seen


@pytest.mark.parametrize("output", ["tanh", "sigmoid"])
def test_noise_is_on_every_image_and_means_the_same_in_either_range(dataset, output):
    settings = {"augment": (), "r1_gamma": 0.0, "output": output}
    clean = seen_by_the_discriminator(step_with(dataset, **settings))
    step = step_with(dataset, **settings, noise_std=0.25)
    noisy = seen_by_the_discriminator(step)
    low, high = step.value_range
    real = (noisy[0] - clean[0])[:4]  # the same rows; latents differ, being drawn after noise
    assert float(real.std()) / (high - low) == pytest.approx(0.125, rel=0.05)
    for images in noisy:  # a generator that has learnt nothing draws smooth images
        steepness = (images[-4:, ..., 1:] - images[-4:, ..., :-1]).std()
        assert float(steepness) / (high - low) > 0.125


def test_noise_that_has_fallen_to_nothing_is_not_drawn(dataset):
    step = step_with(dataset, noise_std=0.4, noise_decay_steps=1)
    assert step.kind().noise
    step()
    assert not step.kind().noise
    step()
    assert non_finite(step) is None


@pytest.mark.parametrize("output", ["tanh", "sigmoid"])
def test_r1_means_the_same_in_either_range(dataset, output):
    # The same function of the same picture, whatever numbers stand for black and white.
    step = step_with(dataset, augment=(), output=output)
    low, high = step.value_range
    step.networks["discriminator"].forward = lambda images, labels: (
        images.sum((1, 2, 3)) / (high - low)
    )
    assert penalty(step) == pytest.approx(32 * 32 / 4, rel=1e-6)


def test_mirrored_images_are_flipped_left_right_and_only_some_of_them(dataset):
    settings = {"augment": (), "r1_gamma": 0.0, "batch_size": 12}
    plain = seen_by_the_discriminator(step_with(dataset, **settings))[0][:12]
    mirrored = seen_by_the_discriminator(step_with(dataset, **settings, mirror=True))[0][:12]
    same_images = [torch.equal(a, b) for a, b in zip(plain, mirrored, strict=True)]
    flipped = [torch.equal(a.flip(2), b) for a, b in zip(plain, mirrored, strict=True)]
    assert all(a != b for a, b in zip(same_images, flipped, strict=True))
    assert 0 < sum(flipped) < 12


def test_every_image_is_seen_once_an_epoch(dataset):
    settings = {"augment": (), "r1_gamma": 0.0, "discriminator_steps": 2, "batch_size": 4}
    step = step_with(dataset, **settings)
    seen = [images[:4] for _ in range(3) for images in seen_by_the_discriminator(step)[:2]]
    shown = to_uint8(torch.cat(seen), step.value_range)  # 24 images: two epochs
    for epoch in shown.split(12):
        assert torch.equal(epoch.unique(dim=0), dataset.images.unique(dim=0))


def test_balanced_classes_are_shown_and_generated_equally_often():
    labels = torch.tensor([0] * 9 + [1])
    names = [str(i) for i in range(10)]
    images = torch.zeros(10, 1, 32, 32, dtype=torch.uint8)
    made = ImageDataset(images, labels, ("a", "b"), names, names, "made")
    step = step_with(made, batch_size=64, class_balance=True)
    step.begin()
    draws = step.draws.for_discriminator(noise=False, r1=False)
    assert float(step.batches.labels[draws.rows].float().mean()) == 0.5
    assert float(draws.labels.float().mean()) == pytest.approx(0.5, abs=0.2)


def test_weights_latents_and_grid_have_streams_of_their_own(dataset):
    assert len({*stream_seeds(0), *stream_seeds(1)}) == 6
    step = step_with(dataset)
    first = torch.randn(4, 8, generator=step.draws.random)  # the latents of the first step
    (weight,) = [
        p for n, p in step.networks["generator"].named_parameters() if n.endswith("linear.weight")
    ]
    assert not torch.allclose(
        weight.flatten()[:32] / weight.flatten()[0], first.flatten() / first.flatten()[0]
    )


def test_the_average_counts_the_images_of_all_discriminator_steps(dataset):
    """A half-life of 12 images is one step of 3 updates on 4: the average goes half the way."""
    step = step_with(dataset, discriminator_steps=3, ema_half_life=12.0, ema_ramp=0.0)
    name = next(iter(dict(step.networks["generator"].named_parameters())))
    before = dict(step.ema.module.named_parameters())[name].clone()
    step()
    new = dict(step.networks["generator"].named_parameters())[name].detach()
    torch.testing.assert_close(dict(step.ema.module.named_parameters())[name], (before + new) / 2)


def test_a_step_neither_uses_nor_moves_the_global_random_numbers(dataset):
    def trained_after(global_seed: int) -> list[torch.Tensor]:
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        step = step_with(dataset, noise_std=0.1)
        step()
        assert torch.equal(torch.get_rng_state(), before)
        return weights(step)["generator"]

    assert same(trained_after(1), trained_after(2))


def test_the_seed_decides_everything(dataset):
    def trained_with(seed: int) -> list[torch.Tensor]:
        step = step_with(dataset, seed=seed)
        for _ in range(2):
            step()
        return weights(step)["generator"]

    assert same(trained_with(0), trained_with(0))
    assert not same(trained_with(0), trained_with(1))


def test_a_non_finite_loss_is_remembered_with_its_step_until_asked_for(dataset):
    step = step_with(dataset)
    step()
    assert non_finite(step) is None
    with torch.no_grad():
        next(step.networks["discriminator"].parameters()).fill_(float("nan"))
    step()
    step()
    assert non_finite(step) == (2, "d_loss")


def test_weights_that_overflowed_in_the_last_update_are_noticed(dataset):
    step = step_with(dataset)
    step()
    with torch.no_grad():
        next(step.networks["generator"].parameters())[0] = float("inf")
    assert non_finite(step) == (1, "weights of the generator")


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_and_keeps_float32_weights(dataset, precision):
    step = step_with(dataset, precision=precision)
    before = weights(step)
    for _ in range(3):
        step()
    assert non_finite(step) is None
    assert all(p.dtype == torch.float32 for p in step.networks["generator"].parameters())
    assert not same(before["generator"], weights(step)["generator"])
    assert step.scalers["d_optimizer"].is_enabled() == (precision == "fp16")


def test_sigmoid_output_trains_on_images_from_0_to_1(dataset):
    step = step_with(dataset, output="sigmoid")
    assert step.value_range == (0.0, 1.0)
    step()
    images = step.networks["generator"](
        torch.randn(4, 8), torch.zeros(4, dtype=torch.int64)
    ).detach()
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_labels_are_drawn_with_the_frequencies_of_the_data():
    labels = torch.tensor([0] * 9 + [1])
    images = torch.zeros(10, 1, 32, 32, dtype=torch.uint8)
    names = [str(i) for i in range(10)]
    step = step_with(ImageDataset(images, labels, ("a", "b"), names, names, "made"), batch_size=64)
    drawn = torch.cat([step.draws.for_generator(noise=False).labels for _ in range(20)])
    assert float(drawn.float().mean()) == pytest.approx(0.1, abs=0.03)


def test_state_of_another_device_goes_on_with_a_stream_of_its_own(dataset):
    first, second = step_with(dataset), step_with(dataset)
    first()
    state = first.state_dict()
    # A GPU's generator has another kind of state, which one of the CPU cannot take.
    state |= {"device": "cuda", "random": torch.zeros(16, dtype=torch.uint8)}
    second.load_state_dict(state)
    assert (second.steps_done, int(second.clock)) == (1, 1)
    assert not torch.equal(second.draws.random.get_state(), first.draws.random.get_state())
    second()
    assert non_finite(second) is None


PAIRS = {"loss": "relativistic", "r2_gamma": 1.0, "r1_interval": 2, "mirror": True}


@pytest.mark.parametrize(
    "settings",
    [
        {"noise_std": 0.3, "noise_decay_steps": 7, "discriminator_steps": 2},
        PAIRS,
        {**PAIRS, "reuse_real_logits": True, "discriminator_steps": 2, "resident_share": 0.0},
    ],
    ids=["noise", "pairs", "reused logits"],
)
def test_state_continues_to_the_bit(dataset, settings):
    straight, first = step_with(dataset, **settings), step_with(dataset, **settings)
    for _ in range(6):
        straight()
    for _ in range(3):
        first()
    second = step_with(dataset, **settings)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second()
    for name, parts in weights(straight).items():
        assert same(parts, weights(second)[name])
    averages = (step.ema.state_dict().values() for step in (straight, second))
    assert all(torch.equal(a, b) for a, b in zip(*averages, strict=True))
    assert straight.meters.read() == second.meters.read()

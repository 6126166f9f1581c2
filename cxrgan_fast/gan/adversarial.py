"""The game of Goodfellow et al. 2014, Algorithm 1, with what has been learned since."""

import math
from collections.abc import Callable, Generator, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cxrgan_fast.augment.adaptive import AdaptiveProbability
from cxrgan_fast.augment.inputs import DiscriminatorInputs
from cxrgan_fast.gan.draws import DiscriminatorDraws, Draws, GeneratorDraws, stream_seeds
from cxrgan_fast.gan.objective import Objective, Player, Update, frozen
from cxrgan_fast.gan.penalties import lazy_weight, squared_gradient_norm
from cxrgan_fast.gan.schedules import Progress, generator_loss_kind, noise_std, scheduled
from cxrgan_fast.nn import build_discriminator, build_generator, samples_see_each_other
from cxrgan_fast.ops import discriminator_loss, generator_loss
from cxrgan_fast.ops.adversarial_loss import SMOOTHED_KINDS, LossKind
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.config import TrainConfig


@dataclass(frozen=True)
class StepKind:
    """What a step does, as far as it changes which kernels run."""

    r1: bool
    """Whether the R1 penalty is computed."""
    noise: bool
    """Whether noise is added to the discriminator's images."""
    generator_loss: LossKind


def build_networks(config: TrainConfig, n_classes: int) -> dict[str, nn.Module]:
    """Build both networks, by name; their weights depend only on the configuration's seed.

    Raises:
        UserError: networks for that many classes cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seeds(config.seed)[0])
        return {
            "generator": build_generator(config.network, n_classes),
            "discriminator": build_discriminator(config.network, n_classes),
        }


class Adversarial(Objective):
    """Adversarial training: k updates of the discriminator, then one of the generator.

    Args:
        config: the settings.
        draws: gives random numbers and the rows of real images.
        inputs: makes what the discriminator sees.
        device: where the networks live.
        autocast: gives the context in which the networks run.
    """

    numbers = ("d_loss", "r_t", "d_real_accuracy", "d_fake_accuracy", "augment_p", "g_loss", "r1")
    averaged = "generator"

    def __init__(
        self,
        config: TrainConfig,
        draws: Draws,
        inputs: DiscriminatorInputs,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.settings, self.draws, self.inputs = config.objective, draws, inputs
        self.autocast = autocast
        self.networks = {  # their weights lie as their layers want them
            name: network.to(device)
            for name, network in build_networks(config, draws.n_classes).items()
        }
        self.run = dict(self.networks)
        optimization = config.optimization
        self.players = (
            Player("generator", "g_optimizer", optimization.g_lr),
            Player("discriminator", "d_optimizer", optimization.d_lr),
        )
        low, high = config.network.image_range
        # Noise and gradients are measured as if the range were 2, so that settings keep their
        # meaning when the output is a sigmoid.
        self.half_range = (high - low) / 2
        self.probability = config.dataset.augment_probability
        self.steering: AdaptiveProbability | None = None
        if config.dataset.ada_target and inputs.probability is not None:
            self.steering = AdaptiveProbability(
                inputs.probability, config.dataset.ada_target, config.dataset.ada_ramp
            )

    def state(self) -> dict[str, Tensor]:
        """See :meth:`Objective.state`."""
        return {} if self.steering is None else self.steering.state()

    def kind(self, progress: Progress[float]) -> StepKind:
        """See :meth:`Objective.kind`."""
        settings, done = self.settings, progress.steps
        is_due = done % settings.r1_interval == 0
        return StepKind(
            r1=is_due and scheduled(settings.r1_gamma, progress.share) > 0,
            noise=noise_std(settings, progress) > 0,
            generator_loss=generator_loss_kind(settings, done),
        )

    def updates(self, kind: Hashable, progress: Progress[Tensor]) -> Generator[Update, None, None]:
        """See :meth:`Objective.updates`."""
        assert isinstance(kind, StepKind)
        std = None
        if kind.noise:
            std = noise_std(self.settings, progress).to(torch.float32) * self.half_range
        if isinstance(self.probability, Schedule) and self.inputs.probability is not None:
            self.inputs.probability.copy_(scheduled(self.probability, progress.share))
        r_t: list[Tensor] = []
        for _ in range(self.settings.discriminator_steps):
            draws = self.draws.for_discriminator(noise=kind.noise, r1=kind.r1)
            update = self.discriminator_update(draws, std, progress.share)
            r_t.append(update.numbers["r_t"])
            yield update
        generator_draws = self.draws.for_generator(noise=kind.noise)
        # The discriminator's weights need no gradient here; its input does.
        with frozen(self.networks["discriminator"]):
            yield self.generator_update(generator_draws, std, kind.generator_loss)
        if self.steering is not None:
            self.steering.observe(torch.stack(r_t).mean(), progress.share)

    def discriminator_update(
        self, draws: DiscriminatorDraws, std: Tensor | None, share: Tensor
    ) -> Update:
        """Compute the discriminator's loss, how well it tells images apart, and R1.

        R1 is computed only where ``draws`` has random numbers for it.

        Args:
            draws: all random numbers.
            std: 0-dimensional, what the drawn noise is multiplied by; None without noise.
            share: share of the planned run that is done, 0-dimensional float64.
        """
        settings, real_labels = self.settings, self.draws.batches.labels.index_select(0, draws.rows)
        with torch.no_grad(), self.autocast():
            fake = self.run["generator"](draws.latents, draws.labels)
        images = self.inputs.both(draws.rows, draws.mirror, fake, draws.augment, draws.noise, std)
        real_logits, fake_logits = self._logits(images, real_labels, draws.labels)
        loss = discriminator_loss(
            real_logits,
            fake_logits,
            kind=settings.loss,
            label_smoothing=settings.label_smoothing,
        )
        margins = self.margins(real_logits.detach().float(), fake_logits.detach().float())
        real_accuracy, fake_accuracy = (torch.stack(margins) > 0).float().mean(1).unbind()
        numbers = {
            "d_loss": loss.detach(),
            "r_t": margins[0].sign().mean(),
            "d_real_accuracy": real_accuracy,
            "d_fake_accuracy": fake_accuracy,
        }
        if self.steering is not None:
            numbers["augment_p"] = self.steering.probability.clone()
        if draws.r1_augment is not None:
            penalty = self.r1_penalty(draws, real_labels, std)
            numbers["r1"] = penalty.detach()
            gamma = scheduled(settings.r1_gamma, share)
            loss = loss + penalty * lazy_weight(gamma, settings.r1_interval)
        return Update(self.players[1], loss, numbers)

    def margins(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Compute how far logits are on the right side of what is as likely real as generated.

        That side is told by the loss: a critic (wasserstein) has none but the middle between the
        means. The signs of the first are r_t of ADA, in the mean: 1 where the discriminator knows
        every real image for real, 0 where it guesses.

        Args:
            real_logits: (N,) float32.
            fake_logits: (N,) float32.

        Returns:
            (N,) of the real images and (N,) of the generated ones.
        """
        kind, target = self.settings.loss, 1 - self.settings.label_smoothing
        boundary: float | Tensor = 0.0
        if kind == "least_squares":
            boundary = target / 2
        elif kind == "wasserstein":
            boundary = (real_logits.mean() + fake_logits.mean()) / 2
        elif kind in SMOOTHED_KINDS:
            boundary = math.log(target / (2 - target))
        return real_logits - boundary, boundary - fake_logits

    def generator_update(self, draws: GeneratorDraws, std: Tensor | None, kind: LossKind) -> Update:
        """Compute the generator's loss of this kind; ``std`` as in :meth:`discriminator_update`."""
        with self.autocast():
            fake = self.run["generator"](draws.latents, draws.labels)
        images = self.inputs.generated(fake, draws.augment, draws.noise, std)
        with self.autocast():
            logits = self.run["discriminator"](images, draws.labels)
        loss = generator_loss(logits, kind=kind)
        return Update(self.players[0], loss, {"g_loss": loss.detach()})

    def r1_penalty(self, draws: DiscriminatorDraws, labels: Tensor, std: Tensor | None) -> Tensor:
        """Compute E‖∇D(x)‖² over the real images, as the discriminator sees them.

        Args:
            draws: random numbers that include ``r1_augment`` and, for noise, ``r1_noise``.
            labels: (N,), of the real images.
            std: as in :meth:`discriminator_update`.
        """
        assert draws.r1_augment is not None
        real = self.inputs.real(draws.rows, draws.mirror).requires_grad_()
        images = self.inputs.generated(real, draws.r1_augment, draws.r1_noise, std)
        with self.autocast():
            # Never a compiled one: AOTAutograd has no second derivatives.
            logits = self.networks["discriminator"](images, labels)
        return squared_gradient_norm(logits, real, self.half_range)

    def _logits(
        self, images: Tensor, real_labels: Tensor, fake_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of the real images, which come first, and of the generated ones."""
        discriminator, n_real = self.run["discriminator"], len(real_labels)
        with self.autocast():
            if samples_see_each_other(self.networks["discriminator"]):
                # Statistics of a batch must not mix what is real and what is not.
                real, fake = images.split([n_real, len(fake_labels)])
                return discriminator(real, real_labels), discriminator(fake, fake_labels)
            logits = discriminator(images, torch.cat((real_labels, fake_labels)))
        real_logits, fake_logits = logits.split([n_real, len(fake_labels)])
        return real_logits, fake_logits

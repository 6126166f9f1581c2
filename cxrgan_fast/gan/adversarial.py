"""The game of Goodfellow et al. 2014, Algorithm 1, with what has been learned since."""

import math
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cxrgan_fast.augment.adaptive import AdaptiveProbability
from cxrgan_fast.augment.inputs import DiscriminatorInputs
from cxrgan_fast.gan.draws import DiscriminatorDraws, Draws, GeneratorDraws, stream_seeds
from cxrgan_fast.gan.objective import Network, Objective, Player, Update, frozen
from cxrgan_fast.gan.penalties import lazy_weight, resolve_gammas, squared_gradient_norms
from cxrgan_fast.gan.schedules import Progress, generator_loss_kind, noise_std, scheduled
from cxrgan_fast.nn import build_discriminator, build_generator, samples_see_each_other
from cxrgan_fast.ops import discriminator_loss, generator_loss
from cxrgan_fast.ops.adversarial_loss import SMOOTHED_KINDS
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.config import TrainConfig
from cxrgan_fast.settings.game import Loss


@dataclass(frozen=True)
class StepKind:
    """What a step does, as far as it changes which kernels run."""

    r1: bool
    """Whether the R1 penalty is computed."""
    r2: bool
    """Whether the R2 penalty is computed."""
    noise: bool
    """Whether noise is added to the discriminator's images."""
    generator_loss: Loss


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

    numbers: ClassVar[tuple[str, ...]] = (
        "d_loss",
        "r_t",
        "d_real_accuracy",
        "d_fake_accuracy",
        "augment_p",
        "g_loss",
        "r1",
        "r2",
    )
    averaged = "generator"
    paired = False
    """Whether the generated images of the discriminator's update have the real ones' labels."""

    def __init__(
        self,
        config: TrainConfig,
        draws: Draws,
        inputs: DiscriminatorInputs,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        config = resolve_gammas(config)
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
        self.probability = config.dataset.first_probability
        self.steering: AdaptiveProbability | None = None
        if config.dataset.ada_target and inputs.probability is not None:
            self.steering = AdaptiveProbability(
                inputs.probability, config.dataset.ada_target, config.dataset.ada_ramp
            )

    def gammas(self) -> dict[str, float | Schedule]:
        """Return the weight γ of each penalty by its name."""
        r1, r2 = self.settings.r1_gamma, self.settings.r2_gamma
        assert r1 != "auto"  # both are resolved when this is made
        assert r2 != "auto"
        return {"r1": r1, "r2": r2}

    def state(self) -> dict[str, Tensor]:
        """See :meth:`Objective.state`."""
        return {} if self.steering is None else self.steering.state()

    def kind(self, progress: Progress[float]) -> StepKind:
        """See :meth:`Objective.kind`."""
        settings, gammas, done = self.settings, self.gammas(), progress.steps
        penalized = done % settings.r1_interval == 0
        return StepKind(
            r1=penalized and scheduled(gammas["r1"], progress.share) > 0,
            r2=penalized and scheduled(gammas["r2"], progress.share) > 0,
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
            shown = self.draws.for_discriminator(
                noise=kind.noise, r1=kind.r1, r2=kind.r2, paired=self.paired
            )
            update = self.discriminator_update(shown, std, progress.share)
            r_t.append(update.numbers["r_t"])
            yield update
        draws = self.generator_draws(shown, noise=kind.noise)
        # The discriminator's weights need no gradient here; its input does.
        with frozen(self.networks["discriminator"]):
            yield self.generator_update(draws, std, kind.generator_loss)
        if self.steering is not None:
            self.steering.observe(torch.stack(r_t).mean(), progress.share)

    def generator_draws(self, shown: DiscriminatorDraws, *, noise: bool) -> GeneratorDraws:
        """Draw what the generator's update needs.

        Args:
            shown: what the discriminator's last update was drawn; games of pairs use it.
            noise: whether noise is added to the images.
        """
        return self.draws.for_generator(noise=noise)

    def discriminator_update(
        self, draws: DiscriminatorDraws, std: Tensor | None, share: Tensor
    ) -> Update:
        """Compute the discriminator's loss, how well it tells images apart, and its penalties.

        R1 and R2 are computed only where ``draws`` has random numbers for them.

        Args:
            draws: all random numbers.
            std: 0-dimensional, what the drawn noise is multiplied by; None without noise.
            share: share of the planned run that is done, 0-dimensional float64.
        """
        settings, real_labels = self.settings, self.draws.labels_of(draws.rows)
        with torch.no_grad(), self.autocast():
            fake = self.run["generator"](draws.latents, draws.labels)
        images = self.inputs.both(draws.rows, draws.mirror, fake, draws.augment, draws.noise, std)
        real_logits, fake_logits = self._logits(
            self.run["discriminator"], images, (real_labels, draws.labels)
        )
        loss, accuracies = self.judge(real_logits, fake_logits)
        penalties = self.penalties(draws, real_labels, fake, std)
        numbers = {
            "d_loss": loss.detach(),
            **accuracies,
            **{name: penalty.detach() for name, penalty in penalties.items()},
        }
        if self.steering is not None:
            numbers["augment_p"] = self.steering.probability.clone()
        for name, gamma in self.gammas().items():
            if name in penalties:
                weight = lazy_weight(scheduled(gamma, share), settings.r1_interval)
                loss = loss + penalties[name] * weight
        return Update(self.players[1], loss, numbers)

    def judge(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the discriminator's loss, and by name how well it tells real from generated.

        Args:
            real_logits: (N,), of real images.
            fake_logits: (N,), of generated images.
        """
        assert self.settings.loss != "relativistic"
        loss = discriminator_loss(
            real_logits,
            fake_logits,
            kind=self.settings.loss,
            label_smoothing=self.settings.label_smoothing,
        )
        margins = self.margins(real_logits.detach().float(), fake_logits.detach().float())
        real_accuracy, fake_accuracy = (torch.stack(margins) > 0).float().mean(1).unbind()
        return loss, {
            "r_t": margins[0].sign().mean(),
            "d_real_accuracy": real_accuracy,
            "d_fake_accuracy": fake_accuracy,
        }

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

    def generator_update(self, draws: GeneratorDraws, std: Tensor | None, kind: Loss) -> Update:
        """Compute the generator's loss of this kind; ``std`` as in :meth:`discriminator_update`."""
        assert kind != "relativistic"
        with self.autocast():
            fake = self.run["generator"](draws.latents, draws.labels)
        images = self.inputs.generated(fake, draws.augment, draws.noise, std)
        with self.autocast():
            logits = self.run["discriminator"](images, draws.labels)
        loss = generator_loss(logits, kind=kind)
        return Update(self.players[0], loss, {"g_loss": loss.detach()})

    def penalties(
        self, draws: DiscriminatorDraws, real_labels: Tensor, fake: Tensor, std: Tensor | None
    ) -> dict[str, Tensor]:
        """Compute E‖∇D(x)‖² over the real images (r1) and the generated ones (r2), as D sees them.

        Both together take one pass through the discriminator.

        Args:
            draws: random numbers, with those of each penalty that is computed.
            real_labels: (N,), of the real images.
            fake: (N, C, R, R), the generated images, without a gradient.
            std: as in :meth:`discriminator_update`.

        Returns:
            0-dimensional float32 by name, differentiable.
        """
        names, images, labels, uniform, noise = [], [], [], [], []
        if draws.r1_augment is not None:
            names.append("r1")
            images.append(self.inputs.real(draws.rows, draws.mirror))
            labels.append(real_labels)
            uniform.append(draws.r1_augment)
            noise.append(draws.r1_noise)
        if draws.r2_augment is not None:
            names.append("r2")
            images.append(fake.detach())
            labels.append(draws.labels)
            uniform.append(draws.r2_augment)
            noise.append(draws.r2_noise)
        if not names:
            return {}
        shown = torch.cat(images).requires_grad_()
        drawn = [each for each in noise if each is not None]
        seen = self.inputs.generated(
            shown, torch.cat(uniform), torch.cat(drawn) if drawn else None, std
        )
        # Never a compiled one: AOTAutograd has no second derivatives.
        logits = self._logits(self.networks["discriminator"], seen, labels)
        norms = squared_gradient_norms(torch.cat(logits), shown, self.half_range)
        parts = norms.split([len(each) for each in labels])
        return {name: part.mean() for name, part in zip(names, parts, strict=True)}

    def _logits(
        self, discriminator: Network, images: Tensor, labels: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Logits of images of several kinds, as real and generated ones, with labels by kind."""
        sizes = [len(each) for each in labels]
        with self.autocast():
            if samples_see_each_other(self.networks["discriminator"]):
                # Statistics of a batch must not mix what is real and what is not.
                kinds = zip(images.split(sizes), labels, strict=True)
                return tuple(discriminator(seen, of_kind) for seen, of_kind in kinds)
            return discriminator(images, torch.cat(tuple(labels))).split(sizes)

"""One training step: Goodfellow et al. 2014, Algorithm 1, with what has been learnt since.

k discriminator updates, then a generator update and its moving average. Nothing here reads a
value back from the device: losses accumulate there until the loop asks for them.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxrgan_fast.data import EpochSampler, ImageDataset, to_float
from cxrgan_fast.data.diffaugment import diff_augment
from cxrgan_fast.nn import EMA, build_discriminator, build_generator
from cxrgan_fast.ops.adversarial_loss import LossKind, discriminator_loss, generator_loss
from cxrgan_fast.training.config import OptimizerConfig, TrainConfig

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}
METRICS = ("d_loss", "g_loss", "d_real_accuracy", "d_fake_accuracy", "r1")


def make_optimizer(
    config: OptimizerConfig, parameters: Iterator[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """The optimizer of one network; the fused implementations, so that a step is one kernel."""
    params = list(parameters)
    common: dict[str, Any] = {"lr": learning_rate, "weight_decay": config.l2}
    if config.optimizer == "sgd":
        return torch.optim.SGD(params, momentum=config.momentum, fused=True, **common)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(params, alpha=config.beta2, foreach=True, **common)
    adam = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return adam(params, betas=(config.beta1, config.beta2), fused=True, **common)


def noise_std(config: TrainConfig, step: int) -> float:
    """Deviation of the noise on the discriminator's images at ``step`` (from 0)."""
    start, steps = config.objective.noise_std, config.objective.noise_decay_steps
    return start * max(0.0, 1.0 - step / steps) if steps else start


def generator_loss_kind(config: TrainConfig, step: int) -> LossKind:
    """The generator's loss at ``step``: log D(G(z)) is maximised before the saturating loss."""
    early = step < config.objective.early_steps
    return "non_saturating" if early else config.objective.loss


def stream_seeds(seed: int) -> tuple[int, int, int]:
    """Seeds of the initial weights, of the steps and of the sample grid.

    Streams that began with one number would repeat each other: the first latents would be the
    first weights.
    """
    weights, steps, grid = (
        int(child.generate_state(1, np.uint64)[0] >> 1)
        for child in np.random.SeedSequence(seed).spawn(3)
    )
    return weights, steps, grid


class TrainingStep:
    """The networks, their optimizers and one step of their game.

    Args:
        config: Settings, resolved (``precision`` is not "auto").
        dataset: Images and labels; they are moved to ``device`` whole.
        device: Where everything lives. All randomness of the steps comes from one generator of
            this device, and the initial weights from one of the CPU, both seeded by
            ``config.seed``: nothing else that runs in the process changes a training.
    """

    def __init__(self, config: TrainConfig, dataset: ImageDataset, device: torch.device) -> None:
        self.config, self.device = config, device
        n_classes = len(dataset.class_names)
        weights_seed, steps_seed, _ = stream_seeds(config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights_seed)
            generator = build_generator(config.network, n_classes)
            discriminator = build_discriminator(config.network, n_classes)
        to: dict[str, Any] = {"device": device, "memory_format": torch.channels_last}
        self.generator, self.discriminator = generator.to(**to), discriminator.to(**to)
        optim = config.optimization
        self.ema = EMA(self.generator, optim.ema_half_life, optim.ema_ramp or None)
        self.g_optimizer = make_optimizer(optim, self.generator.parameters(), optim.g_lr)
        self.d_optimizer = make_optimizer(optim, self.discriminator.parameters(), optim.d_lr)
        fp16 = config.precision == "fp16"  # bf16 has float32's range and needs no scaling
        self.g_scaler = torch.amp.GradScaler(device.type, enabled=fp16)
        self.d_scaler = torch.amp.GradScaler(device.type, enabled=fp16)

        self.images, self.labels = dataset.images.to(device), dataset.labels.to(device)
        self.sampler = EpochSampler(len(dataset.labels), config.batch_size, config.seed)
        self.random = torch.Generator(device).manual_seed(steps_seed)
        self.value_range = config.network.image_range
        # Noise and gradients are measured as if the range were 2, so that settings keep their
        # meaning when the output is a sigmoid.
        self.half_range = (self.value_range[1] - self.value_range[0]) / 2
        self.sums = torch.zeros(len(METRICS), device=device)  # of METRICS since the last log
        self.counts = torch.zeros(len(METRICS), device=device)
        # The step at which each was first not finite, -1 while it has not been.
        self.first_bad = torch.full((len(METRICS),), -1, dtype=torch.int64, device=device)
        self.step = 0

    def __call__(self) -> None:
        """Do one step."""
        for _ in range(self.config.objective.discriminator_steps):
            self._update_discriminator()
        self._update_generator()
        self.ema.update(self.generator, self.images_seen, self.images_per_step)
        self.step += 1

    @property
    def images_per_step(self) -> int:
        """Real images that a step shows to the discriminator."""
        return self.config.batch_size * self.config.objective.discriminator_steps

    @property
    def images_seen(self) -> int:
        """Real images shown to the discriminator so far."""
        return self.step * self.images_per_step

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision in which the networks run."""
        dtype = AUTOCAST_DTYPE.get(self.config.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def _update_discriminator(self) -> None:
        objective, batch = self.config.objective, self.config.batch_size
        index = self.sampler.next().to(self.device, non_blocking=True)
        real, real_labels = to_float(self.images[index], self.value_range), self.labels[index]
        with torch.no_grad(), self.autocast():
            fake, fake_labels = self._generate()
        # One pass over both: the discriminator has no statistics over the batch.
        images = self._prepare(torch.cat((real, fake)))
        with self.autocast():
            logits = self.discriminator(images, torch.cat((real_labels, fake_labels)))
        real_logits, fake_logits = logits.float().split(batch)
        loss = discriminator_loss(
            real_logits,
            fake_logits,
            kind=objective.loss,
            label_smoothing=objective.label_smoothing,
        )
        self._record("d_loss", loss)
        self._record("d_real_accuracy", (real_logits > 0).float().mean())
        self._record("d_fake_accuracy", (fake_logits < 0).float().mean())
        if objective.r1_gamma and self.step % objective.r1_interval == 0:
            penalty = self._r1_penalty(real, real_labels)
            self._record("r1", penalty)
            loss = loss + penalty * (0.5 * objective.r1_gamma * objective.r1_interval)
        self._descend(self.d_optimizer, self.d_scaler, loss)

    def _update_generator(self) -> None:
        # The discriminator's weights need no gradient here; its input does.
        self.discriminator.requires_grad_(False)
        with self.autocast():
            fake, labels = self._generate()
        images = self._prepare(fake)
        with self.autocast():
            logits = self.discriminator(images, labels)
        loss = generator_loss(logits.float(), kind=generator_loss_kind(self.config, self.step))
        self._record("g_loss", loss)
        self._descend(self.g_optimizer, self.g_scaler, loss)
        self.discriminator.requires_grad_(True)

    def _generate(self) -> tuple[Tensor, Tensor]:
        """A batch of generated images, labelled with the frequencies of the data."""
        batch, device = self.config.batch_size, self.device
        latent_size = self.config.network.latent_size
        latents = torch.randn(batch, latent_size, device=device, generator=self.random)
        drawn = torch.randint(len(self.labels), (batch,), device=device, generator=self.random)
        labels = self.labels[drawn]
        return self.generator(latents, labels), labels

    def _prepare(self, images: Tensor) -> Tensor:
        """What the discriminator sees of ``images``: augmented, with noise."""
        policy, std = self.config.dataset.augment, noise_std(self.config, self.step)
        if policy:
            images = diff_augment(images, policy, self.random, self.value_range)
        if std:
            noise = torch.randn(
                images.shape, device=self.device, dtype=images.dtype, generator=self.random
            )
            images = images + std * self.half_range * noise
        return images

    def _r1_penalty(self, real: Tensor, labels: Tensor) -> Tensor:
        """E‖∇D(x)‖² over the real images (Mescheder et al. 2018, equation 9), in a range of 2."""
        real = real.detach().requires_grad_()
        with self.autocast():
            logits = self.discriminator(self._prepare(real), labels)
        (gradient,) = torch.autograd.grad(logits.float().sum(), real, create_graph=True)
        return (self.half_range * gradient.float()).square().sum((1, 2, 3)).mean()

    def _descend(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, loss: Tensor
    ) -> None:
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def _record(self, name: str, value: Tensor) -> None:
        """Add to the sums of METRICS, and remember the first value that is not finite."""
        which, value = METRICS.index(name), value.detach()
        self.sums[which] += value
        self.counts[which] += 1
        before = self.first_bad[which]
        is_first = ~torch.isfinite(value) & (before < 0)
        self.first_bad[which] = torch.where(is_first, self.step + 1, before)  # steps count from 1

    def read_metrics(self) -> dict[str, float]:
        """Means of METRICS since the last call. Waits for the device."""
        means, counts = (self.sums / self.counts).tolist(), self.counts.tolist()
        self.sums.zero_()
        self.counts.zero_()
        return {name: m for name, m, n in zip(METRICS, means, counts, strict=True) if n}

    def first_non_finite(self) -> tuple[int, str] | None:
        """The step and the name of the first thing that was not finite. Waits for the device.

        Losses are watched at every step; the weights, in which an overflow of the last update
        would hide, when this is called.
        """
        bad = [
            (at, name) for at, name in zip(self.first_bad.tolist(), METRICS, strict=True) if at > 0
        ]
        if bad:
            return min(bad, key=lambda item: item[0])
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            norms = torch._foreach_norm(list(network.parameters()))
            if not torch.isfinite(torch.stack(norms)).all():
                return self.step, f"weights of the {name}"
        return None

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain values."""
        return {
            **{str(name): getattr(self, name).state_dict() for name in _STATEFUL},
            "random": self.random.get_state(),
            "device": self.device.type,
            "sums": self.sums,
            "counts": self.counts,
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``: to the bit on the same machine.

        Another type of device has another generator of random numbers: there the stream begins
        anew, from the seed and the step.
        """
        for name in _STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        if state["device"] == self.device.type:
            self.random.set_state(state["random"].cpu())
        else:
            self.random.manual_seed(stream_seeds(self.config.seed)[1] + state["step"])
        self.sums.copy_(state["sums"])
        self.counts.copy_(state["counts"])
        self.step = state["step"]


_STATEFUL = ("generator", "discriminator", "ema", "g_optimizer", "d_optimizer", "g_scaler",
             "d_scaler", "sampler")  # fmt: skip

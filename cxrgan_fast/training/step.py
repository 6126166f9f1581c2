"""One training step: Goodfellow et al. 2014, Algorithm 1, with what has been learnt since.

k discriminator updates, then a generator update and its moving average. A step is written once and
run by any executor (`cxrgan_fast.training.executors`): between :meth:`TrainingStep.begin` and
:meth:`TrainingStep.end`, which are the host's, :meth:`TrainingStep.body` only queues work. It reads
nothing back from the device, and all that changes from step to step is in tensors that stay where
they are, so that it can be captured as a CUDA graph.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.data import (
    BalancedOrder,
    EpochOrder,
    ImageDataset,
    Order,
    step_images,
)
from cxrgan_fast.nn import EMA, build_discriminator, build_generator
from cxrgan_fast.ops import discriminator_loss, generator_loss
from cxrgan_fast.training.config import TrainConfig
from cxrgan_fast.training.draws import DiscriminatorDraws, GeneratorDraws
from cxrgan_fast.training.inputs import AugmentedBatchs
from cxrgan_fast.training.meters import Meters
from cxrgan_fast.training.optimizers import (
    Scaler,
    load_optimizer_state,
    make_optimizer,
    state_tensors,
)
from cxrgan_fast.training.schedules import StepKind, noise_std_on_device, step_kind

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}

Network = Callable[[Tensor, Tensor], Tensor]


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
        dataset: Images and labels.
        device: Where everything lives. All randomness of the steps comes from one generator of
            this device, and the initial weights from one of the CPU, both seeded by
            ``config.seed``: nothing else that runs in the process changes a training.

    Raises:
        ValueError: the precision is not resolved.

    Attributes:
        run_generator, run_discriminator: What the step calls for its networks: they themselves, or
            what an executor has compiled from them.
    """

    def __init__(self, config: TrainConfig, dataset: ImageDataset, device: torch.device) -> None:
        if config.precision == "auto":
            raise ValueError(
                "precision 'auto' is no precision: expected fp32, bf16 or fp16; resolve_precision "
                "chooses one for a device"
            )
        self.config, self.device = config, device
        self.n_classes = len(dataset.class_names)
        weights_seed, steps_seed, _ = stream_seeds(config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights_seed)
            generator = build_generator(config.network, self.n_classes)
            discriminator = build_discriminator(config.network, self.n_classes)
        # Their weights lie as their layers want them.
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.run_generator: Network = self.generator
        self.run_discriminator: Network = self.discriminator
        optim = config.optimization
        self.ema = EMA(self.generator, optim.ema_half_life, optim.ema_ramp or None)
        self.g_optimizer = make_optimizer(optim, self.generator.parameters(), optim.g_lr, device)
        self.d_optimizer = make_optimizer(
            optim, self.discriminator.parameters(), optim.d_lr, device
        )
        fp16 = config.precision == "fp16"  # bf16 has float32's range and needs no scaling
        self.g_scaler, self.d_scaler = Scaler(device, fp16), Scaler(device, fp16)

        batches = config.objective.discriminator_steps
        self.batches = step_images(
            dataset,
            self._order(dataset),
            config.batch_size,
            batches,
            device,
            config.dataset.resident_share,
        )
        self.labels = dataset.labels.to(device)  # of the whole set, whose frequencies fakes have
        self.random = torch.Generator(device).manual_seed(steps_seed)
        self.value_range = config.network.image_range
        # Noise and gradients are measured as if the range were 2, so that settings keep their
        # meaning when the output is a sigmoid.
        self.half_range = (self.value_range[1] - self.value_range[0]) / 2
        self.inputs = AugmentedBatchs(
            self.batches,
            config.dataset.augment,
            self.value_range,
            AUTOCAST_DTYPE.get(config.precision, torch.float32),
        )
        self.meters = Meters(
            {"generator": self.generator, "discriminator": self.discriminator}, device
        )
        self.clock = torch.zeros((), dtype=torch.int64, device=device)  # steps done, for the step
        self.step = 0  # the same for the host

    def _order(self, dataset: ImageDataset) -> Order:
        if self.config.dataset.class_balance:
            return BalancedOrder(dataset.labels, self.n_classes, self.config.seed)
        return EpochOrder(len(dataset), self.config.seed)

    # --- The host's part ---------------------------------------------------------------------

    def __call__(self) -> None:
        """Do one step, op by op."""
        self.begin()
        self.body(self.kind())
        self.end()

    def begin(self) -> None:
        """Have the images of the next step ready."""
        self.batches.prepare(self.images_seen)

    def end(self) -> None:
        """Count the step that the body has done."""
        self.step += 1

    def kind(self) -> StepKind:
        """The kind of the next step."""
        return step_kind(self.config, self.step)

    @property
    def images_per_step(self) -> int:
        """Real images that a step shows to the discriminator."""
        return self.config.batch_size * self.config.objective.discriminator_steps

    @property
    def images_seen(self) -> int:
        """Real images shown to the discriminator so far."""
        return self.step * self.images_per_step

    # --- The device's part -------------------------------------------------------------------

    def body(self, kind: StepKind) -> None:
        """Queue all of a step's work on the device."""
        noise_std = None
        if kind.noise:
            noise_std = noise_std_on_device(self.config, self.clock) * self.half_range
        updates = range(self.config.objective.discriminator_steps)
        of_discriminator = [self._update_discriminator(kind, noise_std) for _ in updates]
        means = torch.stack(of_discriminator).mean(0)  # (3,) or, with R1, (4,)
        g_loss = self._update_generator(kind, noise_std)
        self.ema.update(self.generator, self.clock * self.images_per_step, self.images_per_step)
        self.clock += 1
        self.meters.record(torch.cat((means[:3], g_loss, means[3:])), self.clock)

    def _update_discriminator(self, kind: StepKind, noise_std: Tensor | None) -> Tensor:
        """Its loss, its accuracy on real and on generated images, and R1 if computed: (3 or 4,)."""
        objective, batch = self.config.objective, self.config.batch_size
        draws = self.draw_for_discriminator(kind)
        real_labels = self.batches.labels.index_select(0, draws.rows)
        with torch.no_grad(), self.autocast():
            fake = self.run_generator(draws.latents, draws.labels)
        # One pass over both: the discriminator has no statistics over the batch.
        images = self.inputs.both(
            draws.rows, draws.mirror, fake, draws.augment, draws.noise, noise_std
        )
        with self.autocast():
            logits = self.run_discriminator(images, torch.cat((real_labels, draws.labels)))
        real_logits, fake_logits = logits.split(batch)
        loss = discriminator_loss(
            real_logits,
            fake_logits,
            kind=objective.loss,
            label_smoothing=objective.label_smoothing,
        )
        with torch.no_grad():
            right = torch.stack((real_logits, -fake_logits)) > 0
            values = [loss.detach().view(1), right.mean(1, dtype=torch.float32)]
        if kind.r1:
            penalty = self._r1_penalty(draws, real_labels, noise_std)
            values.append(penalty.detach().view(1))
            loss = loss + penalty * (0.5 * objective.r1_gamma * objective.r1_interval)
        self._descend(self.d_optimizer, self.d_scaler, loss)
        return torch.cat(values)

    def _update_generator(self, kind: StepKind, noise_std: Tensor | None) -> Tensor:
        """Its loss: (1,)."""
        draws = self.draw_for_generator(kind)
        # The discriminator's weights need no gradient here; its input does.
        self.discriminator.requires_grad_(False)
        try:
            with self.autocast():
                fake = self.run_generator(draws.latents, draws.labels)
            images = self.inputs.generated(fake, draws.augment, draws.noise, noise_std)
            with self.autocast():
                logits = self.run_discriminator(images, draws.labels)
            loss = generator_loss(logits, kind=kind.generator_loss)
            self._descend(self.g_optimizer, self.g_scaler, loss)
        finally:  # a capture that fails in here is followed by the same step, op by op
            self.discriminator.requires_grad_(True)
        return loss.detach().view(1)

    def _r1_penalty(
        self, draws: DiscriminatorDraws, labels: Tensor, noise_std: Tensor | None
    ) -> Tensor:
        """E‖∇D(x)‖² over the real images (Mescheder et al. 2018, equation 9), in a range of 2."""
        assert draws.r1_augment is not None
        real = self.inputs.real(draws.rows, draws.mirror).requires_grad_()
        images = self.inputs.generated(real, draws.r1_augment, draws.r1_noise, noise_std)
        with self.autocast():
            # Never a compiled one: AOTAutograd has no second derivatives.
            logits = self.discriminator(images, labels)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        return (self.half_range * gradient.float()).square().sum((1, 2, 3)).mean()

    def _descend(self, optimizer: torch.optim.Optimizer, scaler: Scaler, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision in which the networks run."""
        dtype = AUTOCAST_DTYPE.get(self.config.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    # --- Randomness --------------------------------------------------------------------------

    def draw_for_discriminator(self, kind: StepKind) -> DiscriminatorDraws:
        """Draw all that an update of the discriminator needs."""
        batch = self.config.batch_size
        latents, labels = self._draw_inputs()
        return DiscriminatorDraws(
            rows=self.batches.next_rows(),
            mirror=self._uniform(batch) < 0.5 if self.config.dataset.mirror else None,
            latents=latents,
            labels=labels,
            augment=self._draw_augment(2 * batch),
            noise=self._draw_noise(kind, 2 * batch),
            r1_augment=self._draw_augment(batch) if kind.r1 else None,
            r1_noise=self._draw_noise(kind, batch) if kind.r1 else None,
        )

    def draw_for_generator(self, kind: StepKind) -> GeneratorDraws:
        """Draw all that an update of the generator needs."""
        batch = self.config.batch_size
        latents, labels = self._draw_inputs()
        return GeneratorDraws(
            latents, labels, self._draw_augment(batch), self._draw_noise(kind, batch)
        )

    def _draw_inputs(self) -> tuple[Tensor, Tensor]:
        """Latents, and labels with the frequencies that the real images are shown with."""
        batch, size = self.config.batch_size, self.config.network.latent_size
        latents = self._normal(batch, size)
        balanced = self.config.dataset.class_balance
        drawn = torch.randint(
            self.n_classes if balanced else len(self.labels),
            (batch,),
            device=self.device,
            generator=self.random,
        )
        return latents, drawn if balanced else self.labels.index_select(0, drawn)

    def _draw_augment(self, n: int) -> Tensor:
        return self._uniform(n, len(self.config.dataset.augment), 2)

    def _draw_noise(self, kind: StepKind, n: int) -> Tensor | None:
        network = self.config.network
        size = network.resolution
        return self._normal(n, network.image_channels, size, size) if kind.noise else None

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, device=self.device, generator=self.random)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, generator=self.random)

    # --- State -------------------------------------------------------------------------------

    def tensors(self) -> list[Tensor]:
        """Every tensor that :meth:`body` changes in place: with ``random``, all of its state."""
        modules = (self.generator, self.discriminator, self.ema.module)
        return [
            *(p.detach() for module in modules for p in module.parameters()),
            *(b for module in modules for b in module.buffers()),
            *state_tensors(self.g_optimizer),
            *state_tensors(self.d_optimizer),
            *self.g_scaler.tensors(),
            *self.d_scaler.tensors(),
            *self.meters.state(),
            *self.batches.state(),
            self.clock,
        ]

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain values."""
        return {
            **{str(name): getattr(self, name).state_dict() for name in _MODULES + _OPTIMIZERS},
            "scalers": [*self.g_scaler.tensors(), *self.d_scaler.tensors()],
            "meters": self.meters.state(),
            "random": self.random.get_state(),
            "device": self.device.type,
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``: to the bit on the same machine.

        Another type of device has another generator of random numbers: there the stream begins
        anew, from the seed and the step.
        """
        for name in _MODULES:
            getattr(self, name).load_state_dict(state[name])
        for name in _OPTIMIZERS:
            load_optimizer_state(getattr(self, name), state[name])
        scalers = [*self.g_scaler.tensors(), *self.d_scaler.tensors()]
        for mine, saved in (
            *zip(scalers, state["scalers"], strict=True),
            *zip(self.meters.state(), state["meters"], strict=True),
        ):
            mine.copy_(saved)
        if state["device"] == self.device.type:
            self.random.set_state(state["random"].cpu())
        else:
            self.random.manual_seed(stream_seeds(self.config.seed)[1] + state["step"])
        self.step = state["step"]
        self.clock.fill_(self.step)


_MODULES = ("generator", "discriminator", "ema")
_OPTIMIZERS = ("g_optimizer", "d_optimizer")

"""One training step: an objective's updates in order, then the moving average.

A step is written once and run by any executor (`cxrgan_fast.training.executors`): between
:meth:`TrainingStep.begin` and :meth:`TrainingStep.end`, which are the host's,
:meth:`TrainingStep.body` only queues work. It reads nothing back from the device, and all that
changes from step to step is in tensors that stay where they are, so that it can be captured as a
CUDA graph.
"""

from collections.abc import Hashable, Iterable
from contextlib import AbstractContextManager, closing
from typing import Any

import torch
from torch import Tensor

from cxrgan_fast.augment.inputs import DiscriminatorInputs
from cxrgan_fast.data import BalancedOrder, EpochOrder, ImageDataset, Order, step_images
from cxrgan_fast.evaluation.generator_now import GeneratorNow
from cxrgan_fast.gan.adversarial import Adversarial
from cxrgan_fast.gan.draws import Draws, stream_seeds
from cxrgan_fast.gan.objective import Objective, Update
from cxrgan_fast.gan.relativistic import Relativistic
from cxrgan_fast.gan.schedules import Progress, scheduled
from cxrgan_fast.nn import EMA
from cxrgan_fast.nn.power_ema import PowerEMA
from cxrgan_fast.settings.config import TrainConfig
from cxrgan_fast.training.meters import Meters
from cxrgan_fast.training.optimizers import (
    Scaler,
    follow_schedules,
    load_optimizer_state,
    make_optimizer,
    scheduled_tensors,
    state_tensors,
)

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingStep:
    """An objective with what its networks learn by: optimizers, moving average, images, clock.

    Args:
        config: Settings, resolved (``precision`` is not "auto").
        dataset: Images and labels.
        device: Where everything lives. All randomness of the steps comes from one generator of
            this device, and the initial weights from one of the CPU, both seeded by
            ``config.seed``: nothing else that runs in the process changes a training.

    Raises:
        ValueError: the precision is not resolved.

    Attributes:
        objective: the game; its networks are those that are trained.
        steps_done: steps so far, as the host counts them.
        clock: the same number on the device, 0-dimensional int64.
        time_share: share of the planned time that has passed, where time limits the run: whoever
            limits it sets it before a step.
        share: share of the planned run that is done before the step at hand, 0-dimensional float64.
    """

    def __init__(self, config: TrainConfig, dataset: ImageDataset, device: torch.device) -> None:
        if config.precision == "auto":
            raise ValueError(
                "precision 'auto' is no precision: expected fp32, bf16 or fp16; resolve_precision "
                "chooses one for a device"
            )
        self.config, self.device = config, device
        self.value_range = config.network.image_range
        self.batches = step_images(
            dataset,
            self._order(dataset),
            config.batch_size,
            config.objective.real_batches,
            device,
            config.dataset.resident_share,
        )
        self.draws = Draws(config, dataset, self.batches, device)
        probability = None
        if not config.dataset.always_augments:
            start = scheduled(config.dataset.first_probability, 0.0)
            probability = torch.tensor(start, dtype=torch.float32, device=device)
        inputs = DiscriminatorInputs(
            self.batches,
            config.dataset.augment,
            self.value_range,
            AUTOCAST_DTYPE.get(config.precision, torch.float32),
            probability,
        )
        game = Relativistic if config.objective.loss == "relativistic" else Adversarial
        self.objective: Objective = game(config, self.draws, inputs, device, self.autocast)
        self.networks = self.objective.networks
        optim = config.optimization
        half_life = scheduled(optim.ema_half_life, 0.0)
        self.ema = EMA(self.networks[self.objective.averaged], half_life, optim.ema_ramp or None)
        self.power_ema: PowerEMA | None = None
        if optim.power_ema_every:
            self.power_ema = PowerEMA(self.networks[self.objective.averaged])
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.scalers: dict[str, Scaler] = {}
        fp16 = config.precision == "fp16"  # bf16 has float32's range and needs no scaling
        for player in self.objective.players:
            taking = [p for p in self.networks[player.network].parameters() if p.requires_grad]
            self.optimizers[player.optimizer] = make_optimizer(
                optim, taking, player.learning_rate, device
            )
            self.scalers[player.optimizer] = Scaler(device, fp16)
        self.meters = Meters(self.objective.numbers, self.networks, device)
        self.clock = torch.zeros((), dtype=torch.int64, device=device)
        self.steps_done = 0
        self.time_share = 0.0
        self.share = torch.zeros((), dtype=torch.float64, device=device)

    def _order(self, dataset: ImageDataset) -> Order:
        if self.config.dataset.class_balance:
            return BalancedOrder(dataset.labels, len(dataset.class_names), self.config.seed)
        return EpochOrder(len(dataset), self.config.seed)

    # --- The host's part ---------------------------------------------------------------------

    def __call__(self) -> None:
        """Do one step, op by op."""
        self.begin()
        self.body(self.kind())
        self.end()

    def begin(self) -> None:
        """Have the images of the next step ready, and how far the run is."""
        per_step = self.config.batch_size * self.config.objective.real_batches
        self.batches.seek(self.steps_done * per_step)
        self.share.fill_(self.progress().share)

    def end(self) -> None:
        """Count the step that the body has done."""
        self.steps_done += 1

    def kind(self) -> Hashable:
        """Return the kind of the next step."""
        return self.objective.kind(self.progress())

    def progress(self) -> Progress[float]:
        """Return how far the run is, by steps or by time, whichever is further."""
        share = max(self.steps_done / self.config.steps, self.time_share)
        return Progress(self.steps_done, min(share, 1.0))

    @property
    def images_per_step(self) -> int:
        """Return how many real images the discriminator learns from in a step."""
        return self.config.batch_size * self.config.objective.discriminator_steps

    @property
    def images_seen(self) -> int:
        """Return how many real images the discriminator has learnt from so far."""
        return self.steps_done * self.images_per_step

    # --- The device's part -------------------------------------------------------------------

    def body(self, kind: Hashable) -> None:
        """Queue all of a step's work on the device."""
        reported: list[dict[str, Tensor]] = []
        for player in self.objective.players:
            optimizer, beta2 = self.optimizers[player.optimizer], self.config.optimization.beta2
            follow_schedules(optimizer, player.learning_rate, beta2, self.share)
        # Closed also when an update fails: what an objective has frozen for it thaws.
        progress = Progress(self.clock, self.share)
        with closing(self.objective.updates(kind, progress)) as updates:
            for update in updates:
                self._descend(update)
                reported.append(update.numbers)
        averaged = self.networks[self.objective.averaged]
        half_life = scheduled(self.config.optimization.ema_half_life, self.share)
        images_seen, new = self.clock * self.images_per_step, self.images_per_step
        self.ema.update(averaged, images_seen, new, half_life)
        if self.power_ema:
            self.power_ema.update(averaged, self.clock)
        self.clock += 1
        self.meters.record(_means(reported), self.clock)

    def _descend(self, update: Update) -> None:
        name = update.player.optimizer
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(update.loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which the networks run in their precision."""
        dtype = AUTOCAST_DTYPE.get(self.config.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def averaged_generator(self) -> GeneratorNow:
        """Return the moving average as it is now, to generate with."""
        return GeneratorNow(
            self.ema.module, self.value_range, self.autocast, self.steps_done, self.images_seen
        )

    # --- State -------------------------------------------------------------------------------

    def tensors(self) -> list[Tensor]:
        """Return all tensors that :meth:`body` changes in place; with ``random``, its state."""
        powers = self.power_ema.modules if self.power_ema else []
        modules = (*self.networks.values(), self.ema.module, *powers)
        return [
            *(p.detach() for module in modules for p in module.parameters()),
            *(b for module in modules for b in module.buffers()),
            *(t for optimizer in self.optimizers.values() for t in state_tensors(optimizer)),
            *(t for optimizer in self.optimizers.values() for t in scheduled_tensors(optimizer)),
            *self._scaler_tensors(),
            *self.objective.state().values(),
            *self.meters.state(),
            *self.batches.state(),
            self.clock,
        ]

    def _scaler_tensors(self) -> list[Tensor]:
        return [tensor for scaler in self.scalers.values() for tensor in scaler.tensors()]

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on, as tensors and plain values."""
        return {
            **{name: network.state_dict() for name, network in self.networks.items()},
            "ema": self.ema.state_dict(),
            **({"power_ema": self.power_ema.state_dict()} if self.power_ema else {}),
            **{name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scalers": self._scaler_tensors(),
            "objective": self.objective.state(),
            "numbers": list(self.meters.names),
            "meters": self.meters.state(),
            "random": self.draws.random.get_state(),
            "device": self.device.type,
            "step": self.steps_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``: to the bit on the same machine.

        Another type of device has another generator of random numbers: there the stream begins
        anew, from the seed and the step.
        """
        for name, network in self.networks.items():
            network.load_state_dict(state[name])
        self.ema.load_state_dict(state["ema"])
        if self.power_ema:
            self.power_ema.load_state_dict(state["power_ema"])
        for name, optimizer in self.optimizers.items():
            load_optimizer_state(optimizer, state[name])
        for name, tensor in self.objective.state().items():
            tensor.copy_(state["objective"][name])
        for mine, saved in (
            *zip(self._scaler_tensors(), state["scalers"], strict=True),
            *zip(self.meters.state(), state["meters"], strict=True),
        ):
            mine.copy_(saved)
        if state["device"] == self.device.type:
            self.draws.random.set_state(state["random"].cpu())
        else:
            self.draws.random.manual_seed(stream_seeds(self.config.seed)[1] + state["step"])
        self.steps_done = state["step"]
        self.clock.fill_(self.steps_done)


def _means(reported: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Each number's mean over the updates that report it."""
    together: dict[tuple[str, ...], list[Tensor]] = {}
    for numbers in reported:
        together.setdefault(tuple(numbers), []).append(torch.stack(list(numbers.values())))
    return {
        name: mean
        for names, rows in together.items()
        for name, mean in zip(names, torch.stack(rows).mean(0).unbind(), strict=True)
    }

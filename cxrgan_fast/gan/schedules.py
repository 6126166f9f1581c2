"""What changes from step to step: as numbers for the host, and as tensors within a step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cxrgan_fast.ops.adversarial_loss import LossKind
from cxrgan_fast.settings.config import TrainConfig


@dataclass(frozen=True)
class StepKind:
    """What a step does, as far as it changes which kernels run: a CUDA graph holds one kind."""

    r1: bool
    """Whether the R1 penalty is computed."""
    noise: bool
    """Whether noise is added to the discriminator's images."""
    generator_loss: LossKind


def step_kind(config: TrainConfig, step: int) -> StepKind:
    """The kind of the step after ``step`` others."""
    objective = config.objective
    return StepKind(
        r1=objective.r1_gamma > 0 and step % objective.r1_interval == 0,
        noise=noise_std(config, step) > 0,
        generator_loss=generator_loss_kind(config, step),
    )


def noise_std(config: TrainConfig, step: int) -> float:
    """Deviation of the noise on the discriminator's images at ``step`` (from 0)."""
    start, steps = config.objective.noise_std, config.objective.noise_decay_steps
    return start * max(0.0, 1.0 - step / steps) if steps else start


def noise_std_on_device(config: TrainConfig, clock: Tensor) -> Tensor:
    """The same from the steps done, a tensor: 0-dimensional float32 on the device of ``clock``."""
    start, steps = config.objective.noise_std, config.objective.noise_decay_steps
    if not steps:
        return torch.full_like(clock, start, dtype=torch.float32)
    return (start * (1.0 - clock.double() / steps).clamp(min=0.0)).to(torch.float32)


def generator_loss_kind(config: TrainConfig, step: int) -> LossKind:
    """The generator's loss at ``step``: log D(G(z)) is maximised before the saturating loss."""
    early = step < config.objective.early_steps
    return "non_saturating" if early else config.objective.loss

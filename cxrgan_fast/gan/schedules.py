"""What changes as a training goes on: each schedule is one function, for the host and the device.

How far the run is comes as numbers on the host, and as 0-dimensional tensors inside a step, so that
a captured CUDA graph reads it anew. The result is of the same kind.
"""

import math
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

import torch
from torch import Tensor

from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.game import Loss, ObjectiveConfig

Steps = TypeVar("Steps", float, Tensor)


@dataclass(frozen=True)
class Progress(Generic[Steps]):
    """How far a run is: numbers on the host, or 0-dimensional tensors on the device.

    Attributes:
        steps: steps done; as a tensor int64.
        share: share of the planned run that is done, from 0 to 1; as a tensor float64.
    """

    steps: Steps
    share: Steps


@overload
def scheduled(value: Schedule, share: Steps) -> Steps: ...
@overload
def scheduled(value: float | Schedule, share: float) -> float: ...
@overload
def scheduled(value: float | Schedule, share: Tensor) -> float | Tensor: ...
def scheduled(value: float | Schedule, share: float | Tensor) -> float | Tensor:
    """Return what a setting is when this share of the planned run is done.

    Args:
        value: the setting; a plain number is returned as it is, on the device too.
        share: from 0 to 1; a number, or a 0-dimensional float64 tensor.

    Returns:
        A number, or for a schedule and a tensor a 0-dimensional float64 tensor.
    """
    if not isinstance(value, Schedule):
        return value
    way = share / value.share
    if isinstance(way, Tensor):
        way = way.clamp(max=1.0)
        if value.shape == "cosine":
            way = 0.5 - 0.5 * torch.cos(math.pi * way)
    else:
        way = min(way, 1.0)
        if value.shape == "cosine":
            way = 0.5 - 0.5 * math.cos(math.pi * way)
    return value.start * (1.0 - way) + value.end * way  # exact at both ends


def linear_decay(start: float, over: int, done: Steps) -> Steps:
    """Fall linearly from ``start`` to 0 over so many steps; stay at ``start`` if they are 0."""
    if not over:
        return start + 0.0 * done
    left = 1.0 - done / over
    if isinstance(left, Tensor):
        return start * left.clamp(min=0.0)
    return start * max(0.0, left)


def noise_std(objective: ObjectiveConfig, progress: Progress[Steps]) -> Steps:
    """Return the standard deviation of the noise on the discriminator's images (range 2)."""
    start, done = objective.noise_std, progress.steps
    if isinstance(start, Schedule):
        return scheduled(start, progress.share)
    if isinstance(done, Tensor):
        done = done.double()
    return linear_decay(start, objective.noise_decay_steps, done)


def generator_loss_kind(objective: ObjectiveConfig, done: float) -> Loss:
    """Return the kind of the generator's loss: non-saturating in the early steps, then as set.

    Args:
        objective: its settings.
        done: the number of steps done.
    """
    return "non_saturating" if done < objective.early_steps else objective.loss

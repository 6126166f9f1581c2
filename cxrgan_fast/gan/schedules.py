"""What changes as a training goes on: each schedule is one function, for the host and the device.

``done`` is the number of steps done: a number, or a 0-dimensional float64 tensor inside a step, so
that a captured CUDA graph reads it anew. The result is of the same kind.
"""

from typing import TypeVar

from torch import Tensor

from cxrgan_fast.settings.config import Loss, ObjectiveConfig

Steps = TypeVar("Steps", float, Tensor)


def linear_decay(start: float, over: int, done: Steps) -> Steps:
    """Fall linearly from ``start`` to 0 over so many steps; stay at ``start`` if they are 0."""
    if not over:
        return start + 0.0 * done
    left = 1.0 - done / over
    if isinstance(left, Tensor):
        return start * left.clamp(min=0.0)
    return start * max(0.0, left)


def noise_std(objective: ObjectiveConfig, done: Steps) -> Steps:
    """Return the standard deviation of the noise on the discriminator's images (range 2)."""
    return linear_decay(objective.noise_std, objective.noise_decay_steps, done)


def generator_loss_kind(objective: ObjectiveConfig, done: int) -> Loss:
    """Return the kind of the generator's loss: non-saturating in the early steps, then as set."""
    return "non_saturating" if done < objective.early_steps else objective.loss

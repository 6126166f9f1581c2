"""An exponential moving average of a generator, which is what gets shown and saved."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """Average of a generator's weights over the images that training has seen.

    After ``half_life_images`` images a weight counts half. With ``ramp`` the half-life is at most
    ``ramp`` times the images seen so far, so that the bad weights of the start are soon forgotten
    (Karras et al. 2021, StyleGAN3).

    Args:
        generator: the module to follow; it is copied.
        half_life_images: images after which a weight counts half, at least 0; 0 follows at once.
        ramp: share of the images seen that bounds the half-life; None for no bound.

    Attributes:
        module: the averaged copy, in evaluation mode, without gradients.

    Raises:
        ValueError: a negative half-life or a ramp that is not positive.
    """

    def __init__(
        self, generator: nn.Module, half_life_images: float, ramp: float | None = 0.05
    ) -> None:
        if not half_life_images >= 0:
            raise ValueError(f"half_life_images must be at least 0, got {half_life_images}")
        if ramp is not None and not ramp > 0:
            raise ValueError(f"ramp must be above 0, or None for no warm-up, got {ramp}")
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.half_life_images = half_life_images
        self.ramp = ramp

    @torch.no_grad()
    def update(
        self,
        generator: nn.Module,
        images_seen: float | Tensor,
        batch_size: int,
        half_life_images: float | Tensor | None = None,
    ) -> None:
        """Take in the generator after one more step. Nothing is read back from the device.

        Args:
            generator: the module that is followed; buffers (running statistics) are copied.
            images_seen: real images that training has shown before this step's; a number, or a
                0-dimensional tensor on the generator's device, as a captured step needs it.
            batch_size: images of this step.
            half_life_images: the half-life of this step, where it changes from step to step; as
                ``images_seen``. None for that of the average.
        """
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(generator.parameters())
        if not isinstance(images_seen, Tensor):
            images_seen = torch.full((), images_seen, device=averages[0].device)
        # a ← (a − w)·decay + w: in place, without a temporary of the weights' size.
        torch._foreach_sub_(averages, weights)
        torch._foreach_mul_(averages, self._decay(images_seen, batch_size, half_life_images))
        torch._foreach_add_(averages, weights)
        buffers = list(self.module.buffers())
        if buffers:
            torch._foreach_copy_(buffers, list(generator.buffers()))

    def _decay(
        self, images_seen: Tensor, batch_size: int, half_life: float | Tensor | None
    ) -> Tensor:
        """What an old weight counts after a step, on the device."""
        if half_life is None:
            half_life = self.half_life_images
        if not isinstance(half_life, Tensor):
            half_life = torch.full_like(images_seen, half_life, dtype=torch.float64)
        if self.ramp is not None:
            half_life = torch.minimum(half_life, images_seen.double() * self.ramp)
        return torch.exp2(-batch_size / half_life).float()  # 0 for a half-life of 0

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and buffers, under the generator's own names."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            RuntimeError: names or shapes of another generator.
        """
        self.module.load_state_dict(state)

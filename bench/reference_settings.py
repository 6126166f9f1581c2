"""The settings of the plain PyTorch reference, and the optimizers that they name.

As all of the reference, this takes nothing from the package: names, meanings and defaults are the
package's, written down anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from bench.reference_networks import NetworkSettings

OPTIONS_WITHOUT_REFERENCE = (
    "minibatch_std",
    "latent_chunks",
    "normalize_latents",
    "scale_residuals",
)


@dataclass(frozen=True)
class Settings(NetworkSettings):
    """All that decides a training; names, meanings and defaults are the package's."""

    batch_size: int = 32
    augment: tuple[str, ...] = ("translation", "cutout")
    mirror: bool = False
    loss: str = "non_saturating"
    discriminator_steps: int = 1
    early_steps: int = 0
    label_smoothing: float = 0.0
    noise_std: float = 0.0
    noise_decay_steps: int = 0
    reuse_real_logits: bool = False
    r1_gamma: float = 1.0
    r2_gamma: float = 0.0
    r1_interval: int = 16
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    g_lr: float = 5e-4
    d_lr: float = 5e-4
    beta1: float = 0.0
    beta2: float = 0.99
    momentum: float = 0.9
    l2: float = 0.0
    ema_half_life: float = 10_000.0
    ema_ramp: float = 0.05

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Settings:
        """Those of ``settings`` that a training has, by the package's flat names.

        Raises:
            ValueError: an option of the networks is on that these have not.
        """
        if on := [name for name in OPTIONS_WITHOUT_REFERENCE if settings.get(name)]:
            raise ValueError(f"the reference has no {', '.join(on)}")
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in settings.items() if name in names})


def make_optimizer(settings: Settings, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    """PyTorch's, in its default implementation."""
    parameters, decay = network.parameters(), settings.l2
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, momentum=settings.momentum, weight_decay=decay)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr, alpha=settings.beta2, weight_decay=decay)
    adam = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return adam(parameters, lr, betas=(settings.beta1, settings.beta2), weight_decay=decay)

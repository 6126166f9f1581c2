"""Networks on top of the ops: generators, discriminators and the generator's moving average."""

from __future__ import annotations

from torch import nn

from cxrgan_fast.nn.conditional_batch_norm import ConditionalBatchNorm2d
from cxrgan_fast.nn.config import NetworkConfig
from cxrgan_fast.nn.ema import EMA
from cxrgan_fast.nn.families import FAMILIES

__all__ = [
    "EMA",
    "ConditionalBatchNorm2d",
    "NetworkConfig",
    "build_discriminator",
    "build_generator",
    "samples_see_each_other",
]


def build_generator(config: NetworkConfig, n_classes: int) -> nn.Module:
    """Build a generator, initialized from torch's global random numbers.

    Its ``forward(latents, labels)`` takes latents (N, latent_size) and labels (N,) int64 in [0, K)
    or class weights (N, K), and gives images (N, image_channels, R, R), float32.

    Args:
        config: the networks' configuration.
        n_classes: K, the number of classes.

    Raises:
        UserError: a configuration that cannot tell that many classes apart.
    """
    config.validate(n_classes)
    return FAMILIES[config.family].generator(config, n_classes)


def build_discriminator(config: NetworkConfig, n_classes: int) -> nn.Module:
    """Build a discriminator, initialized from torch's global random numbers.

    Its ``forward(images, labels)`` takes images (N, image_channels, R, R) and labels (N,) int64 in
    [0, K) or class weights (N, K), and gives logits (N,), float32.

    Args:
        config: the networks' configuration.
        n_classes: K, the number of classes.

    Raises:
        UserError: a configuration that cannot tell that many classes apart.
    """
    config.validate(n_classes)
    return FAMILIES[config.family].discriminator(config, n_classes)


def samples_see_each_other(network: nn.Module) -> bool:
    """Tell whether a network's output for a sample depends on the other samples of its batch.

    A network tells by an attribute of this name; one that does not is taken to have such layers
    (batch normalization, a minibatch's standard deviation).
    """
    return bool(getattr(network, "samples_see_each_other", True))

"""The r3 family: residual networks without normalization (Huang et al. 2024, "R3GAN").

What keeps such networks trainable is their start: in a residual block the last convolution is zero,
and the weights before it are smaller the more blocks there are (Zhang et al. 2019, "Fixup"). Images
begin as a learned basis of 4×4 pixels and end, in the discriminator, in one weight for each channel
and pixel. Sizes change by the filter [1, 2, 1], channels by 1×1 convolutions on the small side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from cxrgan_fast.nn.blocks import LABEL_FEATURES, BiasAct, LabelPlane, normalized, to_image
from cxrgan_fast.nn.config import NetworkConfig
from cxrgan_fast.nn.family import Family, FamilySettings, register
from cxrgan_fast.nn.layers import ClassEmbedding, Conv2d, Linear
from cxrgan_fast.nn.resampling import binomial_downsample, binomial_upsample
from cxrgan_fast.setting import Setting


@dataclass(frozen=True)
class R3Settings(FamilySettings):
    """What only this family has."""

    blocks_per_size: Annotated[int, Setting(least=1, most=128)] = 2
    """Residual blocks at each image size in each network."""
    expansion: Annotated[float, Setting(least=0.125, most=8)] = 2.0
    """Width of the 3x3 convolutions: this many times the channels of their block."""
    group_size: Annotated[int, Setting(least=0, most=1 << 16)] = 16
    """Channels that a 3x3 convolution sees at a time; 0 means all of them (a plain
    convolution)."""


class Block(nn.Module):
    """A residual block, x + conv(act(conv(act(conv(x))))) of 1×1, 3×3 and 1×1, at one size.

    Args:
        config: the networks' configuration.
        channels: C.
        n_blocks: how many the network has.
    """

    def __init__(self, config: NetworkConfig, channels: int, n_blocks: int) -> None:
        super().__init__()
        own = config.own
        assert isinstance(own, R3Settings)
        # With m layers a block, each has to be smaller by L^(-1/(2m - 2)): two of three count.
        gain = config.gain * n_blocks**-0.25
        inner = max(8, round(own.expansion * channels / 8) * 8)
        groups = inner // math.gcd(inner, own.group_size)
        self.conv1 = Conv2d(channels, inner, 1, bias=False, gain=gain)
        self.act1 = BiasAct(inner, config.slope)
        self.conv2 = Conv2d(inner, inner, bias=False, gain=gain, groups=groups)
        self.act2 = BiasAct(inner, config.slope)
        self.conv3 = Conv2d(inner, channels, 1, bias=False, gain=0.0)

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        hidden = self.act1(self.conv1(input))
        return input + self.conv3(self.act2(self.conv2(hidden)))


def blocks_at(config: NetworkConfig, size: int) -> int:
    """Return the number of blocks at ``size`` × ``size`` pixels, in either network."""
    assert isinstance(config.own, R3Settings)
    return config.own.blocks_per_size + (config.extra_layers if size == 8 else 0)


def sizes_of(config: NetworkConfig) -> list[int]:
    """Return the sizes of the features, from 4 pixels to the image's."""
    return [4 << octave for octave in range(int(math.log2(config.resolution)) - 1)]


class Stage(nn.Sequential):
    """The blocks of one size.

    Args:
        config: the networks' configuration.
        size: in pixels.
    """

    def __init__(self, config: NetworkConfig, size: int) -> None:
        n_blocks = sum(blocks_at(config, each) for each in sizes_of(config))
        channels = config.channels_at(size)
        super().__init__(
            *(Block(config, channels, n_blocks) for _ in range(blocks_at(config, size)))
        )


class R3Generator(nn.Module):
    """Latent and label -> image, without statistics over the batch.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
    """

    samples_see_each_other = False

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        super().__init__()
        self.config = config
        channels = config.channels_at(4)
        self.embedding = ClassEmbedding(n_classes, LABEL_FEATURES)
        self.linear = Linear(config.latent_size + LABEL_FEATURES, channels, bias=False)
        self.basis = nn.Parameter(torch.randn(4, 4, channels))
        self.stages = nn.ModuleList()
        self.widenings = nn.ModuleList()  # or narrowings
        for size in sizes_of(config):
            self.widenings.append(_to_channels(channels, config.channels_at(size)))
            channels = config.channels_at(size)
            self.stages.append(Stage(config, size))
        self.to_image = Conv2d(channels, config.image_channels, 1, bias=False)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Generate images.

        Args:
            latents: (N, latent_size).
            labels: (N,) int64 in [0, K), or class weights (N, K), floating, rows summing to 1.

        Returns:
            (N, image_channels, R, R) float32, in ``config.image_range``.
        """
        latents = normalized(self.config, latents)
        embedded = self.embedding(labels).to(latents.dtype)
        weights = self.linear(torch.cat([latents, embedded], dim=1))  # (N, C)
        # (N, 4, 4, C), which lies as channels_last images do.
        x = weights[:, None, None, :] * self.basis.to(weights.dtype)
        x = x.permute(0, 3, 1, 2)
        for size, (widen, stage) in enumerate(zip(self.widenings, self.stages, strict=True)):
            x = widen(x)
            x = stage(x if size == 0 else binomial_upsample(x))
        return to_image(self.config, self.to_image(x))


class R3Discriminator(nn.Module):
    """Image and label -> logit, without statistics over the batch.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
    """

    samples_see_each_other = False

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        super().__init__()
        self.input = LabelPlane(config, n_classes)
        channels = config.channels_at(config.resolution)
        self.from_image = Conv2d(self.input.channels, channels, 1, bias=False)
        self.stages = nn.ModuleList()
        self.widenings = nn.ModuleList()
        for size in reversed(sizes_of(config)):
            self.widenings.append(_to_channels(channels, config.channels_at(size)))
            channels = config.channels_at(size)
            self.stages.append(Stage(config, size))
        self.basis = nn.Parameter(torch.randn(4, 4, channels) / 4)
        self.embedding = None
        features = 1
        if config.conditioning == "projection":
            features = LABEL_FEATURES
            self.embedding = ClassEmbedding(n_classes, features, gain=features**-0.5)
        self.linear = Linear(channels, features, bias=False)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Judge images.

        Args:
            images: (N, image_channels, R, R).
            labels: (N,) int64 in [0, K), or class weights (N, K), floating, rows summing to 1.

        Returns:
            Logits (N,) float32: large for real images of that class.
        """
        x = self.from_image(self.input(images, labels, {}))
        for size, (widen, stage) in enumerate(zip(self.widenings, self.stages, strict=True)):
            x = stage(x if size == 0 else widen(binomial_downsample(x)))
        with torch.autocast(x.device.type, enabled=False):
            # In (h, w, c), the order in which channels_last features already lie.
            x = (x.permute(0, 2, 3, 1).to(self.basis.dtype) * self.basis).sum((1, 2))  # (N, C)
            features = self.linear(x)
            if self.embedding is None:
                return features.squeeze(1)
            return (features * self.embedding(labels)).sum(1)


def _to_channels(in_channels: int, out_channels: int) -> nn.Module:
    if in_channels == out_channels:
        return nn.Identity()
    return Conv2d(in_channels, out_channels, 1, bias=False)


register(Family("r3", R3Generator, R3Discriminator, R3Settings))

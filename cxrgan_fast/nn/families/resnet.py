"""The resnet family: residual generator and projection discriminator (Miyato & Koyama 2018).

Two departures keep the expensive full-resolution layers few. Every resampling convolution is the
exact strided one, with the 1×1 skip on the small side. And the generator's last stage is plain:
one upsampling convolution and the convolution to the image.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from cxrgan_fast.nn.blocks import (
    BiasAct,
    LabelPlane,
    LatentInput,
    LogitHead,
    MinibatchStd,
    norm_act,
    to_image,
)
from cxrgan_fast.nn.config import NetworkConfig
from cxrgan_fast.nn.family import Family, register
from cxrgan_fast.nn.layers import Conv2d, NormalizedWeights, Weights
from cxrgan_fast.ops import bias_leaky_relu


class GeneratorBlock(nn.Module):
    """A residual block, norm-act-conv-norm-act-conv, at twice the size or the same.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
        in_channels: I.
        out_channels: O.
        resample: ``"up"`` doubles the size, None keeps it.
        chunk: how many numbers of the latent the norms get beside the class.
    """

    def __init__(
        self,
        config: NetworkConfig,
        n_classes: int,
        in_channels: int,
        out_channels: int,
        resample: Literal["up"] | None = "up",
        chunk: int = 0,
    ) -> None:
        super().__init__()
        gain = config.gain
        self.resample = resample
        self.norm1 = norm_act(config, in_channels, n_classes, chunk)
        self.conv1 = Conv2d(in_channels, out_channels, resample=resample, bias=False, gain=gain)
        self.norm2 = norm_act(config, out_channels, n_classes, chunk)
        self.conv2 = Conv2d(out_channels, out_channels, bias=False, gain=gain)
        self.skip = (
            nn.Identity()
            if in_channels == out_channels
            else Conv2d(in_channels, out_channels, 1, bias=False)
        )

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        """Map (N, I, H, W) to (N, O, 2H, 2W), or to (N, O, H, W) without resampling."""
        skip = self.skip(input)  # 1×1 convolution and upsampling commute: the small side is cheap
        if self.resample == "up":
            skip = F.interpolate(skip, scale_factor=2, mode="nearest")
        hidden = self.conv1(self.norm1(input, labels))
        return self.conv2(self.norm2(hidden, labels)) + skip


class ResNetGenerator(nn.Module):
    """Latent and label -> image.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
    """

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        super().__init__()
        self.config = config
        n_blocks = int(math.log2(config.resolution)) - 3 + config.extra_layers
        self.input = LatentInput(config, n_classes, n_blocks + 1)
        *chunks, last_chunk = self.input.chunks
        chunk_of = iter(chunks)
        self.blocks = nn.ModuleList()
        channels = config.channels_at(4)
        size = 4
        while size < config.resolution // 2:
            size *= 2
            out_channels = config.channels_at(size)
            self.blocks.append(
                GeneratorBlock(config, n_classes, channels, out_channels, chunk=next(chunk_of))
            )
            channels = out_channels
            for _ in range(config.extra_layers if size == 8 else 0):
                self.blocks.append(
                    GeneratorBlock(config, n_classes, channels, channels, None, next(chunk_of))
                )
        last = config.channels_at(config.resolution)
        self.norm = norm_act(config, channels, n_classes, last_chunk)
        self.enlarge = Conv2d(channels, last, resample="up", bias=False, gain=config.gain)
        self.last_norm = norm_act(config, last, n_classes, last_chunk)
        self.to_image = Conv2d(last, config.image_channels)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Generate images.

        Args:
            latents: (N, latent_size).
            labels: (N,) int64 in [0, K), or class weights (N, K), floating, rows summing to 1.

        Returns:
            (N, image_channels, R, R) float32, in ``config.image_range``.
        """
        x, (*every, last) = self.input(latents, labels)
        for block, labels_of in zip(self.blocks, every, strict=True):
            x = block(x, labels_of)
        x = self.enlarge(self.norm(x, last))
        return to_image(self.config, self.to_image(self.last_norm(x, last)))


class DiscriminatorBlock(nn.Module):
    """A residual block, act-conv-act-conv, at half the size or the same.

    Args:
        config: the networks' configuration.
        in_channels: I.
        out_channels: O.
        hidden_channels: channels between the convolutions.
        resample: ``"down"`` halves the size, None keeps it.
        first: the input is an image, which is not activated.
    """

    def __init__(
        self,
        config: NetworkConfig,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int,
        resample: Literal["down"] | None = "down",
        first: bool = False,
    ) -> None:
        super().__init__()
        gain, spectral_norm = config.gain, config.spectral_norm
        self.resample = resample
        self.slope = config.slope
        self.first = first
        self.scale = math.sqrt(0.5) if config.scale_residuals else 1.0
        self.conv1 = Conv2d(
            in_channels,
            hidden_channels,
            bias=False,
            gain=1.0 if first else gain,
            spectral_norm=spectral_norm,
        )
        self.act = BiasAct(hidden_channels, config.slope)
        self.conv2 = Conv2d(
            hidden_channels,
            out_channels,
            resample=resample,
            gain=gain,
            spectral_norm=spectral_norm,
        )
        self.skip = (
            None
            if in_channels == out_channels
            else Conv2d(in_channels, out_channels, 1, bias=False, spectral_norm=spectral_norm)
        )

    def forward(self, input: Tensor, weights: Weights) -> Tensor:
        """Map (N, I, H, W) to (N, O, H/2, W/2), or to (N, O, H, W) without resampling."""
        hidden = input if self.first else bias_leaky_relu(input, negative_slope=self.slope)
        hidden = self.conv2(self.act(self.conv1(hidden, weights)), weights)
        # Average pooling and 1×1 convolution commute: the small side is cheap.
        skip = F.avg_pool2d(input, 2) if self.resample == "down" else input
        output = hidden + (skip if self.skip is None else self.skip(skip, weights))
        return output if self.scale == 1 else output * self.scale


class ResNetDiscriminator(nn.Module):
    """Image and label -> logit, without statistics over the batch unless ``minibatch_std``.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
    """

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        super().__init__()
        self.samples_see_each_other = config.minibatch_std > 0
        self.spread = MinibatchStd(config.minibatch_std) if config.minibatch_std else None
        self.input = LabelPlane(config, n_classes)
        self.blocks = nn.ModuleList()
        channels = self.input.channels
        size = config.resolution
        while size > 4:
            if size == 8:
                for _ in range(config.extra_layers):
                    self.blocks.append(
                        DiscriminatorBlock(
                            config, channels, channels, hidden_channels=channels, resample=None
                        )
                    )
            out_channels = config.channels_at(size // 2)
            self.blocks.append(
                DiscriminatorBlock(
                    config,
                    channels + (size == 8 and self.spread is not None),
                    out_channels,
                    hidden_channels=config.channels_at(size),
                    first=size == config.resolution,
                )
            )
            channels = out_channels
            size //= 2
        self.act = BiasAct(channels, config.slope)
        self.head = LogitHead(config, n_classes)
        self.normalized_weights = NormalizedWeights(self)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Judge images.

        Args:
            images: (N, image_channels, R, R).
            labels: (N,) int64 in [0, K), or class weights (N, K), floating, rows summing to 1.

        Returns:
            Logits (N,) float32: large for real images of that class.
        """
        weights = self.normalized_weights.by_layer()
        x = self.input(images, labels, weights)
        for number, block in enumerate(self.blocks, 1):
            if number == len(self.blocks) and self.spread is not None:
                x = self.spread(x)
            x = block(x, weights)
        return self.head(self.act(x), labels, weights)


register(Family("resnet", ResNetGenerator, ResNetDiscriminator))

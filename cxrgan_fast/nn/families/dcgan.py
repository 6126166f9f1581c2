"""The dcgan family: plain stacks of convolutions (Radford et al. 2016).

The generator enlarges by 4×4 transposed convolutions, as in the paper, or by nearest neighbour and
a 3×3 convolution, which leaves no checkerboard (Odena et al. 2016). The discriminator has no batch
norm: real and generated images share its batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

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
from cxrgan_fast.nn.family import Family, FamilySettings, register
from cxrgan_fast.nn.layers import Conv2d, NormalizedWeights, StridedConv2d, TransposedConv2d


@dataclass(frozen=True)
class DCGANSettings(FamilySettings):
    """What only this family has."""

    upsampling: Literal["resize", "transposed"] = "resize"
    """How the generator enlarges images: by nearest neighbor and 3x3 convolutions (resize), or by
    4x4 transposed convolutions (transposed)."""


_WITHOUT_WEIGHTS = (BiasAct, MinibatchStd)


class DCGANGenerator(nn.Module):
    """Latent and label -> image.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
    """

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        super().__init__()
        self.config = config
        n_norms = int(math.log2(config.resolution)) - 2 + config.extra_layers
        self.input = LatentInput(config, n_classes, n_norms)
        chunks = iter(self.input.chunks)
        self.norms = nn.ModuleList()
        self.convs = nn.ModuleList()
        channels = config.channels_at(4)
        size = 4
        while size < config.resolution:
            for _ in range(config.extra_layers if size == 8 else 0):
                self.norms.append(norm_act(config, channels, n_classes, next(chunks)))
                self.convs.append(Conv2d(channels, channels, bias=False, gain=config.gain))
            size *= 2
            last = size == config.resolution
            out_channels = config.image_channels if last else config.channels_at(size)
            self.norms.append(norm_act(config, channels, n_classes, next(chunks)))
            self.convs.append(_enlarge(config, channels, out_channels, last))
            channels = out_channels

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Generate images.

        Args:
            latents: (N, latent_size).
            labels: (N,) int64 in [0, K), or class weights (N, K), floating, rows summing to 1.

        Returns:
            (N, image_channels, R, R) float32, in ``config.image_range``.
        """
        x, every = self.input(latents, labels)
        for norm, conv, labels_of in zip(self.norms, self.convs, every, strict=True):
            x = conv(norm(x, labels_of))
        return to_image(self.config, x)


class DCGANDiscriminator(nn.Module):
    """Image and label -> logit, without statistics over the batch unless ``minibatch_std``.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
    """

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        super().__init__()
        self.samples_see_each_other = config.minibatch_std > 0
        self.input = LabelPlane(config, n_classes)
        self.layers = nn.Sequential()
        channels = self.input.channels
        gain = 1.0
        size = config.resolution
        while size > 4:
            for _ in range(config.extra_layers if size == 8 else 0):
                self.layers.append(
                    Conv2d(
                        channels,
                        channels,
                        bias=False,
                        gain=gain,
                        spectral_norm=config.spectral_norm,
                    )
                )
                self.layers.append(BiasAct(channels, config.slope))
            size //= 2
            if size == 4 and config.minibatch_std:
                self.layers.append(MinibatchStd(config.minibatch_std))
                channels += 1
            out_channels = config.channels_at(size)
            self.layers.append(
                StridedConv2d(channels, out_channels, gain=gain, spectral_norm=config.spectral_norm)
            )
            self.layers.append(BiasAct(out_channels, config.slope))
            channels = out_channels
            gain = config.gain
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
        for layer in self.layers:
            # A tuple: PyTorch 2.7 does not compile a union of types.
            x = layer(x) if isinstance(layer, _WITHOUT_WEIGHTS) else layer(x, weights)
        return self.head(x, labels, weights)


def _enlarge(config: NetworkConfig, channels: int, out_channels: int, last: bool) -> nn.Module:
    # Only the image has a bias: the other layers' is in the normalisation after them.
    gain = 1.0 if last else config.gain
    assert isinstance(config.own, DCGANSettings)
    if config.own.upsampling == "transposed":
        return TransposedConv2d(channels, out_channels, bias=last, gain=gain)
    return Conv2d(channels, out_channels, resample="up", bias=last, gain=gain)


register(Family("dcgan", DCGANGenerator, DCGANDiscriminator, DCGANSettings))

"""The networks of the reference GAN, as people write them in plain PyTorch.

They compute what the package's two families compute, resnet (Miyato & Koyama 2018) and dcgan
(Radford et al. 2016), from the usual parts: nn.BatchNorm2d with an nn.Embedding for γ and one for
β, F.leaky_relu, F.interpolate before a convolution and average pooling after it, (C, H, W) order
throughout. Nothing of the package is used; its weights can be taken over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

LABEL_FEATURES = 32  # of the label embedding that joins the latent with conditioning="concat"


@dataclass(frozen=True)
class NetworkSettings:
    """What the two networks look like; names, meanings and defaults are the package's."""

    family: Literal["resnet", "dcgan"] = "resnet"
    resolution: int = 64
    image_channels: int = 1
    latent_size: int = 128
    base_channels: int = 32
    extra_layers: int = 0
    activation: Literal["leaky_relu", "relu"] = "leaky_relu"
    negative_slope: float = 0.2
    output: Literal["tanh", "sigmoid"] = "tanh"
    spectral_norm: bool = False
    conditioning: Literal["projection", "concat"] = "projection"
    generator_norm: Literal["batch", "none"] = "batch"
    upsampling: Literal["resize", "transposed"] = "resize"

    @property
    def slope(self) -> float:
        """Of the activation below zero."""
        return 0.0 if self.activation == "relu" else self.negative_slope

    @property
    def gain(self) -> float:
        """Of a layer after an activation (He et al. 2015)."""
        return nn.init.calculate_gain("leaky_relu", self.slope)

    @property
    def image_range(self) -> tuple[float, float]:
        """Least and greatest pixel value."""
        return (-1.0, 1.0) if self.output == "tanh" else (0.0, 1.0)

    def channels(self, size: int) -> int:
        """Of the layers at ``size`` × ``size`` pixels."""
        base = self.base_channels
        return min(max(64 * base // size, base // 2), 8 * base, max(512, base))


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    bias: bool = False,
    gain: float = 1.0,
    normalized: bool = False,
) -> nn.Module:
    """A convolution: 4×4 ones halve the size, others keep it. Perhaps with spectral norm."""
    stride = 2 if kernel_size == 4 else 1
    padding = (kernel_size - 1) // 2
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
    return initialized(layer, gain / math.sqrt(in_channels * kernel_size**2), normalized)


def initialized(layer: nn.Module, std: float, normalized: bool = False) -> nn.Module:
    """The layer with normal weights, biases of zero, and spectral norm if ``normalized``."""
    for name, parameter in layer.named_parameters():
        if name == "bias":
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=std)
    # Not torch.nn.utils.parametrizations.spectral_norm: its power iteration begins with u, the
    # paper's (Miyato et al. 2018, Algorithm 1) with v.
    return spectral_norm(layer) if normalized else layer


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm with γ and β of each class (de Vries et al. 2017)."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gamma = nn.Embedding(n_classes, channels)
        self.beta = nn.Embedding(n_classes, channels)
        nn.init.ones_(self.gamma.weight)
        nn.init.zeros_(self.beta.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        x = self.norm(x)
        # Autocast leaves embeddings alone: a float32 γ would make all that follows float32.
        gamma = self.gamma(labels)[:, :, None, None].to(x.dtype)
        beta = self.beta(labels)[:, :, None, None].to(x.dtype)
        return gamma * x + beta


class BatchNorm2d(nn.BatchNorm2d):
    """Plain batch norm, which has no use for labels."""

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(x)


class Bias(nn.Module):
    """A bias for each channel, where there is no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x + self.bias[:, None, None].to(x.dtype)


def norm(settings: NetworkSettings, channels: int, n_classes: int) -> nn.Module:
    """What comes before the generator's activations."""
    if settings.generator_norm == "none":
        return Bias(channels)
    if settings.conditioning == "concat":
        return BatchNorm2d(channels)
    return ConditionalBatchNorm2d(channels, n_classes)


class Generator(nn.Module):
    """Latents (N, Z) and labels (N,) -> images (N, C, R, R), float32."""

    def __init__(self, settings: NetworkSettings, n_classes: int) -> None:
        super().__init__()
        in_features = settings.latent_size
        self.embedding = None
        if settings.conditioning == "concat":
            self.embedding = nn.Embedding(n_classes, LABEL_FEATURES)
            in_features += LABEL_FEATURES
        linear = nn.Linear(in_features, 16 * settings.channels(4), bias=False)
        self.linear = initialized(linear, in_features**-0.5)
        body = {"resnet": ResNetGeneratorBody, "dcgan": DCGANGeneratorBody}[settings.family]
        self.body = body(settings, n_classes)
        self.output = nn.Tanh() if settings.output == "tanh" else nn.Sigmoid()

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Generate images."""
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels)], dim=1)
        x = self.linear(latents).view(len(latents), -1, 4, 4)
        return self.output(self.body(x, labels).float())


class ResNetGeneratorBlock(nn.Module):
    """norm-act-(upsample)-conv-norm-act-conv and a skip: (N, I, H, W) -> (N, O, 2H, 2W)."""

    def __init__(
        self,
        settings: NetworkSettings,
        n_classes: int,
        in_channels: int,
        out_channels: int,
        upsample: bool = True,
    ) -> None:
        super().__init__()
        self.upsample, self.slope = upsample, settings.slope
        self.norm1 = norm(settings, in_channels, n_classes)
        self.conv1 = conv(in_channels, out_channels, gain=settings.gain)
        self.norm2 = norm(settings, out_channels, n_classes)
        self.conv2 = conv(out_channels, out_channels, gain=settings.gain)
        self.skip: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.skip = conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """The block's output."""
        h = F.leaky_relu(self.norm1(x, labels), self.slope)
        if self.upsample:
            h = F.interpolate(h, scale_factor=2, mode="nearest")
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        h = self.conv1(h)
        h = self.conv2(F.leaky_relu(self.norm2(h, labels), self.slope))
        return h + self.skip(x)


class ResNetGeneratorBody(nn.Module):
    """Residual blocks and a plain last stage: (N, C, 4, 4) -> (N, image_channels, R, R)."""

    def __init__(self, settings: NetworkSettings, n_classes: int) -> None:
        super().__init__()
        self.slope = settings.slope
        self.blocks = nn.ModuleList()
        channels, size = settings.channels(4), 4
        while size < settings.resolution // 2:
            size *= 2
            wanted = settings.channels(size)
            self.blocks.append(ResNetGeneratorBlock(settings, n_classes, channels, wanted))
            channels = wanted
            for _ in range(settings.extra_layers if size == 8 else 0):
                block = ResNetGeneratorBlock(settings, n_classes, channels, channels, False)
                self.blocks.append(block)
        last = settings.channels(settings.resolution)
        self.norm = norm(settings, channels, n_classes)
        self.enlarge = conv(channels, last, gain=settings.gain)
        self.last_norm = norm(settings, last, n_classes)
        self.to_image = conv(last, settings.image_channels, bias=True)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Images before the last activation."""
        for block in self.blocks:
            x = block(x, labels)
        x = F.leaky_relu(self.norm(x, labels), self.slope)
        x = self.enlarge(F.interpolate(x, scale_factor=2, mode="nearest"))
        return self.to_image(F.leaky_relu(self.last_norm(x, labels), self.slope))


class DCGANGeneratorBody(nn.Module):
    """Norms, activations and enlarging convolutions: (N, C, 4, 4) -> (N, image_channels, R, R)."""

    def __init__(self, settings: NetworkSettings, n_classes: int) -> None:
        super().__init__()
        self.slope = settings.slope
        self.norms, self.upsamples, self.convs = (nn.ModuleList() for _ in range(3))
        channels, size = settings.channels(4), 4
        while size < settings.resolution:
            for _ in range(settings.extra_layers if size == 8 else 0):
                self.norms.append(norm(settings, channels, n_classes))
                self.upsamples.append(nn.Identity())
                self.convs.append(conv(channels, channels, gain=settings.gain))
            size *= 2
            last = size == settings.resolution
            wanted = settings.image_channels if last else settings.channels(size)
            gain = 1.0 if last else settings.gain
            self.norms.append(norm(settings, channels, n_classes))
            if settings.upsampling == "transposed":
                layer = nn.ConvTranspose2d(channels, wanted, 4, 2, 1, bias=last)
                self.upsamples.append(nn.Identity())
                self.convs.append(initialized(layer, gain / math.sqrt(4 * channels)))
            else:
                self.upsamples.append(nn.Upsample(scale_factor=2))
                self.convs.append(conv(channels, wanted, bias=last, gain=gain))
            channels = wanted

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Images before the last activation."""
        for normalize, up, layer in zip(self.norms, self.upsamples, self.convs, strict=True):
            x = layer(up(F.leaky_relu(normalize(x, labels), self.slope)))
        return x


class Discriminator(nn.Module):
    """Images (N, C, R, R) and labels (N,) -> logits (N,), float32."""

    def __init__(self, settings: NetworkSettings, n_classes: int) -> None:
        super().__init__()
        normalized, size = settings.spectral_norm, 16 * settings.channels(4)
        in_channels = settings.image_channels
        self.embedding = self.projection = None
        if settings.conditioning == "concat":
            plane = nn.Embedding(n_classes, settings.resolution**2)
            self.embedding = initialized(plane, 1.0, normalized)
            in_channels += 1
        else:
            vectors = nn.Embedding(n_classes, size)
            self.projection = initialized(vectors, size**-0.5, normalized)
        body = {"resnet": resnet_discriminator_body, "dcgan": dcgan_discriminator_body}
        self.body = body[settings.family](settings, in_channels)
        self.linear = initialized(nn.Linear(size, 1), size**-0.5, normalized)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Judge images."""
        if self.embedding is not None:
            plane = self.embedding(labels).view(len(x), 1, *x.shape[2:])
            x = torch.cat([x, plane], dim=1)
        x = self.body(x).flatten(1)
        logits = self.linear(x).squeeze(1).float()
        if self.projection is not None:
            logits = logits + (self.projection(labels) * x).sum(1)
        return logits


class ResNetDiscriminatorBlock(nn.Module):
    """act-conv-act-conv-(pool) and a skip: (N, I, H, W) -> (N, O, H/2, W/2)."""

    def __init__(
        self,
        settings: NetworkSettings,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        downsample: bool = True,
        first: bool = False,
    ) -> None:
        super().__init__()
        self.first, self.slope = first, settings.slope
        common = {"bias": True, "normalized": settings.spectral_norm}
        gain = 1.0 if first else settings.gain
        self.conv1 = conv(in_channels, hidden_channels, gain=gain, **common)
        self.conv2 = conv(hidden_channels, out_channels, gain=settings.gain, **common)
        self.skip: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.skip = conv(in_channels, out_channels, 1, normalized=settings.spectral_norm)
        self.pool = nn.AvgPool2d(2) if downsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        h = x if self.first else F.leaky_relu(x, self.slope)
        h = self.conv2(F.leaky_relu(self.conv1(h), self.slope))
        return self.pool(h) + self.pool(self.skip(x))


def resnet_discriminator_body(settings: NetworkSettings, channels: int) -> nn.Sequential:
    """Residual blocks from the image to 4×4 pixels, activated."""
    layers: list[nn.Module] = []
    size = settings.resolution
    while size > 4:
        for _ in range(settings.extra_layers if size == 8 else 0):
            block = ResNetDiscriminatorBlock(
                settings, channels, channels, channels, downsample=False
            )
            layers.append(block)
        hidden, wanted = settings.channels(size), settings.channels(size // 2)
        first = size == settings.resolution
        layers.append(ResNetDiscriminatorBlock(settings, channels, hidden, wanted, first=first))
        channels = wanted
        size //= 2
    return nn.Sequential(*layers, Bias(channels), nn.LeakyReLU(settings.slope))


def dcgan_discriminator_body(settings: NetworkSettings, channels: int) -> nn.Sequential:
    """Strided 4×4 convolutions with activations, from the image to 4×4 pixels."""
    layers: list[nn.Module] = []
    normalized, gain = settings.spectral_norm, 1.0
    size = settings.resolution
    while size > 4:
        for _ in range(settings.extra_layers if size == 8 else 0):
            layers.append(conv(channels, channels, bias=True, gain=gain, normalized=normalized))
            layers.append(nn.LeakyReLU(settings.slope))
        size //= 2
        wanted = settings.channels(size)
        layers.append(conv(channels, wanted, 4, bias=True, gain=gain, normalized=normalized))
        layers.append(nn.LeakyReLU(settings.slope))
        channels, gain = wanted, settings.gain
    return nn.Sequential(*layers)

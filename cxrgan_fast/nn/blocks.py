"""What the generators, respectively the discriminators, of the families share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrgan_fast.nn.conditional_batch_norm import ConditionalBatchNorm2d
from cxrgan_fast.nn.config import NetworkConfig
from cxrgan_fast.nn.layers import ClassEmbedding, Linear, Weights
from cxrgan_fast.ops import bias_leaky_relu

LABEL_FEATURES = 32
"""Length of the embedding that joins the latent."""


class BiasAct(nn.Module):
    """A bias for each channel and the activation; labels, if passed, change nothing.

    Args:
        channels: C.
        negative_slope: slope of the activation below 0.
    """

    def __init__(self, channels: int, negative_slope: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.negative_slope = negative_slope

    def forward(self, input: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W), in the dtype of ``input``."""
        return bias_leaky_relu(input, self.bias, negative_slope=self.negative_slope)


def norm_act(config: NetworkConfig, channels: int, n_classes: int) -> nn.Module:
    """Build the generator's normalization and activation, called with images and labels.

    Conditional batch norm with ``conditioning="projection"``, plain batch norm (one class) with
    ``"concat"``, a bias with ``generator_norm="none"``.
    """
    if config.generator_norm == "none":
        return BiasAct(channels, config.slope)
    if config.conditioning == "concat":
        n_classes = 1
    return ConditionalBatchNorm2d(channels, n_classes, negative_slope=config.slope)


class LatentInput(nn.Module):
    """The first layer of a generator: latent (and label) -> features of 4×4 pixels.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
    """

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        super().__init__()
        self.channels = config.channels_at(4)
        in_features = config.latent_size
        self.embedding = None
        if config.conditioning == "concat":
            self.embedding = ClassEmbedding(n_classes, LABEL_FEATURES)
            in_features += LABEL_FEATURES
        self.linear = Linear(in_features, 16 * self.channels, bias=False)

    def forward(self, latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Start a generator's features.

        Args:
            latents: (N, latent_size).
            labels: (N,) int64, or class weights (N, K).

        Returns:
            Features (N, C, 4, 4), channels_last, and the labels for :func:`norm_act`: with
            ``conditioning="concat"``, where the label is spent here, everyone's is 0.
        """
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels).to(latents.dtype)], dim=1)
            labels = torch.zeros(latents.shape[0], dtype=torch.int64, device=latents.device)
        features = self.linear(latents).view(-1, 4, 4, self.channels)
        return features.permute(0, 3, 1, 2), labels


def to_image(config: NetworkConfig, features: Tensor) -> Tensor:
    """Apply the generator's last activation, in float32 whatever the autocast."""
    features = features.float()
    return torch.tanh(features) if config.output == "tanh" else torch.sigmoid(features)


class LabelPlane(nn.Module):
    """The discriminator's input: the images, and with ``conditioning="concat"`` a learned plane.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
    """

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        super().__init__()
        self.embedding = None
        self.channels = config.image_channels
        if config.conditioning == "concat":
            self.embedding = ClassEmbedding(
                n_classes, config.resolution**2, spectral_norm=config.spectral_norm
            )
            self.channels += 1

    def forward(self, images: Tensor, labels: Tensor, weights: Weights) -> Tensor:
        """Map (N, C, R, R) and labels to (N, C or C + 1, R, R), channels_last."""
        if self.embedding is not None:
            plane = self.embedding(labels, weights).view(-1, 1, *images.shape[2:])
            images = torch.cat([images, plane.to(images.dtype)], dim=1)
        # Not contiguous(): with one channel it finds nothing to do, and leaves the strides by which
        # the first convolution would choose the other layout for all that follows.
        return images.to(memory_format=torch.channels_last)


class LogitHead(nn.Module):
    """The last layer of a discriminator: features of 4×4 pixels -> one logit, in float32.

    The features are flattened, not pooled: radiographs are aligned, so where something is says as
    much as what it is. With ``conditioning="projection"`` the inner product with a learned vector
    of the class is added (Miyato & Koyama 2018).

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
    """

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        super().__init__()
        size = 16 * config.channels_at(4)
        self.linear = Linear(size, 1, spectral_norm=config.spectral_norm)
        self.embedding = None
        if config.conditioning == "projection":
            self.embedding = ClassEmbedding(
                n_classes, size, gain=size**-0.5, spectral_norm=config.spectral_norm
            )

    def forward(self, features: Tensor, labels: Tensor, weights: Weights) -> Tensor:
        """Map (N, C, 4, 4) and labels to logits, (N,) float32."""
        with torch.autocast(features.device.type, enabled=False):
            # (h, w, c): the order in which channels_last features already lie.
            features = features.permute(0, 2, 3, 1).flatten(1).to(self.linear.weight.dtype)
            logits = self.linear(features, weights).squeeze(1)
            if self.embedding is not None:
                logits = logits + (self.embedding(labels, weights) * features).sum(1)
        return logits

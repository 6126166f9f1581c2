"""What the generators, respectively the discriminators, of the families share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn.conditional_batch_norm import ConditionalBatchNorm2d
from cxrgan_fast.nn.config import NetworkConfig
from cxrgan_fast.nn.labels import class_rows
from cxrgan_fast.nn.layers import ClassEmbedding, Linear, Weights
from cxrgan_fast.ops import bias_leaky_relu

LABEL_FEATURES = 32
"""Length of the embedding that joins the latent."""
_CHUNK_STD = 0.02  # of the weights by which a part of the latent changes γ and β, at first


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


class MinibatchStd(nn.Module):
    """One more channel: how much the images of a group differ (Karras et al. 2018).

    The standard deviation over the group, of each channel and pixel, averaged over these. It tells
    a discriminator when images are too alike.

    Args:
        group_size: images of a group, at least 1. A batch that it does not divide has groups of the
            next smaller size that does.
    """

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + 1, H, W), in the dtype and layout of ``input``."""
        samples = input.shape[0]
        most = min(self.group_size, max(samples, 1))
        size = next(n for n in range(most, 0, -1) if samples % n == 0)
        # In float32: the square of a difference of float16 may be 0 where the difference is not.
        exact = input.float() if input.element_size() == 2 else input
        groups = exact.unflatten(0, (size, samples // size))  # (size, N / size, C, H, W)
        variance = (groups - groups.mean(0)).square().mean(0)
        spread = (variance + 1e-8).sqrt().mean((1, 2, 3))
        plane = spread.repeat(size)[:, None, None, None].expand(-1, 1, *input.shape[2:])
        return torch.cat([input, plane.to(input.dtype)], dim=1)


def norm_act(config: NetworkConfig, channels: int, n_classes: int, chunk: int = 0) -> nn.Module:
    """Build the generator's normalization and activation, called with images and labels.

    Conditional batch norm with ``conditioning="projection"``, plain batch norm (one class) with
    ``"concat"``, a bias with ``generator_norm="none"``. With ``chunk`` numbers of the latent, these
    are its last classes: class weights that add to γ and β what is linear in them.
    """
    if config.generator_norm == "none":
        return BiasAct(channels, config.slope)
    if config.conditioning == "concat":
        n_classes = 1
    norm = ConditionalBatchNorm2d(channels, n_classes + chunk, negative_slope=config.slope)
    norm.latent_rows = chunk
    if chunk:  # the latent changes little at first
        nn.init.normal_(norm.weight[n_classes:], std=_CHUNK_STD)
        nn.init.normal_(norm.bias[n_classes:], std=_CHUNK_STD)
    return norm


def normalized(config: NetworkConfig, latents: Tensor) -> Tensor:
    """Scale latents (N, Z) to mean square 1, if the configuration says so (Karras et al. 2018)."""
    if not config.normalize_latents:
        return latents
    return latents * (latents.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class LatentInput(nn.Module):
    """The first layer of a generator: latent (and label) -> features of 4×4 pixels.

    Args:
        config: the networks' configuration.
        n_classes: number of classes.
        layers: how many layers get a part of the latent beside the class, with
            ``latent_chunks``.

    Attributes:
        chunks: how many numbers of the latent each of these layers gets.
    """

    def __init__(self, config: NetworkConfig, n_classes: int, layers: int) -> None:
        super().__init__()
        self.config = config
        self.n_classes = 1 if config.conditioning == "concat" else n_classes
        self.channels = config.channels_at(4)
        in_features = config.latent_size
        self.chunks = [0] * layers
        if config.latent_chunks:
            if config.latent_size <= layers:
                raise UserError(
                    f"latent_size should be at least {layers + 1} with latent_chunks, a number for "
                    f"each of as many layers, got {config.latent_size}"
                )
            in_features, *self.chunks = (
                (config.latent_size + place) // (layers + 1) for place in range(layers, -1, -1)
            )
        self.embedding = None
        if config.conditioning == "concat":
            self.embedding = ClassEmbedding(n_classes, LABEL_FEATURES)
            in_features += LABEL_FEATURES
        self.linear = Linear(in_features, 16 * self.channels, bias=False)

    def forward(self, latents: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Start a generator's features.

        Args:
            latents: (N, latent_size).
            labels: (N,) int64, or class weights (N, K).

        Returns:
            Features (N, C, 4, 4), channels_last, and the labels of each layer for
            :func:`norm_act`: with ``conditioning="concat"``, where the label is spent here,
            everyone's is 0; with ``latent_chunks``, class weights and a part of the latent.
        """
        latents = normalized(self.config, latents)
        latents, *chunks = latents.split([latents.shape[1] - sum(self.chunks), *self.chunks], dim=1)
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels).to(latents.dtype)], dim=1)
            labels = torch.zeros(latents.shape[0], dtype=torch.int64, device=latents.device)
        features = self.linear(latents).view(-1, 4, 4, self.channels)
        if self.config.latent_chunks and not labels.is_floating_point():
            labels = class_rows(torch.eye(self.n_classes, device=labels.device), labels)
        every = [
            torch.cat([labels, chunk.to(labels.dtype)], dim=1) if chunk.shape[1] else labels
            for chunk in chunks
        ]
        return features.permute(0, 3, 1, 2), every


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

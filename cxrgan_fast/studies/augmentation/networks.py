"""Networks of the study's classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from cxrgan_fast.metrics.cxr_blocks import Block, centered, conv
from cxrgan_fast.studies.augmentation.libraries import import_for_study

NetworkName = Literal["small", "resnet18", "densenet121"]
NETWORKS: tuple[str, ...] = get_args(NetworkName)

_DIMENSION = 256
_FULL_STEM = 64  # pixels, from which on both convolutions of the stem halve the image


class _Build(Protocol):
    def __call__(
        self, resolution: int, image_channels: int, classes: int, dropout: float
    ) -> nn.Module: ...


class SmallNetwork(nn.Module):
    """A small residual network: the body of the embedded extractor `CxrNetwork`, untrained.

    Images from 64 pixels on are halved five times; below, the first convolution keeps their size.

    Args:
        resolution: height and width of the images.
        image_channels: 1 or 3.
        classes: K.
        dropout: share of the features that is left out in training.
    """

    def __init__(self, resolution: int, image_channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(image_channels, 32, 2 if resolution >= _FULL_STEM else 1),
            conv(32, 48, 2),
            Block(48, 48),
            Block(48, 96, 2),
            Block(96, 96),
            Block(96, 160, 2),
            Block(160, 160),
            conv(160, _DIMENSION, 1),
        )
        self.dropout = dropout
        self.head = nn.Linear(_DIMENSION, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (N, K) of images (N, C, R, R) from 0 to 1."""
        features = self.body(centered(images)).float().mean((2, 3))
        logits: Tensor = self.head(F.dropout(features, self.dropout, self.training))
        return logits


class _Torchvision(nn.Module):
    """A network of torchvision's, with random weights, for images from 0 to 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(centered(images))
        return logits


def _resnet18(resolution: int, image_channels: int, classes: int, dropout: float) -> nn.Module:
    models: Any = import_for_study("torchvision.models")
    network = models.resnet18(weights=None, num_classes=classes)
    network.conv1 = nn.Conv2d(image_channels, 64, 7, 2, 3, bias=False)
    network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)
    return _Torchvision(network)


def _densenet121(resolution: int, image_channels: int, classes: int, dropout: float) -> nn.Module:
    models: Any = import_for_study("torchvision.models")
    network = models.densenet121(weights=None, num_classes=classes)
    network.features.conv0 = nn.Conv2d(image_channels, 64, 7, 2, 3, bias=False)
    network.classifier = nn.Sequential(nn.Dropout(dropout), network.classifier)
    return _Torchvision(network)


_BUILDERS: Mapping[str, _Build] = {
    "small": SmallNetwork,
    "resnet18": _resnet18,
    "densenet121": _densenet121,
}


def build_classifier(
    name: str, resolution: int, image_channels: int, classes: int, dropout: float
) -> nn.Module:
    """Build a classifier with random weights, of torch's generator.

    Args:
        name: "small" (`SmallNetwork`); "resnet18" (He et al. 2016) or "densenet121" (Huang et al.
            2017, as CheXNet took it), which torchvision brings.
        resolution: height and width of the images.
        image_channels: 1 or 3.
        classes: K.
        dropout: share of the last features that is left out in training.

    Returns:
        A network that takes images (N, C, R, R) from 0 to 1 to logits (N, K) float32.

    Raises:
        UserError: torchvision is missing.
    """
    return _BUILDERS[name](resolution, image_channels, classes, dropout)

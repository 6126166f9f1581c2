"""Convolution, linear layer and embedding as the networks use them.

They differ from torch.nn's in three ways: initialisation (He et al. 2015), an optional spectral
norm, and convolutions that resample (``ops.upsample_conv2d``, ``ops.conv2d_downsample``).

A layer normalises its own weight. In a network :class:`NormalizedWeights` does so for all of them
at once, and each layer is called with its part of that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrgan_fast.nn.labels import class_rows
from cxrgan_fast.nn.spectral_norm import SpectralNorm, normalize, owners
from cxrgan_fast.ops import conv2d_downsample, upsample_conv2d
from cxrgan_fast.ops.conv2d import conv2d

Weights: TypeAlias = Mapping[nn.Module, Tensor]
"""The normalised weights of a network by layer; empty without a spectral norm."""


class _Weighted(nn.Module):
    """A module with a weight, perhaps spectrally normalised, and perhaps a bias."""

    def __init__(
        self, shape: tuple[int, ...], fan_in: int, *, gain: float, bias: int, spectral_norm: bool
    ) -> None:
        super().__init__()
        weight = torch.randn(shape) * (gain / math.sqrt(fan_in))
        if weight.dim() == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(bias)) if bias else None
        self.spectral_norm = SpectralNorm(weight) if spectral_norm else None

    def effective_weight(self, weights: Weights | None) -> Tensor:
        """This layer's part of ``weights``, or its own weight, normalised here if it is to be."""
        if weights:
            return weights[self]
        return self.weight if self.spectral_norm is None else self.spectral_norm(self.weight)

    def extra_repr(self) -> str:
        return f"weight={tuple(self.weight.shape)}, bias={self.bias is not None}"


class NormalizedWeights(nn.Module):
    """The spectrally normalised weights of all layers of a network, computed together.

    Args:
        network: a module whose layers are this file's; they stay its own, and are not kept as
            submodules here.
    """

    owners: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # In lists, which nn.Module does not look into: a state dict names each weight once.
        self.layers: list[_Weighted] = []
        self.norms: list[SpectralNorm] = []
        for module in network.modules():
            if isinstance(module, _Weighted) and module.spectral_norm is not None:
                self.layers.append(module)
                self.norms.append(module.spectral_norm)
        self.register_buffer("owners", owners(self.norms) if self.norms else None, persistent=False)

    def by_layer(self) -> Weights:
        """Return each layer's weight; in training after one step of the power iteration."""
        if not self.layers:
            return {}
        weights = [layer.weight for layer in self.layers]
        normalized = normalize(self.norms, weights, self.owners, training=self.training)
        return dict(zip(self.layers, normalized, strict=True))


class Conv2d(_Weighted):
    """A convolution that keeps the size, or doubles or halves it.

    Args:
        in_channels: I.
        out_channels: O.
        kernel_size: odd; 3 where ``resample`` is given.
        resample: ``"up"`` for nearest 2× upsampling before, ``"down"`` for 2×2 average pooling
            after the convolution, None for neither.
        bias: whether there is a bias.
        gain: standard deviation of the weight times √(fan in); 0 for zeros.
        spectral_norm: whether the weight is divided by its largest singular value.
        groups: into how many parts the channels are split, each of which sees only its own inputs;
            1 where ``resample`` is given.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        resample: Literal["up", "down"] | None = None,
        bias: bool = True,
        gain: float = 1.0,
        spectral_norm: bool = False,
        groups: int = 1,
    ) -> None:
        super().__init__(
            (out_channels, in_channels // groups, kernel_size, kernel_size),
            in_channels // groups * kernel_size**2,
            gain=gain,
            bias=out_channels * bias,
            spectral_norm=spectral_norm,
        )
        self.resample = resample
        self.groups = groups
        if resample == "up":  # it lies in memory as upsample_conv2d wants it: (I, 3, 3, O)
            turned = self.weight.detach().transpose(0, 1)
            turned = turned.contiguous(memory_format=torch.channels_last)
            self.weight = nn.Parameter(turned.transpose(0, 1))

    def forward(self, input: Tensor, weights: Weights | None = None) -> Tensor:
        """Map (N, I, H, W) to (N, O, H', W'), in the autocast dtype under autocast."""
        weight = self.effective_weight(weights)
        if self.resample == "up":
            return upsample_conv2d(input, weight, self.bias)
        if self.resample == "down":
            return conv2d_downsample(input, weight, self.bias)
        padding = weight.shape[2] // 2
        if self.groups > 1:
            return conv2d(input, weight, self.bias, padding=padding, groups=self.groups)
        return F.conv2d(input, weight, self.bias, padding=padding)


class StridedConv2d(_Weighted):
    """A 4×4 convolution with stride 2: (N, I, H, W) -> (N, O, H/2, W/2), without bias.

    Args:
        in_channels: I.
        out_channels: O.
        gain: standard deviation of the weight times √(fan in).
        spectral_norm: whether the weight is divided by its largest singular value.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, gain: float, spectral_norm: bool
    ) -> None:
        super().__init__(
            (out_channels, in_channels, 4, 4),
            in_channels * 16,
            gain=gain,
            bias=0,
            spectral_norm=spectral_norm,
        )

    def forward(self, input: Tensor, weights: Weights | None = None) -> Tensor:
        """Convolve, in the autocast dtype under autocast."""
        return F.conv2d(input, self.effective_weight(weights), stride=2, padding=1)


class TransposedConv2d(_Weighted):
    """A 4×4 transposed convolution with stride 2: (N, I, H, W) -> (N, O, 2H, 2W).

    Args:
        in_channels: I.
        out_channels: O.
        bias: whether there is a bias.
        gain: standard deviation of the weight times √(fan in).
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool, gain: float) -> None:
        # Of the 16 weights of an input channel, 4 meet in each output pixel.
        super().__init__(
            (in_channels, out_channels, 4, 4),
            in_channels * 4,
            gain=gain,
            bias=out_channels * bias,
            spectral_norm=False,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Convolve, in the autocast dtype under autocast."""
        return F.conv_transpose2d(input, self.weight, self.bias, stride=2, padding=1)


class Linear(_Weighted):
    """A linear layer: (N, I) -> (N, O).

    Args:
        in_features: I.
        out_features: O.
        bias: whether there is a bias.
        spectral_norm: whether the weight is divided by its largest singular value.
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, spectral_norm: bool = False
    ) -> None:
        super().__init__(
            (out_features, in_features),
            in_features,
            gain=1.0,
            bias=out_features * bias,
            spectral_norm=spectral_norm,
        )

    def forward(self, input: Tensor, weights: Weights | None = None) -> Tensor:
        """Multiply and add, in the autocast dtype under autocast."""
        return F.linear(input, self.effective_weight(weights), self.bias)


class ClassEmbedding(_Weighted):
    """A learned vector for each class; mixtures of classes get mixtures of vectors.

    Args:
        num_classes: K.
        size: C, length of a vector.
        gain: standard deviation of an entry.
        spectral_norm: whether the (K, C) table is divided by its largest singular value.
    """

    def __init__(
        self, num_classes: int, size: int, *, gain: float = 1.0, spectral_norm: bool = False
    ) -> None:
        super().__init__((num_classes, size), 1, gain=gain, bias=0, spectral_norm=spectral_norm)

    def forward(self, labels: Tensor, weights: Weights | None = None) -> Tensor:
        """Embed labels (N,) int64 or class weights (N, K) as (N, C) float32."""
        return class_rows(self.effective_weight(weights), labels)

"""Resampling by the binomial filter [1, 2, 1] of Huang et al. 2024, without parameters.

What lies beyond the image is zero, and the smaller image's pixels lie on the even ones of the
larger image: the two are each other's transposes, up to a factor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def binomial_upsample(input: Tensor) -> Tensor:
    """Upsample to twice the size: between two pixels comes their mean.

    The mean follows its pixel. In the code of Huang et al. it precedes it: the same, mirrored.

    Args:
        input: images (N, C, H, W), any floating dtype.

    Returns:
        (N, C, 2H, 2W) in the dtype of ``input``.
    """
    with torch.autocast(input.device.type, enabled=False):
        wide, kernel = _with_kernel(input, 4 / 16)
        output = F.conv_transpose2d(
            wide, kernel, stride=2, padding=1, output_padding=1, groups=_channels(input)
        )
    return output.to(input.dtype)


def binomial_downsample(input: Tensor) -> Tensor:
    """Average every second pixel with its neighbors, weighted by [1, 2, 1] / 4: half the size.

    Args:
        input: images (N, C, H, W) with even H and W, any floating dtype.

    Returns:
        (N, C, H/2, W/2) in the dtype of ``input``.
    """
    with torch.autocast(input.device.type, enabled=False):
        wide, kernel = _with_kernel(input, 1 / 16)
        output = F.conv2d(wide, kernel, stride=2, padding=1, groups=_channels(input))
    return output.to(input.dtype)


def _with_kernel(input: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The input as it is filtered, and the kernel of every channel, (C, 1, 3, 3)."""
    if input.is_cpu and input.element_size() == 2:
        # A transposed convolution of single channels, which one of the two has as its derivative,
        # takes PyTorch some twenty times as long in 16 bits.
        input = input.float()
    # Made by the device: a constant of the host would have to be copied there.
    row = 2.0 - torch.arange(-1, 2, dtype=input.dtype, device=input.device).abs()
    kernel = scale * row.unsqueeze(1) * row
    return input, kernel.expand(_channels(input), 1, 3, 3)


def _channels(input: Tensor) -> int:
    # A number, where a tracer would have a value: exporters want kernels of a known shape.
    return int(input.shape[1])

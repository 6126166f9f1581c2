"""Between stored bytes and the floating-point range that a network works in."""

import torch
from torch import Tensor


def to_float(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Scale 8-bit pixels to a network's image range.

    Args:
        images: uint8, any shape, usually (N, C, H, W).
        value_range: what 0 and 255 become, (-1, 1) for tanh or (0, 1) for sigmoid.

    Returns:
        float32, the same shape, device and memory format.

    Raises:
        TypeError: `images` is not uint8.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected torch.uint8, got {images.dtype}")
    low, high = value_range
    return images.to(torch.float32).mul_((high - low) / 255).add_(low)


def to_uint8(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Round a network's images to bytes; values outside `value_range` saturate.

    Args:
        images: any floating-point dtype and shape, usually (N, C, H, W).
        value_range: what becomes 0 and 255.

    Returns:
        uint8, the same shape, device and memory format. The inverse of `to_float`.

    Raises:
        TypeError: `images` is not floating point.
    """
    if not images.is_floating_point():
        raise TypeError(f"images: expected a floating-point tensor, got {images.dtype}")
    low, high = value_range
    # float32 first: bfloat16 has 8 bits of mantissa and would round before we do.
    levels = images.detach().to(torch.float32).sub(low).mul_(255 / (high - low))
    return levels.round_().clamp_(0, 255).to(torch.uint8)

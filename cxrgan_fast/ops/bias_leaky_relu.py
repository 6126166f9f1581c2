"""A channel's bias and LeakyReLU in one op, the activation after every convolution without norm."""

from __future__ import annotations

from torch import Tensor

from . import reference
from .checks import check_image, check_negative_slope, check_parameter


def bias_leaky_relu(
    input: Tensor, bias: Tensor | None = None, *, negative_slope: float = 0.2
) -> Tensor:
    """Add a bias to each channel, then LeakyReLU: z = x + bias[c], y = z if z > 0 else slope·z.

    Differentiable twice, as R1 and gradient penalties need (Mescheder et al. 2018).

    Args:
        input: images (N, C, H, W), any floating dtype and layout.
        bias: (C,), float32 or the dtype of ``input``, or None for no bias.
        negative_slope: slope below 0, at least 0; 0 is ReLU.

    Returns:
        (N, C, H, W) in the dtype and layout of ``input``. The sum is rounded once, to that dtype.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or slope.
    """
    check_image("input", input)
    if bias is not None:
        check_parameter("bias", bias, (input.shape[1],), input)
    return reference.bias_leaky_relu(
        input, bias, negative_slope=check_negative_slope(negative_slope)
    )

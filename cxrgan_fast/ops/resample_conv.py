"""Convolutions that resample, each as one strided convolution.

Nearest 2× upsampling repeats every pixel, so a 3×3 convolution over it multiplies the same pixel
by several weights; adding those weights first gives one stride-2 transposed convolution with a
4×4 kernel. Likewise the 2×2 average of a 3×3 convolution is one stride-2 convolution whose 4×4
kernel is the mean of the 3×3 kernel's four one-pixel shifts. Both are exact up to rounding, at
16 multiplications for each channel pair and small pixel instead of 36.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .checks import check_image, check_parameter, shape_of


def _rounded_often() -> tuple[torch.dtype, ...]:
    """Dtypes of which PyTorch, on this CPU, rounds every tap of a transposed convolution's pixel.

    Those are the 16-bit ones for which it has no convolution of its own: it scatters products then.
    """
    try:
        has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # a PyTorch without oneDNN
        has_bfloat16 = False
    return (torch.float16,) if has_bfloat16 else (torch.float16, torch.bfloat16)


_ROUNDED_OFTEN = _rounded_often()


def upsample_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Upsample 2× by nearest neighbor and convolve by 3×3, as one transposed convolution.

    Equals ``conv2d(interpolate(input, scale_factor=2, mode="nearest"), weight, bias, padding=1)``.
    Differentiable any number of times. Under autocast it runs in the autocast dtype.

    Args:
        input: images (N, I, H, W), any floating dtype and layout.
        weight: (O, I, 3, 3), float32 or the dtype of ``input``; the kernel is summed in float32
            and then rounded once.
        bias: (O,), float32 or the dtype of ``input``, or None.

    Returns:
        (N, O, 2H, 2W) in the dtype (without autocast) and layout of ``input``.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape or device.
    """
    _check_arguments(input, weight, bias)
    # conv_transpose2d scatters, so the kernel that gathers is turned round, inputs first. A weight
    # that lies (I, 3, 3, O) in memory is then channels_last all the way, and nothing copies it.
    kernel, bias = _kernel(input, weight.transpose(0, 1), bias, mean=False)  # (I, O, 4, 4)
    kernel = kernel.flip(2, 3)
    if input.is_cpu and kernel.dtype in _ROUNDED_OFTEN:
        dtype, wide = kernel.dtype, None if bias is None else bias.float()
        with torch.autocast("cpu", enabled=False):
            output = F.conv_transpose2d(
                input.to(dtype).float(), kernel.float(), wide, stride=2, padding=1
            )
        return output.to(dtype)
    return F.conv_transpose2d(input, kernel, bias, stride=2, padding=1)


def conv2d_downsample(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a 3×3 convolution with padding 1 and 2×2 average pooling as one strided convolution.

    Equals ``avg_pool2d(conv2d(input, weight, bias, padding=1), 2)``.
    Differentiable any number of times. Under autocast it runs in the autocast dtype.

    Args:
        input: images (N, I, H, W) with even H and W, any floating dtype and layout.
        weight: (O, I, 3, 3), float32 or the dtype of ``input``; the kernel is averaged in float32
            and then rounded once.
        bias: (O,), float32 or the dtype of ``input``, or None.

    Returns:
        (N, O, H/2, W/2) in the dtype (without autocast) and layout of ``input``.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape or device, odd height or width.
    """
    _check_arguments(input, weight, bias)
    height, width = input.shape[2:]
    if height % 2 or width % 2:
        raise ValueError(f"input must have even height and width, got {height}x{width}")
    kernel, bias = _kernel(input, weight, bias, mean=True)
    return F.conv2d(input, kernel, bias, stride=2, padding=1)


def _kernel(
    input: Tensor, weight: Tensor, bias: Tensor | None, mean: bool
) -> tuple[Tensor, Tensor | None]:
    """The sum of the four one-pixel shifts of ``weight`` (·, ·, 3, 3), or their mean: (·, ·, 4, 4).

    It is computed at least in float32 and rounded once, to the dtype that the convolution has.
    """
    if weight.dtype != torch.float64:
        weight = weight.float()
    # Means of 2×2 neighbours, which is what pooling computes: in one pass, and its derivative too.
    # It is told no divisor: exporters to ONNX drop that without a word. 4 is a power of two, so
    # that its product is exact.
    kernel = F.avg_pool2d(weight, 2, stride=1, padding=1)
    if not mean:
        kernel = kernel * 4
    if not input.is_contiguous(memory_format=torch.channels_last):
        kernel = kernel.contiguous()  # a channels_last kernel would turn the output channels_last
    dtype, device = input.dtype, input.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return kernel.to(dtype), None if bias is None else bias.to(dtype)


def _check_arguments(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    check_image("input", input)
    if not isinstance(weight, Tensor) or weight.dim() != 4:
        got = shape_of(weight) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"weight must have shape (O, I, 3, 3), got {got}")
    out_channels = weight.shape[0]
    check_parameter("weight", weight, (out_channels, input.shape[1], 3, 3), input)
    if bias is not None:
        check_parameter("bias", bias, (out_channels,), input)

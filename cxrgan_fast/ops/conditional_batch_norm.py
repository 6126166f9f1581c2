"""Conditional batch normalisation followed by (leaky) ReLU, as one op.

Batch normalisation whose scale and shift depend on the class (de Vries et al. 2017, Miyato &
Koyama 2018), fused with the activation that follows it in every generator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cxrgan_fast.ops.backend import choose_backend

_OP = "conditional_batch_norm_act"
_IMAGE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def conditional_batch_norm_act(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
) -> Tensor:
    """Batch norm with a scale and a shift for each class, then LeakyReLU.

    For channel c over all N·H·W values, with mean μ and biased variance σ²:
    ``z = weight[label, c] · (x − μ) / √(σ² + eps) + bias[label, c]`` and ``y = z if z > 0 else
    negative_slope · z``. Statistics are float32 whatever the image dtype. Differentiable twice
    with respect to input, weight and bias.

    Args:
        input: (N, C, H, W), float32, bfloat16 or float16, contiguous or channels_last (anything
            else is made contiguous). float64 is taken by the reference backend only.
        labels: (N,), int64, each in [0, K). Out of range is an IndexError on the CPU; on a GPU
            that sample's output is NaN.
        weight: (K, C), float32: γ of each class. For one γ a sample pass K = N rows and
            ``labels = arange(N)``.
        bias: (K, C), float32: β of each class.
        running_mean: (C,), float32, updated in place in training; what evaluation normalises with.
        running_var: (C,), float32; the unbiased variance, as in ``nn.BatchNorm2d``.
        training: normalise with the batch's statistics (else with the running ones).
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        negative_slope: slope for z ≤ 0: 0 is ReLU, 1 is no activation at all.

    Returns:
        (N, C, H, W) in the input's dtype and memory layout.

    Raises:
        ValueError: a shape does not fit, running statistics are missing in evaluation, or there is
            a single value per channel in training.
        TypeError: a dtype does not fit.
        IndexError: a label is out of range (CPU).
    """
    _check_arguments(input, labels, weight, bias, running_mean, running_var, training)
    choose_backend(input, _OP)
    return _reference(
        input,
        labels,
        weight,
        bias,
        running_mean,
        running_var,
        training=training,
        momentum=momentum,
        eps=eps,
        negative_slope=negative_slope,
    )


def _check_arguments(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
) -> None:
    if input.dim() != 4:
        raise ValueError(f"{_OP}: input must be (N, C, H, W), got shape {tuple(input.shape)}")
    if input.dtype not in _IMAGE_DTYPES:
        raise TypeError(f"{_OP}: input must be float32, bfloat16 or float16, got {input.dtype}")
    samples, channels = input.shape[:2]
    statistics_dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    if labels.dtype != torch.int64:
        raise TypeError(f"{_OP}: labels must be int64, got {labels.dtype}")
    if labels.shape != (samples,):
        raise ValueError(
            f"{_OP}: labels must be ({samples},), one a sample, got shape {tuple(labels.shape)}"
        )
    if weight.dim() != 2 or weight.shape[1] != channels:
        raise ValueError(
            f"{_OP}: weight must be (K, {channels}), a row a class, got {tuple(weight.shape)}"
        )
    if bias.shape != weight.shape:
        raise ValueError(
            f"{_OP}: bias must have weight's shape {tuple(weight.shape)}, got {tuple(bias.shape)}"
        )
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{_OP}: running_mean and running_var go together, got only one of them")
    named = [("weight", weight), ("bias", bias)]
    if running_mean is not None and running_var is not None:
        for name, statistic in (("running_mean", running_mean), ("running_var", running_var)):
            if statistic.shape != (channels,):
                raise ValueError(
                    f"{_OP}: {name} must be ({channels},), got {tuple(statistic.shape)}"
                )
            named.append((name, statistic))
    elif not training:
        raise ValueError(f"{_OP}: training=False needs running_mean and running_var, got None")
    for name, tensor in named:
        if tensor.dtype != statistics_dtype:
            raise TypeError(f"{_OP}: {name} must be {statistics_dtype}, got {tensor.dtype}")
    for name, tensor in (("labels", labels), *named):
        if tensor.device != input.device:
            raise ValueError(
                f"{_OP}: {name} is on {tensor.device}, input on {input.device}; "
                "move them to one device"
            )
    if training and input.numel() == channels and channels > 0:
        raise ValueError(
            f"{_OP}: training needs more than one value per channel, got input of shape "
            f"{tuple(input.shape)}"
        )


def _reference(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
) -> Tensor:
    x = input.to(weight.dtype)
    if training:
        var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        if running_mean is not None and running_var is not None and input.numel():
            count = input.numel() // input.shape[1]
            with torch.no_grad():
                running_mean.lerp_(mean, momentum)
                running_var.lerp_(var * (count / (count - 1)), momentum)
    else:
        assert running_mean is not None and running_var is not None
        mean, var = running_mean, running_var
    normalised = (x - mean[:, None, None]) * torch.rsqrt(var + eps)[:, None, None]
    gamma = torch.nn.functional.embedding(labels, weight)[:, :, None, None]
    beta = torch.nn.functional.embedding(labels, bias)[:, :, None, None]
    z = gamma * normalised + beta
    return torch.where(z > 0, z, negative_slope * z).to(input.dtype)

"""Each op in plain PyTorch, as its definition reads: what every other backend is tested against.

Arithmetic is float32 whatever the image dtype, or float64 for float64 tensors; outputs have the
dtype of the images, losses are float32 (float64). Arguments are not checked here: the public
functions do that before they come here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which statistics and losses of tensors of ``dtype`` are computed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def batch_statistics(input: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and the biased variance of each channel.

    Args:
        input: images (N, C, H, W).

    Returns:
        ``(mean, var)``, each (C,), float32 (float64 for float64 images).
    """
    x = input.to(accumulation_dtype(input.dtype))
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    return mean, var


@torch.no_grad()
def update_running_statistics(
    running_mean: Tensor,
    running_var: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    count: int,
    momentum: float,
) -> None:
    """Take a batch into the running statistics, in place, as ``nn.BatchNorm2d`` does.

    Args:
        running_mean: (C,), updated.
        running_var: (C,), updated.
        mean: (C,) of the batch.
        var: (C,) of the batch, biased.
        count: M = N·H·W, the number of values a channel has. The running variance takes the
            unbiased variance var·M/(M−1); for M = 1, where that does not exist, the biased one. An
            empty batch (0) changes nothing.
        momentum: weight of the new batch.
    """
    if count == 0:
        return
    unbiased = var * (count / max(count - 1, 1))
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_(unbiased.to(running_var.dtype), momentum)


def normalize_act(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
) -> Tensor:
    """Normalize with given statistics, scale and shift by class, LeakyReLU.

    x̂ = (x−μ)/√(σ²+eps), z = γ[label]·x̂ + β[label], y = z if z > 0 else slope·z.

    Args:
        input: images (N, C, H, W).
        labels: (N,) int64 in [0, K).
        weight: (K, C), γ of each class.
        bias: (K, C), β of each class.
        mean: (C,) μ.
        var: (C,) σ², biased.
        eps: added to the variance.
        negative_slope: slope below 0; 1 leaves the normalisation alone.

    Returns:
        (N, C, H, W) in the dtype and layout of ``input``.
    """
    dtype = accumulation_dtype(input.dtype)
    rstd = torch.rsqrt(var.to(dtype) + eps)
    x_hat = (input.to(dtype) - mean.to(dtype)[:, None, None]) * rstd[:, None, None]
    gamma = weight.to(dtype)[labels][:, :, None, None]  # (N, C, 1, 1)
    beta = bias.to(dtype)[labels][:, :, None, None]
    return F.leaky_relu(gamma * x_hat + beta, negative_slope).to(input.dtype)


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
    """Apply class-conditional batch normalization (de Vries et al. 2017), then LeakyReLU.

    With ``training`` the batch's statistics normalise and the running ones, where given, are
    updated in place; without it the running statistics normalise.

    Args:
        input: images (N, C, H, W).
        labels: (N,) int64 in [0, K).
        weight: (K, C).
        bias: (K, C).
        running_mean: (C,) or None.
        running_var: (C,) or None.
        training: whether the batch's statistics are used.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        negative_slope: slope below 0.

    Returns:
        (N, C, H, W) in the dtype and layout of ``input``.

    Raises:
        ValueError: evaluation without running statistics.
    """
    if training:
        mean, var = batch_statistics(input)
        if running_mean is not None and running_var is not None:
            count = input.shape[0] * input.shape[2] * input.shape[3]
            update_running_statistics(
                running_mean, running_var, mean, var, count=count, momentum=momentum
            )
    elif running_mean is None or running_var is None:
        raise ValueError("running_mean and running_var are needed when training=False, got None")
    else:
        mean, var = running_mean, running_var
    return normalize_act(
        input, labels, weight, bias, mean, var, eps=eps, negative_slope=negative_slope
    )


def statistics(input: Tensor, eps: float) -> Tensor:
    """Compute mean, biased variance (0 and 0 of no values) and 1/√(σ²+eps) by channel, (3, C)."""
    if input.numel() == 0:
        mean = var = input.new_zeros(input.shape[1], dtype=accumulation_dtype(input.dtype))
    else:
        mean, var = batch_statistics(input)
    return torch.stack((mean, var, torch.rsqrt(var + eps)))


def apply(
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    negative_slope: float,
) -> Tensor:
    """Normalize with :func:`statistics`, scale and shift by class, LeakyReLU."""
    _, _, z, _ = _normalized(input, labels, weight, bias, statistics)
    return F.leaky_relu(z, negative_slope).to(input.dtype)


def backward_reduce(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    """Sum the gradients of γ and β, (K, C): Σ d·x̂ and Σ d by class, d = dy·(1 or slope)."""
    x_hat, _, z, classes = _normalized(input, labels, weight, bias, statistics)
    d = grad.to(z.dtype) * torch.where(z > 0, 1.0, negative_slope)
    known = (labels == classes)[:, None]
    grad_weight, grad_bias = (
        torch.zeros_like(weight).index_add(0, classes, each.where(known, 0.0).to(weight.dtype))
        for each in ((d * x_hat).sum((2, 3)), d.sum((2, 3)))  # (N, C)
    )
    return grad_weight, grad_bias


def backward_apply(
    grad: Tensor,
    input: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    count: int,
    negative_slope: float,
) -> Tensor:
    """Compute dx = r·(γ·d − A − x̂·B), A = Σγ·dβ/M and B = Σγ·dγ/M; without these if M is 0."""
    x_hat, gamma, z, _ = _normalized(input, labels, weight, bias, statistics)
    dx = gamma * grad.to(z.dtype) * torch.where(z > 0, 1.0, negative_slope)
    if count > 0:
        # What no sample used has no part in it, though its γ be infinite.
        of_bias, of_weight = (
            torch.where(each != 0, weight * each, 0.0).sum(0)[:, None, None] / count
            for each in (grad_bias, grad_weight)
        )
        dx = dx - of_bias - x_hat * of_weight
    return (statistics[2][:, None, None] * dx).to(input.dtype)


def _normalized(
    input: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x̂, γ of each sample (N, C, 1, 1), z, and labels that index: of no class γ and β are NaN.

    Raises:
        IndexError: a label is out of range (CPU).
    """
    count = weight.shape[0]
    valid = (labels >= 0) & (labels < count)
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and not valid.all():
        sample = int((~valid).nonzero()[0])
        raise IndexError(
            f"labels[{sample}] is {int(labels[sample])}, expected 0 <= label < {count}"
        )
    classes = labels.clamp(0, max(count - 1, 0))
    mean, _, rstd = statistics[:, :, None, None]
    x_hat = (input.to(accumulation_dtype(input.dtype)) - mean) * rstd
    gamma, beta = (
        each[classes].where(valid[:, None], torch.nan)[:, :, None, None] for each in (weight, bias)
    )
    return x_hat, gamma, gamma * x_hat + beta, classes


def bias_leaky_relu(
    input: Tensor, bias: Tensor | None = None, *, negative_slope: float = 0.2, gain: float = 1.0
) -> Tensor:
    """Apply a bias per channel, LeakyReLU and a gain; see the public op of the same name."""
    z = input.to(accumulation_dtype(input.dtype))
    if bias is not None:
        z = z + bias.to(z.dtype).reshape(-1, *(1,) * (input.dim() - 2))
    y = F.leaky_relu(z, negative_slope)
    return (y if gain == 1 else y * gain).to(input.dtype)


def discriminator_loss(
    real_logits: Tensor,
    fake_logits: Tensor,
    *,
    kind: str = "non_saturating",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Compute the discriminator's loss; see the public op of the same name for the formulas."""
    real_dtype, fake_dtype = map(accumulation_dtype, (real_logits.dtype, fake_logits.dtype))
    if kind == "wasserstein":
        return fake_logits.mean(dtype=fake_dtype) - real_logits.mean(dtype=real_dtype)
    real, fake = real_logits.to(real_dtype), fake_logits.to(fake_dtype)
    if kind in ("minimax", "non_saturating"):
        return (_softplus(-real) + label_smoothing * real).mean() + _softplus(fake).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "least_squares":
        return (real - (1 - label_smoothing)).square().mean() / 2 + fake.square().mean() / 2
    raise ValueError(f"kind {kind!r} is unknown")


def generator_loss(fake_logits: Tensor, *, kind: str = "non_saturating") -> Tensor:
    """Compute the generator's loss; see the public op of the same name for the formulas."""
    dtype = accumulation_dtype(fake_logits.dtype)
    if kind in ("hinge", "wasserstein"):
        return -fake_logits.mean(dtype=dtype)
    fake = fake_logits.to(dtype)
    if kind == "minimax":
        return -_softplus(fake).mean()
    if kind == "non_saturating":
        return _softplus(-fake).mean()
    if kind == "least_squares":
        return (fake - 1).square().mean() / 2
    raise ValueError(f"kind {kind!r} is unknown")


def upsample_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Upsample 2× by nearest neighbor, then apply a 3×3 convolution with padding 1."""
    large = F.interpolate(input, scale_factor=2, mode="nearest")
    return F.conv2d(large, weight, bias, padding=1)


def conv2d_downsample(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a 3×3 convolution with padding 1, then 2×2 average pooling."""
    return F.avg_pool2d(F.conv2d(input, weight, bias, padding=1), 2)


def augmented_batch(
    fake: Tensor,
    stored: Tensor | None,
    rows: Tensor | None,
    mirror: Tensor | None,
    translation: Tensor | None,
    cutout: Tensor | None,
    noise: Tensor | None,
    noise_std: Tensor | None,
    value_range: tuple[float, float],
    dtype: torch.dtype,
) -> Tensor:
    """Augment images for a discriminator; see the public op of the same name.

    A row that is out of range makes its sample NaN.
    """
    low, high = value_range
    images = fake.to(accumulation_dtype(fake.dtype))  # (F, C, H, W)
    missing = None
    if stored is not None and rows is not None:
        missing = (rows < 0) | (rows >= len(stored))  # (N,)
        if len(stored):
            pixels = stored[rows.clamp(0, len(stored) - 1)].to(images.dtype)
        else:
            pixels = images.new_zeros((len(rows), *stored.shape[1:]))
        real = pixels * ((high - low) / 255) + low
        if mirror is not None:
            real = torch.where(mirror[:, None, None, None], real.flip(3), real)
        images = torch.cat((real, images))
    center = (low + high) / 2
    height, width = images.shape[2:]
    if translation is not None:
        most = _share(height, 8), _share(width, 8)
        shift = _integers(translation, (-most[0], -most[1]), (2 * most[0] + 1, 2 * most[1] + 1))
        y, x = _coordinates(images, shift)
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
        sample = torch.arange(len(images), device=images.device)[:, None, None]
        y, x = y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]
        moved = images[sample, :, y, x].permute(0, 3, 1, 2)  # (N + F, C, H, W)
        images = torch.where(inside[:, None], moved, center)
    if cutout is not None:
        size = _share(height, 2), _share(width, 2)
        first = _integers(cutout, (-(size[0] // 2), -(size[1] // 2)), (height, width))
        y, x = _coordinates(images, -first)
        hole = ((y >= 0) & (y < size[0]))[:, :, None] & ((x >= 0) & (x < size[1]))[:, None, :]
        images = torch.where(hole[:, None], center, images)
    if missing is not None:
        missing = F.pad(missing, (0, len(fake)))
        images = images.masked_fill(missing[:, None, None, None], torch.nan)
    if noise is not None and noise_std is not None:
        noise, noise_std = noise.detach().to(images.dtype), noise_std.detach().to(images.dtype)
        images = images + noise_std * noise
    return images.to(dtype).to(memory_format=torch.channels_last)


def _share(size: int, parts: int) -> int:
    """A second or an eighth of a size, to the nearest integer, ties to the even one."""
    return (size + parts // 2 - 1 + size // parts % 2) // parts


def _integers(uniform: Tensor, least: tuple[int, int], count: tuple[int, int]) -> Tensor:
    """(N, 2) integers from `least` on, so many of each, from numbers (N, 2) uniform in [0, 1)."""
    columns = [
        # 0.99999994·count may round up.
        (uniform[:, i] * count[i]).long().clamp(0, count[i] - 1) + least[i]
        for i in range(2)
    ]
    return torch.stack(columns, 1)


def _coordinates(images: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, H) and columns (N, W) of the pixels, moved by each sample's shift (N, 2)."""
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[2:])
    return rows + shift[:, :1], columns + shift[:, 1:]


def _softplus(x: Tensor) -> Tensor:
    # F.softplus turns linear above 20, which is 2e-9 off: visible in float64. This is exact.
    return -F.logsigmoid(-x)

"""What the reference GAN optimises: the six adversarial losses, and DiffAugment.

Of plain PyTorch, in the forms that public code has.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def discriminator_loss(real: Tensor, fake: Tensor, kind: str, label_smoothing: float) -> Tensor:
    """Of the logits of real and of generated images."""
    if kind in ("minimax", "non_saturating"):
        bce = F.binary_cross_entropy_with_logits
        targets = torch.full_like(real, 1 - label_smoothing)
        return bce(real, targets) + bce(fake, torch.zeros_like(fake))
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "least_squares":
        target = torch.full_like(real, 1 - label_smoothing)
        return 0.5 * (F.mse_loss(real, target) + F.mse_loss(fake, torch.zeros_like(fake)))
    if kind == "wasserstein":
        return fake.mean() - real.mean()
    if kind == "relativistic":
        return F.softplus(fake.float() - real.float()).mean()
    raise ValueError(f"loss {kind!r} is unknown")


def generator_loss(fake: Tensor, kind: str, real: Tensor | None = None) -> Tensor:
    """Of the logits of generated images, and of real ones where the loss is relativistic."""
    if real is not None:
        return F.softplus(real.float() - fake.float()).mean()
    if kind == "minimax":
        return -F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    if kind == "non_saturating":
        return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
    if kind == "least_squares":
        return 0.5 * F.mse_loss(fake, torch.ones_like(fake))
    if kind in ("hinge", "wasserstein"):
        return -fake.mean()
    raise ValueError(f"loss {kind!r} is unknown")


def diff_augment(
    images: Tensor, policy: Sequence[str], uniform: Tensor, image_range: tuple[float, float]
) -> Tensor:
    """DiffAugment (Zhao et al. 2020) with given random numbers.

    Args:
        images: (N, C, H, W).
        policy: of brightness, contrast, translation and cutout, in the order of application.
        uniform: (N, len(policy), 2), uniform in [0, 1).
        image_range: least and greatest pixel value; uncovered pixels get its centre.
    """
    low, high = image_range
    center = (low + high) / 2
    _, _, height, width = images.shape
    device = images.device
    for number, name in enumerate(policy):
        a, b = uniform[:, number, 0], uniform[:, number, 1]  # (N,) each
        if name == "brightness":
            images = images + (a.view(-1, 1, 1, 1) - 0.5) * (high - low) / 2
        elif name == "contrast":
            mean = images.mean(dim=(1, 2, 3), keepdim=True)
            images = (images - mean) * (a.view(-1, 1, 1, 1) + 0.5) + mean
        else:
            sample = torch.arange(len(images), device=device)[:, None, None]
            if name == "translation":
                # Read from an image with a border of one pixel, in which all that is outside ends.
                rows, columns = round(height / 8), round(width / 8)
                down = whole(a, 2 * rows + 1) - rows
                right = whole(b, 2 * columns + 1) - columns
                y = torch.arange(height, device=device)[:, None] + down[:, None, None]
                x = torch.arange(width, device=device) + right[:, None, None]
                y, x = (y + 1).clamp(0, height + 1), (x + 1).clamp(0, width + 1)
                bordered = F.pad(images, (1, 1, 1, 1), value=center).permute(0, 2, 3, 1)
                images = bordered[sample, y, x].permute(0, 3, 1, 2)
            elif name == "cutout":
                rows, columns = round(height / 2), round(width / 2)
                top, left = whole(a, height) - rows // 2, whole(b, width) - columns // 2
                y = torch.arange(rows, device=device)[:, None] + top[:, None, None]
                x = torch.arange(columns, device=device) + left[:, None, None]
                mask = torch.ones(len(images), height, width, device=device, dtype=images.dtype)
                mask[sample, y.clamp(0, height - 1), x.clamp(0, width - 1)] = 0
                mask = mask.unsqueeze(1)
                images = images * mask + center * (1 - mask)
            else:
                raise ValueError(f"augmentation {name!r} is unknown")
    return images


def whole(uniform: Tensor, count: int) -> Tensor:
    """Integers in [0, count) from numbers in [0, 1)."""
    return (uniform * count).long().clamp(max=count - 1)

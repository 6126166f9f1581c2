"""Penalties on the discriminator's gradient."""

import torch
from torch import Tensor

from cxrgan_fast.settings.config import TrainConfig, override

GAMMA_PER_PIXEL = 0.0002
"""γ·N/R² of the rule for γ: of `train.py` of StyleGAN2-ADA (Karras et al. 2020), whose penalty is
γ/2·E‖∇D‖² of images with a range of 2, too."""


GAMMAS = ("r1_gamma", "r2_gamma")
"""The settings of the weights γ, R1's and R2's."""


def resolve_gammas(config: TrainConfig) -> TrainConfig:
    """Copy settings with each weight γ of a penalty that is "auto" replaced by the rule's number.

    Args:
        config: settings, with the resolution and the batch size that the rule goes by.
    """
    number = GAMMA_PER_PIXEL * config.network.resolution**2 / config.batch_size
    return override(config, dict.fromkeys(automatic_gammas(config), number))


def automatic_gammas(config: TrainConfig) -> list[str]:
    """Return the names of the weights γ that are "auto"."""
    return [name for name in GAMMAS if getattr(config.objective, name) == "auto"]


def lazy_weight(gamma: float | Tensor, interval: int) -> float | Tensor:
    """Return γ/2, what a penalty counts, for one that is computed only every so many steps.

    Args:
        gamma: γ; of a schedule a 0-dimensional float64 tensor.
        interval: steps from one computation to the next, by which the weight is multiplied (Karras
            et al. 2020, "lazy regularization").

    Returns:
        A number for a number, else 0-dimensional float32.
    """
    weight = 0.5 * gamma * interval
    return weight.to(torch.float32) if isinstance(weight, Tensor) else weight


def squared_gradient_norms(logits: Tensor, images: Tensor, half_range: float) -> Tensor:
    """Compute ‖∇D(x)‖² of each image.

    Its mean over real images is the R1 penalty without its weight, its mean over generated images
    the R2 penalty (Mescheder et al. 2018, eq. 9).

    Args:
        logits: (N,), each a function of its own image.
        images: (N, C, H, W), which the logits were computed from.
        half_range: half of the images' range. Gradients are measured as if the range were 2, so
            that the weight keeps its meaning when the output is a sigmoid.

    Returns:
        (N,) float32, differentiable.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return (half_range * gradient.float()).square().sum((1, 2, 3))

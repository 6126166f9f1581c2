"""Penalties on the discriminator's gradient."""

import torch
from torch import Tensor


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

"""Everything random in a training step, drawn before it is used.

A step is then a pure function of its draws: torch.compile, which cannot take a ``torch.Generator``
into its graph, runs the rest, and another program can be given the same numbers.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class DiscriminatorDraws:
    """What one update of the discriminator needs; N is the batch size, P the number of policies."""

    rows: Tensor
    """(N,) int64: the real images, as rows of the step's images and labels."""
    mirror: Tensor | None
    """(N,) bool: which of the real images are flipped left-right."""
    latents: Tensor
    """(N, latent_size), standard normal."""
    labels: Tensor
    """(N,) int64: classes of the generated images."""
    augment: Tensor
    """(2N, P, 2), uniform in [0, 1): DiffAugment of the real and then the generated images."""
    noise: Tensor | None
    """(2N, C, R, R), standard normal, or None without noise."""
    r1_augment: Tensor | None
    """(N, P, 2), as ``augment``, for the pass over the real images that the R1 penalty takes."""
    r1_noise: Tensor | None
    """(N, C, R, R), as ``noise``, for the same."""


@dataclass(frozen=True)
class GeneratorDraws:
    """What the update of the generator needs."""

    latents: Tensor
    """(N, latent_size), standard normal."""
    labels: Tensor
    """(N,) int64: classes of the generated images."""
    augment: Tensor
    """(N, P, 2), uniform in [0, 1)."""
    noise: Tensor | None
    """(N, C, R, R), standard normal, or None without noise."""

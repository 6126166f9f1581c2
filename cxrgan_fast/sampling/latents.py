"""Latents that depend on the seed, the class and the index of an image, and on nothing else."""

import hashlib

import numpy as np
import torch
from torch import Tensor

LEAST_TRUNCATION = 0.01
"""Standard deviations: one number in 125 is as small, and is soon drawn."""


def latents_for(
    seed: int, class_name: str, indices: range, latent_size: int, truncation: float | None = None
) -> Tensor:
    """Draw the latents of some images of a class.

    Each depends on the seed, the class's name and the image's index and on nothing else: not on
    how many are drawn, in which order, or which other classes there are.

    Args:
        seed: random seed.
        class_name: name of the class.
        indices: which images of the class.
        latent_size: numbers of a latent.
        truncation: numbers farther from 0 than this, in standard deviations, are drawn again until
            none is (Brock et al. 2019, the truncation trick of BigGAN): the images come nearer to
            the typical ones and differ less. None draws none again.

    Returns:
        (len(indices), latent_size) float32, standard normal, or truncated, on the CPU.
    """
    latents = np.empty((len(indices), latent_size), np.float32)
    for row, index in zip(latents, indices, strict=True):
        digest = hashlib.sha256(f"{seed}/{index}/{class_name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        rng.standard_normal(dtype=np.float32, out=row)
        while truncation is not None and (beyond := np.abs(row) > truncation).any():
            row[beyond] = rng.standard_normal(beyond.sum(), dtype=np.float32)
    return torch.from_numpy(latents)

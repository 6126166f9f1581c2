"""Everything random in a training step, drawn before it is used.

A step is then a pure function of its draws: torch.compile, which cannot take a ``torch.Generator``
into its graph, runs the rest, and another program can be given the same numbers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.augment.diffaugment import numbers_of_a_change
from cxrgan_fast.data import ImageDataset, StepImages
from cxrgan_fast.settings.config import TrainConfig


def stream_seeds(seed: int) -> tuple[int, int, int]:
    """Derive the seeds of the initial weights, of the steps and of the sample grid.

    Streams that began with one number would repeat each other: the first latents would be the
    first weights.
    """
    weights, steps, grid = (
        int(child.generate_state(1, np.uint64)[0] >> 1)
        for child in np.random.SeedSequence(seed).spawn(3)
    )
    return weights, steps, grid


@dataclass(frozen=True)
class DiscriminatorDraws:
    """What one update of the discriminator needs.

    N is the batch size, P the number of policies, K the numbers that each change of an image takes:
    2, or 3 where it is made with a probability.
    """

    rows: Tensor
    """(N,) int64: the real images, as rows of the step's images and labels."""
    mirror: Tensor | None
    """(N,) bool: which of the real images are flipped left-right."""
    latents: Tensor
    """(N, latent_size), standard normal."""
    labels: Tensor
    """(N,) int64: classes of the generated images."""
    augment: Tensor
    """(2N, P, K), uniform in [0, 1): DiffAugment of the real and then the generated images."""
    noise: Tensor | None
    """(2N, C, R, R), standard normal, or None without noise."""
    r1_augment: Tensor | None
    """(N, P, K), as ``augment``, for the pass over the real images that the R1 penalty takes."""
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
    """(N, P, K), uniform in [0, 1)."""
    noise: Tensor | None
    """(N, C, R, R), standard normal, or None without noise."""


class Draws:
    """Draws all that updates need, from one generator of random numbers.

    Args:
        config: the settings.
        dataset: what is trained on; generated images have its frequencies of the classes.
        batches: gives the real images.
        device: where the numbers are drawn.

    Attributes:
        random: the generator, seeded by ``config.seed``.
    """

    def __init__(
        self, config: TrainConfig, dataset: ImageDataset, batches: StepImages, device: torch.device
    ) -> None:
        self.config, self.batches, self.device = config, batches, device
        self.n_classes = len(dataset.class_names)
        self.labels = dataset.labels.to(device)  # of the whole set
        self.random = torch.Generator(device).manual_seed(stream_seeds(config.seed)[1])

    def for_discriminator(self, *, noise: bool, r1: bool) -> DiscriminatorDraws:
        """Draw all that an update of the discriminator needs.

        Args:
            noise: whether noise is added to the images.
            r1: whether the R1 penalty is computed.
        """
        batch = self.config.batch_size
        latents, labels = self._inputs()
        return DiscriminatorDraws(
            rows=self.batches.next_rows(),
            mirror=self._uniform(batch) < 0.5 if self.config.dataset.mirror else None,
            latents=latents,
            labels=labels,
            augment=self._augment(2 * batch),
            noise=self._noise(2 * batch) if noise else None,
            r1_augment=self._augment(batch) if r1 else None,
            r1_noise=self._noise(batch) if r1 and noise else None,
        )

    def for_generator(self, *, noise: bool) -> GeneratorDraws:
        """Draw all that an update of the generator needs; see :meth:`for_discriminator`."""
        batch = self.config.batch_size
        latents, labels = self._inputs()
        return GeneratorDraws(
            latents, labels, self._augment(batch), self._noise(batch) if noise else None
        )

    def _inputs(self) -> tuple[Tensor, Tensor]:
        """Latents, and labels with the frequencies that the real images are shown with."""
        batch, size = self.config.batch_size, self.config.network.latent_size
        latents = self._normal(batch, size)
        balanced = self.config.dataset.class_balance
        drawn = torch.randint(
            self.n_classes if balanced else len(self.labels),
            (batch,),
            device=self.device,
            generator=self.random,
        )
        return latents, drawn if balanced else self.labels.index_select(0, drawn)

    def _augment(self, n: int) -> Tensor:
        dataset = self.config.dataset
        each = numbers_of_a_change(at_random=not dataset.always_augments)
        return self._uniform(n, len(dataset.augment), each)

    def _noise(self, n: int) -> Tensor:
        network = self.config.network
        return self._normal(n, network.image_channels, network.resolution, network.resolution)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, device=self.device, generator=self.random)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, generator=self.random)

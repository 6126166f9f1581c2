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
    """(N,) int64: classes of the generated images; in pairs those of the real images."""
    augment: Tensor
    """(2N, P, K), uniform in [0, 1): DiffAugment of the real and then the generated images."""
    noise: Tensor | None
    """(2N, C, R, R), standard normal, or None without noise."""
    r1_augment: Tensor | None
    """(N, P, K), as ``augment``, for the pass over the real images that the R1 penalty takes."""
    r1_noise: Tensor | None
    """(N, C, R, R), as ``noise``, for the same."""
    r2_augment: Tensor | None
    """(N, P, K), as ``r1_augment``, for the generated images of the R2 penalty."""
    r2_noise: Tensor | None
    """(N, C, R, R), as ``noise``, for the same."""


@dataclass(frozen=True)
class GeneratorDraws:
    """What the update of the generator needs; S images are seen, N or, with real ones, 2N."""

    latents: Tensor
    """(N, latent_size), standard normal."""
    labels: Tensor
    """(N,) int64: classes of the generated images; in pairs those of the real images."""
    augment: Tensor
    """(S, P, K), uniform in [0, 1), of the real and then the generated images."""
    noise: Tensor | None
    """(S, C, R, R), standard normal, or None without noise."""
    rows: Tensor | None = None
    """(N,) int64: the real images that they are compared with; None where there are none."""
    mirror: Tensor | None = None
    """(N,) bool: which of those are flipped left-right."""


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

    def for_discriminator(
        self, *, noise: bool, r1: bool, r2: bool = False, paired: bool = False
    ) -> DiscriminatorDraws:
        """Draw all that an update of the discriminator needs.

        Args:
            noise: whether noise is added to the images.
            r1: whether the R1 penalty is computed.
            r2: whether the R2 penalty is computed.
            paired: whether generated images have the labels of the real ones.
        """
        batch, rows = self.config.batch_size, self.batches.next_rows()
        latents, labels = self._inputs(self.labels_of(rows) if paired else None)
        return DiscriminatorDraws(
            rows=rows,
            mirror=self._mirror(),
            latents=latents,
            labels=labels,
            augment=self._augment(2 * batch),
            noise=self._noise(2 * batch) if noise else None,
            r1_augment=self._augment(batch) if r1 else None,
            r1_noise=self._noise(batch) if r1 and noise else None,
            r2_augment=self._augment(batch) if r2 else None,
            r2_noise=self._noise(batch) if r2 and noise else None,
        )

    def for_generator(self, *, noise: bool, labels: Tensor | None = None) -> GeneratorDraws:
        """Draw all that an update of the generator needs.

        Args:
            noise: whether noise is added to the images.
            labels: (N,) int64, classes of the generated images; drawn if None.
        """
        batch = self.config.batch_size
        latents, labels = self._inputs(labels)
        return GeneratorDraws(
            latents, labels, self._augment(batch), self._noise(batch) if noise else None
        )

    def for_generator_with_real(self, *, noise: bool) -> GeneratorDraws:
        """Draw as :meth:`for_generator`, and a batch of real images, which give the labels.

        Args:
            noise: whether noise is added to the images.
        """
        batch, rows = self.config.batch_size, self.batches.next_rows()
        latents, labels = self._inputs(self.labels_of(rows))
        return GeneratorDraws(
            latents=latents,
            labels=labels,
            augment=self._augment(2 * batch),
            noise=self._noise(2 * batch) if noise else None,
            rows=rows,
            mirror=self._mirror(),
        )

    def labels_of(self, rows: Tensor) -> Tensor:
        """Return the labels of real images.

        Args:
            rows: (N,) int64, rows of the step's images and labels.

        Returns:
            (N,) int64.
        """
        return self.batches.labels.index_select(0, rows)

    def _mirror(self) -> Tensor | None:
        if not self.config.dataset.mirror:
            return None
        return self._uniform(self.config.batch_size) < 0.5

    def _inputs(self, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Latents, and these labels, or some with the frequencies of the real images shown."""
        batch, size = self.config.batch_size, self.config.network.latent_size
        latents = self._normal(batch, size)
        if labels is not None:
            return latents, labels
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

"""What the discriminator sees: stored and generated images, augmented alike, with noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cxrgan_fast.augment.diffaugment import augment_as_drawn, in_one_go
from cxrgan_fast.data import StepImages
from cxrgan_fast.ops import augmented_batch

_FUSED = ("translation", "cutout")  # in this order


class DiscriminatorInputs:
    """Images as the discriminator sees them, in one pass where the policy allows it.

    The op `augmented_batch` gathers, mirrors, scales, shifts, cuts, adds noise and casts at
    once. What comes before the shift and the hole in the policy (brightness, contrast, a shift that
    is resampled with a rotation, or a hole that is itself shifted) is applied to float images
    first, and so is all of a policy whose changes are made with a probability.

    Args:
        batches: where the stored images are.
        policy: names of DiffAugment's changes, in the order in which they are applied.
        value_range: least and greatest pixel value of the networks' images.
        dtype: dtype of the images that come out.
        probability: 0-dimensional float32, of each change of each image, read at every call: a
            tensor that whoever steers it changes in place. None makes every change.
    """

    def __init__(
        self,
        batches: StepImages,
        policy: Sequence[str],
        value_range: tuple[float, float],
        dtype: torch.dtype,
        probability: Tensor | None = None,
    ) -> None:
        self.batches, self.value_range, self.dtype = batches, value_range, dtype
        self.policy, self.probability = tuple(policy), probability
        fused = 0 if probability is not None else _fused_names(self.policy)
        self.before = self.policy[: len(policy) - fused]

    def real(self, rows: Tensor, mirror: Tensor | None) -> Tensor:
        """Return stored images as they are, apart from the mirroring.

        Args:
            rows: (N,) int64, of the batches' images.
            mirror: (N,) bool, or None.

        Returns:
            (N, C, R, R) float32.
        """
        return augmented_batch(
            self.batches.images, rows, None, value_range=self.value_range, mirror=mirror
        )

    def both(
        self,
        rows: Tensor,
        mirror: Tensor | None,
        fake: Tensor,
        uniform: Tensor,
        noise: Tensor | None,
        noise_std: Tensor | None,
    ) -> Tensor:
        """Return stored and then generated images, as the discriminator sees them.

        Args:
            rows: (N,) int64, of the batches' images.
            mirror: (N,) bool, which of those to flip left-right, or None.
            fake: (F, C, R, R) float32.
            uniform: (N + F, P, 2), with a probability (N + F, P, 3), what the policy does to
                each; see `augment_as_drawn`.
            noise: (N + F, C, R, R), standard normal, or None.
            noise_std: 0-dimensional, what it is multiplied by; given with ``noise``.

        Returns:
            (N + F, C, R, R), channels_last.
        """
        if self.before:
            images = torch.cat((self.real(rows, mirror), fake))
            return self.generated(images, uniform, noise, noise_std)
        return self._fused(self.batches.images, rows, mirror, fake, uniform, noise, noise_std)

    def generated(
        self, images: Tensor, uniform: Tensor, noise: Tensor | None, noise_std: Tensor | None
    ) -> Tensor:
        """Augment float images, differentiably with respect to them any number of times.

        Args:
            images: (F, C, R, R) float32.
            uniform: (F, P, 2) or (F, P, 3).
            noise: as in :meth:`both`.
            noise_std: as in :meth:`both`.

        Returns:
            (F, C, R, R), channels_last.
        """
        first = uniform[:, : len(self.before)]
        images = augment_as_drawn(images, self.before, first, self.value_range, self.probability)
        return self._fused(None, None, None, images, uniform, noise, noise_std)

    def _fused(
        self,
        stored: Tensor | None,
        rows: Tensor | None,
        mirror: Tensor | None,
        images: Tensor,
        uniform: Tensor,
        noise: Tensor | None,
        noise_std: Tensor | None,
    ) -> Tensor:
        moves = {
            name: uniform[:, place]
            for place, name in enumerate(self.policy)
            if place >= len(self.before)
        }
        return augmented_batch(
            stored,
            rows,
            images,
            value_range=self.value_range,
            mirror=mirror,
            translation=moves.get("translation"),
            cutout=moves.get("cutout"),
            noise=noise,
            noise_std=noise_std,
            dtype=self.dtype,
        )


def _fused_names(policy: tuple[str, ...]) -> int:
    """How many names at the end of a policy the fused op takes; it resamples nothing."""
    groups = in_one_go(policy)
    ends = ((_FUSED[:1], _FUSED[1:]), (_FUSED[:1],), (_FUSED[1:],))
    return next((len(end) for end in ends if tuple(groups[len(groups) - len(end) :]) == end), 0)

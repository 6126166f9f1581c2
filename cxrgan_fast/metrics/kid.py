"""Kernel (Inception) distance: the squared maximum mean discrepancy of a cubic kernel.

    k(x, y) = (x·y/D + 1)³
    KID = mean of k(x, x') + mean of k(y, y') - 2 mean of k(x, y)

x ≠ x' are real, y ≠ y' generated. Bińkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs,
2018, section 4 (the kernel and the use of it) and equation 4 (the unbiased estimator).

Unlike FID it is unbiased at any number of images, so it can be negative: two sets of one
distribution give values on both sides of 0, and it is left so.

The paper gives the mean over random subsets of 1,000 images, which saves memory. Here the value is
that of all images, which varies less and is as unbiased; subsets are in the details.
"""

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Metric, register

# A pair of different images in each subset, which is half of them.
MIN_IMAGES = 4
SUBSETS = 100
SUBSET_SIZE = 1000
# Of the kernel matrix that are in memory at once: 2²⁴ float64 are 128 MiB.
_ELEMENTS = 2**24


def kid(
    real: Tensor, fake: Tensor, *, seed: int = 0, resamples: Resamples | None = None
) -> Estimate:
    """Unbiased kernel distance of two sets of features.

    Args:
        real: (N, D), N of 4 or more.
        fake: (M, D), M of 4 or more.
        seed: of the subsets; the value does not depend on it.
        resamples: for the standard error. Pairs of an image with its own copy are left out, which
            would move every resample upwards. Where both sets are of one distribution it comes out
            too large by up to √3, since such a statistic varies in second order only.

    Returns:
        The distance, without unit; `details` has the `dimension` D, and mean and standard
        deviation over `subsets` of `subset_size` images of each set: `subset_mean` and
        `subset_deviation`. The size is 1,000, or half the smaller set where that is less, since
        subsets that are nearly the whole set would hardly differ.

    Raises:
        UserError: there are too few images.
        ValueError: the shapes do not go together.
    """
    require_vectors("KID", real, fake, least=MIN_IMAGES)
    n_real, n_fake = len(real), len(fake)
    size = min(SUBSET_SIZE, min(n_real, n_fake) // 2)
    rng = np.random.default_rng(seed)
    real_counts = [torch.ones(1, n_real), _subsets(rng, n_real, size)]
    fake_counts = [torch.ones(1, n_fake), _subsets(rng, n_fake, size)]
    if resamples is not None:
        real_counts.append(resamples.real)
        fake_counts.append(resamples.fake)
    # All images, subsets and resamples are counts on one kernel matrix.
    values = _weighted_kid(
        real.double(),
        fake.double(),
        *(
            torch.cat([c.to(real.device, torch.float64) for c in counts])
            for counts in (real_counts, fake_counts)
        ),
    )
    of_subsets = values[1 : 1 + SUBSETS]
    error = None if resamples is None else standard_error(values[1 + SUBSETS :])
    details = {
        "dimension": real.shape[1],
        "subsets": SUBSETS,
        "subset_size": size,
        "subset_mean": float(of_subsets.mean()),
        "subset_deviation": float(of_subsets.std()),
    }
    return Estimate(float(values[0]), n_real, n_fake, error, details)


def _subsets(rng: np.random.Generator, n: int, size: int) -> Tensor:
    """(SUBSETS, n), 1 where an image is in the subset; the same on every device."""
    ranks = rng.random((SUBSETS, n)).argsort(1).argsort(1)
    return torch.from_numpy(ranks < size)


def _weighted_kid(real: Tensor, fake: Tensor, real_counts: Tensor, fake_counts: Tensor) -> Tensor:
    """KID for each row of counts, (B, N) and (B, M); NaN where they leave no pair of images."""
    within = _mean_within(real, real_counts) + _mean_within(fake, fake_counts)
    pairs = real_counts.sum(1) * fake_counts.sum(1)
    return within - 2 * _sums(real, fake, real_counts, fake_counts) / pairs


def _mean_within(vectors: Tensor, counts: Tensor) -> Tensor:
    """The mean kernel of pairs of different images, (B,)."""
    own = (vectors.square().sum(1) / vectors.shape[1] + 1) ** 3  # the kernel's diagonal
    total = _sums(vectors, vectors, counts, counts) - counts.square() @ own
    pairs = counts.sum(1).square() - counts.square().sum(1)
    return torch.where(pairs > 0, total / pairs, torch.nan)


def _sums(first: Tensor, second: Tensor, first_counts: Tensor, second_counts: Tensor) -> Tensor:
    """Σ Σ cᵢ k(xᵢ, yⱼ) cⱼ for each row of counts, (B,), in blocks of the kernel matrix."""
    total = first.new_zeros(len(first_counts))
    rows = max(1, _ELEMENTS // len(second))
    for part, counts in zip(first.split(rows), first_counts.split(rows, 1), strict=True):
        kernel = (part @ second.T / first.shape[1] + 1) ** 3  # (rows, M)
        total += ((counts @ kernel) * second_counts).sum(1)
    return total


register(
    Metric(
        name="kid",
        title="KID",
        better="lower",
        takes="features",
        function=lambda sets: kid(*sets.vectors, seed=sets.seed, resamples=sets.resamples),
        fewest=(MIN_IMAGES, MIN_IMAGES),
        quick=True,
        place=30,
    )
)

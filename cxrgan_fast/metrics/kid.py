"""Kernel (Inception) distance: the squared maximum mean discrepancy of a cubic kernel.

    k(x, y) = (x·y/D + 1)³
    KID = mean of k(x, x') + mean of k(y, y') - 2 mean of k(x, y)

x ≠ x' are real, y ≠ y' generated. Bińkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs,
2018, section 4 (the kernel and the use of it) and equation 4 (the unbiased estimator).

Unlike FID it is unbiased at any number of images, so it can be negative: two sets of one
distribution give values on both sides of 0, and it is left so.

The paper gives the mean over random subsets of 1,000 images, which saves memory. Here the value is
that of all images, which varies less and is as unbiased; subsets are in the details.

Classes and patients count as in `discrepancy`, of which this is the cubic kernel.
"""

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.metrics.discrepancy import discrepancy
from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Metric, register
from cxrgan_fast.metrics.strata import Strata

# A pair of different images in each subset, which is half of them.
MIN_IMAGES = 4
SUBSETS = 100
SUBSET_SIZE = 1000


def kid(
    real: Tensor,
    fake: Tensor,
    *,
    seed: int = 0,
    resamples: Resamples | None = None,
    strata: Strata | None = None,
    subsets: int = SUBSETS,
) -> Estimate:
    """Compute the unbiased kernel distance of two sets of features.

    Args:
        real: (N, D), N of 4 or more.
        fake: (M, D), M of 4 or more.
        seed: random seed of the subsets; the value does not depend on it.
        resamples: for the standard error and the interval, which is that of a squared distance
            (`second_order`): right where both sets are of one distribution, as well as far apart.
        strata: classes and patients of these images. A class without two patients in a set is
            taken together with another.
        subsets: for `subset_mean` and `subset_deviation`; 0 leaves these out.

    Returns:
        The distance, without unit; `details` has the `dimension` D, and mean and standard
        deviation over `subsets` of `subset_size` images of each set, drawn without regard to
        classes and patients as in the paper: `subset_mean` and `subset_deviation`. The size is
        1,000, or half the smaller set where that is less, since subsets that are nearly the whole
        set would hardly differ. With resamples, `resamples` says how many were used, and
        `error_if_equal` what the standard error is of sets of one distribution.

    Raises:
        UserError: there are too few images, or all of a set are of one patient.
        ValueError: the shapes do not go together.
    """
    require_vectors("KID", real, fake, least=MIN_IMAGES)
    n_real, n_fake = len(real), len(fake)
    size = min(SUBSET_SIZE, min(n_real, n_fake) // 2)
    rng = np.random.default_rng(seed)
    found = discrepancy(
        "KID",
        real,
        fake,
        _cubic,
        strata=strata,
        resamples=resamples,
        subsets=(_subsets(rng, subsets, n_real, size), _subsets(rng, subsets, n_fake, size)),
    )
    details: dict[str, float | int] = {"dimension": real.shape[1]}
    if subsets:
        details |= {
            "subsets": subsets,
            "subset_size": size,
            "subset_mean": float(found.of_subsets.mean()),
            "subset_deviation": float(found.of_subsets.std()),
        }
    spread = found.spread
    if spread is None:
        return Estimate(found.value, n_real, n_fake, None, details)
    details |= {"resamples": spread.freedom + 1, "error_if_equal": spread.error_if_equal}
    bounds = spread.interval(found.value)
    return Estimate(found.value, n_real, n_fake, spread.standard_error, details, bounds)


def _subsets(rng: np.random.Generator, subsets: int, n: int, size: int) -> Tensor:
    """(subsets, n), 1 where an image is in the subset; the same on every device."""
    ranks = rng.random((subsets, n)).argsort(1).argsort(1)
    return torch.from_numpy(ranks < size)


def _cubic(first: Tensor, second: Tensor) -> Tensor:
    """(x·y/D + 1)³ of all pairs."""
    return (first @ second.T / first.shape[1] + 1) ** 3


register(
    Metric(
        name="kid",
        title="KID",
        better="lower",
        takes="features",
        function=lambda sets: kid(
            *sets.vectors,
            seed=sets.seed,
            resamples=sets.resamples,
            strata=sets.strata,
            subsets=0 if sets.values_only else SUBSETS,
        ),
        fewest=(MIN_IMAGES, MIN_IMAGES),
        quick=True,
        place=30,
    )
)

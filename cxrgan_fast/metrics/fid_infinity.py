"""FID at infinity: what FID would be of infinitely many images.

    FID(n) ≈ FID(∞) + c/n

Chong and Forsyth, Effectively Unbiased FID and Inception Score and where to find them, 2020,
section 4: FID of n images for 15 n, a line through them in 1/n, its intercept. There the real
images are taken as they are and only the generated ones are extrapolated. Here both sets are small,
and both add to the bias, a/N of the N real and b/M of the M generated images. So both are thinned
in proportion: a share f of each has the bias (a/N + b/M)/f, a line in 1/f that meets 1/f = 0 at the
distance of both distributions. The value can fall below 0 where that is small.

Three more things differ from the paper. Whole patients are taken, and of each class the same share
of its patients, since what the images of one patient have in common biases FID as fewer images
would. The shares are from 1/2 to 1, not from 1/10: terms in 1/n² are then small, and the line has
not far to go. And a share is not drawn at random. Patients are put in random order on a circle of
which windows are taken, evenly spaced, so that in the mean over them every patient has nearly the
same weight. What the sample at hand does to FID then cancels between the sizes instead of being
extrapolated, and the intercept varies hardly more than FID itself (measured on Gaussians of 8 to 64
dimensions: its standard deviation is 1.0 to 1.2 times FID's).

How many images it needs. The bias follows 1/n as long as the covariances are known in all
directions that matter. With fewer images than directions it levels out, and the line through it
ends far too high: for two equal Gaussians of one variance in 64 dimensions at 0.1 of the total
variance with 60 images (FID itself: 0.29), at 0.000 ± 0.001 with 128. The smallest share, half of
the images, must therefore hold as many images as there are principal directions with 99 % of the
variance. What the other directions can add is bounded by their variance, 1 % of the total.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.metrics.fid import fid_of_sets, require_vectors, weighted_terms
from cxrgan_fast.metrics.metric import Metric, Sets, register
from cxrgan_fast.metrics.second_order import SecondOrder
from cxrgan_fast.metrics.strata import Strata

POINTS = 15
WINDOWS = 4  # of each size but the full one
SMALLEST_SHARE = 0.5
VARIANCE_SHARE = 0.99
# For so many different sizes.
MIN_IMAGES = 2 * (POINTS - 1)


def fid_infinity(
    real: Tensor,
    fake: Tensor,
    *,
    seed: int = 0,
    strata: Strata | None = None,
    spread: SecondOrder | None = None,
) -> Estimate:
    """Compute FID extrapolated to infinitely many images of both sets.

    Args:
        real: (N, D).
        fake: (M, D).
        seed: random seed of the order in which patients are taken.
        strata: classes and patients of these images.
        spread: FID of the same sets, as `fid_with_spread` gives it, for the standard error and
            the interval: beside what the choice of parts adds, which the points about the line
            show, the intercept varies as FID does.

    Returns:
        The intercept, in squared units of the features. `details` has the `dimension` D; of each
        point `real_sizes`, `fake_sizes` (images, in the mean over its parts) and `fid`; the
        `slope` of the line over 1/f, which is how much FID of all images is biased; and the
        `directions` that were counted.

    Raises:
        UserError: there are too few images, or too few patients.
        ValueError: the shapes do not go together.
    """
    require_vectors("FID infinity", real, fake, least=MIN_IMAGES)
    real, fake = real.double(), fake.double()
    strata = strata or Strata.unknown(len(real), len(fake))
    _require_patients(strata)
    directions = max(_directions(real), _directions(fake))
    needed = round(directions / SMALLEST_SHARE)
    if min(len(real), len(fake)) < needed:
        raise UserError(
            f"FID infinity: expected {needed} images or more in each set, got {len(real)} real "
            f"and {len(fake)} generated; half of them must be as many as the {directions} "
            f"directions in which {VARIANCE_SHARE:.0%} of these features vary; give more images"
        )
    units = [
        (unit.cpu().numpy(), label.cpu().numpy())
        for unit, label in (strata.real.units(), strata.fake.units())
    ]
    rng = np.random.default_rng(seed)
    sizes, steps, points = [], [], []
    for share in np.linspace(SMALLEST_SHARE, 1, POINTS):
        windows = WINDOWS if share < 1 else 1
        sides = [_windows(rng, unit, label, share, windows) for unit, label in units]
        of_windows = [
            torch.stack(weighted_terms(real, fake, some.to(real), others.to(real))).sum()
            for some, others in zip(*sides, strict=True)
        ]
        counts = [float(torch.stack(side).sum(1).mean()) for side in sides]
        sizes.append(counts)
        steps.append((len(real) / counts[0] + len(fake) / counts[1]) / 2)
        points.append(float(torch.stack(of_windows).mean()))
    (slope, intercept), covariance = np.polyfit(steps, points, 1, cov=True)
    value = float(intercept)
    details = {
        "dimension": real.shape[1],
        "real_sizes": [n_real for n_real, _ in sizes],
        "fake_sizes": [n_fake for _, n_fake in sizes],
        "fid": points,
        "slope": float(slope),
        "directions": directions,
    }
    if spread is None:
        return Estimate(value, len(real), len(fake), None, details)
    # Each size has windows of its own, so that the points lie about the line by their chance.
    spread = replace(spread, other=float(covariance[1, 1]))
    details |= {"resamples": spread.freedom + 1, "error_if_equal": spread.error_if_equal}
    bounds = spread.interval(value)
    return Estimate(value, len(real), len(fake), spread.standard_error, details, bounds)


def _require_patients(strata: Strata) -> None:
    there = [len(groups.patients.unique()) for groups in (strata.real, strata.fake)]
    if min(there) < MIN_IMAGES:
        raise UserError(
            f"FID infinity: expected images of {MIN_IMAGES} patients or more in each set, got "
            f"{there[0]} and {there[1]}; give images of more patients"
        )


def _directions(vectors: Tensor) -> int:
    """The fewest principal directions with 99 % of the variance."""
    variances = torch.linalg.svdvals(vectors - vectors.mean(0)).square()
    held = variances.cumsum(0)
    return int((held < VARIANCE_SHARE * held[-1]).sum()) + 1


def _windows(
    rng: np.random.Generator,
    unit: NDArray[np.int64],
    label: NDArray[np.int64],
    share: float,
    count: int,
) -> list[Tensor]:
    """`count` windows of so many patients of each class, evenly spaced on random circles.

    Args:
        rng: of the circles.
        unit: (N,), the unit of each image, as `Grouping.units` gives it.
        label: (U,), the class of each unit.
        share: of the units of each class that a window holds.
        count: windows.

    Returns:
        Of each window the weights of the images (N,), 0 outside it. In each class those inside
        weigh equally, as much together as the share of the class.
    """
    images = np.bincount(unit)
    windows = np.zeros((count, len(label)))
    for k in np.unique(label):
        units = np.flatnonzero(label == k)
        circle = rng.permutation(units)
        size = max(1, round(share * len(units)))
        for window in range(count):
            chosen = np.roll(circle, -(window * len(units) // count))[:size]
            all_of_class = images[units].sum() * size / len(units)
            windows[window, chosen] = all_of_class / images[chosen].sum()
    return list(torch.from_numpy(windows[:, unit]))


def _of_sets(sets: Sets) -> Estimate:
    return fid_infinity(
        *sets.vectors, seed=sets.seed, strata=sets.strata, spread=sets.once(fid_of_sets)[1]
    )


register(
    Metric(
        name="fid_infinity",
        title="FID infinity",
        better="lower",
        takes="features",
        function=_of_sets,
        fewest=(MIN_IMAGES, MIN_IMAGES),
        divisions=3,
        place=20,
    )
)

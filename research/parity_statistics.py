"""Is a mean the same as another's, for all that matters? The TOST and its power.

That two means do not differ significantly says nothing about how near they are. Equivalence is
shown the other way round (Schuirmann, A Comparison of the Two One-Sided Tests Procedure and the
Power Approach for Assessing the Equivalence of Average Bioavailability, 1987): both "lower by the
margin or more" and "higher by the margin or more" are tested, each at 5 %, and both have to be
refused. The same is that the 90 % interval of the difference lies within ± margin.

The differences, of two samples or of pairs, are those of `cxrgan_fast.studies.differences`.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.studies.differences import Difference, Parts, require_scipy

ALPHA = 0.05  # of each of the two tests
POWER = 0.8
MOST_SEEDS = 1000
# Of the spread that a repetition would see, over which its power is averaged: by parts.
_QUANTILES = {1: 2000, 2: 64}


def tost_power(margin: float, parts: Parts, true: float = 0.0) -> float:
    """How likely the TOST is to show equivalence.

    The difference that comes out is normal, the estimates of its variances are independently
    chi-squared (Phillips, Power of the Two One-Sided Tests Procedure in Bioequivalence, 1990).
    Welch's test of two samples takes its degrees of freedom from these estimates: fewer than both
    samples have together, even if their true variances are equal.

    Args:
        margin: of equivalence.
        parts: of each mean the true squared standard error and the degrees of freedom that its
            estimate has.
        true: the true difference.
    """
    stats = require_scipy()
    standard_error = math.sqrt(sum(square for square, _ in parts))
    if standard_error == 0:
        return float(abs(true) < margin)
    room = margin - _half_widths(parts)  # for |difference|
    upper = stats.norm.cdf((room - true) / standard_error)
    lower = stats.norm.cdf((-room - true) / standard_error)
    return float((upper - lower).clip(min=0).mean())


@functools.lru_cache(maxsize=64)
def _half_widths(parts: Parts) -> NDArray[np.float64]:
    """Half of the 90 % interval in equally likely repetitions."""
    stats = require_scipy()
    count = _QUANTILES[len(parts)]
    shares = (np.arange(count) + 0.5) / count
    seen = np.meshgrid(
        *(square * stats.chi2.ppf(shares, freedom) / freedom for square, freedom in parts)
    )
    total = sum(seen)
    degrees = total**2 / sum(
        square**2 / freedom for square, (_, freedom) in zip(seen, parts, strict=True)
    )
    widths: NDArray[np.float64] = stats.t.ppf(1 - ALPHA, degrees) * np.sqrt(total)
    return widths


def smallest_margin(difference: Difference) -> float:
    """The margin that such a comparison would meet in 80 of 100 repetitions, were there none."""
    if difference.standard_error == 0:
        return 0.0
    parts, high = difference.parts, difference.standard_error
    while tost_power(high, parts) < POWER:
        high *= 2
    find_root = require_scipy("scipy.optimize").brentq
    return float(find_root(lambda margin: tost_power(margin, parts) - POWER, 0, high))


def seeds_needed(margin: float, deviations: Sequence[float]) -> int | None:
    """Seeds of each of two variants for a power of 80 % were there no difference.

    Args:
        margin: of equivalence.
        deviations: the standard deviation over seeds of each of the two; of pairs that of their
            difference alone.

    Returns:
        The number; None beyond 1,000.
    """

    def enough(seeds: int) -> bool:
        parts = tuple((deviation**2 / seeds, seeds - 1.0) for deviation in deviations)
        return tost_power(margin, parts) >= POWER

    if not enough(MOST_SEEDS):
        return None
    # One is never enough, and more are always better.
    return bisect.bisect_left(range(MOST_SEEDS), True, lo=2, key=enough)

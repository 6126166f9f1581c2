"""Is a mean the same as another's, for all that matters? Welch's difference and the TOST.

That two means do not differ significantly says nothing about how near they are. Equivalence is
shown the other way round (Schuirmann, A Comparison of the Two One-Sided Tests Procedure and the
Power Approach for Assessing the Equivalence of Average Bioavailability, 1987): both "lower by the
margin or more" and "higher by the margin or more" are tested, each at 5 %, and both have to be
refused. The same is that the 90 % interval of the difference lies within ± margin.

Variances are not taken to be equal: Welch, The Generalization of 'Student's' Problem when Several
Different Population Variances are Involved, 1947. Trainings of one seed begin with the same
weights, and so are pairs as well; where these go together, the differences within pairs vary less.
"""

from __future__ import annotations

import bisect
import functools
import importlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.errors import UserError

ALPHA = 0.05  # of each of the two tests
POWER = 0.8
MOST_SEEDS = 1000
# Of the spread that a repetition would see, over which its power is averaged: by parts.
_QUANTILES = {1: 2000, 2: 64}

Parts = tuple[tuple[float, float], ...]
"""The squared standard error and the degrees of freedom of each of one or two means."""


def require_scipy(module: str = "scipy.stats") -> ModuleType:
    """Import a module of scipy, which only this command needs.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise UserError("the statistics need scipy: pip install -e '.[bench]'") from None


@dataclass(frozen=True)
class Difference:
    """A mean less another's.

    Attributes:
        value: the difference.
        standard_error: of the difference.
        freedom: degrees of freedom; of two samples by Welch and Satterthwaite, of pairs one less
            than they are.
        parts: of each sample the squared standard error of its mean and its degrees of freedom;
            of pairs those of their differences alone.
    """

    value: float
    standard_error: float
    freedom: float
    parts: Parts

    @classmethod
    def of(cls, values: Sequence[float], reference: Sequence[float]) -> Difference:
        """The difference of two samples of at least two values each."""
        parts = tuple(
            (statistics.variance(each) / len(each), len(each) - 1.0) for each in (values, reference)
        )
        total = sum(square for square, _ in parts)
        squares = sum(square**2 / freedom for square, freedom in parts)
        # Without any spread every number of degrees gives the same answers.
        freedom = total**2 / squares if squares else len(values) - 1.0
        value = statistics.fmean(values) - statistics.fmean(reference)
        return cls(value, math.sqrt(total), freedom, parts)

    @classmethod
    def paired(cls, values: Sequence[float], reference: Sequence[float]) -> Difference:
        """The mean difference of pairs, two at least."""
        differences = [value - other for value, other in zip(values, reference, strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        freedom = len(differences) - 1.0
        return cls(statistics.fmean(differences), error, freedom, ((error**2, freedom),))

    def interval(self, confidence: float) -> tuple[float, float]:
        """The two-sided interval, such as that of 0.95."""
        quantile = require_scipy().t.ppf((1 + confidence) / 2, self.freedom)
        half = float(quantile) * self.standard_error
        return self.value - half, self.value + half

    def p_not_higher(self, margin: float) -> float:
        """Of the hypothesis that the true difference is ``margin`` or more: not inferior."""
        return self._tail(margin - self.value)

    def p_equivalent(self, margin: float) -> float:
        """Of the hypothesis that the true difference is outside ± ``margin``: the TOST's."""
        return max(self._tail(margin - self.value), self._tail(margin + self.value))

    def _tail(self, distance: float) -> float:
        if self.standard_error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(require_scipy().t.sf(distance / self.standard_error, self.freedom))


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

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
_QUANTILES = 2000  # of the spread that a repetition would see, over which its power is averaged


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
    """

    value: float
    standard_error: float
    freedom: float

    @classmethod
    def of(cls, values: Sequence[float], reference: Sequence[float]) -> Difference:
        """The difference of two samples of at least two values each."""
        parts = [statistics.variance(each) / len(each) for each in (values, reference)]
        squares = [
            part**2 / (len(each) - 1) for part, each in zip(parts, (values, reference), strict=True)
        ]
        # Without any spread every number of degrees gives the same answers.
        freedom = sum(parts) ** 2 / sum(squares) if sum(squares) else len(values) - 1.0
        value = statistics.fmean(values) - statistics.fmean(reference)
        return cls(value, math.sqrt(sum(parts)), freedom)

    @classmethod
    def paired(cls, values: Sequence[float], reference: Sequence[float]) -> Difference:
        """The mean difference of pairs, two at least."""
        differences = [value - other for value, other in zip(values, reference, strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        return cls(statistics.fmean(differences), error, len(differences) - 1.0)

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


def tost_power(margin: float, standard_error: float, freedom: float, true: float = 0.0) -> float:
    """How likely the TOST is to show equivalence.

    The difference that comes out is normal, its estimated squared standard error independently
    chi-squared (Phillips, Power of the Two One-Sided Tests Procedure in Bioequivalence, 1990).

    Args:
        margin: of equivalence.
        standard_error: the true one of the difference.
        freedom: degrees of freedom of its estimate.
        true: the true difference.
    """
    stats = require_scipy()
    if standard_error == 0:
        return float(abs(true) < margin)
    quantile = float(stats.t.ppf(1 - ALPHA, freedom))
    # Averaged over equally likely spreads: the integral over their distribution.
    room = margin - quantile * standard_error * _spreads(freedom)  # for |difference|
    upper = stats.norm.cdf((room - true) / standard_error)
    lower = stats.norm.cdf((-room - true) / standard_error)
    return float((upper - lower).clip(min=0).mean())


@functools.cache
def _spreads(freedom: float) -> NDArray[np.float64]:
    """Equally likely ratios of an estimated standard deviation to the true one."""
    shares = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    spreads: NDArray[np.float64] = np.sqrt(require_scipy().chi2.ppf(shares, freedom) / freedom)
    return spreads


def smallest_margin(difference: Difference) -> float:
    """The margin that such a comparison would meet in 80 of 100 repetitions, were there none."""
    if difference.standard_error == 0:
        return 0.0
    error, freedom = difference.standard_error, difference.freedom
    high = error
    while tost_power(high, error, freedom) < POWER:
        high *= 2
    find_root = require_scipy("scipy.optimize").brentq
    return float(find_root(lambda margin: tost_power(margin, error, freedom) - POWER, 0, high))


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
        variances = [deviation**2 / seeds for deviation in deviations]
        spread = sum(variance**2 for variance in variances)
        freedom = sum(variances) ** 2 / spread * (seeds - 1) if spread else 1.0
        return tost_power(margin, math.sqrt(sum(variances)), freedom) >= POWER

    if not enough(MOST_SEEDS):
        return None
    # One is never enough, and more are always better.
    return bisect.bisect_left(range(MOST_SEEDS), True, lo=2, key=enough)

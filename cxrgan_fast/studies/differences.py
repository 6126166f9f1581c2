"""Is a number the same, less or more? Differences of means, of two samples or of pairs.

Variances of two samples are not taken to be equal: Welch, The Generalization of 'Student's'
Problem when Several Different Population Variances are Involved, 1947. Runs of one seed begin with
the same weights and see the images in the same order, and so are pairs: where these go together,
the differences within pairs vary less.
"""

from __future__ import annotations

import importlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cxrgan_fast.errors import UserError

Parts = tuple[tuple[float, float], ...]
"""The squared standard error and the degrees of freedom of each of one or two means."""


def require_scipy(module: str = "scipy.stats") -> ModuleType:
    """Import a module of scipy, which few commands need.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise UserError("the statistics need scipy: pip install scipy") from None


@dataclass(frozen=True)
class Difference:
    """A mean less another's.

    Attributes:
        value: the difference.
        standard_error: standard error of the difference.
        freedom: degrees of freedom; of two samples by Welch and Satterthwaite, of pairs one less
            than they are.
        parts: for each sample the squared standard error of its mean and its degrees of freedom;
            of pairs those of their differences alone.
    """

    value: float
    standard_error: float
    freedom: float
    parts: Parts

    @classmethod
    def of(cls, values: Sequence[float], reference: Sequence[float]) -> Difference:
        """Compute the difference of two samples of at least two values each."""
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
        """Compute the mean difference of pairs, two at least."""
        differences = [value - other for value, other in zip(values, reference, strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        freedom = len(differences) - 1.0
        return cls(statistics.fmean(differences), error, freedom, ((error**2, freedom),))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Compute the two-sided interval, such as that of 0.95."""
        quantile = require_scipy().t.ppf((1 + confidence) / 2, self.freedom)
        half = float(quantile) * self.standard_error
        return self.value - half, self.value + half

    def p_not_higher(self, margin: float) -> float:
        """Compute p of the hypothesis that the true difference is ``margin`` or more."""
        return self._tail(margin - self.value)

    def p_equivalent(self, margin: float) -> float:
        """Compute p of the hypothesis that the true difference is not within ± ``margin``."""
        return max(self._tail(margin - self.value), self._tail(margin + self.value))

    def _tail(self, distance: float) -> float:
        if self.standard_error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(require_scipy().t.sf(distance / self.standard_error, self.freedom))


def paired_difference(
    pairs: Sequence[tuple[float, float]], direction: str | float | None
) -> dict[str, Any]:
    """Compare an arm with a reference, seed by seed.

    Where a number has a best value, such as 1-NN's 0.5, what is compared is how far it is from it.

    Args:
        pairs: for each seed the arm's number and the reference's.
        direction: which way the number is better: "lower", "higher" or its best value; None counts
            as "lower".

    Returns:
        ``values`` (the arm less the reference), their ``mean``, ``interval_95`` and ``p_t`` (of
        Student's t on the pairs; None of one pair), and ``better`` of ``pairs`` (seeds in which the
        arm is better; ties are no pairs) with ``p_signs`` of the sign test. All p-values are
        two-sided, and none is corrected for there being several arms.
    """
    if isinstance(direction, int | float):
        pairs = [(abs(arm - direction), abs(reference - direction)) for arm, reference in pairs]
    values = [arm - reference for arm, reference in pairs]
    sign = 1 if direction == "higher" else -1
    wins = sum(sign * value > 0 for value in values)
    untied = sum(value != 0 for value in values)
    stats = require_scipy()
    found: dict[str, Any] = {
        "values": values,
        "mean": statistics.fmean(values),
        "interval_95": None,
        "p_t": None,
        "better": wins,
        "pairs": untied,
        "p_signs": float(stats.binomtest(wins, untied).pvalue) if untied else 1.0,
    }
    if len(values) > 1:
        paired = Difference.paired(*map(list, zip(*pairs, strict=True)))
        found["interval_95"] = list(paired.interval(0.95))
        error = paired.standard_error
        ratio = math.inf if error == 0 and paired.value else abs(paired.value) / (error or 1.0)
        found["p_t"] = float(2 * stats.t.sf(ratio, paired.freedom))
    return found

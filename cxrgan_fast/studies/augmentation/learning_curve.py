"""What gains mean in numbers of real images: where they end, and how many they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.studies.augmentation.effects import LEVEL, Effect
from cxrgan_fast.studies.augmentation.libraries import import_for_study

DRAWS = 400
_LEAST_ERROR = 1e-6  # of an AUC of 1, whose logarithm is taken
_EXPONENTS = (0.01, 5.0)  # between which that of a curve with an asymptote is looked for
_WITH_ASYMPTOTE = 4  # sizes, from which on a third parameter is fitted

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BreakEven:
    """At which size of the real set a gain turns into a loss.

    A straight line is fitted to the gains over the logarithm of the size.

    Attributes:
        size: where the line crosses 0; None where its slope is 0.
        low: lower end of the 95 % interval (Fieller 1954), in images; None where the slope is not
            shown to differ from 0, so that every size may be the one.
        high: upper end, None as above.
        slope: gain by factor e in size.
        slope_p_value: two-sided p-value of a slope of 0.
    """

    size: float | None
    low: float | None
    high: float | None
    slope: float
    slope_p_value: float

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LearningCurve:
    """AUC over the number of real images: 1 - asymptote - scale * size^-exponent.

    Attributes:
        asymptote: error that is left with any number of images; 0 where fewer than four sizes were
            fitted.
        scale: error above it with one image.
        exponent: how fast the error falls.
    """

    asymptote: float
    scale: float
    exponent: float

    def auc(self, size: float) -> float:
        """Return the AUC at a size."""
        return 1 - self.asymptote - self.scale * size**-self.exponent

    def size_of(self, auc: float) -> float:
        """Return the size at which an AUC is reached; infinity where it never is."""
        left = 1 - self.asymptote - auc
        if left <= 0 or self.exponent <= 0 or self.scale <= 0:
            return math.inf
        logarithm = math.log(self.scale / left) / self.exponent
        return math.exp(min(logarithm, 700.0))  # beyond, exp overflows


@dataclass(frozen=True)
class Worth:
    """How many more real images would have given what synthetic ones gave.

    Attributes:
        images: that number; negative for a loss.
        low: lower end of the 95 % interval.
        high: upper end; None where it is beyond the largest size of the study.
        beyond: whether ``images`` is, and stands for as many as the largest size has, or more.
    """

    images: float
    low: float
    high: float | None
    beyond: bool

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def find_break_even(sizes: Sequence[int], gains: Sequence[Effect]) -> BreakEven | None:
    """Find the size at which a gain is 0, with its interval.

    Args:
        sizes: numbers of real images.
        gains: the gain at each, of the same folds, so that draws of patients go together.

    Returns:
        The size; None of fewer than two sizes, or of gains without any spread.
    """
    if len(sizes) < 2:
        return None
    covariance = _covariance(gains)
    if np.linalg.matrix_rank(covariance) < len(sizes):
        return None
    stats: Any = import_for_study("scipy.stats")
    design = np.stack([np.ones(len(sizes)), np.log(np.asarray(sizes, float))], 1)
    inverse = np.linalg.inv(covariance)
    spread = np.linalg.inv(design.T @ inverse @ design)
    line = spread @ design.T @ inverse @ np.array([gain.value for gain in gains])
    level, slope = map(float, line)
    freedom = min(gain.freedom for gain in gains)
    t = float(stats.t.ppf(1 - LEVEL / 2, freedom))
    p_value = float(2 * stats.t.sf(abs(slope) / spread[1, 1] ** 0.5, freedom))
    # All x of which |level + slope x| is within t standard errors of it: a x^2 + b x + c <= 0.
    a = slope**2 - t**2 * spread[1, 1]
    b = 2 * (level * slope - t**2 * spread[0, 1])
    c = level**2 - t**2 * spread[0, 0]
    size = _exp(-level / slope) if slope else None
    if a <= 0:
        return BreakEven(size, None, None, slope, p_value)
    root = math.sqrt(max(0.0, b**2 - 4 * a * c))
    low, high = (_exp((-b + sign * root) / (2 * a)) for sign in (-1, 1))
    return BreakEven(size, low, high, slope, p_value)


def fit_curve(sizes: Sequence[int], aucs: Sequence[float]) -> LearningCurve | None:
    """Fit a learning curve (Cortes et al. 1994) by least squares.

    Args:
        sizes: two or more numbers of real images, each another.
        aucs: the AUC at each.

    Returns:
        The curve; None of fewer than two sizes, or where the AUC does not rise with the size.
    """
    if len(sizes) < 2:
        return None
    x = np.asarray(sizes, float)
    errors = np.maximum(1 - np.asarray(aucs, float), _LEAST_ERROR)
    at, logs = np.log(x), np.log(errors)
    from_mean = at - at.mean()
    falling = float(from_mean @ logs / (from_mean @ from_mean))
    if falling >= 0:
        return None
    plain = LearningCurve(0.0, _exp(float(logs.mean() - falling * at.mean())), -falling)
    if len(sizes) < _WITH_ASYMPTOTE:
        return plain
    # For a given exponent the rest is a straight line, so that one number is searched for.
    optimize: Any = import_for_study("scipy.optimize")
    found = optimize.minimize_scalar(
        lambda exponent: _line(x**-exponent, errors)[2], bounds=_EXPONENTS, method="bounded",
        options={"xatol": 1e-4},
    )  # fmt: skip
    exponent = float(found.x)
    asymptote, scale, _ = _line(x**-exponent, errors)
    return LearningCurve(asymptote, scale, exponent)


def _line(x: Floats, errors: Floats) -> tuple[float, float, float]:
    """Intercept and slope of least squares, neither below 0, and the squares that are left."""
    from_mean = x - x.mean()
    slope = max(0.0, float(from_mean @ errors / (from_mean @ from_mean)))
    intercept = float(errors.mean() - slope * x.mean())
    if intercept < 0:
        intercept, slope = 0.0, float(x @ errors / (x @ x))
    left = errors - intercept - slope * x
    return intercept, slope, float(left @ left)


def worth_in_images(
    sizes: Sequence[int], real: Sequence[Effect], size: int, gain: Effect, *, seed: int = 0
) -> Worth | None:
    """Say how many more real images a gain is worth, by the learning curve of real images.

    The curve is fitted again to draws of all that is uncertain: of the same patients for the curve
    and the gain, and of the seeds of each. Beyond the largest size nothing is extrapolated.

    Args:
        sizes: numbers of real images.
        real: AUC of the arm of real images at each.
        size: at which the gain was measured.
        gain: the gain in AUC; of the same folds as ``real``.
        seed: random seed of the draws.

    Returns:
        The worth; None where there is no curve, or less than 95 % of the draws have one.
    """
    most = float(max(sizes))

    def images(aucs: Sequence[float], difference: float) -> float | None:
        curve = fit_curve(sizes, aucs)
        if curve is None:
            return None
        # From the curve's own value, so that no gain is worth no image.
        there = curve.size_of(curve.auc(size) + difference)
        return max(1.0, min(there, most)) - size

    value = images([each.value for each in real], gain.value)
    if value is None:
        return None
    rng = np.random.default_rng(seed)
    drawn = []
    for number in range(DRAWS):
        place = number % max(1, len(gain.replicates))
        of_real = [_draw(each, place, rng) for each in real]
        found = images(of_real, _draw(gain, place, rng))
        if found is not None:
            drawn.append(found)
    if len(drawn) < (1 - LEVEL) * DRAWS:
        return None
    low, high = (float(each) for each in np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2]))
    return Worth(value, low, None if high >= most - size else high, value >= most - size)


def _draw(effect: Effect, place: int, rng: np.random.Generator) -> float:
    """What other patients and other seeds would have given."""
    of_patients = float(effect.replicates[place]) if len(effect.replicates) else 0.0
    return effect.value + of_patients + effect.seed_variance**0.5 * float(rng.standard_normal())


def _covariance(effects: Sequence[Effect]) -> Floats:
    """Of estimates at several sizes: patients are the same, seeds are not."""
    together = np.atleast_2d(np.cov(np.stack([each.replicates for each in effects])))
    found: Floats = together + np.diag([each.seed_variance for each in effects])
    return found


def _exp(logarithm: float) -> float:
    return math.exp(min(max(logarithm, -700.0), 700.0))

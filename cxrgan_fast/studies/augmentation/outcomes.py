"""What a classifier is worth on test images; thresholds are chosen on validation images alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.libraries import import_for_study
from cxrgan_fast.studies.augmentation.scores import Floats, probabilities

SENSITIVITY = 0.95
"""What the threshold ``sensitivity_95`` keeps on validation images."""
BINS = 15
"""Bins of equal width in the expected calibration error, as Guo et al. 2017 take them."""

HALF, EQUAL_SENSITIVITY, YOUDEN = "half", "sensitivity_95", "youden"
THRESHOLDS = (HALF, EQUAL_SENSITIVITY, YOUDEN)

OUTCOMES = (
    "auc", "accuracy", "sensitivity", "specificity", "brier", "calibration_error",
    "calibration_slope",
    *(f"type_{kind}_{threshold}" for threshold in THRESHOLDS for kind in (1, 2)),
)  # fmt: skip
"""The outcomes of a training, by name. ``accuracy``, ``sensitivity`` and ``specificity`` are those
at a probability of 0.5."""

LOWER_IS_BETTER = frozenset(
    name for name in OUTCOMES if name in ("brier", "calibration_error") or name.startswith("type_")
)

Bools = NDArray[np.bool_]


def choose_thresholds(scores: Floats, diseased: Bools) -> dict[str, float]:
    """Choose thresholds of the score, at or above which an image is called diseased.

    Args:
        scores: (N,), log-odds of disease of validation images.
        diseased: (N,), which of them are.

    Returns:
        ``half``: 0, a probability of 0.5. ``sensitivity_95``: the highest at which 95 % of the
        diseased are found. ``youden``: the highest of those with the largest sensitivity +
        specificity - 1 (Youden 1950).

    Raises:
        UserError: one of the two kinds is missing.
    """
    _require_both(diseased, "validation")
    ill = np.sort(scores[diseased])[::-1]
    kept = ill[math.ceil(SENSITIVITY * len(ill)) - 1]
    metrics: Any = import_for_study("sklearn.metrics")
    false, true, levels = metrics.roc_curve(diseased, scores, drop_intermediate=False)
    best = float(levels[np.argmax(true - false)])
    # Where calling none diseased is best, its level is infinite, which JSON does not know.
    best = best if math.isfinite(best) else float(scores.max()) + 1.0
    return {HALF: 0.0, EQUAL_SENSITIVITY: float(kept), YOUDEN: best}


def measure_outcomes(
    scores: Floats, diseased: Bools, thresholds: Mapping[str, float]
) -> dict[str, float | None]:
    """Measure what a classifier is worth on test images.

    An error of type I is a normal image that is called diseased, one of type II a diseased one that
    is missed.

    Args:
        scores: (N,), log-odds of disease.
        diseased: (N,), which images are.
        thresholds: what :func:`choose_thresholds` has chosen on other images.

    Returns:
        The numbers of `OUTCOMES`. ``brier`` is the mean squared error of the probability (Brier
        1950). ``calibration_error`` is the expected one: the mean distance of probability and
        frequency over `BINS` bins, by their images. ``calibration_slope`` is that of a logistic
        regression on the log-odds (Cox 1958): below 1 the classifier is too sure; None where the
        classes are told apart without a mistake, so that there is none.

    Raises:
        UserError: one of the two kinds is missing, or a library.
    """
    _require_both(diseased, "test")
    metrics: Any = import_for_study("sklearn.metrics")
    chances = probabilities(scores)
    found: dict[str, float | None] = {
        "auc": float(metrics.roc_auc_score(diseased, scores)),
        "accuracy": float(np.mean((scores >= 0) == diseased)),
        "sensitivity": float(np.mean(scores[diseased] >= 0)),
        "specificity": float(np.mean(scores[~diseased] < 0)),
        "brier": float(metrics.brier_score_loss(diseased, chances)),
        "calibration_error": expected_calibration_error(chances, diseased),
        "calibration_slope": calibration_slope(scores, diseased),
    }
    for name in THRESHOLDS:
        called = scores >= thresholds[name]
        found[f"type_1_{name}"] = float(np.mean(called[~diseased]))
        found[f"type_2_{name}"] = float(np.mean(~called[diseased]))
    return found


def expected_calibration_error(chances: Floats, diseased: Bools) -> float:
    """Compute the expected calibration error of probabilities of disease (Naeini et al. 2015).

    Args:
        chances: (N,), probabilities.
        diseased: (N,), which images are.
    """
    bins = np.minimum((chances * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, chances - diseased, BINS)  # of each bin, times its images
    return float(np.abs(gaps).sum() / len(chances))


def calibration_slope(scores: Floats, diseased: Bools) -> float | None:
    """Compute the slope of a logistic regression of disease on the log-odds.

    Args:
        scores: (N,), log-odds of disease.
        diseased: (N,), which images are.

    Returns:
        The slope; None where a threshold separates the two kinds, or the scores are all equal, so
        that the likelihood has no maximum.
    """
    ill, well = scores[diseased], scores[~diseased]
    if ill.min() >= well.max() or well.min() >= ill.max():
        return None
    models: Any = import_for_study("statsmodels.api")
    design = models.add_constant(scores, has_constant="add")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of near separation: the slope is then large, as it is
        fit = models.GLM(diseased.astype(float), design, family=models.families.Binomial()).fit()
    return float(fit.params[1])


def steps_until(curve: Sequence[tuple[int, float]], auc: float) -> int | None:
    """Return the first steps after which the validation AUC was as high; None if it never was.

    Args:
        curve: pairs of steps and AUC, ascending.
        auc: what is to be reached.
    """
    return next((steps for steps, value in curve if value >= auc), None)


def _require_both(diseased: Bools, part: str) -> None:
    if diseased.all() or not diseased.any():
        kind = "diseased" if diseased.all() else "without disease"
        raise UserError(
            f"the {part} images are all {kind}: outcomes need both kinds; add images of the other"
        )

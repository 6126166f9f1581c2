"""The effect of an arm, paired by fold and seed, and how sure it is.

What is estimated is the mean over folds of the mean over seeds: what a training of such an arm is
worth to patients like these. Two things are drawn, patients and trainings, and they are crossed:
every training of a fold is tested on the same patients. So a hierarchical bootstrap draws patients
and then seeds. As it is, it counts the noise of one training on one patient three times (Owen 2007,
"The pigeonhole bootstrap"), once through either and once through both, and its intervals are too
wide. It is therefore taken apart into what patients, seeds and both contribute, and put together
with the noise counted once (Gallas 2006, "One-shot estimate of MRMC variance: AUC"). Intervals and
p-values are those of Student's t, since there are few seeds.

The folds share training images. How much results would differ for another training set is seen
only as far as each seed draws its own subset (`nested_order`); with all images it is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.libraries import import_for_study

RESAMPLES = 1000
LEVEL = 0.05
POWER = 0.8

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class FoldScores:
    """Scores of a fold's test images by the trainings of two arms, paired by seed.

    Attributes:
        diseased: (n,), which images are.
        patients: (n,), the patient of each image.
        ours: (S, n), scores of the arm in question.
        theirs: (S, n), of the arm that it is compared with; None to estimate the arm alone.
    """

    diseased: Bools
    patients: Sequence[str]
    ours: Floats
    theirs: Floats | None = None


@dataclass(frozen=True)
class Effect:
    """An estimate with its uncertainty.

    Attributes:
        value: the difference, or the value of one arm.
        standard_error: its standard error.
        freedom: degrees of freedom of Student's t.
        from_patients: share of the variance that other patients would make.
        trainings: trainings of each arm.
        patients: patients in all; 0 where only trainings were drawn.
        seed_variance: part of the variance that other seeds would make.
        replicates: (B,), ``value`` for other patients, less ``value``; the same place in every
            effect of the same folds is the same draw of patients.
    """

    value: float
    standard_error: float
    freedom: float
    from_patients: float
    trainings: int
    patients: int
    seed_variance: float
    replicates: Floats = field(repr=False)

    def interval(self, confidence: float = 1 - LEVEL) -> tuple[float, float]:
        """Return the two-sided interval of Student's t."""
        stats: Any = import_for_study("scipy.stats")
        half = float(stats.t.ppf((1 + confidence) / 2, self.freedom)) * self.standard_error
        return self.value - half, self.value + half

    def p_value(self) -> float:
        """Return the two-sided p-value of no effect."""
        if self.standard_error == 0:
            return 1.0 if self.value == 0 else 0.0
        stats: Any = import_for_study("scipy.stats")
        return float(2 * stats.t.sf(abs(self.value) / self.standard_error, self.freedom))

    def smallest_effect(self, comparisons: int = 1) -> float:
        """Return the smallest true effect that such a study shows in 80 of 100 repetitions.

        Args:
            comparisons: how many are corrected for; the first step of Holm's procedure tests at
                5 % divided by as many.
        """
        stats: Any = import_for_study("scipy.stats")
        level = LEVEL / comparisons / 2
        quantiles = stats.t.ppf(1 - level, self.freedom) + stats.t.ppf(POWER, self.freedom)
        return float(quantiles) * self.standard_error


Statistic = Callable[[Floats], Floats]
"""From weights of images (B, n) to a value for each seed (B, S)."""


def auc_effect(folds: Sequence[FoldScores], resamples: int = RESAMPLES) -> Effect:
    """Estimate the AUC of an arm, or its difference from another's.

    Args:
        folds: what is there of each fold: two seeds or more, and two patients or more with and
            without disease.
        resamples: draws of patients.

    Raises:
        UserError: a fold has too few seeds or patients.
    """
    return _effect(folds, [_auc_statistic(fold) for fold in folds], resamples)


def mean_effect(
    folds: Sequence[FoldScores], values: Sequence[Floats], resamples: int = RESAMPLES
) -> Effect:
    """Estimate a mean over images, or a difference of two, such as that of an error of type I.

    Args:
        folds: the folds; their scores are not read.
        values: (S, n) of each fold, what each training and image contributes; NaN of images that
            do not count, such as diseased ones in an error of type I.
        resamples: draws of patients.

    Raises:
        UserError: as :func:`auc_effect`.
    """
    statistics = [_mean_statistic(each) for each in values]
    return _effect(folds, statistics, resamples)


def trainings_effect(values: Sequence[Sequence[float]]) -> Effect:
    """Estimate a mean over trainings, for numbers that are no means over images.

    How much other patients would change is not seen.

    Args:
        values: the number of each seed, or its difference, for each fold.

    Raises:
        UserError: a fold has fewer than two.
    """
    for number, of_fold in enumerate(values):
        _require_seeds(number, len(of_fold))
    folds = len(values)
    variance = sum(float(np.var(each, ddof=1)) / len(each) for each in values) / folds**2
    return Effect(
        float(np.mean([np.mean(each) for each in values])), variance**0.5,
        float(sum(len(each) - 1 for each in values)), 0.0, sum(map(len, values)), 0, variance,
        np.zeros(0),
    )  # fmt: skip


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several sizes by Holm's procedure (1979)."""
    if not p_values:
        return []
    tests: Any = import_for_study("statsmodels.stats.multitest")
    corrected: list[float] = tests.multipletests(p_values, method="holm")[1].tolist()
    return corrected


def number_patients(patients: Sequence[str]) -> NDArray[np.int64]:
    """Number the patients from 0, in the order of their first images: (N,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in patients], np.int64)


def _effect(folds: Sequence[FoldScores], statistics: Sequence[Statistic], resamples: int) -> Effect:
    """Take the variance apart, fold by fold: they have other patients and other trainings."""
    value = seeds = both = patients = 0.0
    squares, trainings, people = 0.0, 0, 0
    replicates = np.zeros(resamples)
    count = len(folds)
    for number, (fold, statistic) in enumerate(zip(folds, statistics, strict=True)):
        _require_seeds(number, len(fold.ours))
        weights, owners = _patient_weights(fold, number, resamples)
        of_seed = statistic(np.ones((1, len(fold.diseased))))[0]  # (S,)
        drawn = statistic(weights)  # (B, S)
        n = len(of_seed)
        value += float(of_seed.mean()) / count
        shifts = drawn.mean(1) - of_seed.mean()
        replicates += shifts / count
        of_patients = float(shifts.var(ddof=1)) / count**2
        of_seeds = float(of_seed.var(ddof=1)) / n / count**2
        # Over the draws of seeds the bootstrap's variance is known: of each draw of patients that
        # of a mean of seeds.
        both += float(drawn.var(axis=1, ddof=1).mean()) / n / count**2
        patients += of_patients
        seeds += of_seeds
        squares += of_seeds**2 / (n - 1) + of_patients**2 / (owners - 2)
        trainings += n
        people += owners
    noise = max(0.0, both - seeds)
    # The noise of one training on one patient is in both: it is counted once.
    total = max(patients + seeds - noise, patients, seeds)
    freedom = total**2 / squares if squares else float(people)  # Satterthwaite 1946
    return Effect(
        value, total**0.5, freedom, patients / total if total else 0.0, trainings, people,
        max(0.0, total - patients), replicates,
    )  # fmt: skip


def _auc_statistic(fold: FoldScores) -> Statistic:
    ill, well = np.flatnonzero(fold.diseased), np.flatnonzero(~fold.diseased)

    def above(scores: Floats) -> Floats:
        """Which of the diseased stand above which of the others: (ill, well), ties half."""
        a, b = scores[ill][:, None], scores[well][None, :]
        return (a > b) + 0.5 * (a == b)

    pairs = [
        above(ours) - (0.0 if fold.theirs is None else above(fold.theirs[seed]))
        for seed, ours in enumerate(fold.ours)
    ]

    def statistic(weights: Floats) -> Floats:
        of_ill, of_well = weights[:, ill], weights[:, well]
        whole = of_ill.sum(1) * of_well.sum(1)
        sums = [((of_ill @ each) * of_well).sum(1) for each in pairs]
        found: Floats = np.stack(sums, 1) / whole[:, None]
        return found

    return statistic


def _mean_statistic(values: Floats) -> Statistic:
    counted = ~np.isnan(values[0])
    if not (np.isnan(values) == ~counted).all():
        raise ValueError("values: expected NaN for the same images in every seed")
    kept = values[:, counted]

    def statistic(weights: Floats) -> Floats:
        of_counted = weights[:, counted]
        found: Floats = of_counted @ kept.T / of_counted.sum(1)[:, None]
        return found

    return statistic


def _patient_weights(fold: FoldScores, number: int, resamples: int) -> tuple[Floats, int]:
    """Weights of images in draws of patients, (B, n), and the number of patients.

    Patients with and without disease are drawn apart, one fewer than there are, which makes the
    variance of a mean unbiased (Rao and Wu 1988). The draw depends on the fold's place alone, so
    that all effects of the same images see the same patients.
    """
    rng = np.random.default_rng(number)
    places = number_patients(fold.patients)
    owners = int(places.max()) + 1
    ill = np.bincount(places, fold.diseased, owners) > 0
    drawn = np.zeros((resamples, owners))
    for kind, title in ((True, "with"), (False, "without")):
        of_kind = np.flatnonzero(ill == kind)
        if len(of_kind) < 2:
            raise UserError(
                f"fold {number}: {len(of_kind)} patients {title} disease in its test images; an "
                "interval needs 2 or more"
            )
        shares = np.full(len(of_kind), 1 / len(of_kind))
        drawn[:, of_kind] = rng.multinomial(len(of_kind) - 1, shares, size=resamples)
    return drawn[:, places], owners


def _require_seeds(number: int, seeds: int) -> None:
    if seeds < 2:
        raise UserError(
            f"fold {number}: {seeds} seeds of both arms are there; an interval needs 2 or more"
        )

"""Which trainings of a study are compared, and what their comparison finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.studies.augmentation.effects import (
    Effect,
    FoldScores,
    auc_effect,
    mean_effect,
    trainings_effect,
)
from cxrgan_fast.studies.augmentation.mcnemar import compare_mistakes
from cxrgan_fast.studies.augmentation.outcomes import (
    OUTCOMES,
    THRESHOLDS,
    choose_thresholds,
    steps_until,
)
from cxrgan_fast.studies.augmentation.predictions import read_predictions
from cxrgan_fast.studies.augmentation.scores import Floats, negative_label, probabilities
from cxrgan_fast.studies.augmentation.trainings import Training

CHOSEN = "*"
"""What stands for a ratio that validation patients have chosen, as in RAS_*."""

Cells = Mapping[tuple[int, int], Training]
"""Trainings of one size and arm by fold and seed."""


@dataclass(frozen=True)
class Told:
    """What a training has told of its fold's test images, and the thresholds of its validation."""

    scores: Floats
    diseased: NDArray[np.bool_]
    patients: tuple[str, ...]
    files: tuple[str, ...]
    thresholds: dict[str, float]


class Reader:
    """Reads each training's predictions once.

    Args:
        folder: folder of the table of trainings.
        negative: name of the class without disease; None for the one called normal.
    """

    def __init__(self, folder: Path, negative: str | None = None) -> None:
        self.folder, self.negative = folder, negative
        self._read: dict[str, Told] = {}

    def __call__(self, training: Training) -> Told:
        """Return what a training has told.

        Raises:
            UserError: its file cannot be read, or lacks a part.
        """
        name = training.predictions
        if name not in self._read:
            parts = read_predictions(self.folder / name)
            if not {"validation", "test"} <= parts.keys():
                raise UserError(
                    f"{printable(str(self.folder / name))} has no predictions of validation and "
                    "test images; train its classifier again"
                )
            validation, test = parts["validation"], parts["test"]
            label = negative_label(test.class_names, self.negative)
            chosen = choose_thresholds(validation.scores(label), validation.diseased(label))
            self._read[name] = Told(
                test.scores(label), test.diseased(label), test.patients, test.files, chosen
            )
        return self._read[name]


def chosen_by_validation(trainings: Iterable[Training]) -> dict[tuple[int, int], Training]:
    """Choose the ratio of an arm for each fold and seed by the validation AUC; of equals the least.

    Args:
        trainings: those of one size and arm, of all its ratios.
    """
    best: dict[tuple[int, int], Training] = {}
    for each in sorted(trainings, key=lambda training: training.ratio or 0.0):
        before = best.get((each.fold, each.seed))
        if before is None or each.validation_auc > before.validation_auc:
            best[each.fold, each.seed] = each
    return best


@dataclass(frozen=True)
class Pair:
    """Trainings of two arms of one size, paired by fold and seed.

    Attributes:
        folds: pairs of trainings of each fold, by seed: ours and theirs.
        left_out: folds of which fewer than two pairs are there.
    """

    folds: list[list[tuple[Training, Training]]]
    left_out: list[int]

    @classmethod
    def of(cls, ours: Cells, theirs: Cells) -> Pair:
        """Pair what is there of both."""
        both = sorted(ours.keys() & theirs.keys())
        folds, left_out = [], []
        for fold in sorted({fold for fold, _ in ours.keys() | theirs.keys()}):
            pairs = [(ours[key], theirs[key]) for key in both if key[0] == fold]
            if len(pairs) >= 2:
                folds.append(pairs)
            else:
                left_out.append(fold)
        return cls(folds, left_out)


def fold_scores(pair: Pair, read: Reader, *, alone: bool = False) -> list[FoldScores]:
    """Collect the scores of a pair.

    Args:
        pair: the trainings.
        read: reads predictions.
        alone: only those of "ours".

    Raises:
        UserError: trainings of a fold were tested on different images.
    """
    found = []
    for pairs in pair.folds:
        told = [(read(ours), read(theirs)) for ours, theirs in pairs]
        first = told[0][0]
        for number, each in enumerate(told):
            for training, other in zip(pairs[number], each, strict=True):
                if (other.files, other.patients) != (first.files, first.patients):
                    raise UserError(
                        f"{training.predictions}: its test images are not those of the other "
                        f"trainings of fold {training.fold}; train its classifier again"
                    )
        found.append(
            FoldScores(
                first.diseased,
                first.patients,
                np.stack([ours.scores for ours, _ in told]),
                None if alone else np.stack([theirs.scores for _, theirs in told]),
            )
        )
    return found


def effect_of(outcome: str, pair: Pair, read: Reader) -> Effect:
    """Estimate the difference of an outcome between two arms.

    Patients and trainings are drawn; of the calibration error and slope, which are no means over
    images, trainings alone.

    Args:
        outcome: one of `OUTCOMES`.
        pair: the trainings.
        read: reads predictions.

    Raises:
        UserError: there are too few seeds or patients, or no slope.
    """
    folds = fold_scores(pair, read)
    if outcome == "auc":
        return auc_effect(folds)
    if outcome in ("calibration_error", "calibration_slope"):
        return trainings_effect([_differences(outcome, pairs) for pairs in pair.folds])
    values = []
    for pairs in pair.folds:
        of_image = [
            _contribution(outcome, read(ours)) - _contribution(outcome, read(theirs))
            for ours, theirs in pairs
        ]
        values.append(np.stack(of_image))
    return mean_effect(folds, values)


def _differences(outcome: str, pairs: Sequence[tuple[Training, Training]]) -> list[float]:
    found = []
    for ours, theirs in pairs:
        a, b = ours.outcomes[outcome], theirs.outcomes[outcome]
        if a is None or b is None:
            raise UserError(
                f"{(ours if a is None else theirs).predictions}: it has no {outcome}, since it "
                "tells the test images apart without a mistake"
            )
        found.append(a - b)
    return found


def _contribution(outcome: str, told: Told) -> Floats:
    """What each test image adds to an outcome that is a mean; NaN of those that do not count."""
    scores, ill = told.scores, told.diseased
    called = (scores >= 0).astype(float)
    plain: dict[str, Callable[[], Floats]] = {
        "accuracy": lambda: (called == ill).astype(float),
        "sensitivity": lambda: np.where(ill, called, np.nan),
        "specificity": lambda: np.where(ill, np.nan, 1 - called),
        "brier": lambda: (probabilities(scores) - ill) ** 2,
    }
    if outcome in plain:
        return plain[outcome]()
    threshold = outcome.removeprefix("type_1_").removeprefix("type_2_")
    called = (scores >= told.thresholds[threshold]).astype(float)
    first = outcome.startswith("type_1_")
    return np.where(ill, np.nan, called) if first else np.where(ill, 1 - called, np.nan)


def mistakes_of(pair: Pair, read: Reader) -> dict[str, dict[str, Any]]:
    """Compare the mistakes of two arms by McNemar's test, at each threshold and within each kind.

    Each image is called by the mean over seeds of how far its score is above the threshold that the
    training's validation images have chosen.

    Returns:
        By threshold, then ``normal`` (errors of type I) and ``diseased`` (of type II).
    """
    found: dict[str, dict[str, Any]] = {}
    for threshold in THRESHOLDS:
        wrong: list[list[NDArray[np.bool_]]] = [[], []]
        ill, patients = [], list[str]()
        for pairs in pair.folds:
            for place, mistakes in enumerate(wrong):
                told = [read(training[place]) for training in pairs]
                above = np.mean([each.scores - each.thresholds[threshold] for each in told], axis=0)
                mistakes.append((above >= 0) != told[0].diseased)
            first = read(pairs[0][0])
            ill.append(first.diseased)
            # A patient is tested in one fold only.
            patients += first.patients
        ours, theirs = map(np.concatenate, wrong)
        kinds = {"normal": ~np.concatenate(ill), "diseased": np.concatenate(ill)}
        names = np.array(patients, dtype=object)
        found[threshold] = {
            kind: compare_mistakes(ours[rows], theirs[rows], names[rows].tolist()).to_plain()
            for kind, rows in kinds.items()
        }
    return found


def training_rate(pair: Pair) -> dict[str, Any]:
    """Say after how many steps each arm has the validation AUC that the other ends with.

    Returns:
        ``pairs``; ``reached`` of them, in which the arm in question gets there; of those the mean
        ``steps``, and ``steps_of_other``, in which the other arm first has it.
    """
    found = []
    pairs = [each for fold in pair.folds for each in fold]
    for ours, theirs in pairs:
        target = theirs.validation_auc
        first, other = steps_until(ours.curve, target), steps_until(theirs.curve, target)
        if first is not None and other is not None:
            found.append((first, other))
    return {
        "pairs": len(pairs),
        "reached": len(found),
        "steps": float(np.mean([first for first, _ in found])) if found else None,
        "steps_of_other": float(np.mean([other for _, other in found])) if found else None,
    }


def described(effect: Effect, comparisons: int = 1) -> dict[str, Any]:
    """Return an effect as plain values for JSON.

    Args:
        effect: it.
        comparisons: how many the smallest effect is corrected for.
    """
    low, high = effect.interval()
    return {
        "difference": effect.value,
        "interval_95": [low, high],
        "p_value": effect.p_value(),
        "standard_error": effect.standard_error,
        "freedom": effect.freedom,
        "share_from_patients": effect.from_patients,
        "smallest_effect": effect.smallest_effect(comparisons),
        "trainings": effect.trainings,
        "patients": effect.patients,
    }


SECONDARY = tuple(name for name in OUTCOMES if name != "auc")

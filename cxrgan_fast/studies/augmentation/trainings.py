"""The table of a study's trainings: a row each, with outcomes and the file of its predictions."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small, write_atomic
from cxrgan_fast.studies.augmentation.arms import ARMS, find_arm
from cxrgan_fast.studies.augmentation.outcomes import (
    OUTCOMES,
    choose_thresholds,
    measure_outcomes,
)
from cxrgan_fast.studies.augmentation.predictions import Predictions, write_predictions
from cxrgan_fast.studies.augmentation.subsets import ALL, Size

COLUMNS = ("fold", "size", "images", "arm", "ratio", "seed", "validation_auc", *OUTCOMES, "curve",
           "predictions")  # fmt: skip
_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Training:
    """A training of a classifier.

    Attributes:
        fold: number of the fold.
        size: number of real images, or "all".
        images: number of real images, which of "all" is another in each fold.
        arm: name of the arm.
        ratio: the arm's ratio; None where it has none.
        seed: the training's seed.
        outcomes: numbers by the names of `OUTCOMES`, of the fold's test images.
        curve: pairs of steps and validation AUC.
        predictions: file of its predictions, from the folder of the table.
    """

    fold: int
    size: Size
    images: int
    arm: str
    ratio: float | None
    seed: int
    outcomes: dict[str, float | None]
    curve: tuple[tuple[int, float], ...]
    predictions: str

    @property
    def label(self) -> str:
        """Return the arm's name with its ratio."""
        return ARMS[self.arm].label(self.ratio)

    @property
    def validation_auc(self) -> float:
        """Return the AUC on the fold's validation images, after the last step."""
        return self.curve[-1][1]

    @property
    def key(self) -> tuple[int, Size, str, float | None, int]:
        """Return what tells a training from all others of a study."""
        return self.fold, self.size, self.arm, self.ratio, self.seed


def keep_training(
    folder: Path,
    *,
    fold: int,
    size: Size,
    images: int,
    arm: str,
    ratio: float | None,
    seed: int,
    curve: Sequence[tuple[int, float]],
    validation: Predictions,
    test: Predictions,
    negative: int,
) -> Training:
    """Write a training's predictions, and measure its outcomes.

    Args:
        folder: folder of the study; the file goes to its folder ``predictions``.
        fold: see `Training`.
        size: see `Training`.
        images: see `Training`.
        arm: see `Training`.
        ratio: see `Training`.
        seed: see `Training`.
        curve: see `Training`.
        validation: predictions of the validation images, by which thresholds are chosen.
        test: predictions of the test images.
        negative: label of the class without disease.

    Raises:
        UserError: the file cannot be written, or a part has images of one kind alone.
    """
    thresholds = choose_thresholds(validation.scores(negative), validation.diseased(negative))
    outcomes = measure_outcomes(test.scores(negative), test.diseased(negative), thresholds)
    name = f"fold{fold}-size{size}-{find_arm(arm).label(ratio)}-seed{seed}.csv"
    place = folder / "predictions"
    place.mkdir(parents=True, exist_ok=True)
    write_predictions(place / name, {"validation": validation, "test": test})
    return Training(
        fold, size, images, arm, ratio, seed, outcomes, tuple(curve), f"predictions/{name}"
    )


def write_trainings(path: Path, trainings: Iterable[Training]) -> None:
    """Write the table, in the order of size, arm, fold and seed.

    Raises:
        UserError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in sorted(trainings, key=_order):
        curve = " ".join(f"{steps}:{auc!r}" for steps, auc in each.curve)
        values = [each.outcomes[name] for name in OUTCOMES]
        row = [each.fold, each.size, each.images, each.arm, each.ratio, each.seed,
               each.validation_auc, *values, curve, each.predictions]  # fmt: skip
        writer.writerow(["" if value is None else value for value in row])
    write_atomic(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_trainings(path: Path) -> list[Training]:
    """Read what :func:`write_trainings` wrote.

    Raises:
        UserError: the file cannot be read, a row is none of such a table, or two rows are of the
            same training.
    """
    where = printable(str(path))
    text = read_small(path, _MOST_BYTES).decode("utf-8", "surrogateescape")
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{where} is damaged ({error}); write it again") from None
    if not lines or tuple(lines[0]) != COLUMNS:
        raise UserError(
            f"{where} is no table of trainings: expected the columns {', '.join(COLUMNS)}"
        )
    found: dict[tuple[object, ...], Training] = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            training = _read(line)
        except (ValueError, IndexError, UserError) as error:
            raise UserError(
                f"{where}, row {number} is no training ({printable(str(error))}); take it out, or "
                "write the table again"
            ) from None
        if training.key in found:
            raise UserError(f"{where}, row {number}: the training is there twice; take one out")
        found[training.key] = training
    return list(found.values())


def _read(line: Sequence[str]) -> Training:
    if len(line) != len(COLUMNS):
        raise ValueError(f"{len(line)} columns, expected {len(COLUMNS)}")
    row = dict(zip(COLUMNS, line, strict=True))
    arm = find_arm(row["arm"])
    ratio = _number(row["ratio"]) if row["ratio"] else None
    if arm.takes_ratio != (ratio is not None):
        raise ValueError(f"arm {arm.name} with ratio {row['ratio']!r}")
    pairs = [word.split(":") for word in row["curve"].split()]
    curve = tuple((int(steps), _number(auc)) for steps, auc in pairs)
    if not curve:
        raise ValueError("it has no curve")
    outcomes = {name: _number(row[name]) if row[name] else None for name in OUTCOMES}
    missing = [name for name in OUTCOMES if outcomes[name] is None and name != "calibration_slope"]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    size: Size = ALL if row["size"] == ALL else int(row["size"])
    return Training(
        int(row["fold"]), size, int(row["images"]), arm.name, ratio, int(row["seed"]), outcomes,
        curve, row["predictions"],
    )  # fmt: skip


def _number(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word} is no number")
    return value


def _order(training: Training) -> tuple[object, ...]:
    size = (training.size == ALL, training.images if training.size == ALL else training.size)
    arm = list(ARMS).index(training.arm)
    return (size[0], 0 if size[0] else size[1], arm, training.ratio or 0.0, training.fold,
            training.seed)  # fmt: skip

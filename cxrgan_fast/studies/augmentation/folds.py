"""Folds of a set by patient: what each tests on, chooses by, and may train on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.libraries import import_for_study

FOLDS = 5
VALIDATION_PARTS = 5
"""Of so many parts of a fold's other patients one is for validation."""
_MOST_SEED = 2**32 - 1  # scikit-learn takes none above

Rows = tuple[int, ...]


@dataclass(frozen=True)
class Fold:
    """One division of a set's images; no patient is in two of its parts.

    Each part has rows of the set, ascending. The set is the one of that fingerprint.

    Attributes:
        number: place among the folds, from 0.
        fingerprint: the whole set's; see `ImageDataset`.
        train: rows that a classifier and a generator may be trained on.
        validation: rows by which the share of synthetic images and thresholds are chosen.
        test: rows that outcomes are measured on.
    """

    number: int
    fingerprint: str
    train: Rows
    validation: Rows
    test: Rows

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON, of which :meth:`from_plain` makes the fold again."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in asdict(self).items()}  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Fold:
        """Make a fold of what :meth:`to_plain` gave.

        Raises:
            UserError: a part is missing, or is no list of rows.
        """
        parts = {}
        for name in ("train", "validation", "test"):
            rows = plain.get(name)
            if not isinstance(rows, list) or not all(type(row) is int and row >= 0 for row in rows):
                raise UserError(f"fold: {name} is {rows!r:.60}, expected a list of rows from 0")
            parts[name] = tuple(rows)
        number, fingerprint = plain.get("number"), plain.get("fingerprint")
        if type(number) is not int or not isinstance(fingerprint, str):
            raise UserError(
                f"fold: number {number!r:.60}, fingerprint {fingerprint!r:.80}: expected a whole "
                "number and a text"
            )
        return cls(number, fingerprint, **parts)


def make_folds(
    fingerprint: str,
    patients: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    folds: int = FOLDS,
    validation_parts: int = VALIDATION_PARTS,
    seed: int = 0,
) -> list[Fold]:
    """Divide a set into folds by patient, stratified by class.

    Every image is tested in exactly one fold. Of a fold's other patients one part of
    ``validation_parts`` is for validation, the rest for training; where a class has fewer patients
    there than that, one part of as many as they are, but of two at least.

    Args:
        fingerprint: the set's.
        patients: the patient of each of N images.
        labels: the class of each, 0 to K - 1.
        class_names: the K classes.
        folds: how many, 2 or more.
        validation_parts: 2 or more.
        seed: random seed of the division, 0 to 2^32 - 1.

    Returns:
        The folds, which are the same for the same arguments and version of scikit-learn: so a
        study stores them.

    Raises:
        UserError: too few patients, or a number that cannot be.
    """
    for name, value in (("folds", folds), ("validation parts", validation_parts)):
        if value < 2:
            raise UserError(f"{name} {value}: expected 2 or more")
    if not 0 <= seed <= _MOST_SEED:
        raise UserError(f"seed {seed}: expected 0 to {_MOST_SEED}")
    groups, classes = np.asarray(patients), np.asarray(labels)
    for label, name in enumerate(class_names):
        number = len(set(groups[classes == label].tolist()))
        least = max(folds, 3)  # a patient for each fold's test; one for each part of a fold
        if number < least:
            raise UserError(
                f"class {name!r} has {number} patients, too few for {folds} folds with a patient "
                f"of it in training, validation and test: expected {least} or more; add patients, "
                "or take fewer folds"
            )
    made = []
    everything = np.arange(len(classes))
    for number, test in enumerate(_parts(classes, groups, folds, seed)):
        others = np.setdiff1d(everything, test)
        for label, name in enumerate(class_names):
            if len(set(groups[others[classes[others] == label]].tolist())) < 2:
                raise _lacking(number, name, "training and validation")
        chosen = _parts(classes[others], groups[others], validation_parts, seed + number)[0]
        validation = others[chosen]
        fold = Fold(
            number,
            fingerprint,
            train=_plain(np.setdiff1d(others, validation)),
            validation=_plain(validation),
            test=_plain(test),
        )
        _require_classes(fold, classes, class_names)
        made.append(fold)
    return made


def _parts(
    classes: NDArray[Any], groups: NDArray[Any], count: int, seed: int
) -> list[NDArray[np.int64]]:
    """The rows of each of some parts that share no patient, ascending."""
    selection = import_for_study("sklearn.model_selection")
    # Of few patients there are fewer parts, so that each class is in all of them.
    fewest = min(len(set(groups[classes == label].tolist())) for label in set(classes.tolist()))
    count = max(2, min(count, fewest))
    state = seed % (_MOST_SEED + 1)
    splitter = selection.StratifiedGroupKFold(count, shuffle=True, random_state=state)
    with warnings.catch_warnings():
        # It counts a class's images, and warns of few; their patients are counted here.
        warnings.simplefilter("ignore", UserWarning)
        return [np.sort(part) for _, part in splitter.split(classes, classes, groups)]


def _plain(rows: NDArray[np.int64]) -> Rows:
    return tuple(rows.tolist())


def _require_classes(fold: Fold, classes: NDArray[Any], class_names: Sequence[str]) -> None:
    for part in ("train", "validation", "test"):
        there = set(classes[list(getattr(fold, part))].tolist())
        for label, name in enumerate(class_names):
            if label not in there:
                raise _lacking(fold.number, name, part)


def _lacking(number: int, name: str, part: str) -> UserError:
    return UserError(
        f"fold {number}: too few patients of class {name!r} are left for {part}; add patients of "
        "it, take fewer folds, or another seed"
    )

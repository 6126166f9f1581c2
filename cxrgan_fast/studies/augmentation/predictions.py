"""Logits of a training's validation and test images, each with its patient and class, as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small, write_atomic
from cxrgan_fast.studies.augmentation.scores import Floats, disease_scores

_COLUMNS = ("part", "file", "patient", "class")
_PREFIX = "logit "
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Predictions:
    """Logits of some images.

    Attributes:
        class_names: names of the K classes.
        logits: (N, K) float32.
        labels: (N,) int64.
        patients: the patient of each image.
        files: name of each image in its source.
    """

    class_names: tuple[str, ...]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    patients: tuple[str, ...]
    files: tuple[str, ...]

    @classmethod
    def of(cls, dataset: ImageDataset, logits: NDArray[np.float32]) -> Predictions:
        """Join a set's images with their logits (N, K)."""
        labels = dataset.labels.numpy()
        return cls(
            dataset.class_names, logits, labels, tuple(dataset.patients), tuple(dataset.files)
        )

    def scores(self, negative: int) -> Floats:
        """Return the log-odds of disease of each image; see `disease_scores`."""
        return disease_scores(self.logits, negative)

    def diseased(self, negative: int) -> NDArray[np.bool_]:
        """Return which images are of another class than the negative one: (N,) bool."""
        found: NDArray[np.bool_] = self.labels != negative
        return found


def write_predictions(path: Path, parts: Mapping[str, Predictions]) -> None:
    """Write predictions of several parts, whole or not at all.

    Args:
        path: file to write.
        parts: predictions by the name of the part, such as "test"; all of the same classes.

    Raises:
        UserError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = next(iter(parts.values())).class_names
    writer.writerow([*_COLUMNS, *(_PREFIX + name for name in names)])
    for part, each in parts.items():
        for file, patient, label, logits in zip(
            each.files, each.patients, each.labels.tolist(), each.logits.tolist(), strict=True
        ):
            # Nine digits give back every float32.
            row = [part, file, patient, names[label], *(f"{logit:.9g}" for logit in logits)]
            writer.writerow(row)
    write_atomic(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_predictions(path: Path) -> dict[str, Predictions]:
    """Read what :func:`write_predictions` wrote.

    Raises:
        UserError: the file cannot be read, or a line is none of such a table.
    """
    text = read_small(path, _MOST_BYTES).decode("utf-8", "surrogateescape")
    where = printable(str(path))
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{where} is damaged ({error}); train its classifier again") from None
    header = lines[0] if lines else []
    names = tuple(word.removeprefix(_PREFIX) for word in header[len(_COLUMNS) :])
    if tuple(header[: len(_COLUMNS)]) != _COLUMNS or not names or "logit " + names[0] not in header:
        raise UserError(
            f"{where} is no table of predictions: expected the columns {', '.join(_COLUMNS)} and "
            f"the logits, got {printable(', '.join(header)):.200}"
        )
    parts: dict[str, list[Sequence[str]]] = {}
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header) or line[3] not in names or not _finite(line[4:]):
            raise UserError(
                f"{where}, row {number}: {printable(', '.join(line)):.200} is no prediction; train "
                "its classifier again"
            )
        parts.setdefault(line[0], []).append(line)
    return {
        part: Predictions(
            names,
            np.array([[float(word) for word in line[4:]] for line in rows], np.float32),
            np.array([names.index(line[3]) for line in rows], np.int64),
            tuple(line[2] for line in rows),
            tuple(line[1] for line in rows),
        )
        for part, rows in parts.items()
    }


def _finite(words: Sequence[str]) -> bool:
    try:
        return all(math.isfinite(float(word)) for word in words)
    except ValueError:
        return False

"""McNemar's test of two arms' mistakes, within normal and within diseased images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.studies.augmentation.effects import number_patients
from cxrgan_fast.studies.augmentation.libraries import import_for_study

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Mistakes:
    """Images on which only one of two arms is wrong.

    Attributes:
        images: number of images.
        only_ours: how many only the arm in question gets wrong.
        only_theirs: how many only the other arm gets wrong.
        p_value: McNemar's exact one, which takes images for independent.
        p_by_patient: that of Durkalski et al. 2003, which takes patients for independent; None
            where no patient speaks for either arm.
    """

    images: int
    only_ours: int
    only_theirs: int
    p_value: float
    p_by_patient: float | None

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def compare_mistakes(ours: Bools, theirs: Bools, patients: Sequence[str]) -> Mistakes:
    """Compare the mistakes of two arms on the same images.

    Args:
        ours: (N,), which images the arm in question gets wrong.
        theirs: (N,), which ones the other arm does.
        patients: the patient of each image.
    """
    tables: Any = import_for_study("statsmodels.stats.contingency_tables")
    only_ours, only_theirs = ours & ~theirs, theirs & ~ours
    b, c = int(only_ours.sum()), int(only_theirs.sum())
    table = [[0, b], [c, 0]]
    p = float(tables.mcnemar(table, exact=True).pvalue) if b + c else 1.0
    return Mistakes(
        len(ours), b, c, p, _by_patient(only_ours.astype(float) - only_theirs, patients)
    )


def _by_patient(signs: NDArray[np.float64], patients: Sequence[str]) -> float | None:
    """Durkalski's statistic: the sum of the patients' means over its standard deviation."""
    places = number_patients(patients)
    means = np.bincount(places, signs) / np.bincount(places)
    square = float((means**2).sum())
    if square == 0:
        return None
    stats: Any = import_for_study("scipy.stats")
    return float(stats.chi2.sf(means.sum() ** 2 / square, 1))

"""``python -m research.simulated_studies``: do the intervals of the augmentation study hold?

Scores of classifiers are drawn from a model whose AUCs are known, for studies of several sizes with
five folds and six seeds: patients differ, in both arms alike and in what synthetic images do to
them; trainings differ, as a whole and in the noise that each has on each image. The same estimates
are made of them as of a study. Of many such studies it is noted how often an interval of 95 % holds
the truth, how often an effect is found where there is none, and how often where there is one.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.command import check, parser_of, prepare_process, recorded
from bench.record import RESULTS, Result
from cxrgan_fast.command import run_command
from cxrgan_fast.evaluation.table import aligned
from cxrgan_fast.studies.augmentation.effects import (
    LEVEL,
    Effect,
    FoldScores,
    auc_effect,
    holm,
    mean_effect,
)
from cxrgan_fast.studies.augmentation.learning_curve import (
    find_break_even,
    fit_curve,
    worth_in_images,
)
from cxrgan_fast.studies.augmentation.libraries import import_for_study
from cxrgan_fast.studies.augmentation.mcnemar import compare_mistakes

FOLDS, SEEDS = 5, 6
IMAGES_A_PATIENT = 2
PATIENTS = (12, 24)
"""Without and with disease, in the test part of each fold."""
SIZES = (100, 400, 1600)
RESAMPLES = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """How scores come about; all deviations are in units of the scores.

    Attributes:
        name: what a reader calls it.
        separations: of each size, the distance of the mean scores of both kinds, of real images.
        gains: of each size, how much synthetic images add to that.
        patient: deviation between patients, the same in both arms.
        own: deviation between patients of what each arm does to them, one apart from the other.
        quality: deviation between trainings of the separation.
        image: deviation between images of a patient.
        noise: deviation of one training on one image.
    """

    name: str
    separations: tuple[float, ...]
    gains: tuple[float, ...]
    patient: float = 0.7
    own: float = 0.2
    quality: float = 0.15
    image: float = 0.5
    noise: float = 0.4

    def auc(self, size: int, synthetic: bool) -> float:
        """The expected AUC of a training: patients, images and trainings are normal."""
        stats: Any = import_for_study("scipy.stats")
        square = self.patient**2 + self.own**2 + self.image**2 + self.noise**2
        mean = self.separations[size] + (self.gains[size] if synthetic else 0.0)
        return float(stats.norm.cdf(mean / math.sqrt(2 * square + self.quality**2)))

    def gain(self, size: int) -> float:
        """The true difference of AUC."""
        return self.auc(size, True) - self.auc(size, False)

    def draw(self, seed: int) -> list[list[FoldScores]]:
        """A study: of each size its folds. All sizes have the same patients and images."""
        rng = np.random.default_rng(seed)
        counts = [count * IMAGES_A_PATIENT for count in PATIENTS]
        diseased = np.repeat([False, True], counts)
        owners = np.arange(sum(counts)) // IMAGES_A_PATIENT
        people = sum(PATIENTS)
        study: list[list[FoldScores]] = [[] for _ in self.gains]
        for _ in range(FOLDS):
            common = self.patient * rng.standard_normal(people)[owners]
            common += self.image * rng.standard_normal(len(diseased))
            for size, folds in enumerate(study):
                arms = []
                for synthetic in (True, False):
                    mean = self.separations[size] + (self.gains[size] if synthetic else 0.0)
                    apart = mean + self.quality * rng.standard_normal(SEEDS)
                    scores = common + self.own * rng.standard_normal(people)[owners]
                    scores = scores + self.noise * rng.standard_normal((SEEDS, len(diseased)))
                    scores += apart[:, None] * (diseased - 0.5)
                    arms.append(scores)
                folds.append(FoldScores(diseased, [str(owner) for owner in owners], *arms))
        return study


_CURVE = (1.2, 1.6, 2.0)
_NONE = (0.0, 0.0, 0.0)
MODELS = (
    Model("no effect", _CURVE, _NONE),
    # Synthetic images change nothing at all: all that differs is the noise of each training.
    Model("no effect, trainings differ by noise alone", _CURVE, _NONE, own=0.0, quality=0.0),
    Model("no effect, trainings differ much", _CURVE, _NONE, own=0.0, quality=0.5),
    Model("no effect, patients differ much", _CURVE, _NONE, own=0.8, quality=0.05),
    Model("an effect that ends at about 400 images", _CURVE, (0.25, 0.0, -0.25)),
    Model("the same effect at all sizes", _CURVE, (0.2, 0.2, 0.2)),
)


def estimate(model: Model, seed: int) -> dict[str, Any]:
    """What a study of the model finds, and whether it is right."""
    study = model.draw(seed)
    gains = [auc_effect(folds, RESAMPLES) for folds in study]
    real = [auc_effect([_alone(fold) for fold in folds], RESAMPLES) for folds in study]
    p_values = [gain.p_value() for gain in gains]
    truths = [model.gain(size) for size in range(len(SIZES))]
    errors = [_type_1(folds) for folds in study]
    mistakes = _mistakes(study[0])
    found: dict[str, Any] = {
        "p_values": p_values,
        "holm": holm(p_values),
        "widths": [high - low for low, high in (gain.interval() for gain in gains)],
        "smallest": [gain.smallest_effect() for gain in gains],
        "held": [_holds(gain, truth) for gain, truth in zip(gains, truths, strict=True)],
        "held_auc": [
            _holds(each, model.auc(size, False)) for size, each in enumerate(real)
        ],
        "type_1_p_values": [each.p_value() for each in errors],
        "mcnemar": mistakes,
    }  # fmt: skip
    broken = find_break_even(SIZES, gains)
    if broken is not None and broken.low is not None and broken.high is not None:
        truth = _true_break_even(truths)
        found["break_even"] = [broken.low, broken.high, truth]
    worth = worth_in_images(SIZES, real, SIZES[0], gains[0], seed=seed)
    if worth is not None:
        found["worth"] = [worth.low, worth.high, true_worth(model)]
    return found


def _alone(fold: FoldScores) -> FoldScores:
    assert fold.theirs is not None
    return replace(fold, ours=fold.theirs, theirs=None)


def _type_1(folds: Sequence[FoldScores]) -> Effect:
    values = []
    for fold in folds:
        assert fold.theirs is not None
        called = (fold.ours >= 0).astype(float) - (fold.theirs >= 0)
        values.append(np.where(fold.diseased, np.nan, called))
    return mean_effect(folds, values, RESAMPLES)


def _mistakes(folds: Sequence[FoldScores]) -> list[float | None]:
    """McNemar's p-values within normals, by images and by patients, of the mean score of seeds."""
    ours, theirs, patients = [], [], []
    for number, fold in enumerate(folds):
        assert fold.theirs is not None
        ours.append(fold.ours.mean(0)[~fold.diseased] >= 0)
        theirs.append(fold.theirs.mean(0)[~fold.diseased] >= 0)
        names = np.asarray(fold.patients)[~fold.diseased]
        patients += [f"{number} {name}" for name in names]
    made = compare_mistakes(np.concatenate(ours), np.concatenate(theirs), patients)
    return [made.p_value, made.p_by_patient]


def _holds(effect: Effect, truth: float) -> bool:
    low, high = effect.interval()
    return low <= truth <= high


def _true_break_even(gains: Sequence[float]) -> float | None:
    """Where the line through the true gains crosses 0; None where it is level."""
    slope, level = np.polyfit(np.log(SIZES), gains, 1)
    return None if abs(slope) < 1e-9 else math.exp(-level / slope)


def true_worth(model: Model) -> float:
    """Real images that the true gain at the smallest size is worth, by the fitted true curve."""
    curve = fit_curve(SIZES, [model.auc(size, False) for size in range(len(SIZES))])
    assert curve is not None
    there = curve.size_of(curve.auc(SIZES[0]) + model.gain(0))
    return min(there, float(SIZES[-1])) - SIZES[0]


def summarize(model: Model, studies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How often the estimates were right; shares of studies, or of studies and sizes."""

    def share(of: Sequence[Any]) -> float | None:
        return sum(map(bool, of)) / len(of) if of else None

    intervals = [study["break_even"] for study in studies if "break_even" in study]
    worths = [study["worth"] for study in studies if "worth" in study]
    by_patient = [study["mcnemar"][1] for study in studies if study["mcnemar"][1] is not None]
    no_effect = not any(model.gains)
    return {
        "model": asdict(model),
        "studies": len(studies),
        "true_gains": [model.gain(size) for size in range(len(SIZES))],
        "held": share([held for study in studies for held in study["held"]]),
        "held_auc": share([held for study in studies for held in study["held_auc"]]),
        "found": [
            share([study["p_values"][size] < LEVEL for study in studies])
            for size in range(len(SIZES))
        ],
        "found_any_by_holm": share([min(study["holm"]) < LEVEL for study in studies]),
        "mean_smallest_effect": [
            float(np.mean([study["smallest"][size] for study in studies]))
            for size in range(len(SIZES))
        ],
        "type_1_found": share([p < LEVEL for study in studies for p in study["type_1_p_values"]])
        if no_effect else None,
        "mcnemar_found": share([study["mcnemar"][0] < LEVEL for study in studies]),
        "mcnemar_by_patient_found": share([p < LEVEL for p in by_patient]),
        "break_even_told": len(intervals),
        "break_even_held": share([low <= truth <= high for low, high, truth in intervals
                                  if truth is not None]),
        "worth_held": share([low <= truth and (high is None or truth <= high)
                             for low, high, truth in worths]),
    }  # fmt: skip


def report(record: dict[str, Any]) -> str:
    """The shares as text for a terminal."""
    settings = record["settings"]
    rows = [["scores", "gains", "95 % holds gain", "holds AUC", "found", "any, Holm",
             "smallest effect", "type I found", "break-even", "worth"]]  # fmt: skip
    rows += [
        [
            case["model"]["name"],
            ", ".join(f"{gain:+.3f}" for gain in case["true_gains"]),
            _percent(case["held"]),
            _percent(case["held_auc"]),
            ", ".join(map(_percent, case["found"])),
            _percent(case["found_any_by_holm"]),
            ", ".join(f"{each:.3f}" for each in case["mean_smallest_effect"]),
            _percent(case["type_1_found"]),
            f"{_percent(case['break_even_held'])} of {case['break_even_told']}",
            _percent(case["worth_held"]),
        ]
        for case in record["models"]
    ]
    heading = (
        f"{settings['studies']} studies of each model, sizes {', '.join(map(str, SIZES))}, {FOLDS} "
        f"folds, {SEEDS} seeds, {sum(PATIENTS)} patients a fold"
    )
    return "\n".join([heading, *aligned(rows)])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def main() -> None:
    """Simulate, print and write."""
    parser = parser_of("research.simulated_studies", __doc__)
    add = parser.add_argument
    add("--studies", type=int, default=1000, help="of each model (default 1000)")
    add("--seed", type=int, default=0, help="of the first study")
    add("--out", type=Path, default=RESULTS / "simulated_studies.json", help="where the JSON goes")
    options = parser.parse_args()
    check(options, least={"studies": 2}, most={"studies": 10**6})
    import_for_study("scipy.stats")
    import_for_study("statsmodels.stats.multitest")
    prepare_process(1)
    # statsmodels collects garbage at each correction, which takes longer than the study.
    gc.collect()
    gc.freeze()
    start = time.perf_counter()
    result = Result(options.out, recorded("research.simulated_studies"))
    found: list[dict[str, Any]] = []
    with tqdm(total=len(MODELS) * options.studies, unit="study", disable=None) as bar:
        for model in MODELS:
            bar.set_description(model.name)
            studies = []
            for number in range(options.studies):
                studies.append(estimate(model, options.seed + number))
                bar.update()
            found.append(summarize(model, studies))
            record = {
                "settings": {"studies": options.studies, "seed": options.seed},
                "models": found,
                "seconds": round(time.perf_counter() - start, 1),
            }
            result.write(record)
    print(report(record))


if __name__ == "__main__":
    sys.exit(run_command(main))

"""``python -m research.certainty``: do the metrics' intervals and p-values hold what they say?

Features are drawn from distributions whose distances are known: two classes in fixed numbers on
both sides, several images a patient on the real side, which are alike by a known correlation, and
independent ones on the generated side. Of every repetition it is noted whether an interval of 95 %
holds the truth, and what p-values come out. Right intervals hold it in 95 of 100 repetitions, right
p-values are below each level as often as it says.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from bench.command import check, parser_of, prepare_process, recorded
from bench.record import RESULTS, Result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.floors import differences, mean_of_divisions
from cxrgan_fast.evaluation.matching import choose_rows, patient_halves, strata_of, subset
from cxrgan_fast.evaluation.table import aligned
from cxrgan_fast.metrics import Features, Resamples
from cxrgan_fast.metrics.comparison import Comparison, compare
from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.studies.differences import require_scipy
from cxrgan_fast.threads import MOST_THREADS

CORRELATIONS = (0.0, 0.5, 0.8)
APART = {"equal": 0.0, "apart": 1.5}
"""How far the generated features are shifted, in their first direction, of deviation 1."""
IMAGES_A_PATIENT = 3
BETWEEN_CLASSES = 3.0
"""How far the classes' means are apart, in the second direction."""
DEVIATIONS = (1.0, 1.0, 0.7, 0.5, 0.4, 0.3)
"""Of the features within a class, by direction."""
SHARES = (1 / 3, 2 / 3)
INTERVALS = ("fid", "fid_infinity", "kid", "precision", "recall", "nearest_neighbour")
FLOORED = ("fid", "kid", "precision", "recall", "nearest_neighbour")
P_VALUES = ("p_value", "p_value_by_set")
LEVELS = (0.05, 0.1, 0.5)
RESAMPLES = 100
LEAST_IMAGES = 180  # 60 patients, the fewest with 20 in the smaller class
WANTED = (0.93, 0.97)


@dataclass(frozen=True)
class Case:
    """One distribution of the features.

    Attributes:
        correlation: of the images of one patient.
        sets: "equal" or "apart".
        images: on either side.
    """

    correlation: float
    sets: str
    images: int

    def truth(self) -> dict[str, float]:
        """The distances that are known: FID of infinitely many images, KID of equal sets."""
        known = {"fid_infinity": APART[self.sets] ** 2}
        return {**known, "kid": 0.0} if self.sets == "equal" else known

    def draw(self, seed: int) -> tuple[ImageDataset, Features, ImageDataset, Features]:
        """Real and generated sets: twice as many real images, for the floor's halves."""
        rng = torch.Generator().manual_seed(seed)
        real = _dataset(2 * self.images, IMAGES_A_PATIENT)
        fake = _dataset(self.images, 1)
        owners = torch.arange(len(real)) // IMAGES_A_PATIENT
        common = _normal(len(owners), rng)[owners]
        vectors = self.correlation**0.5 * common
        vectors += (1 - self.correlation) ** 0.5 * _normal(len(real), rng)
        generated = _normal(len(fake), rng)
        generated[:, 0] += APART[self.sets]
        for side, drawn in ((real, vectors), (fake, generated)):
            drawn[:, 1] += BETWEEN_CLASSES * side.labels
        return real, Features(vectors), fake, Features(generated)


def _normal(n: int, rng: torch.Generator) -> Tensor:
    return torch.randn(n, len(DEVIATIONS), generator=rng) * torch.tensor(DEVIATIONS)


def _dataset(n: int, images_a_patient: int) -> ImageDataset:
    """So many images of the classes in their shares, as far as their labels and patients go."""
    first = round(SHARES[0] * n / IMAGES_A_PATIENT) * IMAGES_A_PATIENT
    names = [f"{row // images_a_patient:05}" for row in range(n)]
    return ImageDataset(
        images=torch.zeros(n, 1, 1, 1, dtype=torch.uint8),
        labels=(torch.arange(n) >= first).long(),
        class_names=("normal", "bacterial"),
        patients=names,
        files=[f"{row}.png" for row in range(n)],
        name="drawn features",
    )


def repeat(case: Case, seed: int) -> dict[str, Any]:
    """What the metrics say of one draw.

    Returns:
        `intervals`: of each metric its value and interval; `floors`: of each the difference from
        the floor of many divisions and its interval; the p-values of 1-NN, and the one that takes
        all images for independent, `naive_p_value`.
    """
    real, features, fake, generated = case.draw(seed)
    counts = list(fake.class_counts().values())
    rows = _first_patients(real, counts)
    compared = _compare(subset(real, rows), features[rows], fake, generated, seed, INTERVALS)

    def of_division(division: int, metrics: Sequence[str]) -> Comparison:
        halves = patient_halves(real, seed + division)
        labels = [real.labels[half] for half in halves]
        there = torch.stack([label.bincount(minlength=2) for label in labels]).amin(0).tolist()
        wanted = [min(pair) for pair in zip(there, counts, strict=True)]
        first, second = (
            choose_rows(real.labels, wanted, seed + division, among=half) for half in halves
        )
        return _compare(
            subset(real, first),
            features[first],
            subset(real, second),
            features[second],
            seed,
            metrics,
            resamples=0 if division else RESAMPLES,
        )

    beyond = differences(compared, mean_of_divisions(FLOORED, of_division))
    naive = compare(features[rows], generated, metrics=("nearest_neighbour",), seed=seed).estimates[
        "nearest_neighbour"
    ]
    found = compared.estimates
    return {
        "intervals": {name: _with_interval(found[name]) for name in INTERVALS},
        "floors": {
            name: (each.difference, *(each.interval or (each.difference,) * 2))
            for name, each in beyond.items()
        },
        **{name: found["nearest_neighbour"].details[name] for name in P_VALUES},
        "naive_p_value": naive.details["p_value"],
    }


def _with_interval(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, *(estimate.interval or (estimate.value,) * 2)


def _first_patients(real: ImageDataset, counts: Sequence[int]) -> Tensor:
    """Rows of so many images of each class, of the patients that come first."""
    return torch.cat(
        [(real.labels == k).nonzero().flatten()[:count] for k, count in enumerate(counts)]
    )


def _compare(
    real: ImageDataset,
    features: Features,
    fake: ImageDataset,
    generated: Features,
    seed: int,
    metrics: Sequence[str],
    resamples: int = RESAMPLES,
) -> Comparison:
    strata = strata_of(real, fake)
    drawn = None
    if resamples:
        drawn = Resamples.draw(len(real), len(fake), strata=strata, count=resamples, seed=seed)
    found = compare(features, generated, metrics=metrics, resamples=drawn, seed=seed, strata=strata)
    for name, reason in found.omitted.items():
        raise UserError(f"{name} cannot be computed: {reason}")
    return found


def summary(case: Case, repetitions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How often the intervals hold the truth, and how often p-values are below the levels.

    The truth of what has no formula is the mean of the repetitions: FID, precision, recall and 1-NN
    accuracy of so many images, KID of sets that are apart (it is unbiased), the differences from
    the floor.
    """
    truth, rows = case.truth(), []
    for kind in ("intervals", "floors"):
        for name in repetitions[0][kind]:
            values, lows, highs = (
                np.array(each) for each in zip(*(r[kind][name] for r in repetitions), strict=True)
            )
            known = truth.get(name) if kind == "intervals" else None
            true = float(values.mean()) if known is None else known
            rows.append(
                {
                    "what": name if kind == "intervals" else f"{name} less the floor",
                    "known": known is not None,
                    "truth": true,
                    "mean": float(values.mean()),
                    "deviation": float(values.std(ddof=1)),
                    "half_width": float((highs - lows).mean() / 2),
                    "held": int(((lows <= true) & (true <= highs)).sum()),
                }
            )
    p_values: dict[str, list[int]] = {}
    if case.sets == "equal":
        for name in (*P_VALUES, "naive_p_value"):
            values = np.array([r[name] for r in repetitions])
            p_values[name] = [int((values <= level).sum()) for level in LEVELS]
    return {**asdict(case), "repetitions": len(repetitions), "rows": rows, "p_values": p_values}


def outside(held: int, repetitions: int) -> str:
    """Say so where the share is not within 93 to 97 % and chance does not explain it."""
    stats = require_scipy()
    low, high = stats.binomtest(held, repetitions).proportion_ci(0.95)
    if low > WANTED[1]:
        return "too wide"
    return "too narrow" if high < WANTED[0] else ""


def report(record: dict[str, Any]) -> str:
    """The tables of a result."""
    settings = record["settings"]
    lines = [
        f"{settings['repetitions']} repetitions of {settings['images']} real images, "
        f"{IMAGES_A_PATIENT} a patient, and as many generated ones, two classes in fixed numbers",
        "",
    ]
    rows = [
        ["correlation", "sets", "interval of", "truth", "mean", "deviation", "half", "holds it", ""]
    ]
    for case in record["cases"]:
        for row in case["rows"]:
            share = row["held"] / case["repetitions"]
            rows.append(
                [
                    f"{case['correlation']:g}",
                    case["sets"],
                    row["what"],
                    f"{row['truth']:.3g}" if row["known"] else "the mean",
                    f"{row['mean']:.3g}",
                    f"{row['deviation']:.3g}",
                    f"{row['half_width']:.3g}",
                    f"{share:.1%}",
                    outside(row["held"], case["repetitions"]),
                ]
            )
    lines += [
        *aligned(rows),
        "",
        "half: half of the 95 % interval. A remark where a share is surely not from 93 to 97 %.",
        "",
    ]
    titles = {
        "p_value": "p of 1-NN",
        "p_value_by_set": "p of the farther of the two",
        "naive_p_value": "p that takes images for independent",
    }
    rows = [["correlation", "of equal sets", *(f"at most {level:g}" for level in LEVELS)]]
    for case in record["cases"]:
        for name, below in case["p_values"].items():
            shares = [f"{count / case['repetitions']:.1%}" for count in below]
            rows.append([f"{case['correlation']:g}", titles[name], *shares])
    return "\n".join([*lines, *aligned(rows)])


def main() -> None:
    """Measure, print and write."""
    parser = parser_of("research.certainty", __doc__)
    add = parser.add_argument
    add("--repetitions", type=int, default=400, help="of each distribution (default 400)")
    add("--images", type=int, default=360, help="real images, and generated ones (default 360)")
    add("--seed", type=int, default=0, help="of the first repetition")
    add("--threads", type=int, help="of PyTorch (default: PyTorch's)")
    add("--out", type=Path, default=RESULTS / "certainty.json", help="where the JSON goes")
    options = parser.parse_args()
    check(
        options,
        least={"repetitions": 2, "images": LEAST_IMAGES, "threads": 1},
        most={"repetitions": 10**6, "images": 10**6, "threads": MOST_THREADS},
    )
    require_scipy()
    prepare_process(options.threads)
    start = time.perf_counter()
    result = Result(options.out, recorded("research.certainty"))
    cases = [
        Case(correlation, sets, options.images) for sets in APART for correlation in CORRELATIONS
    ]
    found: list[dict[str, Any]] = []
    with tqdm(total=len(cases) * options.repetitions, unit="draw", disable=None) as bar:
        for case in cases:
            bar.set_description(f"correlation {case.correlation:g}, {case.sets}")
            repetitions = []
            for number in range(options.repetitions):
                repetitions.append(repeat(case, options.seed + number))
                bar.update()
            found.append(summary(case, repetitions))
            record = {
                "settings": {
                    "repetitions": options.repetitions,
                    "images": options.images,
                    "seed": options.seed,
                },
                "cases": found,
                "seconds": round(time.perf_counter() - start, 1),
            }
            result.write(record)
    print(report(record))


if __name__ == "__main__":
    sys.exit(run_command(main))

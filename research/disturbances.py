"""``python -m research.disturbances --data PATH``: what the metrics say of spoilt real X-rays.

Real images of some patients are compared with real images of other patients, these spoilt in nine
ways and at four strengths each (``research.disturbed_sets``). A metric that is worth its name moves
with the strength; the result says which do, and which do not. Where chance decides which images are
disturbed, numbers are means over several sets.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.command import check, parser_of, recorded
from bench.record import write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.metrics import (
    Estimate,
    FeatureExtractor,
    Features,
    Resamples,
    extract_features,
    extractor_names,
    load_extractor,
)
from cxrgan_fast.metrics.comparison import compare
from cxrgan_fast.metrics.creativity import creativity_inheritance_diversity
from cxrgan_fast.metrics.memorization import exact_copies, exact_duplicates, memorization
from cxrgan_fast.metrics.registry import DEFAULT
from research.disturbances_report import COLUMNS, report, verdicts
from research.disturbed_sets import (
    DisturbedSet,
    Parts,
    disturbances,
    divide,
    unchanged,
)

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
FEWEST_SAMPLES = 20


class Judge:
    """All metrics of disturbed sets against the same real images.

    Args:
        dataset: all images.
        parts: which of them are what.
        extractor: whose features are compared.
        seed: of what is random in the metrics.
    """

    def __init__(
        self, dataset: ImageDataset, parts: Parts, extractor: FeatureExtractor, seed: int
    ) -> None:
        self.extractor, self.seed = extractor, seed
        self.device = torch.device("cpu")
        self.class_names = dataset.class_names
        self.images = dataset.images[parts.real]
        self.labels = dataset.labels[parts.real]
        self.features = extract_features(
            extractor, dataset.images, self.device, progress=f"{extractor.name} features"
        )
        self.real = self.features[parts.real]
        self.held_out = self.features[parts.held_out]
        self.omitted: dict[str, str] = {}

    def __call__(
        self, fakes: DisturbedSet, resamples: Resamples | None = None
    ) -> dict[str, Estimate]:
        """The metrics by the names of `COLUMNS`; reasons for those left out are in `omitted`."""
        if fakes.rows is None:
            found = extract_features(self.extractor, fakes.images, self.device)
        else:
            found = self.features[fakes.rows]
        comparison = compare(self.real, found, resamples=resamples, seed=self.seed)
        self.omitted |= comparison.omitted
        cid = creativity_inheritance_diversity(self.images, fakes.images, resamples=resamples)
        copying = memorization(
            self.real.vectors, found.vectors, self.held_out.vectors, resamples=resamples
        )
        n, m = len(self.images), len(fakes.images)
        others = {
            "cid": cid.index,
            "memorisation_p": copying.p_value,
            "near_copies": copying.n_near_copies,
            "exact_copies": len(exact_copies(fakes.images, self.images)),
            "exact_duplicates": sum(len(rows) - 1 for rows in exact_duplicates(fakes.images)),
        }
        estimates = {
            **comparison.estimates,
            **self._class_fid(fakes, found, resamples),
            "creativity": cid.creativity,
            "inheritance": cid.inheritance,
            "diversity": cid.diversity,
            "memorisation": copying.share,
            **{name: Estimate(value, n, m) for name, value in others.items()},
        }
        return {name: estimates[name] for name in COLUMNS if name in estimates}

    def _class_fid(
        self, fakes: DisturbedSet, found: Features, resamples: Resamples | None
    ) -> dict[str, Estimate]:
        """The mean of the classes' FIDs, images labelled so against real ones labelled so."""
        of_class = []
        for k in range(len(self.class_names)):
            real, fake = self.labels == k, fakes.labels == k
            drawn = resamples and resamples.take(real, fake)
            comparison = compare(
                self.real[real], found[fake], metrics=("fid",), resamples=drawn, seed=self.seed
            )
            if "fid" in comparison.omitted:
                self.omitted["class_fid"] = f"{self.class_names[k]}: {comparison.omitted['fid']}"
                return {}
            of_class.append(comparison.estimates["fid"])
        value = statistics.mean(each.value for each in of_class)
        errors = [each.standard_error for each in of_class if each.standard_error is not None]
        error = math.hypot(*errors) / len(errors) if errors else None
        return {"class_fid": Estimate(value, len(self.labels), len(fakes.labels), error)}


def measure(
    dataset: ImageDataset, extractor: FeatureExtractor, samples: int, seed: int
) -> dict[str, Any]:
    """Every disturbance at every strength.

    Args:
        dataset: real images; in parts that share no patient they are all roles at once.
        extractor: whose features are compared.
        samples: images on either side.
        seed: of all choices.

    Returns:
        What the JSON holds.

    Raises:
        UserError: the data set is too small for so many samples.
    """
    start = time.perf_counter()
    parts = divide(dataset, samples, seed)
    judge = Judge(dataset, parts, extractor, seed)
    resamples = Resamples.draw(
        samples, samples, patients=[dataset.patients[row] for row in parts.real.tolist()]
    )
    floor = judge(unchanged(dataset, parts.base), resamples)
    rows = []
    kinds = disturbances(dataset, parts, judge.features.vectors, seed)
    with tqdm(total=len(kinds) * len(STRENGTHS), unit="set", disable=None) as bar:
        for name, disturb in kinds.items():
            bar.set_description(name)
            series = [[floor]]
            for strength in STRENGTHS:
                series.append([judge(each) for each in disturb(strength)])
                bar.update()
            metrics = {
                metric: [_mean(points, metric) for points in series]
                for metric in COLUMNS
                if metric in floor
            }
            rows.append({"name": name, "sets": len(series[-1]), "metrics": metrics})
    errors = {metric: estimate.standard_error for metric, estimate in floor.items()}
    found: dict[str, Any] = {
        "settings": {"resolution": dataset.images.shape[-1], "samples": samples, "seed": seed},
        "extractor": {
            "name": extractor.name,
            "version": extractor.version,
            "dimension": judge.real.vectors.shape[1],
        },
        "data": {
            "name": dataset.name,
            "classes": dataset.class_counts(),
            "images": {
                "real": len(parts.real),
                "disturbed": len(parts.base),
                "to choose these from": len(parts.source),
                "held out": len(parts.held_out),
            },
        },
        "omitted": judge.omitted,
        "strengths": [0.0, *STRENGTHS],
        "floor_standard_errors": errors,
        "disturbances": rows,
    }
    verdicts(found)
    return {**found, "seconds": round(time.perf_counter() - start, 1)}


def _mean(points: Sequence[dict[str, Estimate]], metric: str) -> float | None:
    """Over several sets; None where one of them does not allow it."""
    if not all(metric in point for point in points):
        return None
    return float(f"{statistics.fmean(point[metric].value for point in points):.6g}")


def main() -> None:
    """Measure, print and write."""
    parser = parser_of("research.disturbances", __doc__)
    parser.add_argument("--data", required=True, help="a folder of images, or phantom")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--features", default=DEFAULT, help=", ".join(extractor_names()))
    parser.add_argument(
        "--features-weights", metavar="FOLDER|FILE|download", help="as evaluate takes it"
    )
    parser.add_argument("--samples", type=int, default=1000, help="images on either side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    options = parser.parse_args()
    check(options, least={"samples": FEWEST_SAMPLES, "seed": 0})
    extractor = load_extractor(
        options.features, torch.device("cpu"), features_weights=options.features_weights
    )
    dataset = load_dataset(
        options.data, resolution=options.resolution, phantom_images=5 * options.samples
    )
    found = measure(dataset, extractor, options.samples, options.seed)
    print(report(found))
    write_result(options.out, recorded("research.disturbances"), found)


if __name__ == "__main__":
    sys.exit(run_command(main))

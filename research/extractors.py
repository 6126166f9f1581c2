"""``python -m research.extractors --data PATH``: what the extractors see, side by side.

All is asked on images of patients that the network of ``cxr_ssl`` was not trained on: in how many
directions the features vary; whether a line through them tells normal from pneumonia; whether FID
rises with everything that spoils images (``research.disturbed_sets``, and
``research.untrained_sets``, which no network was trained on) and leaves the floor's interval; and
what gradients through an extractor make of white noise.

The floor is real images of other patients, over many divisions of the patients: its interval is
their mean and 1.96 of their standard deviations.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from bench.command import check, parser_of, recorded
from bench.record import write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.evaluation.matching import subset
from cxrgan_fast.metrics import (
    FeatureExtractor,
    Features,
    extract_features,
    extractor_names,
    load_extractor,
)
from cxrgan_fast.metrics.comparison import compare
from cxrgan_fast.metrics.cxr_network import CLASS_NAMES
from cxrgan_fast.metrics.embedded import Embedded
from research.cxr_features import split_patients
from research.cxr_ssl_features import HELD_OUT
from research.disturbances import STRENGTHS
from research.disturbed_sets import Disturbance, DisturbedSet, disturbances, divide, unchanged
from research.extractors_report import metric_of, report, verdicts
from research.untrained_sets import untrained

METRICS = ("fid", "class_fid")
TRAINED_SEED = 0  # of the split in research/cxr_ssl_features.py that the package's weights are of
COPIES = "copies"  # of real images: by what FID measures nothing is better, so that it is not asked
FEWEST_SAMPLES = 20
FLOOR_SEED = 1000  # and those after it
ATTACKED = 5  # of so many disturbed images one is what an image of noise is moved towards
STEPS, RATE = 40, 0.02  # of the gradients on white noise
CPU = torch.device("cpu")


def directions(vectors: Tensor) -> dict[str, float]:
    """In how many directions features vary.

    Args:
        vectors: (N, D).

    Returns:
        The participation ratio (Σλ)² / Σλ² of the covariance's eigenvalues, and the least number
        of directions that hold 90 % and 99 % of the variance.
    """
    values = torch.linalg.svdvals(vectors.double() - vectors.double().mean(0)).square()
    shares = (values / values.sum()).cumsum(0)
    return {
        "participation_ratio": float(values.sum() ** 2 / values.square().sum()),
        "directions_90": int((shares < 0.9).sum()) + 1,
        "directions_99": int((shares < 0.99).sum()) + 1,
    }


def between_classes(vectors: Tensor, labels: Tensor) -> float:
    """The share of the variance that lies between the classes' means."""
    vectors = vectors.double()
    means = torch.stack([vectors[labels == k].mean(0) for k in labels.unique()])
    weights = labels.bincount()[labels.unique()].double() / len(labels)
    spread = (weights[:, None] * (means - vectors.mean(0)) ** 2).sum()
    return float(spread / (vectors - vectors.mean(0)).square().mean(0).sum())


def probe(vectors: Tensor, ill: Tensor, patients: list[str]) -> float:
    """Area under the curve of a logistic regression, on patients that it was not fitted to.

    Args:
        vectors: (N, D).
        ill: (N,) bool.
        patients: N names; each fold of five holds other patients.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    told = cross_val_predict(
        model,
        vectors.numpy(),
        ill.numpy(),
        groups=np.array(patients),
        cv=StratifiedGroupKFold(5),
        method="predict_proba",
    )
    return float(roc_auc_score(ill.numpy(), told[:, 1]))


def fid(real: Features, fake: Features) -> float:
    """The Fréchet distance of two sets."""
    return compare(real, fake, metrics=("fid",)).estimates["fid"].value


def class_fid(real: Features, real_labels: Tensor, fake: Features, fake_labels: Tensor) -> float:
    """The mean of the classes' FIDs, images labelled so against real ones labelled so."""
    return statistics.fmean(
        fid(real[real_labels == k], fake[fake_labels == k]) for k in real_labels.unique()
    )


class Judge:
    """One extractor, and what it says of held-out images.

    Args:
        dataset: images of held-out patients.
        name: of the extractor.
        samples: images on either side.
        seed: of the division that is disturbed.
    """

    def __init__(self, dataset: ImageDataset, name: str, samples: int, seed: int) -> None:
        self.extractor: FeatureExtractor = load_extractor(name, CPU)
        self.dataset, self.samples = dataset, samples
        self.features = extract_features(
            self.extractor, dataset.images, CPU, progress=f"{name} features"
        )
        self.parts = divide(dataset, samples, seed, held_out=0)

    def of_clean_images(self) -> dict[str, Any]:
        """What the features are like."""
        vectors, labels = self.features.vectors, self.dataset.labels
        return {
            "version": self.extractor.version,
            "dimension": vectors.shape[1],
            **directions(vectors),
            "between_classes": between_classes(vectors, labels),
            "probe_auc": probe(vectors, labels > 0, self.dataset.patients),
        }

    def floors(self, metric: str, divisions: int) -> list[float]:
        """A metric of real images of other patients, the division that is disturbed first."""
        seeds = range(FLOOR_SEED, FLOOR_SEED + divisions)
        others = [divide(self.dataset, self.samples, seed, held_out=0) for seed in seeds]
        return [
            self._compare(parts.real, unchanged(self.dataset, parts.base), metric)
            for parts in (self.parts, *others)
        ]

    def __call__(self, sets: list[DisturbedSet], metric: str) -> float:
        """A metric's mean over disturbed sets: ``fid`` or ``class_fid``."""
        return statistics.fmean(self._compare(self.parts.real, each, metric) for each in sets)

    def _compare(self, rows: Tensor, fakes: DisturbedSet, metric: str) -> float:
        real = self.features[rows]
        fake = (
            extract_features(self.extractor, fakes.images, CPU)
            if fakes.rows is None
            else self.features[fakes.rows]
        )
        if metric == "fid":
            return fid(real, fake)
        return class_fid(real, self.dataset.labels[rows], fake, fakes.labels)


def attack(through: Judge, judges: list[Judge], seed: int) -> dict[str, Any]:
    """Turn white noise to what an extractor takes for real images.

    Each image of noise is moved by `STEPS` steps of Adam towards the features of one real image.

    Args:
        through: whose gradients are followed.
        judges: who say how far it got.
        seed: of the noise.

    Returns:
        Of each extractor by name the FID to other real images of noise, of what became of it, and
        of the real images that it was moved towards; and the mean change of a pixel.

    Raises:
        TypeError: the extractor of `through` is no `Embedded` one.
    """
    extractor = through.extractor
    if not isinstance(extractor, Embedded):
        raise TypeError(f"through: expected an embedded extractor, got {extractor.name}")
    generator = torch.Generator().manual_seed(seed)
    dataset, parts = through.dataset, through.parts
    aimed_at = parts.base[::ATTACKED]
    aims = through.features[aimed_at].vectors
    size = dataset.images.shape[-1]
    noise = torch.rand(len(aims), 1, size, size, generator=generator)
    scale = aims.var(0).sum()
    made = []
    for start, aim in tqdm(list(zip(noise.split(64), aims.split(64), strict=True)), disable=None):
        pixels = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([pixels], RATE)
        for _ in range(STEPS):
            ready = F.interpolate(pixels, (extractor.input_size,) * 2, mode="bicubic")
            loss = (extractor.describe(ready.clamp(0, 1)).vectors - aim).square().sum() / scale
            (pixels.grad,) = torch.autograd.grad(loss, pixels)
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
        made.append(pixels.detach())
    after = torch.cat(made)
    found: dict[str, Any] = {"mean_change": float((after - noise).abs().mean())}
    for judge in judges:
        before, now = (
            extract_features(judge.extractor, (images * 255).round().to(torch.uint8), CPU)
            for images in (noise, after)
        )
        real = judge.features[parts.real]
        found[judge.extractor.name] = {
            "noise": fid(real, before),
            "after": fid(real, now),
            "real": fid(real, judge.features[aimed_at]),
        }
    return found


def measure(
    dataset: ImageDataset, names: list[str], samples: int, divisions: int, seed: int
) -> dict[str, Any]:
    """Ask every extractor everything.

    Args:
        dataset: images of held-out patients.
        names: of the extractors.
        samples: images on either side.
        divisions: of the patients, beside the one that is disturbed, for the floor.
        seed: of all choices.

    Returns:
        What the JSON holds.

    Raises:
        UserError: the data set is too small for so many samples.
    """
    start = time.perf_counter()
    judges = [Judge(dataset, name, samples, seed) for name in names]
    extractors: dict[str, Any] = {}
    for judge in judges:
        found = judge.of_clean_images()
        floors = {metric: judge.floors(metric, divisions) for metric in METRICS}
        series: dict[str, list[float]] = {}
        kinds: dict[str, Disturbance] = {
            **disturbances(dataset, judge.parts, judge.features.vectors, seed),
            **untrained(dataset, judge.parts, seed),
        }
        del kinds[COPIES]
        for kind, disturb in tqdm(kinds.items(), desc=judge.extractor.name, disable=None):
            metric = metric_of(kind)
            points = [judge(disturb(strength), metric) for strength in STRENGTHS]
            series[kind] = [floors[metric][0], *points]
        extractors[judge.extractor.name] = {**found, "floors": floors, "disturbances": series}
    attacks = {
        judge.extractor.name: attack(judge, judges, seed)
        for judge in judges
        if isinstance(judge.extractor, Embedded)
    }
    record: dict[str, Any] = {
        "settings": {
            "resolution": dataset.images.shape[-1],
            "samples": samples,
            "divisions": divisions,
            "seed": seed,
            "held_out_images": dataset.class_counts(),
            "gradient_steps": STEPS,
        },
        "strengths": [0.0, *STRENGTHS],
        "extractors": extractors,
        "noise_attacked_through": attacks,
    }
    verdicts(record)
    return {**record, "seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Measure, print and write."""
    parser = parser_of("research.extractors", __doc__)
    parser.add_argument("--data", required=True, help="the published set: its train folder")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument(
        "--features",
        nargs="+",
        default=["cxr", "cxr_ssl", "pixels"],
        choices=extractor_names(),
        help="extractors to ask",
    )
    parser.add_argument("--samples", type=int, default=550, help="images on either side")
    parser.add_argument("--divisions", type=int, default=20, help="of the patients, for the floor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    options = parser.parse_args()
    check(
        options,
        least={"samples": FEWEST_SAMPLES, "divisions": 2},
        most={"samples": 10**6, "divisions": 10**4},
    )
    dataset = load_dataset(options.data, resolution=options.resolution, classes=CLASS_NAMES)
    dataset = subset(dataset, split_patients(dataset, TRAINED_SEED, HELD_OUT)[1])
    found = measure(dataset, options.features, options.samples, options.divisions, options.seed)
    print(report(found))
    write_result(options.out, recorded("research.extractors"), found)


if __name__ == "__main__":
    sys.exit(run_command(main))

"""``python -m research.copies``: are copies found, and new images left in peace?

Some patients are kept out, and everything else is taken for what a generator was trained on. Asked
are how many disturbed copies of training images are found (`research/copy_disturbances.py`), how
many images of the kept-out patients are called copies, how long the search takes, and whether the
p-value of memorization is uniform for real images of new patients, by each yardstick.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kstest
from torch import Tensor
from tqdm import tqdm

from bench.command import check, parser_of, recorded
from bench.record import write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.data.splits import held_out_patients
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import numbered_patients, subset
from cxrgan_fast.evaluation.table import aligned
from cxrgan_fast.metrics import load_extractor
from cxrgan_fast.metrics.cache import features_of
from cxrgan_fast.metrics.copies import Threshold, calibrate
from cxrgan_fast.metrics.copy_search import find_nearest
from cxrgan_fast.metrics.memorization import smaller_p_value
from cxrgan_fast.metrics.neighbors import squared_distances
from research.copy_disturbances import DISTURBANCES, MIXED, disturb

HELD_OUT = 0.12  # of the patients
CPU = torch.device("cpu")


def divided(dataset: ImageDataset, seed: int) -> tuple[ImageDataset, ImageDataset]:
    """Training images and those of kept-out patients."""
    out = held_out_patients(dataset.patients, dataset.labels.tolist(), HELD_OUT, seed)
    kept = torch.tensor([patient in out for patient in dataset.patients])
    return subset(dataset, (~kept).nonzero().flatten()), subset(dataset, kept.nonzero().flatten())


def found_copies(
    train: ImageDataset, threshold: Threshold, count: int, seed: int
) -> dict[str, dict[str, float]]:
    """Of each disturbance, the share of `count` copies that is found, with the right original."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in tqdm(DISTURBANCES | MIXED, unit="disturbance", disable=None):
        rows, others = torch.randperm(len(train), generator=generator)[: 2 * count].chunk(2)
        copies = disturb(train.images[rows], train.images[others], name, generator)
        nearest = find_nearest(copies, train.images)
        above, right = nearest.likeness > threshold.likeness, nearest.rows == rows
        found[name] = {
            "copies": len(rows),
            "found": float((above & right).double().mean()),
            "right_original": float(right.double().mean()),
            "least_likeness_of_95_percent": float(nearest.likeness.quantile(0.05)),
        }
    return found


def new_images(train: ImageDataset, new: ImageDataset, threshold: Threshold) -> dict[str, Any]:
    """How often new real images are called copies."""
    nearest = find_nearest(new.images, train.images, progress="new images")
    above = nearest.likeness > threshold.likeness
    return {
        "images": len(new),
        "patients": len(set(new.patients)),
        "called_copies": int(above.sum()),
        "share": float(above.double().mean()),
        "median_likeness": float(nearest.likeness.median()),
        "largest_likeness": float(nearest.likeness.max()),
        "files": [new.files[row] for row in above.nonzero().flatten().tolist()],
        "of": [train.files[row] for row in nearest.rows[above].tolist()],
    }


def p_values(
    dataset: ImageDataset, test: ImageDataset | None, extractor: str, draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """The p-values of memorization for real images of new patients, by each yardstick.

    In each draw a sixth of the patients gives the new images, another sixth the held-out ones, and
    the others are what was trained on.

    Args:
        dataset: real images.
        test: of another folder; None where there is none.
        extractor: name of the features.
        draws: divisions of the patients.
        seed: of the divisions.
    """
    features = features_of(dataset, load_extractor(extractor, CPU), CPU, progress=extractor)
    pairs = squared_distances(features.vectors, features.vectors, 1e-6).float()
    patients = numbered_patients(dataset)
    others = pairs.masked_fill(patients[:, None] == patients, torch.inf)
    of_test = None
    if test is not None:
        vectors = features_of(test, load_extractor(extractor, CPU), CPU).vectors
        of_test = (
            squared_distances(vectors, features.vectors, 1e-6).float(),
            numbered_patients(test),
        )
    generator = torch.Generator().manual_seed(seed)
    n_patients = int(patients.max()) + 1
    sixth = n_patients // 6
    found: dict[str, list[float]] = {}
    for _ in tqdm(range(draws), unit="draw", disable=None):
        place = torch.randperm(n_patients, generator=generator)[patients]
        new, held_out, train = (
            place < sixth,
            (place >= sixth) & (place < 2 * sixth),
            place >= 2 * sixth,
        )
        first, groups = _nearest(pairs[new], train), patients[new]
        yardsticks = {
            "held-out patients": (_nearest(pairs[held_out], train), patients[held_out]),
            "other patients": (_nearest(others[train], train), patients[train]),
        }
        if of_test is not None:
            yardsticks["test split"] = _nearest(of_test[0], train), of_test[1]
        for name, (second, of_second) in yardsticks.items():
            p = smaller_p_value(first, second, first_groups=groups, second_groups=of_second)
            found.setdefault(name, []).append(p)
            found.setdefault(f"{name}, images as units", []).append(smaller_p_value(first, second))
    return {name: _uniformity(values) for name, values in found.items()}


def _nearest(pairs: Tensor, train: Tensor) -> Tensor:
    return pairs[:, train].amin(1).double()


def _uniformity(values: list[float]) -> dict[str, Any]:
    return {
        "draws": len(values),
        "below_0.05": sum(p < 0.05 for p in values) / len(values),
        "above_0.95": sum(p > 0.95 for p in values) / len(values),
        "median": statistics.median(values),
        "kolmogorov_smirnov": float(kstest(values, "uniform").statistic),
    }


def timed_search(dataset: ImageDataset, count: int) -> dict[str, Any]:
    """How long the search for the originals of so many images takes, and the threshold's."""
    queries = dataset.images[torch.arange(count) % len(dataset)].flip(2)  # of no training image
    seconds = {}
    began, spent = time.perf_counter(), time.process_time()
    find_nearest(queries, dataset.images)
    seconds["search"] = time.perf_counter() - began
    seconds["search_processor"] = time.process_time() - spent
    began, spent = time.perf_counter(), time.process_time()
    calibrate(dataset.images, numbered_patients(dataset))
    seconds["threshold"] = time.perf_counter() - began
    seconds["threshold_processor"] = time.process_time() - spent
    return {
        "images": count,
        "training_images": len(dataset),
        "threads": torch.get_num_threads(),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def report(record: dict[str, Any]) -> str:
    """The tables of a result."""
    threshold, new = record["threshold"], record["new_images"]
    rows = [["disturbance", "found", "right original", "likeness of 95 %"]]
    rows += [
        [name, f"{of['found']:.1%}", f"{of['right_original']:.1%}",
         f"{of['least_likeness_of_95_percent']:.3f}"]
        for name, of in record["copies"].items()
    ]  # fmt: skip
    lines = [
        f"{record['training_images']} training images, "
        f"{next(iter(record['copies'].values()))['copies']} copies of each kind; a copy is above a "
        f"likeness of {threshold['likeness']:.3f}",
        *aligned(rows),
        "",
        f"new images of {new['patients']} kept-out patients: {new['called_copies']} of "
        f"{new['images']} called copies ({new['share']:.2%}; expected "
        f"{threshold['false_rate']:.2%}); median likeness {new['median_likeness']:.3f}",
    ]
    rows = [["p of new real images, by", "features", "below 0.05", "above 0.95", "median", "KS"]]
    rows += [
        [name, extractor, f"{of['below_0.05']:.1%}", f"{of['above_0.95']:.1%}",
         f"{of['median']:.2g}", f"{of['kolmogorov_smirnov']:.3f}"]
        for extractor, by_name in record["p_values"].items()
        for name, of in by_name.items()
    ]  # fmt: skip
    return "\n".join([*lines, "", *aligned(rows)])


def main() -> None:
    """Measure, print and write."""
    parser = parser_of("research.copies", __doc__)
    parser.add_argument("--data", required=True, help="folder of real images")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--copies", type=int, default=300, help="copies of each kind")
    parser.add_argument("--draws", type=int, default=400, help="divisions for the p-values")
    parser.add_argument("--search", type=int, default=1000, help="images in the timed search")
    parser.add_argument("--features", nargs="+", default=["pixels", "cxr"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    options = parser.parse_args()
    check(options, least={"copies": 1, "draws": 1, "search": 1, "seed": 0})
    dataset = load_dataset(options.data, resolution=options.resolution)
    try:
        test = load_dataset(options.data, resolution=options.resolution, split="test")
    except UserError:  # no test split, so that nothing is said of it
        test = None
    train, new = divided(dataset, options.seed)
    if 2 * options.copies > len(train):
        raise UserError(
            f"--copies {options.copies}: expected at most {len(train) // 2}, half of the training "
            "images"
        )
    threshold = calibrate(train.images, numbered_patients(train), progress="threshold")
    record = {
        "settings": {"resolution": options.resolution, "seed": options.seed},
        "training_images": len(train),
        "threshold": {
            "likeness": threshold.likeness,
            "false_rate": threshold.false_rate,
            "patients": threshold.n,
        },
        "copies": found_copies(train, threshold, options.copies, options.seed),
        "new_images": new_images(train, new, threshold),
        "p_values": {
            name: p_values(dataset, test, name, options.draws, options.seed)
            for name in options.features
        },
        "search": timed_search(dataset, options.search),
    }
    print(report(record))
    write_result(options.out, recorded("research.copies"), record)


if __name__ == "__main__":
    sys.exit(run_command(main))

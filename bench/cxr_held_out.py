"""``python -m bench.cxr_held_out``: does FID see that the ``cxr`` network was trained on an image?

Images of the patients that were kept out of its training are compared with images that it was
trained on, and so are as many images of other patients that it was trained on. Were the kept-out
images farther away, floors by other patients would be too low for anything new, generated images
included.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from bench.cxr_features import split_patients
from bench.record import check_out, write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import choose_rows, largest_match, patient_halves, subset
from cxrgan_fast.metrics import Features, load_extractor
from cxrgan_fast.metrics.cache import features_of
from cxrgan_fast.metrics.comparison import compare
from cxrgan_fast.metrics.cxr_network import CLASS_NAMES

TRAINED_SEED = 0  # of the split in bench/cxr_features.py that the package's weights are of
TARGETS = 10  # sets of images trained on, against which all others are compared
METRICS = ("fid", "kid")


def measure(dataset: ImageDataset, features: Features, draws: int) -> dict[str, object]:
    """Mean distances to images trained on: of the kept-out ones, and of others trained on.

    Args:
        dataset: the training images, of all three classes.
        features: of these images.
        draws: sets of others trained on.

    Returns:
        Counts, and of each metric the kept-out set's mean, the others' mean and deviation, and
        the share of the others that are as far away or farther, with the kept-out set among them:
        a p-value.

    Raises:
        UserError: there are too few images for sets of equal size.
    """
    trained, held_out = split_patients(dataset, TRAINED_SEED)
    # Targets and others share no patient either.
    halves = [trained[half] for half in patient_halves(subset(dataset, trained), seed=0)]
    frequencies = list(dataset.class_counts().values())
    available = torch.stack([_counts(dataset, rows) for rows in (held_out, *halves)]).amin(0)
    counts = largest_match(available.tolist(), frequencies, len(held_out))
    if sum(counts) < 4:
        raise UserError(f"{dataset.name}: {len(dataset)} images are too few for sets of one size")

    def draw(rows: Tensor, seed: int) -> Features:
        return features[rows[choose_rows(dataset.labels[rows], counts, seed)]]

    targets = [draw(halves[0], seed) for seed in range(TARGETS)]
    sets = [draw(held_out, 0), *(draw(halves[1], seed) for seed in range(draws))]
    distances: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for each in tqdm(sets, unit="set", disable=None):
        found = [compare(target, each, metrics=METRICS).estimates for target in targets]
        for metric in METRICS:
            distances[metric].append(statistics.fmean(f[metric].value for f in found))
    return {
        "images": dict(zip(dataset.class_names, counts, strict=True)),
        "targets": TARGETS,
        "others": draws,
        **{
            metric: {
                "held_out": values[0],
                "trained_on": statistics.fmean(values[1:]),
                "trained_on_deviation": statistics.stdev(values[1:]),
                "p_value": sum(value >= values[0] for value in values) / len(values),
            }
            for metric, values in distances.items()
        },
    }


def _counts(dataset: ImageDataset, rows: Tensor) -> Tensor:
    return dataset.labels[rows].bincount(minlength=len(dataset.class_names))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.cxr_held_out", description=__doc__)
    parser.add_argument("--data", required=True, help="the published set: its train folder")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--draws", type=int, default=99, help="sets of others trained on")
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    options = parser.parse_args()
    if options.draws < 2:
        raise UserError(f"--draws {options.draws}: expected at least 2")
    check_out(options.out)
    dataset = load_dataset(options.data, resolution=options.resolution, classes=CLASS_NAMES)
    device = torch.device("cpu")
    extractor = load_extractor("cxr", device)
    features = features_of(dataset, extractor, device, progress="cxr features")
    found = measure(dataset, features, options.draws)
    for metric in METRICS:
        print(metric, found[metric])
    command = (  # where the data lie is of no interest
        f"python -m bench.cxr_held_out --data {Path(options.data).name} --resolution "
        f"{options.resolution} --draws {options.draws} --out {options.out.name}"
    )
    settings = {"resolution": options.resolution, "version": extractor.version}
    write_result(options.out, command, {"settings": settings, **found})


if __name__ == "__main__":
    sys.exit(run_command(main))

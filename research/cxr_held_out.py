"""``python -m research.cxr_held_out``: does FID see what the ``cxr`` network was trained on?

Images of the patients that were kept out of its training are compared with images that it was
trained on, and so are as many images of other patients that it was trained on. Were the kept-out
images farther away, floors by other patients would be too low for anything new, generated images
included.
"""

import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from bench.command import check, parser_of, recorded
from bench.record import write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import choose_rows, counts_in_all, patient_halves, subset
from cxrgan_fast.metrics import Features, load_extractor
from cxrgan_fast.metrics.cache import features_of
from cxrgan_fast.metrics.comparison import compare
from cxrgan_fast.metrics.cxr_network import CLASS_NAMES
from research.cxr_features import split_patients

TRAINED_SEED = 0  # of the split in research/cxr_features.py that the package's weights are of
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
    counts = counts_in_all(dataset, (held_out, *halves), len(held_out))
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


def main() -> None:
    """Measure, print and write."""
    parser = parser_of("research.cxr_held_out", __doc__)
    parser.add_argument("--data", required=True, help="the published set: its train folder")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--draws", type=int, default=99, help="sets of others trained on")
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    options = parser.parse_args()
    check(options, least={"draws": 2})
    dataset = load_dataset(options.data, resolution=options.resolution, classes=CLASS_NAMES)
    device = torch.device("cpu")
    extractor = load_extractor("cxr", device)
    features = features_of(dataset, extractor, device, progress="cxr features")
    found = measure(dataset, features, options.draws)
    for metric in METRICS:
        print(metric, found[metric])
    settings = {"resolution": options.resolution, "version": extractor.version}
    write_result(options.out, recorded("research.cxr_held_out"), {"settings": settings, **found})


if __name__ == "__main__":
    sys.exit(run_command(main))

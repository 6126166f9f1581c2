"""``python -m research.parity``: are the package's images as good as the reference's, and faster?

Trains the independent reference (float32, eager) and the package in each precision on the same
images for the same number of steps, each of several seeds, from the same initial weights for all
variants of a seed. Says how far apart their FIDs are and whether they are equivalent, how many
images a second each trains on, and how soon each reaches the reference's last FID. Prints tables
and writes every number as JSON; ``python -m bench.plot`` draws it.

Trainings and what was measured of them are kept in ``--work``: the same command goes on where it
was stopped, and more seeds, other precisions or other features take what is there.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.command import check, parser_of, prepare_process, recorded
from bench.record import RESULTS, ROOT, Result
from bench.timing import in_turns
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.devices import resolve_device, resolve_precision
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.registry import DEFAULT
from cxrgan_fast.provenance import commit
from cxrgan_fast.settings.config import PRESETS, TrainConfig, override
from cxrgan_fast.studies.differences import require_scipy
from cxrgan_fast.threads import MOST_THREADS
from cxrgan_fast.training.algorithms import algorithms
from research.parity_evaluation import Judge, evaluate
from research.parity_measurements import MARGIN, Measurements, summary
from research.parity_report import report
from research.parity_statistics import MOST_SEEDS
from research.parity_training import (
    PRECISIONS,
    REFERENCE,
    Work,
    settings_of,
    snapshot_steps,
    train,
)

PRESET = {"cpu": "small", "cuda": "base"}
# On two cores the small preset would come to 250 steps in half an hour.
BASE_CHANNELS = {"cpu": 16, "cuda": PRESETS["base"]["base_channels"]}
STEPS = {"cpu": 600, "cuda": 2000}
FEWEST_SEEDS = 2


@dataclass(frozen=True)
class Experiment:
    """What is trained, on what, and against what it is held.

    Attributes:
        variants: the reference and the package's precisions.
        config: of all trainings, but for seed and precision.
        snapshots: steps after which weights are kept.
        floor: the metrics of real against real images.
    """

    variants: Sequence[str]
    config: TrainConfig
    dataset: ImageDataset
    device: torch.device
    snapshots: Sequence[int]
    work: Work
    judge: Judge
    floor: Measurements

    def do(self, seed: int, bar: tqdm[Any]) -> dict[str, Measurements]:
        """Train what is not complete of a seed, and evaluate all of it.

        Which variant is first changes from seed to seed.

        Returns:
            Of each variant what was measured of its training and of its snapshots.
        """
        for variant in next(in_turns(self.variants, 1, first=seed)):
            if self.work.run(seed, variant) is not None:
                continue
            bar.set_description(f"seed {seed}, {variant}")
            run = train(
                variant,
                override(self.config, {"seed": seed}),
                self.dataset,
                self.device,
                snapshots=self.snapshots,
                folder=self.work.run_folder(seed, variant),
                progress=bar.update,
            )
            self.work.keep({**run, "commit": commit(ROOT)})
        return {variant: self._evaluated(seed, variant, bar) for variant in self.variants}

    def _evaluated(self, seed: int, variant: str, bar: tqdm[Any]) -> Measurements:
        run = self.work.run(seed, variant)
        assert run is not None
        rows = evaluate(
            run,
            self.work.run_folder(seed, variant),
            self.config,
            self.judge,
            lambda words: bar.set_description(f"seed {seed}, {variant}: {words}"),
        )
        return {**run, "snapshots": rows}


def measure(
    experiment: Experiment, seeds: int, deadline: float, out: Path, record: Measurements
) -> Measurements | None:
    """Do seed after seed, and write what there is after each from the second on.

    Args:
        experiment: what is measured.
        seeds: how many.
        deadline: of `time.monotonic`; no seed but the first is begun that would end later.
        out: the JSON.
        record: what it holds beside the measurements.

    Returns:
        What was written; None where there are too few seeds for it.
    """
    longest = 0.0
    result = Result(out, recorded("research.parity", hidden=("--out", "--work")))
    done: dict[str, list[Measurements]] = {variant: [] for variant in experiment.variants}
    written: Measurements | None = None
    missing = sum(
        experiment.work.run(seed, variant) is None
        for seed in range(seeds)
        for variant in experiment.variants
    )
    total = missing * experiment.snapshots[-1]
    # The rate over the whole, not of late, since the variants take unequally long.
    with tqdm(total=total, unit="step", disable=None, smoothing=0) as bar:
        for seed in range(seeds):
            begin = time.monotonic()
            if seed and begin + longest > deadline:
                break
            for variant, run in experiment.do(seed, bar).items():
                done[variant].append(run)
            longest = max(longest, time.monotonic() - begin)
            if seed + 1 >= FEWEST_SEEDS:
                measurements = {"complete": seed + 1 == seeds, **summary(done)}
                measurements["floor"] = experiment.floor
                written = {**record, **measurements, "runs": done}
                result.write(written)
    return written


# --- The command ----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("research.parity", __doc__)
    add = parser.add_argument
    add("--data", default="phantom", help='a folder of images, or "phantom" (the default)')
    add("--seeds", type=int, default=5, help="trainings of each variant: seeds 0, 1, ... (5)")
    add("--steps", type=int, help="of each training (default: 600 on a CPU, 2000 on a GPU)")
    add("--resolution", type=int, default=32, help="height and width of the images (default 32)")
    add("--batch-size", type=int, help="default: the preset's")
    add("--preset", choices=tuple(PRESETS), help="default: small on a CPU, base on a GPU")
    add("--base-channels", type=int, help="default: 16 on a CPU, 64 on a GPU")
    add("--precisions", nargs="+", choices=PRECISIONS, help="default: fp32, and bf16 where it is")
    add("--snapshots", type=int, default=10, help="of each training, evenly spaced (default 10)")
    add("--features", default=DEFAULT, help=f"of the images (default {DEFAULT})")
    add("--samples", type=int, help="generated images, and real ones (default: half the data)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default auto)")
    add("--threads", type=int, help="of PyTorch on the CPU (default: PyTorch's)")
    add("--work", type=Path, help="what is kept (default: runs/parity_RESOLUTION_DEVICE)")
    add("--out", type=Path, help="default: bench/results/parity_RESOLUTION_DEVICE.json")
    add("--minutes", type=float, help="begin no seed that would end later than this")
    return parser


def _config(arguments: argparse.Namespace, device: torch.device) -> TrainConfig:
    """Settings of all trainings."""
    preset = arguments.preset or PRESET[device.type]
    settings = {
        **PRESETS[preset],
        "preset": preset,
        "base_channels": BASE_CHANNELS[device.type],
        "resolution": arguments.resolution,
        "device": str(device),
        "precision": "fp32",
    }
    for name in ("base_channels", "batch_size"):
        if getattr(arguments, name) is not None:
            settings[name] = getattr(arguments, name)
    return override(TrainConfig(), settings)


def _experiment(
    arguments: argparse.Namespace, config: TrainConfig, device: torch.device
) -> Experiment:
    precisions = arguments.precisions or ("fp32", resolve_precision("auto", device))
    dataset = load_dataset(arguments.data, resolution=arguments.resolution)
    n, batch = len(dataset), config.batch_size
    if n < batch:
        raise UserError(f"--data: its {n} images are fewer than a batch of {batch}")
    settings = settings_of(config, dataset, device, arguments.steps, arguments.snapshots)
    judge = Judge(dataset, arguments.features, device, arguments.samples)
    floor = judge.floor()  # before the folder is made: what cannot be judged leaves none
    return Experiment(
        variants=[REFERENCE, *dict.fromkeys(precisions)],
        config=config,
        dataset=dataset,
        device=device,
        snapshots=snapshot_steps(arguments.steps, arguments.snapshots),
        work=Work(arguments.work, settings),
        judge=judge,
        floor=floor,
    )


def main() -> None:
    """Train, evaluate, print and write."""
    began = time.monotonic()
    arguments = _parser().parse_args()
    device = resolve_device(arguments.device)
    name = f"parity_{arguments.resolution}_{device.type}"
    arguments.out = arguments.out or RESULTS / f"{name}.json"
    arguments.work = arguments.work or Path("runs") / name
    if arguments.steps is None:
        arguments.steps = STEPS[device.type]
    least = {"seeds": FEWEST_SEEDS, "threads": 1, "batch_size": 1, "snapshots": 1}
    # One step is the first, which is not timed.
    least["steps"] = max(2, arguments.snapshots)
    most = {"seeds": MOST_SEEDS, "threads": MOST_THREADS}
    check(arguments, least=least, most=most, over_0=["minutes"])
    require_scipy()
    prepare_process(arguments.threads)
    experiment = _experiment(arguments, _config(arguments, device), device)
    record = {
        "device": device.type,
        "data": f"{experiment.dataset.name}, {len(experiment.dataset)} images",
        "settings": experiment.work.settings,
        "evaluation": experiment.judge.key,
        "method": METHOD,
        "wanted_seeds": arguments.seeds,
    }
    deadline = math.inf if arguments.minutes is None else began + 60 * arguments.minutes
    try:
        # cuDNN's fastest algorithms for all variants, as the training program has them.
        with algorithms(deterministic=False):
            written = measure(experiment, arguments.seeds, deadline, arguments.out, record)
    except KeyboardInterrupt:
        print(f"the same command goes on with what {arguments.work} holds", file=sys.stderr)
        raise
    if written is None:
        raise UserError(
            f"--minutes {arguments.minutes:g}: one seed is too few to compare; the same command "
            f"goes on with what {arguments.work} holds"
        )
    print(report(written), end="\n\n")
    seeds = len(written["variants"][REFERENCE]["seeds"])
    print(f"{seeds} of {arguments.seeds} seeds: written to {arguments.out}")


METHOD = {
    "reference": "bench.reference_gan, float32, op by op; the others are the package's precisions",
    "budget": "the same steps and batches for all; of a seed all begin with the same weights",
    "seconds": "of training steps, the first with what it compiles, captures or starts included; "
    "not the loading of the data, the construction, the writing or the evaluation",
    "images_per_second": "of a training the median over its whole windows of one R1 interval; of a "
    "variant the median over its seeds",
    "images": "of the moving average, in float32, from the same latents for all, with the classes "
    "as often as in the data, against the same real images",
    "equivalent": f"both one-sided tests at 5 % refuse a difference of the margin; the first "
    f"margin, {MARGIN:.0%} of the reference's mean, is the one that counts; margins are taken as "
    "known; nothing is corrected for there being several variants or two tests",
    "tests": "Welch: of two samples, whatever their variances; pairs: of the differences within "
    "seeds, whose trainings begin with the same weights",
    "power": "of showing equivalence with so many seeds of such spread, were there no difference; "
    "smallest_margin and seeds_needed are for a power of 80 %",
    "reach": "the first time at which the line through the snapshots comes to the mean of the "
    "reference's last FIDs; mean: of the mean FID over seeds at the mean seconds",
    "floor": "halves of the data that share no patient, against each other; the mean over several "
    "divisions",
}
"""What the measurements cannot be read without."""

if __name__ == "__main__":
    sys.exit(run_command(main))

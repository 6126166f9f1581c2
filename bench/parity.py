"""``python -m bench.parity``: are the fast engine's images as good as the reference's, and faster?

Trains the independent reference (float32, eager) and the package in each precision on the same
images for the same number of steps, each of several seeds, from the same initial weights for all
variants of a seed. Says how far apart their FIDs are and whether they are equivalent, how many
images a second each trains on, and how soon each reaches the reference's last FID.

Trainings and what was measured of them are kept in ``--work``: the same command goes on where it
was stopped, and more seeds, other precisions or other features take what is there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.parity_training import (
    PRECISIONS,
    REFERENCE,
    Work,
    settings_of,
    snapshot_steps,
    train,
)
from bench.record import commit
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.training.algorithms import algorithms
from cxrgan_fast.training.allocator import keep_large_tensors_off_mmap
from cxrgan_fast.training.config import (
    PRESETS,
    TrainConfig,
    override,
    resolve_device,
    resolve_precision,
)

PRESET = {"cpu": "small", "cuda": "base"}
# On two cores the small preset would come to 250 steps in half an hour, a third of this.
BASE_CHANNELS = {"cpu": 16, "cuda": PRESETS["base"]["base_channels"]}
STEPS = {"cpu": 600, "cuda": 2000}


def train_seed(
    work: Work,
    seed: int,
    variants: Sequence[str],
    config: TrainConfig,
    dataset: ImageDataset,
    device: torch.device,
    snapshots: Sequence[int],
    bar: tqdm[Any],
) -> None:
    """Train what is not complete of a seed; which variant is first changes from seed to seed."""
    first = seed % len(variants)
    for variant in [*variants[first:], *variants[:first]]:
        if work.run(seed, variant):
            continue
        bar.set_description(f"seed {seed}, {variant}")
        run = train(
            variant,
            override(config, {"seed": seed}),
            dataset,
            device,
            snapshots=snapshots,
            folder=work.run_folder(seed, variant),
            progress=bar.update,
        )
        work.keep({**run, "commit": commit()})


# --- The command ----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.parity", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("--data", default="phantom", help='a folder of images, or "phantom" (the default)')
    add("--seeds", type=int, default=5, help="trainings of each variant: seeds 0, 1, ... (5)")
    add("--steps", type=int, help=f"of each (default: {STEPS['cpu']} on a CPU, else 2000)")
    add("--resolution", type=int, default=32, help="height and width of the images (default 32)")
    add("--batch-size", type=int, help="default: the preset's")
    add("--preset", choices=tuple(PRESETS), help="default: small on a CPU, base on a GPU")
    add("--base-channels", type=int, help="default: 16 on a CPU, 64 on a GPU")
    add("--precisions", nargs="+", choices=PRECISIONS, metavar="P", help=", ".join(PRECISIONS))
    add("--snapshots", type=int, default=10, help="of each training, evenly spaced (default 10)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default auto)")
    add("--threads", type=int, help="of PyTorch on the CPU (default: PyTorch's)")
    add("--work", type=Path, help="what is kept (default: runs/parity_RESOLUTION_DEVICE)")
    add("--minutes", type=float, help="begin no seed that would take longer than this in all")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    for name, least in (("seeds", 2), ("threads", 1), ("batch_size", 1), ("snapshots", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}: got {value}, expected {least} or more")
    least = max(2, arguments.snapshots)
    if arguments.steps < least:
        raise UserError(f"--steps: got {arguments.steps}, expected {least} or more")
    if arguments.minutes is not None and not arguments.minutes > 0:
        raise UserError(f"--minutes: got {arguments.minutes}, expected over 0")


def main() -> None:
    """Train, evaluate, print and write."""
    arguments = _parser().parse_args()
    device = resolve_device(arguments.device)
    if arguments.steps is None:
        arguments.steps = STEPS[device.type]
    _check(arguments)
    keep_large_tensors_off_mmap()  # before the first tensor, and so for every variant
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    preset = arguments.preset or PRESET[device.type]
    given = {
        "preset": preset,
        "resolution": arguments.resolution,
        "base_channels": arguments.base_channels or BASE_CHANNELS[device.type],
        "batch_size": arguments.batch_size or PRESETS[preset]["batch_size"],
        "device": str(device),
        "precision": "fp32",
    }
    config = override(TrainConfig(), {**PRESETS[preset], **given})
    precisions = arguments.precisions or ("fp32", resolve_precision("auto", device))
    variants = [REFERENCE, *dict.fromkeys(precisions)]
    dataset = load_dataset(arguments.data, resolution=arguments.resolution)
    if len(dataset) < config.batch_size:
        n = len(dataset)
        raise UserError(f"--data: {n} images are fewer than a batch of {config.batch_size}")
    folder = arguments.work or Path("runs") / f"parity_{arguments.resolution}_{device.type}"
    settings = settings_of(config, dataset, device, arguments.steps, arguments.snapshots)
    work = Work(folder, settings)
    snapshots = snapshot_steps(arguments.steps, arguments.snapshots)
    seeds = range(arguments.seeds)
    missing = [(seed, name) for seed in seeds for name in variants if not work.run(seed, name)]
    began = time.monotonic()
    longest = 0.0
    # Over the whole, not of late, since the variants take unequally long.
    bar = tqdm(total=len(missing) * arguments.steps, unit="step", disable=None, smoothing=0)
    try:
        with algorithms(deterministic=False), bar:
            for seed in seeds:
                begin = time.monotonic()
                if arguments.minutes and begin - began + longest > 60 * arguments.minutes:
                    break
                train_seed(work, seed, variants, config, dataset, device, snapshots, bar)
                longest = max(longest, time.monotonic() - begin)
    except KeyboardInterrupt:
        print(f"\nstopped: the same command goes on with what {folder} holds", file=sys.stderr)
        raise
    print(f"trained: {folder}")


if __name__ == "__main__":
    sys.exit(run_command(main))

"""``python -m bench.step_cost FILE``: what a step of each family of networks, and option, costs.

Every arm is a training of its own, on noise. One step of each comes in turn, with R1 and without,
so that whatever else slows the machine slows all of them. The milliseconds are of the processor
(with one thread those of an idle machine); the JSON has those of the clock beside them. Memory is
what PyTorch's tensors take: what a training holds between steps (weights, optimizers, moving
average, images), and the most that a step takes beyond that.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.command import MOST_ROUNDS, check, parser_of, prepare_process, recorded
from bench.record import write_result
from bench.tables import table_of
from bench.timing import in_turns, peak_bytes, seconds_of
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.step import TrainingStep

ARMS: dict[str, dict[str, Any]] = {
    "resnet": {},
    "resnet, minibatch std": {"minibatch_std": 4},
    "resnet, latent chunks": {"latent_chunks": True},
    "resnet, latents normalized": {"normalize_latents": True},
    "resnet, residuals scaled": {"scale_residuals": True},
    "dcgan": {"family": "dcgan"},
    "r3": {"family": "r3"},
    "r3, plain 3x3": {"family": "r3", "group_size": 0},
    # About as many multiplications as groups of 16 with expansion 2: at 128 channels 1.05 times.
    "r3, plain 3x3, narrow": {"family": "r3", "group_size": 0, "expansion": 0.75},
}
COLUMNS = (
    ("arm", "{arm}"),
    ("million weights", "{weights!m:.2f}"),
    ("ms a step", "{plain_ms:.0f}"),
    ("of the first", "{times_first:.2f}"),
    ("ms with R1", "{r1_ms:.0f}"),
    ("of the first", "{r1_times_first:.2f}"),
    ("MB held", "{held_bytes!m:.0f}"),
    ("MB a step", "{plain_bytes!m:.0f}"),
    ("with R1", "{r1_bytes!m:.0f}"),
)
_KINDS: dict[str, dict[str, Any]] = {"plain": {"r1_gamma": 0.0}, "r1": {"r1_interval": 1}}


def noise_images(resolution: int) -> ImageDataset:
    """Make a set of 16 images of noise in two classes: of what they show no time depends."""
    random = torch.Generator().manual_seed(0)
    names = [str(number) for number in range(16)]
    return ImageDataset(
        images=torch.randint(256, (16, 1, resolution, resolution), generator=random).byte(),
        labels=torch.arange(16) % 2,
        class_names=("a", "b"),
        patients=names,
        files=names,
        name="noise",
    )


def measure(
    arms: Sequence[str], settings: dict[str, Any], rounds: int, say: Callable[[str], object]
) -> list[dict[str, Any]]:
    """Time the arms in turns.

    Args:
        arms: of `ARMS`.
        settings: that all have, by their flat names.
        rounds: how many samples to take of each kind of step.
        say: is called with a line when an arm has been built.

    Returns:
        A row an arm, with samples, medians, and the medians' ratio to those of the first.
    """
    device = torch.device("cpu")
    dataset = noise_images(settings["resolution"])
    steps: dict[tuple[str, str], TrainingStep] = {}
    rows: dict[str, dict[str, Any]] = {}
    for arm in arms:
        for kind, beside in _KINDS.items():
            config = override(TrainConfig(), {**settings, **ARMS[arm], **beside})
            step = steps[arm, kind] = TrainingStep(config, dataset, device)
            row = rows.setdefault(arm, {"arm": arm, "settings": ARMS[arm]})
            row[f"{kind}_bytes"] = peak_bytes(step, device)
        networks = steps[arm, "plain"].networks.values()
        row["weights"] = sum(p.numel() for each in networks for p in each.parameters())
        row["held_bytes"] = sum(t.nbytes for t in steps[arm, "plain"].tensors())
        say(f"{arm}: built")
    samples: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    waited: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for order in in_turns(map("/".join, steps), rounds):
        for name in order:
            arm, _, kind = name.partition("/")
            start = time.process_time()
            waited[arm, kind].append(1e3 * seconds_of(steps[arm, kind], 1, device))
            samples[arm, kind].append(1e3 * (time.process_time() - start))
    for (arm, kind), taken in samples.items():
        rows[arm][f"{kind}_samples_ms"] = [round(ms, 2) for ms in taken]
        rows[arm][f"{kind}_wall_ms"] = [round(ms, 2) for ms in waited[arm, kind]]
        rows[arm][f"{kind}_ms"] = round(statistics.median(taken), 2)
    first = rows[arms[0]]
    for row in rows.values():
        row["times_first"] = round(row["plain_ms"] / first["plain_ms"], 3)
        row["r1_times_first"] = round(row["r1_ms"] / first["r1_ms"], 3)
    return list(rows.values())


def report(record: dict[str, Any]) -> str:
    """Lay out a result as tables, one for each size of the images."""
    return "\n\n".join(
        table_of(
            f"{point['resolution']} pixels, batch {record['batch_size']}, "
            f"{record['base_channels']} channels, {record['precision']}, {record['threads']} "
            "threads of the CPU",
            COLUMNS,
            point["arms"],
            left=1,
        )
        for point in record["points"]
    )


def main() -> None:
    """Measure, print and write."""
    parser = parser_of("bench.step_cost", __doc__)
    parser.add_argument("file", type=Path, help="where the JSON goes")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--resolutions", nargs="+", type=int, default=[64])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--base-channels", type=int, default=32)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    check(
        options,
        least={"rounds": 1, "threads": 1, "batch_size": 2},
        most={"rounds": MOST_ROUNDS, "threads": 1024},
        out="file",
    )
    shared = {name: getattr(options, name) for name in ("batch_size", "base_channels", "precision")}
    for resolution in options.resolutions:  # refused before anything is measured
        override(TrainConfig(), {**shared, "resolution": resolution})
    prepare_process(options.threads)
    points: list[dict[str, Any]] = []
    record: dict[str, Any] = {**shared, "threads": options.threads, "points": points}
    for resolution in options.resolutions:
        settings = {**shared, "resolution": resolution}
        rows = measure(options.arms, settings, options.rounds, lambda line: print(line, flush=True))
        points.append({"resolution": resolution, "arms": rows})
        write_result(options.file, recorded("bench.step_cost", file=options.file), record)
    print(report(record))


if __name__ == "__main__":
    sys.exit(run_command(main))

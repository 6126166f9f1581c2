"""``python -m bench.throughput``: whole training steps, the reference's against the package's.

All variants train on the same images with the same settings in one process, in turns, so that
whatever else slows the machine slows all of them. A turn is as many steps as lie between two with
R1, or several times that, so that every turn has its share of them. Prints tables and writes every
sample as JSON; ``python -m bench.plot`` draws it.
``--sweep`` measures over batch sizes and over resolutions, the least work first. The file is
written after the first steps of each variant and after each round: a stop keeps what it has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from bench.command import MOST_ROUNDS, check, parser_of, prepare_process, recorded
from bench.record import RESULTS, Result
from bench.throughput_measurements import (
    VARIANTS,
    Measurements,
    growth,
    targets,
    variant_measurements,
    with_ratios,
)
from bench.throughput_report import name_of, report
from bench.throughput_variants import Running, forget
from bench.timing import clamp, in_turns, reason_of
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.devices import resolve_device, resolve_precision
from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config import PRESETS, TrainConfig, flatten, override
from cxrgan_fast.threads import MOST_THREADS
from cxrgan_fast.training.algorithms import algorithms

BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512)
RESOLUTIONS = (32, 64, 128, 256)
SWEPT = ("reference", "reference_amp", "eager", "graph", "floor")
"""What a sweep measures unless told: what compiles would take minutes at every point."""
MIN_ROUNDS, MAX_ROUNDS = 5, 25
TURN_SECONDS, MOST_CYCLES = 0.5, 16
PHANTOM_IMAGES = 1000
PHANTOM_BATCHES = 16  # at least, in an epoch: a DataLoader begins each one anew
SHOWN = ("preset", "family", "precision", "base_channels", "augment", "optimizer", "r1_gamma")
"""Settings that the JSON names; the others are the package's defaults."""

Turns = dict[str, tuple[int, list[tuple[float, float]]]]
"""Of each variant the steps in a turn, and of each turn its seconds and the host's."""


def measure_point(
    config: TrainConfig,
    dataset: ImageDataset,
    device: torch.device,
    names: Sequence[str],
    *,
    rounds: int | None = None,
    seconds: float,
    limit: float,
    progress: Callable[[str], object] = lambda words: None,
    hand_over: Callable[[Measurements], object] = lambda point: None,
) -> Measurements:
    """Measure some variants at one resolution and batch size.

    What cannot be built or run here, runs out of memory or would take too long is left out, and
    the measurements say why.

    Args:
        config: settings, resolved.
        dataset: what is trained on.
        device: where.
        names: of VARIANTS.
        rounds: turns of each variant; None for as many as fit in ``seconds``, 5 to 25.
        seconds: about how long to time all variants together.
        limit: seconds that the turns of one variant may take.
        progress: is told what is being done.
        hand_over: is given the point as far as it is measured, whenever there is more of it: it has
            ``complete``: False, ``started`` with what the first steps of each variant took, and
            the variants of which a turn has been timed.

    Returns:
        The measurements of the point, without its targets.
    """
    running, left_out = dict[str, Running](), dict[str, str]()
    variants, started = dict[str, Measurements](), dict[str, Measurements]()
    where = {"resolution": config.network.resolution, "batch_size": config.batch_size}
    images = config.batch_size * config.objective.discriminator_steps

    def so_far() -> None:
        parts = {"started": started, "variants": with_ratios(variants), "left_out": left_out}
        hand_over({**where, "complete": False, **parts})

    def timed(turns: Turns) -> None:
        variants.clear()  # of what has failed in a later turn
        for name in running:
            steps, each = turns[name]
            variants[name] = variant_measurements(each, steps, images, on_gpu=device.type == "cuda")
        so_far()

    try:
        for name in names:
            progress(f"{name}: first steps")
            try:
                variant = Running.start(name, config, dataset, device)
                least = (rounds or MIN_ROUNDS) * (variant.cycle + 1) * variant.step_s
                if least > limit:
                    variant.stop()
                    raise UserError(
                        f"a step takes {variant.step_s:.3g} s, so that its turns would take "
                        f"{least:.0f} s, more than the limit of {limit:g} s"
                    )
                running[name] = variant
                started[name] = {
                    "first_step_s": round(variant.first_step_s, 3),
                    "warm_step_ms": round(1e3 * variant.step_s, 3),
                }
            except Exception as error:
                left_out[name] = reason_of(error)
            so_far()
        _take_turns(running, left_out, rounds, seconds, progress, timed)
        for name, variant in running.items():
            progress(f"{name}: memory and launches")
            try:
                variants[name] = {**variant.costs(), **variants[name]}
            except Exception as error:
                left_out[f"{name}, memory and launches"] = reason_of(error)
            if variants[name].get("how", "").startswith("queued"):
                left_out[f"{name}, replayed"] = variants[name]["how"]
            so_far()
    finally:
        for variant in running.values():
            variant.stop()
        forget()
    return {**where, "variants": with_ratios(variants), "left_out": left_out}


def _take_turns(
    running: dict[str, Running],
    left_out: dict[str, str],
    rounds: int | None,
    seconds: float,
    progress: Callable[[str], object],
    timed: Callable[[Turns], object],
) -> None:
    """Time every variant in turns, whose order moves on from round to round.

    A variant that fails in a turn goes from ``running`` to ``left_out``. ``timed`` is given all
    turns so far after every round.
    """
    names = list(running)
    steps = {
        name: each.cycle * clamp(TURN_SECONDS / (each.cycle * each.step_s), 1, MOST_CYCLES)
        for name, each in running.items()
    }
    if rounds is None:
        one_round = sum((steps[name] + 1) * each.step_s for name, each in running.items())
        rounds = clamp(seconds / max(one_round, 1e-9), MIN_ROUNDS, MAX_ROUNDS)
    turns: Turns = {name: (steps[name], []) for name in names}
    for number, order in enumerate(in_turns(names, rounds)):
        progress(f"round {number + 1} of {rounds}")
        for name in order:
            if name not in running:
                continue
            try:
                turns[name][1].append(running[name].turn(steps[name]))
            except Exception as error:
                left_out[name] = reason_of(error)
                running.pop(name).stop()
        timed(turns)


# --- The command ----------------------------------------------------------------------------------


def points_of(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """Resolution and batch size of each point, the least work first."""
    resolution, batch_size = arguments.resolution, arguments.batch_size
    points = {(resolution, batch_size)}
    if arguments.sweep:
        points |= {(resolution, each) for each in arguments.batch_sizes}
        points |= {(each, batch_size) for each in arguments.resolutions}
    return sorted(points, key=lambda point: (point[0] ** 2 * point[1], point))


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("bench.throughput", __doc__)
    add = parser.add_argument
    add("--resolution", type=int, default=64, help="height and width of the images (default 64)")
    add("--batch-size", type=int, help="default: the preset's")
    add("--preset", choices=tuple(PRESETS), help="default: small on a CPU, base on a GPU")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default auto)")
    add("--data", default="phantom", help='a folder of images, or "phantom" (the default)')
    add("--out", type=Path, help="the JSON (default: bench/results/throughput[_sweep]_DEVICE.json)")
    add("--variants", nargs="+", choices=VARIANTS, metavar="V", help=", ".join(VARIANTS))
    add("--rounds", type=int, help="turns of each variant (default: what fits in --seconds)")
    add("--seconds", type=float, default=60.0, help="to time a point; 5 rounds at least")
    add("--limit", type=float, default=600.0, help="seconds that a variant's turns may take")
    add("--threads", type=int, help="of PyTorch on the CPU (default: PyTorch's)")
    add("--sweep", action="store_true", help="measure over batch sizes and over resolutions too")
    add("--batch-sizes", nargs="+", type=int, default=list(BATCH_SIZES), help="of the sweep")
    add("--resolutions", nargs="+", type=int, default=list(RESOLUTIONS), help="of the sweep")
    return parser


def _config(arguments: argparse.Namespace, device: torch.device) -> TrainConfig:
    """The settings of the first point."""
    precision = resolve_precision(arguments.precision, device)
    given = {"precision": precision, "preset": arguments.preset, "device": str(device)}
    return override(TrainConfig(), {**PRESETS[arguments.preset], **given})


def _load(arguments: argparse.Namespace, config: TrainConfig) -> ImageDataset:
    return load_dataset(
        arguments.data,
        resolution=config.network.resolution,
        image_channels=config.network.image_channels,
        phantom_images=max(PHANTOM_IMAGES, PHANTOM_BATCHES * config.batch_size),
    )


def main() -> None:
    """Measure, print and write."""
    arguments = _parser().parse_args()
    device = resolve_device(arguments.device)
    if arguments.preset is None:
        arguments.preset = "small" if device.type == "cpu" else "base"
    if arguments.out is None:
        name = "throughput_sweep" if arguments.sweep else "throughput"
        arguments.out = RESULTS / f"{name}_{device.type}.json"
    if arguments.batch_size is None:
        arguments.batch_size = PRESETS[arguments.preset]["batch_size"]
    if arguments.variants is None:
        arguments.variants = list(SWEPT if arguments.sweep else VARIANTS)
    check(
        arguments,
        least={"rounds": 1, "threads": 1, "batch_size": 1, "batch_sizes": 1},
        most={"rounds": MOST_ROUNDS, "threads": MOST_THREADS},
        over_0=["seconds", "limit"],
    )
    prepare_process(arguments.threads)
    config = _config(arguments, device)
    wanted = points_of(arguments)
    configs = [  # all of them first: a bad one is refused before hours of measuring
        override(config, {"resolution": resolution, "batch_size": batch_size})
        for resolution, batch_size in wanted
    ]
    done: list[Measurements] = []
    at_work: Measurements | None = None
    record = {
        "device": device.type,
        "complete": False,
        "settings": {name: flatten(config)[name] for name in SHOWN},
        "method": METHOD,
        "points": done,
    }
    result = Result(arguments.out, recorded("bench.throughput"))

    def hand_over(point: Measurements) -> None:
        nonlocal at_work
        at_work = {**point, "targets": []}  # which are judged when it is complete
        result.write({**record, "points": [*done, at_work]}, quickly=True)

    try:
        # cuDNN's fastest algorithms for all variants, as the training program has them.
        with algorithms(deterministic=False), tqdm(configs, unit="point", disable=None) as bar:
            for each in bar:
                point = _measure(arguments, each, device, bar.set_description, hand_over)
                done.append(point)
                at_work = None
                if len(configs) > 1:
                    result.write(record, quickly=True)
                    bar.write(f"{name_of(point)}: {_line(point)}", file=sys.stderr)
        record["complete"] = True
    finally:
        if done or at_work:
            points = [*done, at_work] if at_work else done
            parts = " and a part of the next" if at_work else ""
            of = f"{len(done)} of {len(configs)} points{parts}"
            result.finish({**record, "points": points, "growth": growth(done)}, report, of)
        else:
            print("nothing is measured; nothing is written")


def _measure(
    arguments: argparse.Namespace,
    config: TrainConfig,
    device: torch.device,
    progress: Callable[[str], object],
    hand_over: Callable[[Measurements], object],
) -> Measurements:
    """A point with its targets. What fails as a whole is a point without variants."""
    where = {"resolution": config.network.resolution, "batch_size": config.batch_size}
    try:
        dataset = _load(arguments, config)
        data = f"{dataset.name}, {len(dataset)} images"
        point = measure_point(
            config,
            dataset,
            device,
            arguments.variants,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            limit=arguments.limit,
            progress=lambda words: progress(f"{name_of(where)}, {words}"),
            hand_over=lambda point: hand_over({**point, "data": data}),
        )
        point["data"] = data
    except (RuntimeError, MemoryError) as error:
        point = {**where, "variants": {}, "left_out": {"all": reason_of(error)}}
    threads = torch.get_num_threads()
    point["targets"] = targets(point, device=device.type, preset=arguments.preset, threads=threads)
    return point


def _line(point: Measurements) -> str:
    rates = [f"{name} {each['images_per_second']}" for name, each in point["variants"].items()]
    return ", ".join(rates + [f"{name} left out" for name in point["left_out"]]) + " images/s"


METHOD = {
    "images_per_second": "real images shown to the discriminator, of the median turn",
    "turn": "steps from one with R1 to the next, or several times that, after one untimed",
    "times_reference": "median of the reference over the variant's",
    "times_floor": "median of the variant over the floor's",
    "started": "of a point that was stopped: warm_step_ms is one step, timed alone",
    "first_step_s": "construction and first step, without imports; compilers' caches are empty",
    "peak_mb": "tensors at the most in a step with R1, or on a GPU in all steps from one to the "
    "next, the variant's own only; without a DataLoader's processes",
    "launches": "kernels, copies and memory sets of a step without R1; host_launches: the calls",
    "dispatched_ops": "on a CPU, of a step without R1; compiled code dispatches none",
    "host_busy": "processor time until all is queued, over the time until all is done",
    "left_out": "where memory ran out, it held the variants before too",
    "floor": "the convolutions and matrix products of the eager variant's steps, nothing else",
}
"""What the measurements cannot be read without."""

if __name__ == "__main__":
    sys.exit(run_command(main))

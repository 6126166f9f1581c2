"""``python -m bench.compare OLD NEW``: what got slower or faster between two results of a command.

Each is the JSON of one command: ``bench.kernels``, ``bench.throughput``, ``bench.busy``,
``bench.data`` or ``research.parity``. Of every case that both have, the ratio of the medians, new
over old, with the 95 % interval that resampling gives; a case whose interval has 1 within it did
not change beyond the noise. The baselines are listed too, since they say what the machine itself
did, and are never the reason to fail.

The exit status is 1 if a case of the package is slower, beyond the noise and by more than
``--tolerance``. Runs on other devices, versions or settings are refused without ``--force``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.command import parser_of
from bench.record import command_of, read_result
from bench.tables import table_of
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError

RESAMPLES = 1000
CONFIDENCE = 0.95
FEWEST_SAMPLES = 5
"""Of either side: from fewer no interval can be told."""
BASELINES = ("eager", "compiled", "copy")
"""Of ``bench.kernels``: PyTorch's ways, and what the memory allows."""
CIRCUMSTANCES = (
    "device",
    "settings",
    "environment.cpu.model",
    "environment.gpus.torch",
    "environment.threads",
    "environment.allocator",
    "environment.packages.torch",
    "environment.packages.triton",
)
"""What has to be the same for times to be compared, where either record has it."""

SLOWER, FASTER, SAME, UNKNOWN = "slower", "faster", "within the noise", "too few samples"


@dataclass(frozen=True)
class Case:
    """What was measured several times, in a unit of which less is better."""

    name: str
    samples: list[float]
    ours: bool = True
    """Whether it is of the package, and not what that is measured against."""


# --- What the commands have measured --------------------------------------------------------------


def _of_kernels(record: Mapping[str, Any]) -> Iterator[Case]:
    for row in record["cases"]:
        words = [row["op"], row["kind"], "x".join(map(str, row["shape"])), row["layout"]]
        name = ", ".join([*filter(None, words), row["dtype"]])
        states = {"": row, **{f" {state}": each for state, each in row.get("replayed", {}).items()}}
        for state, of_state in states.items():
            for way, samples in of_state["samples_us"].items():
                yield Case(f"{name}: {way}{state}", samples, way not in BASELINES)
    for row in record.get("dispatch", ()):
        shape = "x".join(map(str, row["shape"]))
        name = f"call of {row['op']}, {shape}, after {row['after_mb']} MB"
        yield Case(name, row["samples_us"][row["op"]])


def _of_throughput(record: Mapping[str, Any]) -> Iterator[Case]:
    for point in record["points"]:
        where = f"{point['resolution']} pixels, batch {point['batch_size']}"
        for name, variant in point["variants"].items():
            ours = not name.startswith(("reference", "floor"))
            yield Case(f"{where}: {name}", variant["samples_ms"], ours)


def _of_busy(record: Mapping[str, Any]) -> Iterator[Case]:
    for name, variant in record["variants"].items():
        yield Case(name, [1 / turn["images_per_second"] for turn in variant["turns"]])


def _of_data(record: Mapping[str, Any]) -> Iterator[Case]:
    for name, measurements in record["figures"].items():
        yield Case(name, measurements["seconds"])


def _of_parity(record: Mapping[str, Any]) -> Iterator[Case]:
    for name, runs in record["runs"].items():
        samples = [
            seconds / steps
            for run in runs
            for steps, seconds in zip(run["window_steps"], run["window_s"], strict=True)
        ]
        yield Case(f"a step of {name}", samples, name != "reference")


KINDS: dict[str, Callable[[Mapping[str, Any]], Iterator[Case]]] = {
    "bench.kernels": _of_kernels,
    "bench.throughput": _of_throughput,
    "bench.busy": _of_busy,
    "bench.data": _of_data,
    "research.parity": _of_parity,
}
"""The cases of a result, by the command that wrote it."""


# --- Comparing ------------------------------------------------------------------------------------


def interval(old: list[float], new: list[float]) -> tuple[float, float]:
    """The 95 % interval of the ratio of medians, new over old, by the block bootstrap.

    Blocks of neighbours are drawn, not single samples: those taken together are alike, and an
    interval that took them as independent would be too narrow (Künsch, The Jackknife and the
    Bootstrap for General Stationary Observations, 1989). The same samples give the same interval.
    """
    rng = np.random.default_rng(0)
    ratios = _medians(new, rng) / _medians(old, rng)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _medians(samples: list[float], rng: np.random.Generator) -> NDArray[np.float64]:
    """Of each resample the median; blocks are as long as the root of how many samples there are."""
    values, n = np.asarray(samples, np.float64), len(samples)
    length = round(n**0.5)
    starts = rng.integers(n, size=(RESAMPLES, -(-n // length)))
    rows = (starts[:, :, None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :n] % n
    medians: NDArray[np.float64] = np.median(values[rows], axis=1)
    return medians


def compare(old: Mapping[str, Case], new: Mapping[str, Case]) -> list[dict[str, Any]]:
    """Hold the cases that both have against each other, the one that lost most first.

    Args:
        old: the cases by their names.
        new: likewise.

    Returns:
        Of each its ``name``, ``ratio``, whether it is ``ours``, the bounds ``low`` and ``high`` of
        the ratio's interval (None where there are too few samples) and the ``verdict``.
    """
    rows = []
    for name in old.keys() & new.keys():
        before, after = old[name].samples, new[name].samples
        ratio = float(np.median(after) / np.median(before))
        row = {"name": name, "ours": old[name].ours, "ratio": ratio, "low": None, "high": None}
        if min(len(before), len(after)) < FEWEST_SAMPLES:
            row["verdict"] = UNKNOWN
        else:
            low, high = interval(before, after)
            verdict = SLOWER if low > 1 else FASTER if high < 1 else SAME
            row |= {"low": low, "high": high, "verdict": verdict}
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["ratio"], row["name"]))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What of `CIRCUMSTANCES` differs between two records, a line each."""
    lines = []
    for path in CIRCUMSTANCES:
        before, after = _at(old, path), _at(new, path)
        if before != after:
            lines.append(f"{path.removeprefix('environment.')}: {before} before, {after} now")
    return lines


def _at(record: Any, path: str) -> Any:
    for key in path.split("."):
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def _cases(file: Path, record: dict[str, Any]) -> dict[str, Case]:
    command = command_of(record)
    if command not in KINDS:
        raise UserError(
            f"{file}: results of {command or 'no command'} have no samples to compare, "
            f"expected one of {', '.join(KINDS)}"
        )
    try:
        found = {case.name: case for case in KINDS[command](record) if case.samples}
    except (KeyError, TypeError) as error:
        raise UserError(f"{file}: not as python -m {command} writes it: {error}") from None
    return found


def main() -> None:
    """Compare, print, and end with 1 if something got slower."""
    parser = parser_of("bench.compare", __doc__)
    parser.add_argument("old", type=Path, help="the JSON measured before")
    parser.add_argument("new", type=Path, help="the JSON of the same command measured now")
    parser.add_argument(
        "--tolerance", type=float, default=0.05, help="share that may be lost (default 0.05)"
    )
    parser.add_argument(
        "--force", action="store_true", help="compare runs on other devices or versions, too"
    )
    arguments = parser.parse_args()
    if not arguments.tolerance >= 0:
        raise UserError(f"--tolerance: got {arguments.tolerance}, expected 0 or more")
    files = (arguments.old, arguments.new)
    records = [read_result(file) for file in files]
    old, new = (_cases(file, record) for file, record in zip(files, records, strict=True))
    commands = [command_of(record) for record in records]
    if commands[0] != commands[1]:
        raise UserError(f"{files[1]} is of {commands[1]}, expected {commands[0]} as {files[0]} is")
    differing = differences(*records)
    if differing and not arguments.force:
        raise UserError(
            f"these runs cannot be compared: {'; '.join(differing)}. Measure both on one machine "
            "with the same versions and settings, or give --force"
        )
    for file, record in zip(files, records, strict=True):
        part = "" if record.get("complete", True) else ", NOT complete"
        print(f"{file}: commit {record['commit'][:9]}, {record['date']}{part}")
    for line in differing:
        print(f"NOT the same: {line}")
    for cases, others, file in ((old, new, files[1]), (new, old, files[0])):
        for name in cases:
            if name not in others:
                print(f"not in {file}: {name}")
    rows = compare(old, new)
    columns = [
        ("case", "{name}"),
        ("", "{verdict}"),
        ("new/old", "{ratio:.3f}"),
        ("95 % from", "{low:.3f}"),
        ("to", "{high:.3f}"),
    ]
    for title, ours in (("baselines", False), ("the package", True)):
        of_kind = [row for row in rows if row["ours"] == ours]
        if of_kind:
            print("\n" + table_of(f"{title}: time now over before", columns, of_kind, left=2))
    judged = [row for row in rows if row["ours"] and row["verdict"] != UNKNOWN]
    if not judged:
        raise UserError(
            f"no case of the package can be judged: {files[0]} and {files[1]} have none in common "
            f"with {FEWEST_SAMPLES} samples or more"
        )
    lost = [
        row for row in judged if row["verdict"] == SLOWER and row["ratio"] > 1 + arguments.tolerance
    ]
    print(f"\n{len(lost)} of {len(judged)} cases are slower by more than {arguments.tolerance:.0%}")
    if lost:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(run_command(main))

"""``python -m bench.busy --out FILE``: images/s beside a busy process, and on one core.

Every figure is of the whole command ``python -m cxrgan_fast.train``, from its first step to its
last and with all that ``--threads auto`` tries on the way. The variants take turns, and the ratios
are of their medians.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.command import MOST_ROUNDS, check, parser_of, recorded
from bench.record import Result
from bench.timing import in_turns
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.threads import available_cores

# What `make train` trains, but for the number of phantoms; only the steps are to take time.
TRAINING = ("--data", "phantom", "--device", "cpu", "--phantom-images", "64",
            "--steps", "1000000", "--log-every", "1000000", "--grid-every", "1000000",
            "--checkpoint-every", "1000000")  # fmt: skip

# It ends with this program, however that ends.
SPIN = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(10000))"


@dataclass(frozen=True)
class Variant:
    """What trains where.

    Attributes:
        threads: of ``--threads``; "cores" is as many as there are.
        busy: processes beside it that never rest.
        one_core: whether it may use a single core only.
    """

    threads: str
    busy: int = 0
    one_core: bool = False


VARIANTS = {
    "alone": Variant("auto"),
    "alone, all threads": Variant("cores"),
    "alone, one thread": Variant("1"),
    "busy": Variant("auto", busy=1),
    "busy, all threads": Variant("cores", busy=1),
    "busy, one thread": Variant("1", busy=1),
    "one core": Variant("auto", one_core=True),
    "one core, one thread": Variant("1", one_core=True),
}

TARGETS = {
    "busy_against_alone": ("busy", "alone", 0.45),
    "one_core_against_one_thread": ("one core", "one core, one thread", 0.9),
}

METHOD = {
    "images_per_second": "images over seconds of a run, its first step included",
    "busy": "one more process that computes all the time, free to take any core",
    "one core": "affinity of one core, as a container with a cpuset has it; quotas of control "
    "groups are tested with files as the kernel writes them (tests/test_threads.py)",
    "ratios": "of the medians of all rounds, in which the variants take turns",
    "load": "processes that wanted a core on the machine before a turn (1-minute average)",
}


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Within, so many processes compute all the time."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(variant: Variant, seconds: float, folder: Path) -> dict[str, Any]:
    """Train for so long and read what the run has logged.

    Raises:
        UserError: the training failed; its last line.
    """
    threads = str(available_cores()) if variant.threads == "cores" else variant.threads
    command = [sys.executable, "-m", "cxrgan_fast.train", *TRAINING, "--threads", threads,
               "--max-minutes", str(seconds / 60), "--out", str(folder)]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    load = os.getloadavg()[0]
    with busy_processes(variant.busy):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            preexec_fn=_take_one_core if variant.one_core else None,
        )
    if done.returncode:
        raise UserError(f"the training failed: {(done.stderr.strip() or '?').splitlines()[-1]}")
    (run,) = folder.iterdir()
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    said = [line for line in (done.stdout + done.stderr).splitlines() if "threads: " in line]
    return {
        "images_per_second": round(last["images"] / last["seconds"], 2),
        "steps": last["step"],
        "threads_at_the_end": last["threads"],
        "said": said,
        "load": round(load, 2),
    }


def _take_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def ratios(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Compare the medians, each with its target and whether it is reached."""
    found = {}
    for name, (over, under, target) in TARGETS.items():
        a, b = (_median(rounds[each]) for each in (over, under))
        found[name] = {"ratio": round(a / b, 3), "target": target, "reached": a / b >= target}
    return found


def _median(turns: list[dict[str, Any]]) -> float:
    return statistics.median(turn["images_per_second"] for turn in turns)


def main() -> None:
    """Measure, write the file after each round, print the measurements."""
    parser = parser_of("bench.busy", __doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each turn (default: 60)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each variant (default: 3)")
    arguments = parser.parse_args()
    check(arguments, least={"rounds": 1}, most={"rounds": MOST_ROUNDS}, over_0=["seconds"])
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("bench.busy needs Linux: one of its variants is held on one core")
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    result = Result(arguments.out, recorded("bench.busy"))
    for number, order in enumerate(in_turns(VARIANTS, arguments.rounds)):
        for name in order:
            with tempfile.TemporaryDirectory() as folder:
                turn = measure(VARIANTS[name], arguments.seconds, Path(folder))
            rounds[name].append(turn)
            print(f"round {number + 1}, {name}: {turn['images_per_second']} images/s", flush=True)
        measurements = {
            "method": METHOD,
            "cores": available_cores(),
            "seconds": arguments.seconds,
            "rounds": number + 1,
            "training": " ".join(TRAINING),
            "ratios": ratios(rounds),
            "variants": {
                name: {"median_images_per_second": _median(turns), "turns": turns}
                for name, turns in rounds.items()
            },
        }
        result.write(measurements)
    for name, figure in measurements["ratios"].items():
        print(f"{name}: {figure['ratio']} (target {figure['target']})")


if __name__ == "__main__":
    sys.exit(run_command(main))

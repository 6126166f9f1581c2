"""``python -m bench.data FILE [--data PATH]``: what the data tool takes, in seconds and memory."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.command import check, parser_of, recorded
from bench.record import write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import load_dataset
from cxrgan_fast.errors import UserError

REPEATS = 3
CLASSES = "normal,bacterial,viral"

# Each in a program of its own, whose peak is then its own. The time is that of the program, which
# takes more than a second to start.
_TASKS = {
    "prepare_64": ("prepare", "DATA", "OUT", "--resolution", "64", "--classes", CLASSES),
    "prepare_128": ("prepare", "DATA", "OUT", "--resolution", "128", "--classes", CLASSES),
    "prepare_64_inpaint": (
        *("prepare", "DATA", "OUT", "--resolution", "64", "--classes", CLASSES),
        *("--markers", "inpaint", "--contrast", "percentile"),
    ),
    "inspect": ("inspect", "DATA"),
    "subset": ("subset", "DATA", "OUT"),
}


def seconds(task: Callable[[], object]) -> dict[str, object]:
    """Time some repeats; the first may find the files out of the page cache."""
    samples = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        task()
        samples.append(round(time.perf_counter() - start, 3))
    return {"seconds": samples}


def of_commands(data: str) -> dict[str, Any]:
    """Seconds and peak memory of the commands."""
    measurements: dict[str, Any] = {}
    for name, task in _TASKS.items():
        peaks = list[float]()
        measurements[name] = {
            "arguments": " ".join(task),
            **seconds(partial(_into_a_new_folder, task, data, peaks)),
            "peak_memory_mb": peaks,
        }
        print(name, measurements[name])
    return measurements


def _into_a_new_folder(task: Sequence[str], data: str, peaks: list[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = {"DATA": data, "OUT": str(Path(folder) / "out")}
        peaks.append(_run([places.get(each, each) for each in task]))


_MEASURED = """
import re, sys
from pathlib import Path
from cxrgan_fast.command import run_command
from cxrgan_fast.data.__main__ import main
status = run_command(main)
# Not getrusage, which begins with what the program that started this one took.
(peak,) = re.findall(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())
print(round(int(peak) / 1024, 1))
sys.exit(status)
"""


def _run(arguments: list[str]) -> float:
    """Run the command in a program that then prints its peak memory, which is given in MB."""
    command = [sys.executable, "-c", _MEASURED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print and write."""
    parser = parser_of("bench.data", __doc__)
    parser.add_argument("file", type=Path, help="where the JSON goes")
    parser.add_argument("--data", help="the published X-rays, to prepare and to look at")
    arguments = parser.parse_args()
    check(arguments, out="file")
    measurements: dict[str, Any] = {
        "phantom_64": seconds(lambda: load_dataset("phantom", resolution=64))
    }
    measurements["phantom_64"]["images"] = 1000
    if arguments.data:
        measurements |= of_commands(arguments.data)
    command = recorded("bench.data", file=arguments.file)
    write_result(arguments.file, command, {"figures": measurements})


if __name__ == "__main__":
    sys.exit(run_command(main))

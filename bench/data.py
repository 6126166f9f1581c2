"""``python -m bench.data FILE [--data PATH]``: how long it takes to draw and to read a set."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.record import write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset

REPEATS = 3


def seconds(load: Callable[[], ImageDataset]) -> dict[str, object]:
    """Time some repeats of ``load``; the first may find the files out of the page cache."""
    samples, count = [], 0
    for _ in range(REPEATS):
        start = time.perf_counter()
        count = len(load())
        samples.append(round(time.perf_counter() - start, 3))
    return {"images": count, "seconds": samples}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.data", description=__doc__)
    parser.add_argument("file", type=Path, help="where the JSON goes")
    parser.add_argument("--data", help="a folder of images to read as well")
    arguments = parser.parse_args()
    figures = {"phantom_64": seconds(lambda: load_dataset("phantom", resolution=64))}
    command = "python -m bench.data FILE"
    if arguments.data:
        everything = ("normal", "bacterial", "viral")
        figures["chest_xray_64"] = seconds(
            lambda: load_dataset(arguments.data, resolution=64, classes=everything)
        )
        command += " --data chest_xray"
    for name, figure in figures.items():
        print(name, figure)
    write_result(arguments.file, command, {"figures": figures})


if __name__ == "__main__":
    sys.exit(run_command(main))

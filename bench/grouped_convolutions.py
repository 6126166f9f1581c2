"""``python -m bench.grouped_convolutions FILE``: 3×3 convolutions in groups against plain ones.

The groups have 16 channels. A plain convolution of 4·√C channels has as many weights as one of C
channels in groups of 16 and, at the same size of the images, as many multiplications. Timed in
turns: the forward pass, the gradient of the input, and that of the weight. The milliseconds are of
the processor: with one thread those of an idle machine.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.command import MOST_ROUNDS, check, parser_of, prepare_process, recorded
from bench.record import write_result
from bench.tables import table_of
from bench.timing import in_turns
from cxrgan_fast.command import run_command

GROUP = 16
SMALL = "2x64x8"  # for a look at whether it works
SHAPES = ("16x64x64", "16x256x16", "16x256x32")
"""Images, channels and pixels a side of the convolution in groups, as the family r3 has them."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PASSES = ("forward", "of_input", "of_weight")
COLUMNS = (
    ("images", "{shape!x}"),
    ("layout", "{layout}"),
    ("dtype", "{dtype}"),
    ("pass", "{pass}"),
    ("ms in groups", "{median_ms[groups]:.2f}"),
    ("plain, equal work", "{median_ms[equal]:.2f}"),
    ("times", "{times_equal:.2f}"),
    ("plain, equal width", "{median_ms[wide]:.2f}"),
    ("times", "{times_wide:.2f}"),
)


def convolutions(channels: int) -> dict[str, tuple[int, int]]:
    """Return channels and groups of what is compared, by name."""
    return {
        "groups": (channels, channels // GROUP),
        "equal": (4 * math.isqrt(channels), 1),
        "wide": (channels, 1),
    }


def passes(
    samples: int, channels: int, size: int, groups: int, dtype: torch.dtype, layout: str
) -> dict[str, partial[Any]]:
    """Return a function for each pass of one convolution."""
    memory_format = LAYOUTS[layout]

    def made(*shape: int) -> Tensor:
        return torch.randn(shape).to(dtype).contiguous(memory_format=memory_format)

    images, grad = (made(samples, channels, size, size) for _ in range(2))
    weight = made(channels, channels // groups, 3, 3)
    backward = partial(
        torch.ops.aten.convolution_backward.default, grad, images, weight,
        None, [1, 1], [1, 1], [1, 1], False, [0, 0], groups,
    )  # fmt: skip
    return {
        "forward": partial(F.conv2d, images, weight, padding=1, groups=groups),
        "of_input": partial(backward, [True, False, False]),
        "of_weight": partial(backward, [False, True, False]),
    }


def rows(shapes: Sequence[str], rounds: int) -> Iterator[dict[str, Any]]:
    """Measure one pass of one case after the other.

    Args:
        shapes: samples, channels and size of the images, as in `SHAPES`.
        rounds: how many samples to take of each.
    """
    for shape, layout, dtype in product(shapes, LAYOUTS, DTYPES):
        samples, channels, size = map(int, shape.split("x"))
        compared = {
            name: passes(samples, width, size, groups, DTYPES[dtype], layout)
            for name, (width, groups) in convolutions(channels).items()
        }
        for direction in PASSES:
            taken: dict[str, list[float]] = {name: [] for name in compared}
            for order in in_turns(compared, rounds + 1):
                for name in order:
                    start = time.process_time()
                    compared[name][direction]()
                    taken[name].append(1e3 * (time.process_time() - start))
            medians = {name: statistics.median(each[1:]) for name, each in taken.items()}
            yield {
                "shape": [samples, channels, size, size],
                "layout": layout,
                "dtype": dtype,
                "pass": direction,
                "median_ms": {name: round(ms, 4) for name, ms in medians.items()},
                "times_equal": round(medians["groups"] / medians["equal"], 3),
                "times_wide": round(medians["groups"] / medians["wide"], 3),
                "samples_ms": {
                    name: [round(ms, 4) for ms in each[1:]] for name, each in taken.items()
                },
            }


def report(record: dict[str, Any]) -> str:
    """Lay out a result as a table."""
    title = (
        f"3x3 convolutions in groups of {GROUP} channels, {record['threads']} threads of the CPU"
    )
    return table_of(title, COLUMNS, record["rows"], left=4)


def main() -> None:
    """Measure, print and write."""
    parser = parser_of("bench.grouped_convolutions", __doc__)
    parser.add_argument("file", type=Path, help="where the JSON goes")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=[*SHAPES, SMALL])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    check(
        options,
        least={"rounds": 1, "threads": 1},
        most={"rounds": MOST_ROUNDS, "threads": 1024},
        out="file",
    )
    prepare_process(options.threads)
    record: dict[str, Any] = {"threads": options.threads, "rows": []}
    with torch.no_grad():
        for row in rows(options.shapes, options.rounds):
            record["rows"].append(row)
    command = recorded("bench.grouped_convolutions", file=options.file)
    write_result(options.file, command, record)
    print(report(record))


if __name__ == "__main__":
    sys.exit(run_command(main))

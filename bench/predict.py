"""``python -m bench.predict``: how fast conditional_batch_norm_act should be on a GPU, and why.

For each case the path, the launches, the warps' instructions, the bytes, and the microseconds of a
step (forward with running statistics, backward) replayed as a CUDA graph on the same tensors,
against a copy. The launches are those that the product's own launchers ask for, the instructions
those that nvcc compiles; what the hardware makes of them is a model (``bench.predict_model``) that
is meant to be right within 40 %. No GPU is needed; nvcc and nvdisasm are.

``--against FILE`` holds what ``bench.kernels --device cuda`` has measured against it and marks what
is off by more, or takes another path or other launches: the model is then wrong, and to be mended.
The exit status is how many cases are off, at most 99.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cases import CUDA_SHAPES, DTYPES, LAYOUTS, Case, all_cases
from bench.command import check, parser_of, recorded
from bench.gpu_case import PATHS
from bench.kernels import _shape
from bench.predict_cost import WARP
from bench.predict_model import (
    TENSORS_OF_A_COPY,
    TENSORS_OF_A_STEP,
    Hardware,
    copy_us,
    share_in_l2,
    time_of,
)
from bench.predict_plans import OP, Plan, plans
from bench.predict_report import DIRECTIONS, compare, comparison, in_short, report
from bench.predict_trips import Trips
from bench.record import RESULTS, read_result_of, write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError

MOST_STATUS = 99
FILES = ("--out", "--against", "--before")


def predict(
    cases: Sequence[Case],
    hardware: Hardware,
    architecture: int = 90,
    path: str = "auto",
    as_before: bool = False,
) -> list[dict[str, Any]]:
    """Predict each of some cases.

    Args:
        cases: of conditional_batch_norm_act.
        hardware: on what.
        architecture: that the kernels are compiled for.
        path: of ``use_cuda_path``.
        as_before: how to count, of ``bench.predict_trips.Trips``.

    Raises:
        UserError: as ``bench.predict_plans.plans`` does.
    """
    found = plans(cases, hardware, architecture, path, as_before)
    return [_measurements(case, plan, hardware) for case, plan in zip(cases, found, strict=True)]


def by_path(
    cases: Sequence[Case], hardware: Hardware, architecture: int = 90
) -> list[dict[str, list[float | None]]]:
    """Predict some cases on every path.

    Args:
        cases: of conditional_batch_norm_act.
        hardware: on what.
        architecture: that the kernels are compiled for.

    Returns:
        For each case the microseconds of each path forward and backward; None where it cannot take
        the case.
    """
    found: list[dict[str, list[float | None]]] = [{} for _ in cases]
    for path in PATHS:
        for each, case in zip(found, predict(cases, hardware, architecture, path), strict=True):
            each[path] = [
                case[f"{direction}_us"] if taken == path else None
                for direction, taken in zip(DIRECTIONS, case["paths"], strict=True)
            ]
    return found


def _measurements(case: Case, plan: Plan, hardware: Hardware) -> dict[str, Any]:
    from_l2 = share_in_l2(TENSORS_OF_A_STEP * case.image_bytes, hardware)
    times = [time_of(launch, hardware, from_l2) for launch in plan.launches]
    rows, spent = [], dict[str, float]()
    for launch, time, kernel, asked in zip(
        plan.launches, times, plan.kernels, plan.asked, strict=True
    ):
        limits = {name: round(each, 3) for name, each in vars(time).items()}
        tightest = max(("chain", "issue", "memory"), key=lambda name: limits[name])
        spent["launch"] = spent.get("launch", 0) + time.launch
        spent[tightest] = spent.get(tightest, 0) + time.total - time.launch
        warps = launch.blocks * math.ceil(launch.threads / WARP)
        rows.append(
            {
                "kernel": launch.kernel,
                "direction": launch.direction,
                **{name: asked[name] for name in ("blocks", "threads", "shared_bytes", "cluster")},
                "cooperative": asked["cooperative"],
                "overlapping": asked["overlapping"],
                "resident": launch.resident,
                "registers": kernel.registers,
                "spilled_bytes": kernel.spilled_bytes,
                "tiling": asked["tiling"],
                "kept": round(Trips(asked, {}).kept, 3),
                "instructions_of": {
                    "packet": round(launch.of_packet, 1),
                    "unit": round(launch.of_unit),
                    "around": round(launch.around.instructions),
                },
                "instructions": round(launch.instructions * warps),
                "bytes_read": launch.bytes_read,
                "bytes_written": launch.bytes_written,
                "us": round(time.total, 3),
                "limits_us": limits,
            }
        )
    of_direction = {
        direction: [row for row in rows if row["direction"] == direction]
        for direction in DIRECTIONS
    }
    total, copy = sum(time.total for time in times), copy_us(case.image_bytes, hardware)
    # What bench.measurements.passes credits, and what is read again of images that are kept in
    # part.
    made = sum(row["bytes_read"] + row["bytes_written"] for row in rows) / case.image_bytes
    return {
        "shape": list(case.shape),
        "layout": case.layout,
        "dtype": case.dtype,
        "paths": list(plan.paths),
        "launches": [len(each) for each in of_direction.values()],
        "instructions": sum(row["instructions"] for row in rows),
        "bytes_read": sum(row["bytes_read"] for row in rows),
        "bytes_written": sum(row["bytes_written"] for row in rows),
        "workspace_bytes": list(plan.workspace_bytes),
        **{
            f"{direction}_us": round(sum(row["us"] for row in each), 3)
            for direction, each in of_direction.items()
        },
        "us": round(total, 3),
        "copy_us": round(copy, 3),
        "fraction_of_copy_bandwidth": round(made / TENSORS_OF_A_COPY * copy / total, 3),
        "limit": max(spent, key=lambda name: spent[name]),
        "kernels": rows,
    }


def against(
    predictions: Sequence[dict[str, Any]], measured: dict[str, Any]
) -> list[dict[str, Any]]:
    """Hold a result of ``bench.kernels`` on a GPU against predictions of its cases.

    Args:
        predictions: of ``predict``.
        measured: the record.

    Returns:
        What ``bench.predict_report.compare`` says of each case that both have.

    Raises:
        UserError: they have no case together that was measured replayed.
    """
    by_case = {
        (*case["shape"], case["layout"], case["dtype"]): case
        for case in measured["cases"]
        if case["op"] == OP
    }
    compared = []
    for each in predictions:
        case = by_case.get((*each["shape"], each["layout"], each["dtype"]))
        found = compare(each, case) if case is not None else None
        if found is not None:
            compared.append(found)
    if not compared:
        raise UserError(f"--against: no predicted case of {OP} was measured there, replayed")
    return compared


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("bench.predict", __doc__)
    add = parser.add_argument
    default = RESULTS / "predicted_kernels.json"
    add("--out", type=Path, default=default, help="where the JSON goes (default: %(default)s)")
    add("--against", type=Path, help="kernels.json of a GPU, to hold the prediction against")
    add("--before", type=Path, help="an older JSON of this command, to print beside this one")
    add("--shapes", nargs="+", type=_shape, default=list(CUDA_SHAPES), metavar="NxCxHxW")
    add("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    add("--dtypes", nargs="+", choices=DTYPES, default=["bfloat16"])
    add("--path", choices=("auto", *PATHS), default="auto", help="of use_cuda_path (default: auto)")
    add("--architecture", type=int, default=90, help="compiled for sm_… (default: %(default)s)")
    constants = parser.add_argument_group("constants of the model")
    for each in dataclasses.fields(Hardware):
        constants.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=type(each.default),
            default=each.default,
            metavar="X",
            help=f"%(default)s: {each.metadata['help'].replace('%', '%%')}",
        )
    return parser


def _hardware(arguments: argparse.Namespace) -> Hardware:
    values = {each.name: getattr(arguments, each.name) for each in dataclasses.fields(Hardware)}
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise UserError(f"--{name.replace('_', '-')}: got {value}, expected over 0")
    return Hardware(**values)


def main() -> None:
    """Predict, print, write and compare."""
    arguments = _parser().parse_args()
    hardware = _hardware(arguments)
    check(arguments)
    measured = None
    if arguments.against is not None:
        measured = read_result_of(arguments.against, "bench.kernels", {"cases", "device"})
    before = None
    if arguments.before is not None:
        before = read_result_of(arguments.before, "bench.predict", {"predictions", "commit"})
    cases = all_cases([OP], arguments.shapes, arguments.dtypes, arguments.layouts)
    record: dict[str, Any] = {
        "op": OP,
        "architecture": arguments.architecture,
        "path": arguments.path,
        "hardware": dataclasses.asdict(hardware),
        "predictions": predict(cases, hardware, arguments.architecture, arguments.path),
    }
    if arguments.path == "auto":
        paths = by_path(cases, hardware, arguments.architecture)
        for each, times in zip(record["predictions"], paths, strict=True):
            each["us_by_path"] = times
    if before is not None:
        now = predict(cases, hardware, arguments.architecture, arguments.path, as_before=True)
        record["before"] = {
            "commit": before["commit"],
            "predictions": [in_short(each) for each in before["predictions"]],
            "now": [in_short(each) for each in now],
        }
    compared = [] if measured is None else against(record["predictions"], measured)
    if compared:
        record["compared"] = compared
    write_result(arguments.out, recorded("bench.predict", hidden=FILES), record)
    print(report(record), end="\n\n")
    if compared:
        print(comparison(compared), end="\n\n")
    print(f"written to {arguments.out}")
    off = sum(bool(each["off"]) for each in compared)
    if off:
        sys.exit(min(off, MOST_STATUS))


if __name__ == "__main__":
    sys.exit(run_command(main))

"""The tables of ``bench.predict``: what is predicted, and how a measurement compares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.figures import BACKWARD_PASSES, COPY_PASSES, FORWARD_PASSES
from bench.tables import table

MOST_OFF = 1.4
"""Further off than by 40 %, the model is wrong and is to be mended."""

MUCH = 1.15
"""Slower than on another path by more than 15 %, a path is not the model's choice."""

DIRECTIONS = ("forward", "backward")

Record = dict[str, Any]


def report(record: Record) -> str:
    """The predicted tables as text.

    Beside what each case takes: where another path is predicted to be much faster than the one that
    auto takes, and what was predicted before, if the record has these.
    """
    parts = [_predicted(record)]
    if any("us_by_path" in case for case in record["predictions"]):
        parts.append(_other_paths(record))
    if "before" in record:
        parts.append(_beside(record))
    return "\n\n".join(parts)


def _predicted(record: Record) -> str:
    header = ["shape", "layout", "dtype", "path", "launches", "k instructions", "MB", "forward µs"]
    header += ["backward µs", "µs", "copy µs", "% of copy", "most of it"]
    rows = [
        [
            *_names(case),
            "+".join(dict.fromkeys(case["paths"])),
            "+".join(map(str, case["launches"])),
            f"{case['instructions'] / 1e3:.0f}",
            f"{(case['bytes_read'] + case['bytes_written']) / 1e6:.1f}",
            f"{case['forward_us']:.1f}",
            f"{case['backward_us']:.1f}",
            f"{case['us']:.1f}",
            f"{case['copy_us']:.1f}",
            f"{100 * case['fraction_of_copy_bandwidth']:.0f}",
            case["limit"],
        ]
        for case in record["predictions"]
    ]
    title = f"{record['op']}, forward + backward, replayed, warm: predicted, not measured"
    return table(title, header, rows, left=4)


def _other_paths(record: Record) -> str:
    header = ["shape", "layout", "dtype", "direction", "auto takes", "fastest", "auto µs"]
    header += ["fastest µs", "ratio"]
    rows = []
    for case in record["predictions"]:
        for index, direction in enumerate(DIRECTIONS):
            possible = {
                path: times[index]
                for path, times in case["us_by_path"].items()
                if times[index] is not None
            }
            fastest = min(possible, key=lambda path: possible[path])
            taken = case[f"{direction}_us"]
            if taken > MUCH * possible[fastest]:
                names = [*_names(case), direction, case["paths"][index], fastest]
                ratio = taken / possible[fastest]
                rows.append([*names, f"{taken:.1f}", f"{possible[fastest]:.1f}", f"{ratio:.2f}"])
    title = "where auto takes a path that is predicted to be slower than another by more than 15 %"
    return table(title, header, rows, left=6) if rows else f"{title}: nowhere"


def _beside(record: Record) -> str:
    """Before and after, counted alike, for the cases that both have."""
    header = ["shape", "layout", "dtype", "path before", "after", "launches", "a packet", "MB"]
    header += ["µs", "% of copy", "times faster"]
    before = {tuple(_names(case)): case for case in record["before"]["predictions"]}
    rows = []
    for new in record["before"]["now"]:
        old = before.get(tuple(_names(new)))
        if old is None:
            continue
        rows.append(
            [
                *_names(new),
                *("+".join(dict.fromkeys(each["paths"])) for each in (old, new)),
                " → ".join("+".join(map(str, each["launches"])) for each in (old, new)),
                " → ".join(f"{each['instructions_of_packet']:.0f}" for each in (old, new)),
                " → ".join(f"{each['bytes'] / 1e6:.0f}" for each in (old, new)),
                " → ".join(f"{each['us']:.1f}" for each in (old, new)),
                " → ".join(
                    f"{100 * each['least_fraction_of_copy_bandwidth']:.0f}" for each in (old, new)
                ),
                f"{old['us'] / new['us']:.2f}",
            ]
        )
    commit = record["before"]["commit"][:7]
    title = f"before (commit {commit}) → after, counted as before: predicted, not measured"
    return table(title, header, rows, left=5)


def in_short(case: Record) -> Record:
    """What of a predicted case stands beside a later one.

    ``least_fraction_of_copy_bandwidth`` credits every path the passes that one which reads each
    value once makes, so that it compares paths.
    """
    kernels = case["kernels"]
    least = (FORWARD_PASSES + BACKWARD_PASSES) / COPY_PASSES
    return {
        **{name: case[name] for name in ("shape", "layout", "dtype", "paths", "launches", "us")},
        "instructions_of_packet": round(
            sum(each["instructions_of"]["packet"] for each in kernels), 1
        ),
        "bytes": case["bytes_read"] + case["bytes_written"],
        "least_fraction_of_copy_bandwidth": round(least * case["copy_us"] / case["us"], 3),
    }


def comparison(compared: Sequence[Record]) -> str:
    """Measured against predicted, a line a case; those that are off are marked."""
    header = ["shape", "layout", "dtype", "path", "state", "measured µs", "predicted µs", "ratio"]
    header += ["copy ratio", "launches", "verdict"]
    rows = [
        [
            *_names(each),
            "+".join(dict.fromkeys(each["paths"])),
            each["state"],
            f"{each['measured_us']:.1f}",
            f"{each['predicted_us']:.1f}",
            f"{each['ratio']:.2f}",
            "-" if each["copy_ratio"] is None else f"{each['copy_ratio']:.2f}",
            "+".join(map(str, each["launches"])),
            "; ".join(each["off"]) or "within 40 %",
        ]
        for each in compared
    ]
    return table("measured over predicted", header, rows, left=5)


def compare(predicted: Record, measured: Record) -> Record | None:
    """Hold a case of ``bench.kernels`` on a GPU against its prediction.

    Args:
        predicted: a case of ``bench.predict``.
        measured: a case of ``bench.kernels``: the same op, shape, layout and dtype.

    Returns:
        ``measured_us`` of the native kernels, warm where it was measured so; its ``ratio`` to the
        prediction; and ``off``, what disagrees. None where it was not measured replayed.
    """
    states = measured.get("replayed", {})
    state = "warm" if "warm" in states else "cold"
    medians = states.get(state, {}).get("median_us", {})
    # The native backend has a name of its own where `fused` is another one.
    way = "native" if "native" in medians else "fused"
    if way not in medians:
        return None
    off = []
    ratio = medians[way] / predicted["us"]
    if is_off(ratio):
        off.append(f"OFF by {100 * abs(ratio - 1):.0f} %")
    paths = measured.get("paths", {}).get(way)
    if paths is not None and paths != predicted["paths"]:
        off.append(f"OFF: path {'+'.join(paths)}")
    launches = measured.get("launches", {}).get(way)
    if launches is not None and launches != predicted["launches"]:
        off.append(f"OFF: launches {'+'.join(map(str, launches))}")
    copy = medians.get("copy")
    return {
        **{name: predicted[name] for name in ("shape", "layout", "dtype", "paths", "launches")},
        "state": state,
        "measured_us": medians[way],
        "predicted_us": predicted["us"],
        "ratio": round(ratio, 3),
        "copy_ratio": None if copy is None else round(copy / predicted["copy_us"], 3),
        "off": off,
    }


def is_off(ratio: float) -> bool:
    """Whether a measurement over its prediction is further from 1 than 40 %, either way."""
    return not abs(math.log(ratio)) <= math.log(MOST_OFF)


def _names(case: Record) -> list[str]:
    return ["x".join(map(str, case["shape"])), case["layout"], case["dtype"]]

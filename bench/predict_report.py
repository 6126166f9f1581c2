"""The tables of ``bench.predict``: what is predicted, and how a measurement compares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.measurements import BACKWARD_PASSES, COPY_PASSES, FORWARD_PASSES
from bench.tables import table_of

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


CASE = [("shape", "{shape!x}"), ("layout", "{layout}"), ("dtype", "{dtype}")]
PREDICTED = [
    *CASE,
    ("path", "{paths!u}"),
    ("launches", "{launches!p}"),
    ("k instructions", "{instructions!k:.0f}"),
    ("MB", "{bytes!m:.1f}"),
    ("forward µs", "{forward_us:.1f}"),
    ("backward µs", "{backward_us:.1f}"),
    ("µs", "{us:.1f}"),
    ("copy µs", "{copy_us:.1f}"),
    ("% of copy", "{fraction_of_copy_bandwidth!c:.0f}"),
    ("most of it", "{limit}"),
]
OTHER_PATHS = [
    *CASE,
    ("direction", "{direction}"),
    ("auto takes", "{taken}"),
    ("fastest", "{fastest}"),
    ("auto µs", "{taken_us:.1f}"),
    ("fastest µs", "{fastest_us:.1f}"),
    ("ratio", "{ratio:.2f}"),
]
BESIDE = [
    *CASE,
    ("path before", "{old[paths]!u}"),
    ("after", "{paths!u}"),
    ("launches", "{old[launches]!p} → {launches!p}"),
    ("a packet", "{old[instructions_of_packet]:.0f} → {instructions_of_packet:.0f}"),
    ("MB", "{old[bytes]!m:.0f} → {bytes!m:.0f}"),
    ("µs", "{old[us]:.1f} → {us:.1f}"),
    ("% of copy", "{{old[{0}]!c:.0f}} → {{{0}!c:.0f}}".format("least_fraction_of_copy_bandwidth")),
    ("times faster", "{faster:.2f}"),
]
COMPARED = [
    *CASE,
    ("path", "{paths!u}"),
    ("state", "{state}"),
    ("measured µs", "{measured_us:.1f}"),
    ("predicted µs", "{predicted_us:.1f}"),
    ("ratio", "{ratio:.2f}"),
    ("copy ratio", "{copy_ratio:.2f}"),
    ("launches", "{launches!p}"),
    ("verdict", "{verdict}"),
]


def _predicted(record: Record) -> str:
    rows = [
        {**case, "bytes": case["bytes_read"] + case["bytes_written"]}
        for case in record["predictions"]
    ]
    title = f"{record['op']}, forward + backward, replayed, warm: predicted, not measured"
    return table_of(title, PREDICTED, rows, left=4)


def _other_paths(record: Record) -> str:
    rows = []
    for case in record["predictions"]:
        for index, direction in enumerate(DIRECTIONS):
            possible = {
                path: times[index]
                for path, times in case["us_by_path"].items()
                if times[index] is not None
            }
            fastest = min(possible, key=lambda path: possible[path])
            us, least = case[f"{direction}_us"], possible[fastest]
            if us > MUCH * least:
                found = {"direction": direction, "taken": case["paths"][index], "fastest": fastest}
                times = {"taken_us": us, "fastest_us": least, "ratio": us / least}
                rows.append({**case, **found, **times})
    title = "where auto takes a path that is predicted to be slower than another by more than 15 %"
    return table_of(title, OTHER_PATHS, rows, left=6) if rows else f"{title}: nowhere"


def _beside(record: Record) -> str:
    """Before and after, counted alike, for the cases that both have."""
    before = {_key(case): case for case in record["before"]["predictions"]}
    rows = [
        {**new, "old": before[_key(new)], "faster": before[_key(new)]["us"] / new["us"]}
        for new in record["before"]["now"]
        if _key(new) in before
    ]
    commit = record["before"]["commit"][:7]
    title = f"before (commit {commit}) → after, counted as before: predicted, not measured"
    return table_of(title, BESIDE, rows, left=5)


def _key(case: Record) -> tuple[object, ...]:
    return (*case["shape"], case["layout"], case["dtype"])


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
    rows = [{**each, "verdict": "; ".join(each["off"]) or "within 40 %"} for each in compared]
    return table_of("measured over predicted", COMPARED, rows, left=5)


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

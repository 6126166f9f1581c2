"""From samples to what is reported: medians, ratios, bytes a second and the floor.

An image op has to read its input and write its output (2 passes over the tensor) and then, for the
gradients, to read two tensors and write one (3 passes). At the rate of a copy, which makes 2
passes, measured in the same rounds, that takes 5/2 of the copy's time: the floor.

A rate counts the passes that a way makes by design. The two-pass kernels of
conditional_batch_norm_act make 3 forward (x, then x and y) and 5 backward (x and dy, then those and
dx). Where the images stay in shared memory they are 2 and 3, which is what is counted for PyTorch's
too, whose passes nobody has counted, and for the persistent kernels, which read again what a
device's shared memory cannot hold: their rate is lower than that of the bytes that they move.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.cases import BASELINES, OPS, Case

FORWARD_PASSES, TWO_PASS_FORWARD = 2, 3
BACKWARD_PASSES, TWO_PASS_BACKWARD = 3, 5
COPY_PASSES = 2
AS_FAST = 1.03
"""Within 3% of the fastest way, as fast as that."""

Measurements = dict[str, Any]
"""What the JSON holds of one case, or of several together."""
Samples = Mapping[str, Sequence[float]]
"""Microseconds of a step, by way."""
Paths = Mapping[str, tuple[str, str]]
"""Forward and backward, by way, where a way has some."""


def floor(copy: float) -> float:
    """The time that an image op's passes take at the rate of a copy that takes ``copy``."""
    return copy * (FORWARD_PASSES + BACKWARD_PASSES) / COPY_PASSES


def passes(way: str, paths: Paths) -> int:
    """Count how often a way of computing an image op goes over it, forward and backward."""
    if way == "copy":
        return COPY_PASSES
    forward, backward = paths.get(way, ("", ""))
    return (TWO_PASS_FORWARD if forward == "two_pass" else FORWARD_PASSES) + (
        TWO_PASS_BACKWARD if backward == "two_pass" else BACKWARD_PASSES
    )


def gigabytes_per_second(case: Case, medians_ms: Mapping[str, float], paths: Paths) -> Measurements:
    """Give the rate at which each way makes its passes over the image."""
    return {
        way: case.image_bytes * passes(way, paths) / each / 1e6 for way, each in medians_ms.items()
    }


def ratios_to_fused(medians: Mapping[str, float]) -> Measurements:
    """Give how much longer each baseline that was measured takes than the fused op."""
    found = {name: medians[name] / medians["fused"] for name in BASELINES if name in medians}
    # What is emulated may be thousands of times as slow: 0 would be no ratio.
    return {name: round(ratio, 3) or ratio for name, ratio in found.items()}


def rounded(samples_us: Samples, digits: int = 1) -> dict[str, list[float]]:
    """Round samples as a file keeps them."""
    return {name: [round(each, digits) for each in of] for name, of in samples_us.items()}


def case_measurements(
    case: Case,
    samples_us: Samples,
    peaks: Mapping[str, int] | None = None,
    paths: Paths | None = None,
) -> Measurements:
    """What one case's samples say.

    Args:
        case: the case.
        samples_us: microseconds, by variant; ``copy`` for images.
        peaks: peak memory of each variant in bytes, where measured.
        paths: which variant takes which path, where there are several.
    """
    medians = {name: statistics.median(each) / 1e3 for name, each in samples_us.items()}
    fused = medians["fused"]
    measurements: Measurements = {
        "op": case.op,
        "kind": case.kind or None,
        "shape": list(case.shape),
        "layout": case.layout if case.of_images else None,
        "dtype": case.dtype,
        "median_ms": {name: round(each, 5) for name, each in medians.items()},
        "ratio_to_fused": ratios_to_fused(medians),
    }
    if "copy" in medians:
        lowest = floor(medians["copy"])
        rates = gigabytes_per_second(case, medians, paths or {})
        measurements["gb_per_s"] = {name: round(rate, 2) for name, rate in rates.items()}
        measurements["floor_ms"] = round(lowest, 5)
        measurements["fused_over_floor"] = round(fused / lowest, 3)
        measurements["fraction_of_copy_bandwidth"] = round(lowest / fused, 3)
    if peaks:
        measurements["peak_mb"] = {name: round(each / 1e6, 3) for name, each in peaks.items()}
        if "eager" in peaks:
            measurements["peak_fused_over_eager"] = round(peaks["fused"] / peaks["eager"], 3)
    return measurements | {"samples_us": rounded(samples_us)}


def summaries(cases: Sequence[Measurements]) -> list[Measurements]:
    """Geometric means and extremes of each op, then of each op in each layout and dtype."""
    rows = []
    for op in OPS:
        of_op = [case for case in cases if case["op"] == op]
        if of_op:
            rows.append({"op": op, "layout": None, "dtype": None, **_together(of_op)})
    for op in OPS:
        of_op = [case for case in cases if case["op"] == op]
        for layout, dtype in dict.fromkeys((case["layout"], case["dtype"]) for case in of_op):
            group = [case for case in of_op if (case["layout"], case["dtype"]) == (layout, dtype)]
            rows.append({"op": op, "layout": layout, "dtype": dtype, **_together(group)})
    return rows


def _together(cases: Sequence[Measurements]) -> Measurements:
    measurements: Measurements = {"cases": len(cases)}
    for name, ratios in _ratios(cases):
        measurements[name] = round(statistics.geometric_mean(ratios), 3)
        measurements[f"least_{name}"] = min(ratios)
    over_floor = [case["fused_over_floor"] for case in cases if "fused_over_floor" in case]
    if over_floor:
        measurements["fused_over_floor"] = round(statistics.geometric_mean(over_floor), 3)
    peaks = [case["peak_fused_over_eager"] for case in cases if "peak_fused_over_eager" in case]
    if peaks:
        measurements["most_peak_fused_over_eager"] = max(peaks)
    return measurements | _replayed_together(cases)


def _ratios(rows: Sequence[Measurements]) -> Iterable[tuple[str, list[float]]]:
    """Of each baseline that some rows have, how much longer it takes than the fused op in each."""
    for name in BASELINES:
        ratios = [row["ratio_to_fused"][name] for row in rows if name in row["ratio_to_fused"]]
        if ratios:
            yield name, ratios


def _replayed_together(cases: Sequence[Measurements]) -> Measurements:
    """Geometric means and extremes of what was replayed of several cases; {} without any."""
    rows = [main_state(case) for case in cases if "replayed" in case]
    rows = [row for row in rows if "fused_over_fastest" in row]
    if not rows:
        return {}
    measurements: Measurements = {}
    for name, ratios in _ratios(rows):
        measurements[name] = round(statistics.geometric_mean(ratios), 3)
        measurements[f"least_{name}"] = min(ratios)
        measurements[f"cases_{name}"] = len(ratios)
    # Of images larger than L2 alone, which are not measured warm: of a smaller one some is still
    # there, and a launch may take longer than to read it.
    fractions = [
        main_state(case)["fraction_of_copy_bandwidth"]["fused"]
        for case in cases
        if "warm" not in case.get("replayed", {"warm": {}})
        and "fused" in main_state(case).get("fraction_of_copy_bandwidth", {})
    ]
    if fractions:
        measurements["fraction_of_copy_bandwidth"] = round(statistics.geometric_mean(fractions), 3)
        measurements["cases_larger_than_l2"] = len(fractions)
    measurements["cases"] = len(rows)
    measurements["fused_as_fast_as_the_fastest"] = sum(
        row["fused_over_fastest"] <= AS_FAST for row in rows
    )
    measurements["most_fused_over_fastest"] = max(row["fused_over_fastest"] for row in rows)
    return {"replayed": measurements}


def main_state(case: Measurements) -> Measurements:
    """The replayed measurements that count: with L2 cold where it was measured so."""
    replayed: Measurements = case["replayed"]
    found: Measurements = replayed["cold"] if "cold" in replayed else replayed["warm"]
    return found

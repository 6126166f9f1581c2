"""From the trainings of ``research.parity`` to means, differences, equivalence, time to a FID."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cxrgan_fast.studies.differences import Difference
from research.parity_statistics import (
    ALPHA,
    seeds_needed,
    smallest_margin,
    tost_power,
)
from research.parity_training import REFERENCE

Measurements = dict[str, Any]

MAIN = "fid"
METRICS = ("fid", "kid", "nearest_neighbour")
"""Of the last generator of each training; of the others only FID."""
WELCH, PAIRED = "Welch", "pairs"
TESTS = (WELCH, PAIRED)
"""How trainings are compared: as two samples, and those of one seed with each other."""
MARGIN = 0.05
"""Of equivalence, as a share of the reference's mean FID."""


def summary(runs: Mapping[str, Sequence[Measurements]]) -> Measurements:
    """All that is said of the trainings together.

    Args:
        runs: of each variant those of its seeds, each with what was measured of it; the
            reference's is among them. Two seeds at least.

    Returns:
        ``variants``, ``comparisons`` and ``reach``, ready for JSON.
    """
    variants = {name: _variant(of_seeds) for name, of_seeds in runs.items()}
    reference = variants[REFERENCE]
    speed = reference["images_per_second"]["median"]
    for measurements in variants.values():
        measurements["times_reference"] = measurements["images_per_second"]["median"] / speed
    return {
        "variants": variants,
        "comparisons": {
            name: _comparison(measurements, reference)
            for name, measurements in variants.items()
            if name != REFERENCE
        },
        "reach": reach(runs),
    }


def _variant(runs: Sequence[Measurements]) -> Measurements:
    measurements: Measurements = {"seeds": [run["seed"] for run in runs]}
    for metric in METRICS:
        measurements[metric] = spread([run["snapshots"][-1].get(metric) for run in runs])
    rates = [run["images_per_second"] for run in runs]
    measurements["images_per_second"] = {"values": rates, "median": statistics.median(rates)}
    return measurements


def spread(values: Sequence[float | None]) -> Measurements:
    """Values with the mean and the standard deviation of those that there are."""
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "deviation": statistics.stdev(known) if len(known) > 1 else None,
        "values": list(values),
    }


def _comparison(measurements: Measurements, reference: Measurements) -> Measurements:
    """A variant less the reference, in every metric, and equivalence in the main one."""
    compared: Measurements = {test: {"differences": {}} for test in TESTS}
    for metric in METRICS:
        values, others = (each[metric]["values"] for each in (measurements, reference))
        pairs = [pair for pair in zip(values, others, strict=True) if None not in pair]
        if len(pairs) < 2:
            continue
        known = [[value for value in each if value is not None] for each in (values, others)]
        firsts, seconds = zip(*pairs, strict=True)
        found = {WELCH: Difference.of(*known), PAIRED: Difference.paired(firsts, seconds)}
        deviations = {
            WELCH: [statistics.stdev(each) for each in known],
            PAIRED: [statistics.stdev([value - other for value, other in pairs])],
        }
        for test, difference in found.items():
            compared[test]["differences"][metric] = {
                "value": difference.value,
                "share": difference.value / reference[metric]["mean"],
                "standard_error": difference.standard_error,
                "freedom": difference.freedom,
                "interval_90": difference.interval(0.90),
                "interval_95": difference.interval(0.95),
            }
            if metric == MAIN:
                failed = [*values, *others].count(None)
                compared[test]["equivalence"] = _equivalence(
                    difference, deviations[test], reference[MAIN], failed
                )
        if metric == MAIN and all(deviations[WELCH]):
            compared["correlation"] = statistics.correlation(firsts, seconds)
    return compared


def _equivalence(
    difference: Difference, deviations: Sequence[float], reference: Measurements, failed: int
) -> list[Measurements]:
    """Whether the difference is within either margin."""
    smallest = smallest_margin(difference)
    rows = []
    for what, margin in (
        (f"{MARGIN:.0%} of the reference's mean", MARGIN * reference["mean"]),
        ("half the reference's deviation over seeds", reference["deviation"] / 2),
    ):
        p_value = difference.p_equivalent(margin)
        shown = p_value < ALPHA and not failed
        rows.append(
            {
                "what": what,
                "margin": margin,
                "p_equivalent": p_value,
                "p_not_worse": difference.p_not_higher(margin),
                "equivalent": shown,
                "verdict": _verdict(shown, failed, difference),
                "power": tost_power(margin, difference.parts),
                "smallest_margin": smallest,
                "smallest_share": smallest / reference["mean"],
                "seeds_needed": seeds_needed(margin, deviations),
            }
        )
    return rows


def _verdict(shown: bool, failed: int, difference: Difference) -> str:
    if shown:
        return "equivalent"
    if failed:
        return f"not shown: {failed} diverged"
    low, high = difference.interval(0.95)
    if low > 0:
        return "not shown: it is worse"
    return "not shown: it is better" if high < 0 else "not shown"


def reach(runs: Mapping[str, Sequence[Measurements]]) -> Measurements:
    """How soon each variant comes to the mean of the reference's last FIDs.

    Between snapshots lines are drawn. Before the first one nothing is known, so that a curve that
    is below from the start has come to it by then.
    """
    last = [run["snapshots"][-1].get(MAIN) for run in runs[REFERENCE]]
    known = [value for value in last if value is not None]
    if not known:
        return {}
    target = statistics.fmean(known)
    reached: Measurements = {}
    for name, of_seeds in runs.items():
        curves = [run["snapshots"] for run in of_seeds]
        reached[name] = {
            "mean": first_below(mean_curve(curves), target),
            "seeds": [first_below(curve, target) for curve in curves],
        }
    reference = reached[REFERENCE]["mean"]
    for each in reached.values():
        if each["mean"] and reference:
            each["times_sooner"] = reference["seconds"] / each["mean"]["seconds"]
    return {"target": target, "variants": reached}


def mean_curve(curves: Sequence[Sequence[Measurements]]) -> list[Measurements]:
    """The mean over seeds at each snapshot; where a seed has no number, neither has the mean."""
    means = []
    for points in zip(*curves, strict=True):
        known = all(point.get(MAIN) is not None for point in points)
        means.append(
            {
                "images": points[0]["images"],
                "seconds": statistics.fmean(point["seconds"] for point in points),
                MAIN: statistics.fmean(point[MAIN] for point in points) if known else None,
            }
        )
    return means


def first_below(curve: Sequence[Measurements], target: float) -> dict[str, float] | None:
    """Seconds and images at which a curve comes to a FID; None where it does not."""
    before: Measurements | None = None
    for point in curve:
        if point.get(MAIN) is None:
            before = None
            continue
        if point[MAIN] <= target:
            share = 1.0
            if before is not None:
                share = (before[MAIN] - target) / (before[MAIN] - point[MAIN])
            start = before or point
            return {
                key: start[key] + share * (point[key] - start[key]) for key in ("seconds", "images")
            }
        before = point
    return None

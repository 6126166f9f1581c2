"""From a GPU's samples to what is reported: launched and replayed, at each way's own bytes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from bench.cases import BASELINES, Case
from bench.measurements import (
    Measurements,
    Paths,
    Samples,
    case_measurements,
    gigabytes_per_second,
    ratios_to_fused,
    rounded,
)


def gpu_measurements(
    case: Case,
    launched: Samples,
    replayed: Mapping[str, tuple[int, Samples]],
    peaks: Mapping[str, int],
    launches: Mapping[str, tuple[int, int]],
    left_out: Mapping[str, str],
    paths: Paths,
) -> Measurements:
    """What one case's samples on a GPU say.

    Args:
        case: the case.
        launched: samples of steps launched from Python.
        replayed: by the state of L2, how many steps a graph holds and samples of one of them.
        peaks: peak memory of each way in bytes; nothing for losses.
        launches: how many launches the forward and the backward pass of each way are.
        left_out: what could not be measured, and why.
        paths: which way takes which path.
    """
    measurements = case_measurements(case, launched, peaks, paths)
    measurements["replayed"] = {
        state: {"steps_in_a_graph": count, **_replayed(case, samples, paths)}
        for state, (count, samples) in replayed.items()
    }
    measurements["launches"] = {name: list(each) for name, each in launches.items()}
    measurements["left_out"] = dict(left_out)
    if paths:
        measurements["paths"] = {name: list(each) for name, each in paths.items()}
    return measurements


def _replayed(case: Case, samples: Samples, paths: Paths) -> Measurements:
    medians = {name: statistics.median(each) for name, each in samples.items()}
    rounded_medians = {name: round(each, 3) for name, each in medians.items()}
    measurements: Measurements = {"median_us": rounded_medians}
    times = {name: each for name, each in medians.items() if name != "copy"}
    if "fused" in times:
        fastest = min(times, key=lambda name: times[name])
        measurements["ratio_to_fused"] = ratios_to_fused(times)
        measurements["fastest"] = fastest
        measurements["fused_over_fastest"] = round(times["fused"] / times[fastest], 3)
    if case.of_images:
        rates = gigabytes_per_second(case, {name: us / 1e3 for name, us in medians.items()}, paths)
        measurements["gb_per_s"] = {name: round(rate, 2) for name, rate in rates.items()}
        if "copy" in rates:
            measurements["fraction_of_copy_bandwidth"] = {
                name: round(rate / rates["copy"], 3)
                for name, rate in rates.items()
                if name not in (*BASELINES, "copy")
            }
    return measurements | {"samples_us": rounded(samples, 2)}

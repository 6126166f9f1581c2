"""From a GPU's samples to what is reported: launched and replayed, at each way's own bytes.

A rate counts the passes over the image tensor that a way makes by design. The two-pass kernels of
conditional_batch_norm_act make 3 forward (x, then x and y) and 5 backward (x and dy, then those and
dx). Where the images stay in shared memory they are 2 and 3, which is also the least that any way
can make, and what is counted for PyTorch's, whose passes nobody has counted. It is counted too for
the persistent kernels, which read again what a device's shared memory cannot hold: their rate is of
the least passes, and lower than that of the bytes that they move.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from bench.cases import BASELINES, Case
from bench.figures import (
    BACKWARD_PASSES,
    COPY_PASSES,
    FORWARD_PASSES,
    Figures,
    case_figures,
    gigabytes_per_second,
)

TWO_PASS_FORWARD, TWO_PASS_BACKWARD = 3, 5

Samples = Mapping[str, list[float]]
"""Microseconds of a step, by way."""


Paths = Mapping[str, tuple[str, str]]
"""Forward and backward, by way, where a way has some."""


def passes(way: str, paths: Paths) -> int:
    """How many times a way of computing an image op goes over the image, forward and backward."""
    if way == "copy":
        return COPY_PASSES
    forward, backward = paths.get(way, ("", ""))
    return (TWO_PASS_FORWARD if forward == "two_pass" else FORWARD_PASSES) + (
        TWO_PASS_BACKWARD if backward == "two_pass" else BACKWARD_PASSES
    )


def gpu_figures(
    case: Case,
    launched: dict[str, list[float]],
    replayed: Mapping[str, tuple[int, Samples]],
    peaks: dict[str, int],
    launches: Mapping[str, tuple[int, int]],
    left_out: Mapping[str, str],
    paths: Paths,
) -> Figures:
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
    figures = case_figures(case, launched, peaks or None)
    if "gb_per_s" in figures:
        medians = {name: statistics.median(each) for name, each in launched.items()}
        figures["gb_per_s"] = _rounded(_rates(case, medians, paths))
    figures["replayed"] = {
        state: {"steps_in_a_graph": count, **_replayed(case, samples, paths)}
        for state, (count, samples) in replayed.items()
    }
    figures["launches"] = {name: list(each) for name, each in launches.items()}
    figures["left_out"] = dict(left_out)
    if paths:
        figures["paths"] = {name: list(each) for name, each in paths.items()}
    return figures


def _replayed(case: Case, samples: Samples, paths: Paths) -> Figures:
    medians = {name: statistics.median(each) for name, each in samples.items()}
    figures: Figures = {"median_us": {name: round(each, 3) for name, each in medians.items()}}
    times = {name: each for name, each in medians.items() if name != "copy"}
    if "fused" in times:
        fastest = min(times, key=lambda name: times[name])
        figures["ratio_to_fused"] = {
            name: round(times[name] / times["fused"], 3) for name in BASELINES if name in times
        }
        figures["fastest"] = fastest
        figures["fused_over_fastest"] = round(times["fused"] / times[fastest], 3)
    if case.of_images:
        rates = _rates(case, medians, paths)
        figures["gb_per_s"] = _rounded(rates)
        if "copy" in rates:
            figures["fraction_of_copy_bandwidth"] = {
                name: round(rate / rates["copy"], 3)
                for name, rate in rates.items()
                if name not in (*BASELINES, "copy")
            }
    figures["samples_us"] = {
        name: [round(sample, 2) for sample in each] for name, each in samples.items()
    }
    return figures


def _rates(case: Case, medians_us: Mapping[str, float], paths: Paths) -> dict[str, float]:
    return {
        name: gigabytes_per_second(case.image_bytes, passes(name, paths), each / 1e3)
        for name, each in medians_us.items()
    }


def _rounded(rates: Mapping[str, float]) -> dict[str, float]:
    return {name: round(rate, 1) for name, rate in rates.items()}

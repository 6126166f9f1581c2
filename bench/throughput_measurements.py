"""From the turns of ``bench.throughput`` to what is reported: medians, ratios, growth, targets."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Measurements = dict[str, Any]

REFERENCES = ("reference", "reference_amp", "reference_compiled", "reference_amp_compiled")
FAST = ("eager", "compile", "graph")
"""The executors of the package."""
FLOOR = "floor"
VARIANTS = (*REFERENCES, *FAST, FLOOR)

AS_LARGE = 1.03
"""Within 3% is not growth: it is how well medians repeat."""
HOST_BUSY = 0.1
"""A host that works less than this share of the time is called idle."""
# At least so many times as fast as the reference, its AMP form and its compiled form. On a CPU the
# compiled form is the one in bfloat16; on a GPU whichever is faster.
CPU_TARGETS = {64: {"reference": 3.0, "compiled reference": 1.3}}
GPU_TARGETS = {
    64: {"reference": 6.0, "reference_amp": 3.0, "compiled reference": 1.5},
    128: {"reference": 5.0, "reference_amp": 2.5, "compiled reference": 1.3},
}
CPU_THREADS = 2
GPU_BATCH = 64
TIME_OVER_FLOOR = 1.4
PEAK_OVER_AMP = 0.6


def variant_measurements(
    turns: Sequence[tuple[float, float]], steps: int, images_per_step: int, *, on_gpu: bool
) -> Measurements:
    """What one variant's turns say.

    Args:
        turns: seconds of each turn, and of the host's work in it.
        steps: in a turn.
        images_per_step: real images that a step shows to the discriminator.
        on_gpu: whether the host's work is worth telling.
    """
    samples_ms = [1e3 * seconds / steps for seconds, _ in turns]
    median = statistics.median(samples_ms)
    measurements: Measurements = {
        "images_per_second": round(1e3 * images_per_step / median, 2),
        "ms_per_step": round(median, 4),
        "steps_per_turn": steps,
    }
    if on_gpu:
        busy = statistics.median(host / seconds for seconds, host in turns)
        measurements["host_busy"] = round(busy, 4)
    return measurements | {"samples_ms": [round(sample, 4) for sample in samples_ms]}


def with_ratios(variants: Mapping[str, Measurements]) -> dict[str, Measurements]:
    """The variants with how many times as fast as the reference and slower than the floor each is.

    Ratios of medians, and only where the reference or the floor was measured.
    """
    found = {}
    for name, measurements in variants.items():
        ratios = {}
        for key, other in (("times_reference", "reference"), ("times_floor", FLOOR)):
            if other in variants:
                own, its = measurements["ms_per_step"], variants[other]["ms_per_step"]
                ratios[key] = round(its / own if other == "reference" else own / its, 3)
        samples = {"samples_ms": measurements["samples_ms"]}  # last, as they are many
        others = {key: each for key, each in measurements.items() if key not in samples}
        found[name] = {**others, **ratios, **samples}
    return found


def fastest(variants: Mapping[str, Measurements], among: Iterable[str]) -> str | None:
    """The fastest of some variants, of those that were measured."""
    measured = [name for name in among if name in variants]
    return min(measured, key=lambda name: variants[name]["ms_per_step"], default=None)


def targets(point: Measurements, *, device: str, preset: str, threads: int) -> list[Measurements]:
    """Which targets a point meets; none where there are none for its settings.

    Args:
        point: resolution, batch size and variants.
        device: ``cpu`` or ``cuda``.
        preset: ``small`` or ``base``.
        threads: of PyTorch.
    """
    variants, resolution = point["variants"], point["resolution"]
    ours = fastest(variants, FAST)
    if ours is None:
        return []
    compiled: str | None
    if (device, preset, threads) == ("cpu", "small", CPU_THREADS):
        wanted, compiled = CPU_TARGETS.get(resolution, {}), "reference_amp_compiled"
    elif (device, preset, point["batch_size"]) == ("cuda", "base", GPU_BATCH):
        wanted = GPU_TARGETS.get(resolution, {})
        compiled = fastest(variants, ("reference_compiled", "reference_amp_compiled"))
    else:
        return []
    rows = []
    for what, least in wanted.items():
        other = compiled if what == "compiled reference" else what
        if other in variants:
            got = variants[other]["ms_per_step"] / variants[ours]["ms_per_step"]
            rows.append(_row(f"{ours}: times as fast as {other}", least, got, at_least=True))
    if device == "cuda" and wanted:
        rows += _gpu_targets(variants, ours)
    return rows


def _gpu_targets(variants: Mapping[str, Measurements], ours: str) -> list[Measurements]:
    rows = []
    mine = variants[ours]
    if FLOOR in variants:
        got = mine["ms_per_step"] / variants[FLOOR]["ms_per_step"]
        rows.append(_row(f"{ours}: step over the floor", TIME_OVER_FLOOR, got))
    theirs = variants.get("reference_amp", {})
    if "peak_mb" in mine and "peak_mb" in theirs:
        got = mine["peak_mb"] / theirs["peak_mb"]
        rows.append(_row(f"{ours}: peak memory over reference_amp", PEAK_OVER_AMP, got))
    if "graph" in variants:
        busy = variants["graph"]["host_busy"]
        rows.append(_row("graph: share of the time the host works", HOST_BUSY, busy))
    return rows


def growth(points: Sequence[Measurements]) -> list[Measurements]:
    """How each variant's time grows along a sweep.

    Over batch size the time an image takes is compared, over resolution the time a pixel takes:
    1 is growth no faster than images or pixels. ``overall`` is the last point over the first,
    ``most`` the greatest of any point over any before it: growth too small to tell from one point
    to the next adds up.
    """
    rows = []
    for along, beside in (("batch_size", "resolution"), ("resolution", "batch_size")):
        for fixed in dict.fromkeys(point[beside] for point in points):
            series = sorted(
                (point for point in points if point[beside] == fixed), key=lambda p: int(p[along])
            )
            names = dict.fromkeys(name for point in series for name in point["variants"])
            for name in names:
                measured = [point for point in series if name in point["variants"]]
                if len(measured) < 2:
                    continue
                costs = [_time_of_a_pixel(point, name) for point in measured]
                least = itertools.accumulate(costs, min)  # of those before
                most = max(after / before for before, after in zip(least, costs[1:], strict=False))
                rows.append(
                    {
                        "variant": name,
                        "along": along,
                        beside: fixed,
                        "from": measured[0][along],
                        "to": measured[-1][along],
                        "overall": round(costs[-1] / costs[0], 3),
                        "most": round(most, 3),
                        "grows_no_faster": most <= AS_LARGE,
                    }
                )
    return rows


def _time_of_a_pixel(point: Measurements, name: str) -> float:
    rate: float = point["variants"][name]["images_per_second"]
    return 1 / (rate * point["resolution"] ** 2)


def _row(what: str, wanted: float, got: float, *, at_least: bool = False) -> Measurements:
    met = got >= wanted if at_least else got <= wanted
    bound = "at least" if at_least else "at most"
    return {"what": what, "wanted": f"{bound} {wanted}", "got": round(got, 3), "met": met}

"""How ``bench.plot`` draws ``research.compare_settings``.

A row an arm: a dot for each seed, a bar at their mean, the floor dashed; then r_t over the run.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from bench.plot import panels, tidy
from research.compare_evaluation import numbers_of
from research.compare_work import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by every kind of eye (Okabe & Ito).
COLORS = ("#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def plot(record: Record, path: Path) -> None:
    """Plot a result of ``research.compare_settings``. See `bench.plot`."""
    arms = list(record["summary"]["arms"])
    features = [each["name"] for each in record["evaluation"]["features"]]
    shown = [(name, "fid_over_floor", f"FID / floor, {name}", 1.0) for name in features]
    shown += [
        (features[0], "recall", f"recall, {features[0]}", record["floors"][features[0]]["recall"]),
        (features[0], "nearest_neighbour", f"1-NN, {features[0]}",
         record["floors"][features[0]]["nearest_neighbour"]),
    ]  # fmt: skip
    confirmed = record["confirmation"]
    seeds = confirmed["seeds"] if confirmed else []
    runs = [run for run in record["runs"] if run["failed"] is None]
    title = f"{record['data']}, {record['study']['resolution']} pixels; a dot is a run"
    if seeds:
        title += ", a circle one of the confirmation"
    columns = len(shown) + 1
    size = (3.0 * columns, 1.6 + 0.35 * len(arms))
    with panels(path, 1, columns, title, figsize=size) as (_, grid):
        for axes, (kind, name, label, floor) in zip(grid.flat, shown, strict=False):
            _dots(axes, arms, runs, (kind, name), record, seeds)
            axes.axvline(floor, color="black", linestyle="--", linewidth=1)
            axes.set_xlabel(label, fontsize=9)
            axes.set_yticks(range(len(arms)), arms if axes is grid[0, 0] else [""] * len(arms))
            axes.set_ylim(len(arms) - 0.5, -0.5)
            axes.tick_params(labelsize=8)
            tidy(axes)
        _curves(grid[0, -1], arms, runs)


def _dots(
    axes: Axes,
    arms: list[str],
    runs: list[Record],
    of: tuple[str, str],
    record: Record,
    confirming: list[int],
) -> None:
    kind, name = of
    for place, arm in enumerate(arms):
        color = COLORS[place % len(COLORS)]
        values = [
            (run["seed"] in confirming, numbers_of(run["evaluation"], record["floors"])[kind][name])
            for run in runs
            if run["arm"] == arm
        ]
        chosen = [value for confirms, value in values if not confirms]
        axes.plot(chosen, [place] * len(chosen), "o", color=color, markersize=4, alpha=0.7)
        others = [value for confirms, value in values if confirms]
        axes.plot(others, [place + 0.2] * len(others), "o", color=color, markersize=4, mfc="none")
        if chosen:
            axes.plot([statistics.fmean(chosen)], [place], "|", color=color, markersize=16, mew=2)


def _curves(axes: Axes, arms: list[str], runs: list[Record]) -> None:
    """The mean sign of the logits of real images, over the images shown: 0 is blind, 1 is sure."""
    for place, arm in enumerate(arms):
        for run in (run for run in runs if run["arm"] == arm):
            points = [point for point in run["curve"] if "r_t" in point]
            axes.plot(
                [point["images"] for point in points], [point["r_t"] for point in points],
                color=COLORS[place % len(COLORS)], linewidth=0.8, alpha=0.8,
            )  # fmt: skip
    axes.set_xlabel("r_t over real images shown", fontsize=9)
    axes.tick_params(labelsize=8)
    tidy(axes)

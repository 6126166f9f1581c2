"""How ``bench.plot`` draws ``bench.throughput``.

Of one point a bar for each variant, its images a second, and a line at the convolution floor; of a
sweep a panel over batch size and one over resolution with a line for each variant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.plot import panels, place_of, plain_numbers, tidy
from bench.throughput_measurements import FLOOR, Measurements
from bench.throughput_report import name_of
from cxrgan_fast.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by every kind of eye (Okabe & Ito): greys and warm for the reference, cold for ours.
LOOKS = {
    "reference": ("reference, float32", "#7f7f7f"),
    "reference_amp": ("reference, AMP", "#e69f00"),
    "reference_compiled": ("reference, compiled", "#b0b0b0"),
    "reference_amp_compiled": ("reference, AMP, compiled", "#d55e00"),
    "eager": ("cxrgan_fast, eager", "#56b4e9"),
    "compile": ("cxrgan_fast, compile", "#009e73"),
    "graph": ("cxrgan_fast, graph", "#0072b2"),
    FLOOR: ("convolution floor", "black"),
}
AXES = {"batch_size": ("resolution", "batch size"), "resolution": ("batch_size", "resolution")}


def plot(record: Measurements, path: Path) -> None:
    """Plot a result of ``bench.throughput``. See `bench.plot`."""
    points = [point for point in record["points"] if point["variants"]]
    if not points:
        raise UserError("the file has no point with a variant to plot")
    sweeps = {along: series for along in AXES if len(series := _series(points, along)) > 1}
    count = len(sweeps) or 1
    size = (4.5 * count + 2, 4.2)
    with panels(path, 1, count, title(record), figsize=size) as (figure, grid):
        if not sweeps:
            _bars(grid[0][0], points[0])
            return
        for axes, (along, series) in zip(grid[0], sweeps.items(), strict=True):
            _lines(axes, along, series)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)


def title(record: Measurements) -> str:
    """What was measured and where, and whether it was cut short."""
    settings, (where, version) = record["settings"], place_of(record)
    point = f", {name_of(record['points'][0])}" if len(record["points"]) == 1 else ""
    return (
        f"Training steps on {where}, {version}:\n"
        f"{settings['family']}, preset {settings['preset']}, "
        f"{settings['precision']} (the reference: float32 or AMP){point}"
    )


def _series(points: list[Measurements], along: str) -> list[Measurements]:
    """The points that differ in ``along`` alone: the longest such series, in its order."""
    fixed = AXES[along][0]
    groups: dict[int, list[Measurements]] = {}
    for point in points:
        groups.setdefault(point[fixed], []).append(point)
    longest = max(groups.values(), key=lambda group: len(group))
    return sorted(longest, key=lambda point: int(point[along]))


def _bars(axes: Axes, point: Measurements) -> None:
    bars = [name for name in point["variants"] if name != FLOOR]
    rates = [point["variants"][name]["images_per_second"] for name in bars]
    places = range(len(bars))
    drawn = axes.barh(places, rates, color=[LOOKS[name][1] for name in bars], height=0.7)
    times = [point["variants"][name].get("times_reference") for name in bars]
    words = [
        f" {rate:.4g}" + (f" ({each:.2f}×)" if each else "")
        for rate, each in zip(rates, times, strict=True)
    ]
    axes.bar_label(drawn, words, fontsize=8)
    if FLOOR in point["variants"]:
        most = point["variants"][FLOOR]["images_per_second"]
        axes.axvline(most, color=LOOKS[FLOOR][1], linestyle="--", linewidth=1)
        # In the free place over the bars, whatever its rate.
        axes.annotate(
            f"{LOOKS[FLOOR][0]}: {most:.4g} ",
            (most, -0.75),
            ha="right",
            va="center",
            fontsize=8,
        )
    axes.set_ylim(len(bars) - 0.5, -1.1)  # the first at the top
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
    axes.set_yticks(places, [LOOKS[name][0] for name in bars], fontsize=8)
    axes.set_xlabel("images a second", fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _lines(axes: Axes, along: str, series: list[Measurements]) -> None:
    fixed, heading = AXES[along]
    for name, (label, color) in LOOKS.items():
        measured = [point for point in series if name in point["variants"]]
        if not measured:
            continue
        axes.plot(
            [point[along] for point in measured],
            [1e3 / point["variants"][name]["images_per_second"] for point in measured],
            marker="o",
            markersize=4,
            linestyle="--" if name == FLOOR else "-",
            color=color,
            label=label,
        )
    axes.set_xscale("log", base=2)
    plain_numbers(axes)
    ticks = [point[along] for point in series]
    axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(heading, fontsize=9)
    axes.set_ylabel("milliseconds an image", fontsize=9)
    axes.set_title(f"{fixed.replace('_', ' ')} {series[0][fixed]}", fontsize=9)
    tidy(axes, which="both")

"""How ``bench.plot`` draws ``bench.kernels``: ratios, a panel for each op, dtype and layout."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cases import BASELINES, IMAGE_OPS, OPS
from bench.measurements import main_state
from bench.plot import panels, place_of, tidy
from cxrgan_fast.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Measurements = dict[str, Any]

COLORS = {"eager": "#0072b2", "compiled": "#e69f00"}  # told apart by every kind of eye
LABELS = {"eager": "eager PyTorch", "compiled": "torch.compile"}
PANELS_IN_A_ROW = 2
BAR = 0.4
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def plot(record: Measurements, path: Path) -> None:
    """Plot how many times as fast as each baseline the fused op is: see `bench.plot`."""
    drawn = _panels(record["cases"])
    if not drawn:
        raise UserError("the file has no case with a ratio to plot")
    rows = -(-len(drawn) // PANELS_IN_A_ROW)
    size = (9, 2.15 * rows + 0.9)
    with panels(path, rows, PANELS_IN_A_ROW, title(record), figsize=size) as (figure, grid):
        _plot_into(figure, grid, drawn)


def _plot_into(figure: Any, grid: Any, panels: Sequence[tuple[str, list[Measurements]]]) -> None:
    for axes, (heading, cases) in zip(grid.flat, panels, strict=False):
        _panel(axes, heading, cases)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for of_row in grid:  # neighbours are compared, so they have one scale
        limits = [axes.get_ylim() for axes in of_row if axes.axison]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        ticks = [tick for tick in TICKS if low <= tick <= high]
        for axes in of_row:
            axes.set_yticks(ticks, [f"{tick:g}×" for tick in ticks], fontsize=8)
            axes.set_yticks([], minor=True)
            axes.set_ylim(low, high)
        of_row[0].set_ylabel("times as fast", fontsize=9)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)


def title(record: Measurements) -> str:
    """What was measured and where, and whether it was cut short."""
    where, version = place_of(record)
    batch = ", ".join(str(size) for size in sorted({case["shape"][0] for case in record["cases"]}))
    if any("replayed" in case for case in record["cases"]):
        where += ", replayed as CUDA graphs"
    return (
        f"Fused ops on {where}, {version}:\n"
        f"a forward + backward pass of {batch} samples, how many times as fast as …"
    )


def _panels(cases: Sequence[Measurements]) -> list[tuple[str, list[Measurements]]]:
    """The cases by panel, under its heading; of a loss one dtype, to save room."""
    panels = []
    for op in OPS:
        groups: dict[tuple[str, ...], list[Measurements]] = {}
        for case in cases:
            if case["op"] == op and _ratios(case):
                of = (case["dtype"], case["layout"]) if op in IMAGE_OPS else (case["dtype"],)
                groups.setdefault(of, []).append(case)
        drawn = groups.items() if op in IMAGE_OPS else list(groups.items())[:1]
        panels += [(f"{op}\n{', '.join(of)}", group) for of, group in drawn]
    return panels


def _panel(axes: Axes, heading: str, cases: Sequence[Measurements]) -> None:
    small = 6.2 if len(cases) > 6 else 7.5
    shown = [name for name in BASELINES if any(name in _ratios(case) for case in cases)]
    axes.set_yscale("log")
    for number, name in enumerate(shown):
        places, heights = list[float](), list[float]()
        for index, case in enumerate(cases):
            if name in _ratios(case):
                places.append(index + (number - (len(shown) - 1) / 2) * BAR)
                heights.append(_ratios(case)[name])
        # From 1, on a logarithmic axis: upward is faster, downward slower, by the same length.
        bars = axes.bar(
            places,
            [height - 1 for height in heights],
            BAR,
            bottom=1,
            color=COLORS[name],
            label=LABELS[name],
        )
        axes.bar_label(bars, [f"{each:.1f}" for each in heights], padding=1.5, fontsize=small)
    axes.axhline(1, color="black", linewidth=1)
    every = [ratio for case in cases for ratio in _ratios(case).values()]
    axes.set_ylim(min(0.8, min(every) / 1.5), max(every) * 1.5)
    axes.set_xticks(range(len(cases)), [_name(case) for case in cases], fontsize=small)
    means = [f"{_mean(name, cases):.1f}×" for name in shown]
    axes.set_title(f"{heading}: mean {' and '.join(means)}", fontsize=9)
    axes.tick_params(axis="x", length=0)
    tidy(axes, axis="y")


def _ratios(case: Measurements) -> dict[str, float]:
    """Of replays, where there are some: launches say how fast Python is."""
    found: dict[str, float] = case["ratio_to_fused"]
    return main_state(case).get("ratio_to_fused", found) if "replayed" in case else found


def _mean(name: str, cases: Sequence[Measurements]) -> float:
    ratios = [_ratios(case)[name] for case in cases if name in _ratios(case)]
    return statistics.geometric_mean(ratios)


def _name(case: Measurements) -> str:
    if case["kind"]:
        return case["kind"].replace("_", "\n")
    _, channels, height, width = case["shape"]
    return f"{channels}×\n{height}×{width}"

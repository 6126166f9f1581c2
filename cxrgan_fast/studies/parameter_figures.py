"""What a sweep shows of its settings: importances, the two strongest, and each by itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cxrgan_fast.studies.figures import (
    BLACK,
    BLUE,
    COLORS,
    FAINT,
    GRAY,
    GREEN,
    ORANGE,
    RATIO,
    Scale,
    new_figure,
    ratio_axis,
    say,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

_SLICES_A_ROW = 4
_NONE = "no trial has run to the end"


def draw_parameters(record: dict[str, Any]) -> Figure:
    """Draw importances, the two strongest settings, and all settings of all trials.

    Args:
        record: as `sweep_summary.summarize` gives it.
    """
    count = len(record["parameters"])
    above, below = 4.5 + 0.22 * count, 5.0
    figure = new_figure(max(12, 0.9 * count + 2), above + below)
    grid = figure.add_gridspec(2, 2, height_ratios=[above, below])
    _importances(figure.add_subplot(grid[0, 0]), record)
    _pair(figure.add_subplot(grid[0, 1]), record)
    _parallel(figure.add_subplot(grid[1, :]), record)
    return figure


def draw_slices(record: dict[str, Any]) -> Figure:
    """Draw FID / floor against each setting, with the default's value.

    Args:
        record: as `sweep_summary.summarize` gives it.
    """
    rows = record["parameters"]
    lines = max(1, math.ceil(len(rows) / _SLICES_A_ROW))
    figure = new_figure(3.2 * _SLICES_A_ROW, 2.7 * lines + 0.4)
    grid = figure.subplots(lines, _SLICES_A_ROW, squeeze=False)
    for axes, row in zip(grid.flat, rows, strict=False):
        _slice(axes, row, record)
    for axes in list(grid.flat)[len(rows) :]:
        axes.set_axis_off()
    title = "a dot is a trial, dark ones came later; star and dotted line: default; ring: best"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def _finished(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial for trial in record["trials"] if trial["ratio"] is not None]


def _importances(axes: Axes, record: dict[str, Any]) -> None:
    title = "importance (fANOVA), 95 % interval; orange: by chance"
    rows = [row for row in record["parameters"] if row["importance"]]
    if not rows:
        say(axes, "too few trials have run to the end", "importance")
        return
    places = range(len(rows))
    found = [row["importance"] for row in rows]
    colors = [BLUE if row["shown"] else FAINT for row in rows]
    axes.barh(places, [each["share"] for each in found], color=colors, height=0.55)
    for place, each in zip(places, found, strict=True):
        axes.plot(each["interval"], [place, place], color=BLACK, linewidth=1)
        axes.plot(each["by_chance"], place, "|", color=ORANGE, markersize=12, markeredgewidth=2)
    axes.set_yticks(places, [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of what settings explain alone; gray: no difference shown", fontsize=9)
    tidy(axes, title)


def _pair(axes: Axes, record: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in record["parameters"]}
    if len(record["strongest"]) < 2:
        say(axes, "too few trials have run to the end", "the two settings of most importance")
        return
    across, up = (rows[name] for name in record["strongest"])
    scales = Scale(across), Scale(up)
    trials = [trial for trial in _finished(record)
              if all(row["name"] in trial["parameters"] for row in (across, up))]  # fmt: skip
    title = f"{across['name']} and {up['name']}; color: {RATIO}"
    if not trials:
        say(axes, "no trial that has run to the end has both", title)
        return
    points = {
        trial["number"]: tuple(
            scale.place(trial["parameters"][row["name"]]) + _jitter(scale, trial["number"], turn)
            for turn, (scale, row) in enumerate(zip(scales, (across, up), strict=True))
        )
        for trial in trials
    }
    # The best ones are drawn last, so that no other hides them.
    order = sorted(trials, key=lambda trial: -trial["ratio"])
    x, y = ([points[trial["number"]][turn] for trial in order] for turn in (0, 1))
    drawn = axes.scatter(x, y, c=[trial["ratio"] for trial in order], cmap=COLORS,
                         norm=_norm(record), s=34, edgecolors=GRAY, linewidths=0.4)  # fmt: skip
    _color_bar(axes, drawn, record)
    if record["best"] in points:
        axes.plot(*points[record["best"]], "o", color=GREEN, markersize=11, fillstyle="none",
                  markeredgewidth=2)  # fmt: skip
    if record["default"] in points:
        axes.plot(*points[record["default"]], "*", color=BLACK, markersize=11)
    axes.set_xticks(*scales[0].ticks)
    axes.set_yticks(*scales[1].ticks)
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel(across["name"], fontsize=9)
    axes.set_ylabel(up["name"], fontsize=9)
    tidy(axes, title)


def _jitter(scale: Scale, number: int, turn: int) -> float:
    """Move trials of one choice apart, always the same way."""
    if scale.choices is None:
        return 0.0
    golden = (number * (0.618 + 0.137 * turn) + 0.5) % 1.0 - 0.5
    return 0.5 * golden / len(scale.choices)


def _norm(record: dict[str, Any]) -> LogNorm:
    from matplotlib.colors import LogNorm

    ratios = [trial["ratio"] for trial in _finished(record)]
    low, high = min(ratios), max(ratios)
    return LogNorm(low, high if high > low else 1.01 * low)


def _color_bar(axes: Axes, drawn: Any, record: dict[str, Any]) -> None:
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(drawn, ax=axes)
    ratio_axis(bar.ax, [trial["ratio"] for trial in _finished(record)])
    bar.ax.set_ylabel("")
    bar.ax.set_ylim(drawn.norm.vmin, drawn.norm.vmax)
    bar.ax.tick_params(labelsize=8)


def _parallel(axes: Axes, record: dict[str, Any]) -> None:
    title = f"all trials, by their settings and {RATIO}; black: default, green: best"
    rows, trials = record["parameters"], _finished(record)
    if not trials or not rows:
        say(axes, _NONE, title)
        return
    from matplotlib import colormaps

    norm, colors = _norm(record), colormaps[COLORS]
    scales = [Scale(row) for row in rows]
    shown = sorted(trials, key=lambda trial: -trial["ratio"])
    for trial in shown:
        # A setting that would do nothing was not drawn: the line has a gap there.
        heights = [
            scale.place(trial["parameters"][row["name"]]) + _jitter(scale, trial["number"], 0)
            if row["name"] in trial["parameters"] else math.nan
            for scale, row in zip(scales, rows, strict=True)
        ]  # fmt: skip
        marked = {record["default"]: BLACK, record["best"]: GREEN}.get(trial["number"])
        axes.plot(range(len(rows)), heights, marker=".", markersize=4 if marked is None else 7,
                  color=marked or colors(norm(trial["ratio"])), linewidth=0.8 if marked is None
                  else 2.2, alpha=0.75 if marked is None else 1.0, zorder=2 if marked is None
                  else 3)  # fmt: skip
    behind = {"boxstyle": "square,pad=0.1", "color": "white", "alpha": 0.7}
    for place, scale in enumerate(scales):
        axes.axvline(place, color=FAINT, linewidth=0.8, zorder=0)
        for height, words in zip(*scale.ticks, strict=True):
            axes.annotate(words, (place, height), xytext=(3, 0), textcoords="offset points",
                          fontsize=6.5, color=GRAY, va="center", zorder=4,
                          bbox=behind)  # fmt: skip
    axes.set_xticks(range(len(rows)), [row["name"] for row in rows], rotation=30, ha="right")
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(rows) - 0.2)
    axes.set_ylim(-0.06, 1.06)
    tidy(axes, title)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    _color_bar(axes, _mappable(norm), record)


def _mappable(norm: LogNorm) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(norm, COLORS)


def _slice(axes: Axes, row: dict[str, Any], record: dict[str, Any]) -> None:
    name, scale = row["name"], Scale(row)
    trials = [trial for trial in _finished(record) if name in trial["parameters"]]
    if not trials:
        say(axes, _NONE, name)
        return
    places = {
        trial["number"]: scale.place(trial["parameters"][name]) + _jitter(scale, trial["number"], 0)
        for trial in trials
    }
    numbers = [trial["number"] for trial in trials]
    axes.scatter(list(places.values()), [trial["ratio"] for trial in trials], c=numbers,
                 cmap="Blues", vmin=-0.4 * max(1, *numbers, 1), s=16, edgecolors=GRAY,
                 linewidths=0.3)  # fmt: skip
    ratios = {trial["number"]: trial["ratio"] for trial in trials}
    if row["default"] is not None:
        axes.axvline(scale.place(row["default"]), color=BLACK, linestyle=":", linewidth=1)
    if record["best"] in places:
        axes.plot(places[record["best"]], ratios[record["best"]], "o", color=GREEN, markersize=9,
                  fillstyle="none", markeredgewidth=2)  # fmt: skip
    if record["default"] in places:
        axes.plot(places[record["default"]], ratios[record["default"]], "*", color=BLACK,
                  markersize=9)  # fmt: skip
    axes.set_xticks(*scale.ticks)
    axes.set_xlim(-0.06, 1.06)
    ratio_axis(axes, [trial["ratio"] for trial in _finished(record)])
    axes.set_ylabel("")
    tidy(axes, f"{name}{'' if row['shown'] else ' (no difference shown)'}")
    axes.tick_params(axis="x", labelsize=7)

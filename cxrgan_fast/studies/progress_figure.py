"""How a sweep went: its history, FID against time, early FID against the last, failures."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from cxrgan_fast.studies.figures import (
    BLACK,
    BLUE,
    FAINT,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    RATIO,
    new_figure,
    ratio_axis,
    say,
    tidy,
)
from cxrgan_fast.studies.pruning import LEAST_RHO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CAUSES = 8  # that are shown
_TOP = 1.02  # of an axis, where trials without a FID are marked


def draw_progress(record: dict[str, Any]) -> Figure:
    """Draw how a sweep went.

    Args:
        record: as `sweep_summary.summarize` gives it.
    """
    figure = new_figure(12, 8)
    (history, time), (rungs, failures) = figure.subplots(2, 2)
    _history(history, record)
    _time(time, record)
    _rungs(rungs, record)
    _failures(failures, record)
    return figure


def _history(axes: Axes, record: dict[str, Any]) -> None:
    title, rows = "best so far, by hours of training", record["history"]
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    if not ratios:
        say(axes, "no trial has run to the end", title)
        return
    finished = [row for row in rows if row["ratio"] is not None]
    axes.plot([row["hours"] for row in finished], ratios, "o", color=FAINT, markersize=5,
              label="trial")  # fmt: skip
    axes.step(*_best_so_far(rows), where="post", color=BLUE, label=record["name"])
    other = record["against"]
    if other is not None and any(row["best"] for row in other["history"]):
        axes.step(*_best_so_far(other["history"]), where="post", color=ORANGE, linestyle="--",
                  label=other["name"])  # fmt: skip
        ratios += [row["ratio"] for row in other["history"] if row["ratio"] is not None]
    for state, marker, color in (("pruned", "v", GRAY), ("failed", "x", ORANGE)):
        hours = [row["hours"] for row in rows if row["state"] == state]
        if hours:  # an empty line above the axes has no end, and takes all of the figure's room
            axes.plot(hours, [_TOP] * len(hours), marker, color=color, markersize=5, clip_on=False,
                      label=state, transform=axes.get_xaxis_transform())  # fmt: skip
    _mark(axes, record, {row["number"]: (row["hours"], row["ratio"]) for row in finished})
    ratio_axis(axes, ratios)
    axes.set_xlabel("hours of training", fontsize=9)
    axes.set_xlim(left=0)
    axes.legend(fontsize=8, frameon=False)
    tidy(axes, title)


def _best_so_far(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    known = [(row["hours"], row["best"]) for row in rows if row["best"] is not None]
    return [hours for hours, _ in known], [best for _, best in known]


def _mark(axes: Axes, record: dict[str, Any], places: dict[int, tuple[float, float]]) -> None:
    """Mark the default's trial and the best one."""
    best, default = record["best"], record["default"]
    if best in places:
        axes.plot(*places[best], "o", color=GREEN, markersize=9, fillstyle="none",
                  markeredgewidth=2, label=f"best, trial {best}")  # fmt: skip
    if default in places:
        axes.plot(*places[default], "*", color=BLACK, markersize=11, label="default")


def _time(axes: Axes, record: dict[str, Any]) -> None:
    title = f"{RATIO} by seconds of training"
    trials = {each["number"]: each for each in record["trials"] if each["ratio"] is not None
              and each["reached"] is not None}  # fmt: skip
    if not trials:
        say(axes, "no trial has run to the end", title)
        return
    ratios = [each["ratio"] for each in trials.values()]
    for each in record["trials"]:
        points = _curve(each, record)
        axes.plot(*zip(*points, strict=True), color=FAINT, linewidth=0.7) if points else None
        ratios += [ratio for _, ratio in points]
    places = {number: (each["reached"], each["ratio"]) for number, each in trials.items()}
    axes.plot(*zip(*places.values(), strict=True), "o", color=BLUE, markersize=4, label="trial")
    front = [places[number] for number in record["front"]]
    axes.step(*zip(*front, strict=True), where="post", color=PURPLE, marker="o", markersize=4,
              label="Pareto front")  # fmt: skip
    _mark(axes, record, places)
    ratio_axis(axes, ratios)
    axes.set_xlabel("seconds of training", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    tidy(axes, title)


def _curve(trial: dict[str, Any], record: dict[str, Any]) -> list[tuple[float, float]]:
    """A trial's FID / floor at its rungs, by seconds, which go with the share of the budget."""
    rungs, seconds, floor = trial.get("rungs"), trial["seconds"], record["floor"]
    if not rungs or not seconds or not floor:
        return []
    known = sorted((float(share), fid) for share, fid in rungs.items() if fid and fid > 0)
    return [(share * seconds / known[-1][0], fid / floor) for share, fid in known]


def _rungs(axes: Axes, record: dict[str, Any]) -> None:
    title, rungs = "does an early FID foretell the last one?", record["rungs"]
    known = {float(share): found["rho"] for share, found in rungs.items()
             if found["rho"] is not None}  # fmt: skip
    if not known:
        say(axes, "too few trials have all of their early measurements", title)
        return
    count = next(iter(rungs.values()))["trials"]
    axes.bar([f"{share:.0%}" for share in known], list(known.values()), width=0.5, color=BLUE)
    for place, rho in enumerate(known.values()):
        axes.annotate(f"{rho:.2f}", (place, max(rho, 0)), ha="center", va="bottom", fontsize=8)
    axes.axhline(LEAST_RHO, color=BLACK, linestyle="--", linewidth=1)
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set_ylim(min(0.0, *known.values()) * 1.1, 1.12)
    axes.set_xlabel("share of the budget", fontsize=9)
    axes.set_ylabel(f"Spearman's ρ over {count} trials", fontsize=9)
    tidy(axes, f"{title} Dashed: ρ that prunes")


def _failures(axes: Axes, record: dict[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    title, rows = "failures by cause", record["failures"]
    if not rows:
        say(axes, "no trial has failed", title)
        return
    shown = rows[:_CAUSES]
    places = range(len(shown))
    axes.barh(places, [row["count"] for row in shown], color=ORANGE, height=0.45)
    for place, row in zip(places, shown, strict=True):
        # Above its bar, for beside it the words would take the room of the whole column.
        words = _literal(textwrap.shorten(row["cause"], 90, placeholder="..."))
        axes.annotate(words, (0, place - 0.3), xytext=(3, 0), textcoords="offset points",
                      fontsize=8, va="bottom")  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(max(len(shown), 3) - 0.4, -0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trials", fontsize=9)
    more = len(rows) - len(shown)
    tidy(axes, title + (f"; {more} more causes are in report.json" if more else ""))


def _literal(text: str) -> str:
    """Text in which Matplotlib sees no formula."""
    return text.replace("$", r"\$")

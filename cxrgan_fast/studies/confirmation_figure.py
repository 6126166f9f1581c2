"""The runs of a confirmation: the winner's and the default's, seed by seed."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from cxrgan_fast.studies.confirmation import DEFAULT, VALUE, WINNER
from cxrgan_fast.studies.figures import (
    BLACK,
    FAINT,
    GRAY,
    GREEN,
    RATIO,
    new_figure,
    ratio_axis,
    say,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_confirmation(record: dict[str, Any]) -> Figure:
    """Draw FID / floor of each run, and the mean difference of pairs with its interval.

    Args:
        record: as `confirmation.judge_confirmation` gives it.
    """
    figure = new_figure(10, 4)
    runs, differences = figure.subplots(1, 2, width_ratios=(3, 2))
    _runs(runs, record)
    _differences(differences, record)
    words = "\n".join(textwrap.wrap(record["words"], 130))
    figure.suptitle(words, x=0.01, ha="left", fontsize=10)
    return figure


def _runs(axes: Axes, record: dict[str, Any]) -> None:
    title = f"{RATIO} by seed; a line joins the two of a seed"
    ratios = {
        (run["arm"], run["seed"]): math.exp(run["value"])
        for run in record["runs"] if run["value"] is not None
    }  # fmt: skip
    if not ratios:
        say(axes, "no run has ended", title)
        return
    places = {DEFAULT: 0.0, WINNER: 1.0}
    for seed in record["seeds"]:
        pair = [(places[arm], ratios[arm, seed]) for arm in places if (arm, seed) in ratios]
        if pair:
            axes.plot(*zip(*pair, strict=True), color=FAINT, linewidth=1)
            axes.annotate(str(seed), pair[-1], xytext=(7, 0), textcoords="offset points",
                          fontsize=7, color=GRAY, va="center")  # fmt: skip
    for arm, color in ((DEFAULT, BLACK), (WINNER, GREEN)):
        values = [ratio for (of, _), ratio in ratios.items() if of == arm]
        axes.plot([places[arm]] * len(values), values, "o", color=color, markersize=6)
    axes.set_xticks([0, 1], ["default", f"winner, trial {record['trial']}"])
    axes.set_xlim(-0.4, 1.4)
    ratio_axis(axes, list(ratios.values()))
    tidy(axes, title)


def _differences(axes: Axes, record: dict[str, Any]) -> None:
    title = f"{RATIO}, winner over default, 95 % intervals"
    found = {name: each for name, each in record["differences"].items()
             if name.endswith(VALUE) and each["interval_95"] is not None}  # fmt: skip
    if not found:
        say(axes, "too few pairs have ended", title)
        return
    for place, each in enumerate(found.values()):
        low, high = map(math.exp, each["interval_95"])
        axes.plot([low, high], [place, place], color=BLACK, linewidth=1.2)
        axes.plot(math.exp(each["mean"]), place, "o", color=GREEN)
    axes.axvline(1, color=BLACK, linestyle="--", linewidth=1)
    ends = [math.exp(end) for each in found.values() for end in each["interval_95"]]
    ratio_axis(axes, [1.0, *ends], name="x")
    axes.set_xlabel("")
    words = [
        name.removesuffix(VALUE).removesuffix(": ") or "features that decide" for name in found
    ]
    axes.set_yticks(range(len(found)), words)
    axes.set_ylim(len(found) - 0.4, -0.6)
    tidy(axes, title)

"""Figures of studies: colors, axes and PNG files, all by Matplotlib and without a screen."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import write_atomic
from cxrgan_fast.studies.effects import shown_value
from cxrgan_fast.studies.library import INSTALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by every kind of eye (Okabe and Ito).
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
GRAY, FAINT, BLACK = "#7f7f7f", "#bbbbbb", "#000000"
COLORS = "viridis_r"
"""Of FID / floor: dark is high."""

RATIO = "FID / floor"

_DPI = 130


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        UserError: Matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"a report needs Matplotlib ({error}): {INSTALL}") from None
    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})
    write_atomic(path, content.getvalue())


def tidy(axes: Axes, title: str) -> None:
    """Lay a faint grid behind a panel, and give it a title at its left."""
    axes.grid(linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(labelsize=8)


def say(axes: Axes, words: str, title: str) -> None:
    """Put words into a panel in which there is nothing to draw."""
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=10)
    axes.text(0.02, 0.9, words, transform=axes.transAxes, fontsize=9, color=GRAY, va="top")


def ratio_axis(axes: Axes, ratios: Sequence[float], *, name: str = "y") -> None:
    """Put FID / floor on a logarithmic axis whose ticks say 2 and 5, not 10 to some power."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = axes.yaxis if name == "y" else axes.xaxis
    (axes.set_yscale if name == "y" else axes.set_xscale)("log")
    low, high = min(ratios), max(ratios)
    edge = max(1.03, (high / low) ** 0.06)
    limits = low / edge, high * edge
    (axes.set_ylim if name == "y" else axes.set_xlim)(*limits)
    axis.set_major_locator(FixedLocator(_ticks(*limits)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    (axes.set_ylabel if name == "y" else axes.set_xlabel)(RATIO, fontsize=9)


def _ticks(low: float, high: float) -> list[float]:
    """Some round numbers between two, on a logarithmic scale."""
    from matplotlib.ticker import MaxNLocator

    for steps in ((1,), (1, 3), (1, 2, 5)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [step * 10.0**decade for decade in decades for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= 4:
            return found
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(
        low, high
    )  # over less than a decade the scale is even
    return [float(tick) for tick in ticks if low <= tick <= high]


class Scale:
    """Where the values of a setting are on an axis.

    Args:
        row: what is known of the setting, as `sweep_summary.parameter_rows` gives it.

    Attributes:
        choices: those of the setting; None for numbers.
    """

    def __init__(self, row: dict[str, Any]) -> None:
        self.choices: list[Any] | None = row["choices"]
        self._log, self._low, self._high = bool(row["log"]), row["low"], row["high"]

    def place(self, value: Any) -> float:
        """Return the place of a value between 0 and 1; beyond, where it is out of the range."""
        if self.choices is not None:
            at = self.choices.index(value) if value in self.choices else -1
            return (at + 0.5) / len(self.choices)
        low, high = float(self._low), float(self._high)
        if low == high:
            return 0.5
        if self._log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    @property
    def ticks(self) -> tuple[list[float], list[str]]:
        """Return places and words of the ticks: all choices, or the ends and the middle."""
        if self.choices is not None:
            return [self.place(choice) for choice in self.choices], [*map(str, self.choices)]
        low, high = float(self._low), float(self._high)
        middle = math.sqrt(low * high) if self._log else (low + high) / 2
        return [0.0, 0.5, 1.0], [*map(shown_value, (low, middle, high))]

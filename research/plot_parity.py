"""How ``bench.plot`` draws ``research.parity``.

FID over the seconds of training and over the images shown: a thin line for each seed, a thick one
for their mean, and the FID of real against real images dashed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.plot import panels, plain_numbers, tidy
from research.parity_measurements import MAIN, Measurements, mean_curve
from research.parity_report import heading
from research.parity_training import REFERENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by every kind of eye (Okabe & Ito), as in the plots of throughput.
LOOKS = {
    REFERENCE: ("reference, float32", "#7f7f7f"),
    "fp32": ("cxrgan_fast, float32", "#56b4e9"),
    "bf16": ("cxrgan_fast, bfloat16", "#0072b2"),
    "fp16": ("cxrgan_fast, float16", "#009e73"),
}
AXES = {"seconds": "seconds of training", "images": "real images shown"}


def plot(record: Measurements, path: Path) -> None:
    """Plot a result of ``research.parity``. See `bench.plot`."""
    size = (11, 4.4)
    with panels(path, 1, 2, heading(record), figsize=size, sharey=True) as (_, grid):
        for axes, along in zip(grid.flat, AXES, strict=True):
            _panel(axes, along, record)
        grid[0, 0].set_ylabel(f"FID, features {record['evaluation']['features']}", fontsize=9)
        grid[0, 1].legend(frameon=False, fontsize=8)


def _panel(axes: Axes, along: str, record: Measurements) -> None:
    for name, runs in record["runs"].items():
        label, color = LOOKS[name]
        curves = [run["snapshots"] for run in runs]
        for curve in curves:
            _line(axes, along, curve, color=color, linewidth=0.6, alpha=0.5)
        _line(axes, along, mean_curve(curves), color=color, linewidth=2, label=label)
    floor = record["floor"][MAIN]["mean"]
    axes.axhline(floor, color="black", linestyle="--", linewidth=1, label="real against real")
    plain_numbers(axes, minor={"minor_thresholds": (2, 0.5)})
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlim(left=0)
    axes.set_xlabel(AXES[along], fontsize=9)
    tidy(axes, which="both")


def _line(axes: Axes, along: str, curve: list[Measurements], **look: Any) -> None:
    known = [point for point in curve if point.get(MAIN) is not None]
    axes.plot([point[along] for point in known], [point[MAIN] for point in known], **look)

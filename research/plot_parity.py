"""``python -m research.plot_parity FILE PNG``: draw what ``research.parity`` has written.

FID over the seconds of training and over the images shown: a thin line for each seed, a thick one
for their mean, and the FID of real against real images dashed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.record import read_result
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from research.parity_figures import MAIN, Figures, mean_curve
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


def draw(record: Figures, path: Path) -> None:
    """Draw a result of ``research.parity``.

    Args:
        record: what the JSON holds.
        path: where the PNG goes.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise UserError("drawing needs matplotlib: pip install -e '.[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    for axes, along in zip(panels, AXES, strict=True):
        _panel(axes, along, record)
    panels[0].set_ylabel(f"FID, features {record['evaluation']['features']}", fontsize=9)
    panels[1].legend(frameon=False, fontsize=8)
    figure.suptitle(heading(record), x=0.01, ha="left", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=180, metadata={"Software": None})
    pyplot.close(figure)


def _panel(axes: Axes, along: str, record: Figures) -> None:
    from matplotlib.ticker import LogFormatter

    for name, runs in record["runs"].items():
        label, colour = LOOKS[name]
        curves = [run["snapshots"] for run in runs]
        for curve in curves:
            _line(axes, along, curve, color=colour, linewidth=0.6, alpha=0.5)
        _line(axes, along, mean_curve(curves), color=colour, linewidth=2, label=label)
    floor = record["floor"][MAIN]["mean"]
    axes.axhline(floor, color="black", linestyle="--", linewidth=1, label="real against real")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())  # 60, not 6 × 10¹
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.tick_params(axis="both", which="both", labelsize=8)
    axes.set_xlim(left=0)
    axes.set_xlabel(AXES[along], fontsize=9)
    axes.grid(linewidth=0.4, alpha=0.6, which="both")
    axes.spines[["top", "right"]].set_visible(False)


def _line(axes: Axes, along: str, curve: list[Figures], **look: Any) -> None:
    known = [point for point in curve if point.get(MAIN) is not None]
    axes.plot([point[along] for point in known], [point[MAIN] for point in known], **look)


def main() -> None:
    """Read, draw and say where."""
    parser = argparse.ArgumentParser(prog="python -m research.plot_parity", description=__doc__)
    parser.add_argument("file", type=Path, help="the JSON of python -m research.parity")
    parser.add_argument("png", type=Path, help="where the picture goes")
    arguments = parser.parse_args()
    keys = {"runs", "floor", "comparisons", "evaluation", "settings"}
    draw(read_result(arguments.file, "research.parity", keys), arguments.png)
    print(arguments.png)


if __name__ == "__main__":
    sys.exit(run_command(main))

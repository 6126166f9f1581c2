"""How ``bench.plot`` draws ``research.disturbances``.

A panel for each metric, a line for each disturbance over its strength; the grey band is the 95 %
interval of undisturbed images of other patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.plot import panels, tidy
from cxrgan_fast.metrics.estimate import CONFIDENCE_Z

# Told apart by every kind of eye (Okabe & Ito), and by their marks.
LOOKS = {
    "blur": ("#0072b2", "o"),
    "noise": ("#56b4e9", "s"),
    "occlusion": ("#009e73", "^"),
    "contrast": ("#e69f00", "v"),
    "warping": ("#d55e00", "D"),
    "missing_modes": ("#cc79a7", "P"),
    "duplicates": ("black", "X"),
    "copies": ("#7f7f7f", "*"),
    "swapped_labels": ("#c0a000", "d"),
}
PANELS = {
    "fid": "FID",
    "fid_infinity": "FID∞",
    "kid": "KID",
    "class_fid": "FID, mean of the classes",
    "inception_score": "Inception Score",
    "precision": "precision",
    "recall": "recall",
    "nearest_neighbour": "1-NN accuracy",
    "likeness": "Likeness Score",
    "creativity": "creativity",
    "inheritance": "inheritance",
    "diversity": "diversity",
    "cid": "CID",
    "memorisation": "memorisation: share near",
    "near_copies": "near copies",
    "exact_duplicates": "repeated images",
}
ACROSS = 4


def plot(record: dict[str, Any], path: Path) -> None:
    """Plot a result of ``research.disturbances``. See `bench.plot`."""
    shown = [metric for metric in PANELS if metric in record["disturbances"][0]["metrics"]]
    down = -(-len(shown) // ACROSS)
    size = (12, 2.3 * down + 1)
    with panels(path, down, ACROSS, title(record), dpi=150, figsize=size) as (figure, grid):
        _plot_into(figure, grid, record, shown)


def _plot_into(figure: Any, grid: Any, record: dict[str, Any], shown: Sequence[str]) -> None:
    strengths = record["strengths"]
    for axes, metric in zip(grid.flat, shown, strict=False):
        floor = record["disturbances"][0]["metrics"][metric][0]
        error = record["floor_standard_errors"].get(metric)
        if error is not None and floor is not None:
            half = CONFIDENCE_Z * error
            axes.axhspan(floor - half, floor + half, color="#dddddd", linewidth=0)
        for row in record["disturbances"]:
            color, mark = LOOKS[row["name"]]
            axes.plot(
                strengths,
                [float("nan") if value is None else value for value in row["metrics"][metric]],
                color=color,
                marker=mark,
                markersize=4,
                linewidth=1.1,
                label=row["name"].replace("_", " "),
            )
        axes.set_title(PANELS[metric], fontsize=9)
        axes.set_xticks(strengths, [f"{strength:g}" for strength in strengths], fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
        tidy(axes)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("strength", fontsize=9)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)


def title(record: dict[str, Any]) -> str:
    """What was disturbed, and whose features were compared."""
    extractor, settings = record["extractor"], record["settings"]
    return (
        f"Disturbed real images against real images of other patients, {settings['samples']} each "
        f"at {settings['resolution']} pixels;\nfeatures: {extractor['name']}, "
        f"{extractor['dimension']} dimensions. Grey: 95 % interval of undisturbed images"
    )

"""A study's report: JSON, a CSV with a row a training, a picture, and text for a terminal."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxrgan_fast.evaluation.table import aligned
from cxrgan_fast.files import write_atomic
from cxrgan_fast.studies.augmentation.analysis import BASELINE, PRIMARY, analyze
from cxrgan_fast.studies.augmentation.comparisons import CHOSEN
from cxrgan_fast.studies.augmentation.libraries import import_for_study
from cxrgan_fast.studies.augmentation.outcomes import THRESHOLDS
from cxrgan_fast.studies.augmentation.trainings import Training, write_trainings

JSON, CSV, PICTURE = "study.json", "trainings.csv", "study.png"
_TITLES = {"half": "0.5", "sensitivity_95": "95 % sensitivity", "youden": "Youden's point"}
# Told apart by every kind of eye (Okabe & Ito).
_COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")


def write_report(
    folder: Path,
    trainings: Sequence[Training],
    *,
    negative: str | None = None,
    about: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> tuple[str, list[Path]]:
    """Write a study's report into its folder, as far as the study has come.

    The table of trainings is written first, so that what was trained is kept whatever follows.

    Args:
        folder: folder of the study, in which the predictions are.
        trainings: all trainings that are done.
        negative: name of the class without disease; None for the one called normal.
        about: what the JSON holds beside the results, such as the plan.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        The text for a terminal, whose first paragraph is the finding, and the files written.

    Raises:
        UserError: see `analyze`; a file cannot be written; matplotlib is missing.
    """
    table = folder / CSV
    write_trainings(table, trainings)
    record = analyze(trainings, folder, negative=negative, progress=progress)
    document = {"finding": record["finding"], **(about or {}), **record}
    content = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_atomic(folder / JSON, content.encode())
    write_atomic(folder / PICTURE, draw(record))
    return shown(record), [folder / JSON, table, folder / PICTURE]


def shown(record: Mapping[str, Any]) -> str:
    """Lay out a report as text for a terminal: the finding, then tables.

    Args:
        record: what `analyze` gave.
    """
    parts = [textwrap.fill(record["finding"], 100)]
    rows = [["real images", "AUC of RA", "RAS - RA", "95 % interval", "p (Holm)",
             "smallest that would be shown", "ratios chosen", "worth in real images"]]  # fmt: skip
    for each in record["sizes"]:
        low, high = each["interval_95"]
        rows.append(
            [
                _size(each), f"{each['auc_of_baseline']['value']:.4f}",
                f"{each['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}",
                f"{each['p_holm']:.3f}", f"{each['smallest_effect']:.4f}",
                ", ".join(f"{ratio}: {n}" for ratio, n in each["ratios_chosen"].items()),
                _worth(each["worth_in_images"]),
            ]
        )  # fmt: skip
    parts.append("\n".join(["primary: AUC on patients of other folds", *aligned(rows)]))
    parts.append(_errors(record))
    parts.append(_others(record))
    parts.append(_break_even(record["break_even"]))
    if record["notes"]:
        parts.append("\n".join(record["notes"]))
    return "\n\n".join(filter(None, parts))


def _size(each: Mapping[str, Any]) -> str:
    return f"all, {each['images']}" if each["size"] == "all" else str(each["size"])


def _worth(worth: Mapping[str, Any] | None) -> str:
    if worth is None:
        return "-"
    high = "more than the study has" if worth["high"] is None else f"{worth['high']:+.0f}"
    least = " or more" if worth["beyond"] else ""
    return f"{worth['images']:+.0f}{least} ({worth['low']:+.0f} to {high})"


def _errors(record: Mapping[str, Any]) -> str:
    rows = [["real images", "threshold", "type I (95 % interval)", "type II (95 % interval)",
             "McNemar, normal", "diseased"]]  # fmt: skip
    for each in record["sizes"]:
        for threshold in THRESHOLDS:
            cells = []
            for kind in (1, 2):
                effect = each["secondary"][f"type_{kind}_{threshold}"]
                low, high = effect["interval_95"]
                cells.append(f"{effect['difference']:+.2%} ({low:+.2%} to {high:+.2%})")
            for images in ("normal", "diseased"):
                p = each["mistakes"][threshold][images]["p_by_patient"]
                cells.append("-" if p is None else f"p {p:.3f}")
            rows.append([_size(each), _TITLES[threshold], *cells])
    title = "secondary: change of errors, RAS - RA; thresholds of validation; p by patient"
    return "\n".join([title, *aligned(rows)])


def _others(record: Mapping[str, Any]) -> str:
    if not record["others"]:
        return ""
    rows = [["real images", "arm", "against", "difference of AUC", "95 % interval", "p"]]
    images = {each["size"]: each["images"] for each in record["means"]}
    for each in record["others"]:
        low, high = each["interval_95"]
        size = _size({"size": each["size"], "images": images[each["size"]]})
        rows.append([size, each["arm"], each["against"], f"{each['difference']:+.4f}",
                     f"{low:+.4f} to {high:+.4f}", f"{each['p_value']:.3f}"])  # fmt: skip
    return "\n".join(["secondary: other arms; p not corrected", *aligned(rows)])


def _break_even(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["low"] is None:
        return (
            "break-even: the gain is not shown to change with the number of real images (p "
            f"{found['slope_p_value']:.3f}), so that no size can be told at which it ends"
        )
    side = "fewer" if found["slope"] < 0 else "more"
    return (
        f"break-even: synthetic images help with {side} than {found['size']:.0f} real images (95 % "
        f"interval {found['low']:.0f} to {found['high']:.0f})"
    )


def draw(record: Mapping[str, Any]) -> bytes:
    """Draw AUC by size and arm, gains with their intervals, and changes of errors.

    Args:
        record: what `analyze` gave.

    Returns:
        The bytes of a PNG.

    Raises:
        UserError: matplotlib is missing.
    """
    import_for_study("matplotlib")
    # Without pyplot, which would look for a screen and keep the figure.
    figures: Any = import_for_study("matplotlib.figure")
    figure = figures.Figure(figsize=(13, 4.6), layout="constrained")
    figure.suptitle(textwrap.fill(record["finding"], 150), fontsize=9, x=0.01, ha="left")
    curves, gains, errors = figure.subplots(1, 3)
    _draw_curves(curves, record)
    _draw_gains(gains, record)
    _draw_errors(errors, record)
    for axes in (curves, gains, errors):
        axes.minorticks_off()
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _name_sizes(axes: Any, record: Mapping[str, Any]) -> None:
    images = [each["images"] for each in record["sizes"]]
    axes.set_xscale("log")
    axes.set_xticks(images, list(map(str, images)))
    axes.set_xlabel("real images", fontsize=9)


def _draw_curves(axes: Any, record: Mapping[str, Any]) -> None:
    wanted = ["R", BASELINE, "RR", f"RS_{CHOSEN}", f"{PRIMARY}_{CHOSEN}", f"S_{CHOSEN}"]
    for arm, color in zip(wanted, _COLORS, strict=False):
        points = sorted((each["images"], each["auc"]) for each in record["means"]
                        if each["arm"] == arm)  # fmt: skip
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=color, label=arm, markersize=4)
    _name_sizes(axes, record)
    axes.set_ylabel("AUC, mean over folds and seeds", fontsize=9)
    axes.legend(fontsize=8, frameon=False)


def _draw_gains(axes: Any, record: Mapping[str, Any]) -> None:
    images = [each["images"] for each in record["sizes"]]
    for each, x in zip(record["sizes"], images, strict=True):
        low, high = each["interval_95"]
        axes.plot([x, x], [low, high], color=_COLORS[1], linewidth=1.5)
        axes.plot([x], [each["difference"]], "o", color=_COLORS[1])
        smallest = each["smallest_effect"]
        axes.plot([x, x], [-smallest, smallest], "_", color=_COLORS[7], markersize=14)
    axes.axhline(0, color="black", linewidth=0.8)
    _name_sizes(axes, record)
    axes.set_ylabel("AUC, RAS - RA, 95 % interval;\ngray: smallest that would be shown", fontsize=9)


def _draw_errors(axes: Any, record: Mapping[str, Any]) -> None:
    sizes = record["sizes"]
    styles = (("o", "-"), ("s", "--"), ("^", ":"))
    for threshold, (marker, line) in zip(THRESHOLDS, styles, strict=True):
        for kind, color in ((1, _COLORS[2]), (2, _COLORS[3])):
            name = f"type_{kind}_{threshold}"
            axes.plot(
                [each["images"] for each in sizes],
                [100 * each["secondary"][name]["difference"] for each in sizes],
                marker + line, color=color, markersize=4, linewidth=1,
                label=f"type {'I' * kind}, {_TITLES[threshold]}",
            )  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    _name_sizes(axes, record)
    axes.set_ylabel("change of errors in points, RAS - RA", fontsize=9)
    axes.legend(fontsize=7, frameon=False)

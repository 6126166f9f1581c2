"""From samples to what is reported: medians, ratios, bytes a second, the floor, and tables of them.

An image op has to read its input and write its output (2 passes over the tensor) and then, for the
gradients, to read two tensors and write one (3 passes). At the rate of a copy, which makes 2
passes, measured in the same rounds, that takes 5/2 of the copy's time: the floor.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from bench.cases import BASELINES, IMAGE_OPS, OPS, Case

FORWARD_PASSES = 2
BACKWARD_PASSES = 3
COPY_PASSES = 2

Figures = dict[str, Any]
"""What the JSON holds of one case, or of several together."""


def floor(copy: float) -> float:
    """The time that an image op's passes take at the rate of a copy that takes ``copy``."""
    return copy * (FORWARD_PASSES + BACKWARD_PASSES) / COPY_PASSES


def gigabytes_per_second(tensor_bytes: int, passes: int, milliseconds: float) -> float:
    """The rate at which some passes over a tensor were made."""
    return tensor_bytes * passes / milliseconds / 1e6


def case_figures(
    case: Case, samples_us: dict[str, list[float]], peaks: dict[str, int] | None = None
) -> Figures:
    """What one case's samples say.

    Args:
        case: the case.
        samples_us: microseconds, by variant; ``copy`` for images.
        peaks: peak memory of each variant in bytes, where measured.
    """
    medians = {name: statistics.median(each) / 1e3 for name, each in samples_us.items()}
    fused = medians["fused"]
    figures: Figures = {
        "op": case.op,
        "kind": case.kind or None,
        "shape": list(case.shape),
        "layout": case.layout if case.of_images else None,
        "dtype": case.dtype,
        "median_ms": {name: round(each, 5) for name, each in medians.items()},
        "ratio_to_fused": {
            name: round(medians[name] / fused, 3) for name in BASELINES if name in medians
        },
    }
    if "copy" in medians:
        lowest = floor(medians["copy"])
        figures["gb_per_s"] = {
            name: round(
                gigabytes_per_second(
                    case.image_bytes,
                    COPY_PASSES if name == "copy" else FORWARD_PASSES + BACKWARD_PASSES,
                    each,
                ),
                2,
            )
            for name, each in medians.items()
        }
        figures["floor_ms"] = round(lowest, 5)
        figures["fused_over_floor"] = round(fused / lowest, 3)
        figures["fraction_of_copy_bandwidth"] = round(lowest / fused, 3)
    if peaks:
        figures["peak_mb"] = {name: round(each / 1e6, 3) for name, each in peaks.items()}
        if "eager" in peaks:
            figures["peak_fused_over_eager"] = round(peaks["fused"] / peaks["eager"], 3)
    figures["samples_us"] = {
        name: [round(sample, 1) for sample in each] for name, each in samples_us.items()
    }
    return figures


def summaries(cases: Sequence[Figures]) -> list[Figures]:
    """Geometric means and extremes of each op, then of each op in each layout and dtype."""
    rows = []
    for op in OPS:
        of_op = [case for case in cases if case["op"] == op]
        if of_op:
            rows.append({"op": op, "layout": None, "dtype": None, **_together(of_op)})
    for op in OPS:
        of_op = [case for case in cases if case["op"] == op]
        for layout, dtype in dict.fromkeys((case["layout"], case["dtype"]) for case in of_op):
            group = [case for case in of_op if (case["layout"], case["dtype"]) == (layout, dtype)]
            rows.append({"op": op, "layout": layout, "dtype": dtype, **_together(group)})
    return rows


def _together(cases: Sequence[Figures]) -> Figures:
    figures: Figures = {"cases": len(cases)}
    for name in BASELINES:
        ratios = [case["ratio_to_fused"][name] for case in cases if name in case["ratio_to_fused"]]
        if ratios:
            figures[name] = round(statistics.geometric_mean(ratios), 3)
            figures[f"least_{name}"] = min(ratios)
    over_floor = [case["fused_over_floor"] for case in cases if "fused_over_floor" in case]
    if over_floor:
        figures["fused_over_floor"] = round(statistics.geometric_mean(over_floor), 3)
    peaks = [case["peak_fused_over_eager"] for case in cases if "peak_fused_over_eager" in case]
    if peaks:
        figures["most_peak_fused_over_eager"] = max(peaks)
    return figures


# --- As text ---------------------------------------------------------------------------------


def report(record: Figures) -> str:
    """Everything but the samples, as text for a terminal."""
    parts = [_image_table(op, record["cases"]) for op in IMAGE_OPS]
    parts += [_loss_table(record["cases"]), _summary_table(record["summary"])]
    parts += [_dispatch_table(record.get("dispatch") or [])]
    return "\n\n".join(filter(None, parts))


def _image_table(op: str, cases: Iterable[Figures]) -> str:
    header = ["shape", "layout", "dtype", "eager ms", "compiled ms", "fused ms", "copy ms"]
    header += ["eager/fused", "compiled/fused", "GB/s", "% of copy", "fused/floor", "memory"]
    rows = [
        [
            "x".join(map(str, case["shape"])),
            case["layout"],
            case["dtype"],
            *_times(case, *BASELINES, "fused", "copy"),
            *_ratios(case),
            f"{case['gb_per_s']['fused']:.1f}",
            f"{100 * case['fraction_of_copy_bandwidth']:.0f}",
            f"{case['fused_over_floor']:.2f}",
            _or_dash("{:.2f}", case.get("peak_fused_over_eager")),
        ]
        for case in cases
        if case["op"] == op
    ]
    title = f"{op}, forward + backward (memory: peak of fused over eager)"
    return table(title, header, rows, left=3)


def _loss_table(cases: Iterable[Figures]) -> str:
    header = ["loss", "kind", "dtype", "eager ms", "compiled ms", "fused ms"]
    header += ["eager/fused", "compiled/fused"]
    rows = [
        [
            case["op"],
            case["kind"],
            case["dtype"],
            *_times(case, *BASELINES, "fused"),
            *_ratios(case),
        ]
        for case in cases
        if case["kind"]
    ]
    return table("losses of 64 logits, forward + backward", header, rows, left=3)


def _summary_table(rows: Iterable[Figures]) -> str:
    header = ["geometric means", "layout", "dtype", "cases", "eager/fused", "least"]
    header += ["compiled/fused", "least", "fused/floor"]
    cells = [
        [
            row["op"],
            row["layout"] or "-" if row["dtype"] else "all",
            row["dtype"] or "all",
            str(row["cases"]),
            *(
                _or_dash("{:.2f}", row.get(key))
                for key in ("eager", "least_eager", "compiled", "least_compiled")
            ),
            _or_dash("{:.2f}", row.get("fused_over_floor")),
        ]
        for row in rows
    ]
    return table("summary", header, cells, left=3)


def _dispatch_table(rows: Iterable[Figures]) -> str:
    header = ["fused op", "input", "after MB", "fused µs", "leaky_relu µs", "overhead µs"]
    cells = [
        [
            row["op"],
            "x".join(map(str, row["shape"])),
            str(row["after_mb"]),
            *(f"{row[key]:.1f}" for key in ("fused_us", "leaky_relu_us", "overhead_us")),
        ]
        for row in rows
    ]
    return table("overhead over one eager op, forward + backward, float32", header, cells, left=2)


def _times(case: Figures, *names: str) -> list[str]:
    return [_or_dash("{:.3f}", case["median_ms"].get(name)) for name in names]


def _ratios(case: Figures) -> list[str]:
    return [_or_dash("{:.2f}", case["ratio_to_fused"].get(name)) for name in BASELINES]


def _or_dash(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Aligned columns, the first ``left`` of them to the left; nothing without rows."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, ["-" * width for width in widths], *rows)
    ]
    return "\n".join([title, *lines])

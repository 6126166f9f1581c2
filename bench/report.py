"""The figures of ``bench.kernels`` as text: for a terminal, and for a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.cases import BASELINES, IMAGE_OPS
from bench.figures import Figures, main_state


def report(record: Figures) -> str:
    """Everything but the samples, as text for a terminal."""
    parts = [_image_table(op, record["cases"]) for op in IMAGE_OPS]
    parts += [_loss_table(record["cases"]), _summary_table(record["summary"])]
    parts += [_dispatch_table(record.get("dispatch") or []), *_gpu_tables(record)]
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


# --- What only a GPU has ---------------------------------------------------------------------


def _gpu_tables(record: Figures) -> list[str]:
    """The tables that only a GPU's result has."""
    cases = [case for case in record["cases"] if "replayed" in case]
    parts = []
    for op in IMAGE_OPS:
        of_op = [case for case in cases if case["op"] == op]
        parts += [_ways_table(f"{op}, replayed", of_op), _passes_table(op, of_op)]
    parts.append(_ways_table("losses, replayed", [case for case in cases if case["kind"]]))
    return [*parts, _replayed_summary_table(record["summary"]), _left_out_table(cases)]


def _name_cells(case: Figures) -> list[str]:
    shape = case["kind"] or "x".join(map(str, case["shape"]))
    return [shape, case["layout"] or case["op"].removesuffix("_loss"), case["dtype"]]


def _ways_table(title: str, cases: Sequence[Figures]) -> str:
    names = _names(main_state(case)["median_us"] for case in cases)
    header = ["shape", "layout", "dtype", *(f"{name} µs" for name in names)]
    header += ["eager/fused", "compiled/fused", "fastest", "fused/fastest", "warm fused µs"]
    rows = []
    for case in cases:
        row, warm = main_state(case), case["replayed"].get("warm", {})
        ratios = row.get("ratio_to_fused", {})
        rows.append(
            [
                *_name_cells(case),
                *(_or_dash("{:.1f}", row["median_us"].get(name)) for name in names),
                *(_or_dash("{:.2f}", ratios.get(name)) for name in BASELINES),
                row.get("fastest", "-"),
                _or_dash("{:.2f}", row.get("fused_over_fastest")),
                _or_dash("{:.1f}", warm.get("median_us", {}).get("fused")),
            ]
        )
    return table(f"{title}, forward + backward", header, rows, left=3)


def _passes_table(op: str, cases: Sequence[Figures]) -> str:
    rates = [main_state(case).get("fraction_of_copy_bandwidth", {}) for case in cases]
    names = _names(rates)
    counted = _names(case["launches"] for case in cases)
    header = ["shape", "layout", "dtype", "path of fused", "copy GB/s"]
    header += [f"{name} %" for name in names]
    header += [f"{name} launches" for name in counted]
    rows = [
        [
            *_name_cells(case),
            "+".join(dict.fromkeys(case.get("paths", {}).get("fused", ["-"]))),
            _or_dash("{:.0f}", main_state(case)["gb_per_s"].get("copy")),
            *(_or_dash("{:.0f}", _percent(rate.get(name))) for name in names),
            *("+".join(map(str, case["launches"].get(name, ["-"]))) for name in counted),
        ]
        for case, rate in zip(cases, rates, strict=True)
    ]
    title = f"{op}, replayed: each way's own passes at % of the copy's rate; launches"
    return table(title, header, rows, left=4)


def _replayed_summary_table(summary: Iterable[Figures]) -> str:
    header = ["replayed, geometric means", "layout", "dtype", "cases", "eager/fused", "least"]
    header += ["compiled/fused", "least", "of cases", "% of copy over L2", "fused is fastest"]
    rows = []
    for row in summary:
        if "replayed" not in row:
            continue
        of = row["replayed"]
        rows.append(
            [
                row["op"],
                row["layout"] or "-" if row["dtype"] else "all",
                row["dtype"] or "all",
                str(of["cases"]),
                *(
                    _or_dash("{:.2f}", of.get(key))
                    for key in ("eager", "least_eager", "compiled", "least_compiled")
                ),
                _or_dash("{}", of.get("cases_compiled")),
                _or_dash("{:.0f}", _percent(of.get("fraction_of_copy_bandwidth"))),
                f"{of['fused_as_fast_as_the_fastest']} of {of['cases']}",
            ]
        )
    title = "summary of replays (over L2: of larger images; fused is fastest: within 3%)"
    return table(title, header, rows, left=3)


def _left_out_table(cases: Iterable[Figures]) -> str:
    reasons: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        for name, why in case["left_out"].items():
            reasons.setdefault((case["op"], name), []).append(why)
    rows = [[op, name, str(len(whys)), whys[0]] for (op, name), whys in reasons.items()]
    return table("left out", ["op", "way", "cases", "why, of the first"], rows, left=4)


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction

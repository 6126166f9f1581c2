"""The measurements of ``bench.kernels`` as text: for a terminal, and for a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.cases import BASELINES, IMAGE_OPS
from bench.measurements import Measurements, main_state
from bench.tables import Columns, table, table_of

TIMES = [(f"{name} ms", f"{{median_ms[{name}]:.3f}}") for name in (*BASELINES, "fused")]
RATIOS = [(f"{name}/fused", f"{{ratio_to_fused[{name}]:.2f}}") for name in BASELINES]
OF_IMAGES = [
    ("shape", "{shape!x}"),
    ("layout", "{layout}"),
    ("dtype", "{dtype}"),
    *TIMES,
    ("copy ms", "{median_ms[copy]:.3f}"),
    *RATIOS,
    ("GB/s", "{gb_per_s[fused]:.1f}"),
    ("% of copy", "{fraction_of_copy_bandwidth!c:.0f}"),
    ("fused/floor", "{fused_over_floor:.2f}"),
    ("memory", "{peak_fused_over_eager:.2f}"),
]
OF_LOSSES = [("loss", "{op}"), ("kind", "{kind}"), ("dtype", "{dtype}"), *TIMES, *RATIOS]
DISPATCH = [
    ("fused op", "{op}"),
    ("input", "{shape!x}"),
    ("after MB", "{after_mb}"),
    *((f"{name} µs", f"{{{name}_us:.1f}}") for name in ("fused", "leaky_relu", "overhead")),
]
GROUP = [("layout", "{layout}"), ("dtype", "{dtype}"), ("cases", "{cases}")]
MEANS = [
    (heading, f"{{{least}{name}:.2f}}")
    for name in BASELINES
    for heading, least in ((f"{name}/fused", ""), ("least", "least_"))
]
SUMMARY = [
    ("geometric means", "{op}"),
    *GROUP,
    *MEANS,
    ("fused/floor", "{fused_over_floor:.2f}"),
]


def report(record: Measurements) -> str:
    """Everything but the samples, as text for a terminal."""
    cases, summary = record["cases"], [_named(row) for row in record["summary"]]
    losses = [case for case in cases if case["kind"]]
    title = "{}, forward + backward (memory: peak of fused over eager)"
    overhead = "overhead over one eager op, forward + backward, float32"
    parts = [
        *(table_of(title.format(op), OF_IMAGES, _of(op, cases), left=3) for op in IMAGE_OPS),
        table_of("losses of 64 logits, forward + backward", OF_LOSSES, losses, left=3),
        table_of("summary", SUMMARY, summary, left=3),
        table_of(overhead, DISPATCH, record.get("dispatch") or [], left=2),
        *_gpu_tables([_replayed(case) for case in cases if "replayed" in case], summary),
    ]
    return "\n\n".join(filter(None, parts))


def _of(op: str, cases: Iterable[Measurements]) -> list[Measurements]:
    return [case for case in cases if case["op"] == op]


def _named(row: Measurements) -> Measurements:
    """A group of cases with the names of its layout and dtype, which may be all."""
    layout = row["layout"] or "-" if row["dtype"] else "all"
    return {**row, "layout": layout, "dtype": row["dtype"] or "all"}


# --- What only a GPU has ---------------------------------------------------------------------

CASE = [("shape", "{name}"), ("layout", "{layout}"), ("dtype", "{dtype}")]
REPLAYED = [
    ("replayed, geometric means", "{op}"),
    *GROUP,
    *MEANS,
    ("of cases", "{cases_compiled}"),
    ("% of copy over L2", "{fraction_of_copy_bandwidth!c:.0f}"),
    ("fused is fastest", "{fused_as_fast_as_the_fastest} of {cases}"),
]


def _gpu_tables(cases: Sequence[Measurements], summary: Iterable[Measurements]) -> list[str]:
    """The tables that only a GPU's result has."""
    parts = []
    for op in IMAGE_OPS:
        of_op = _of(op, cases)
        parts.append(_ways_table(f"{op}, replayed", of_op))
        title = f"{op}, replayed: each way's own passes at % of the copy's rate; launches"
        parts.append(table_of(title, _passes(of_op), of_op, left=4))
    parts.append(_ways_table("losses, replayed", [case for case in cases if case["kind"]]))
    title = "summary of replays (over L2: of larger images; fused is fastest: within 3%)"
    groups = [{**row, **row["replayed"]} for row in summary if "replayed" in row]
    return [*parts, table_of(title, REPLAYED, groups, left=3), _left_out_table(cases)]


def _replayed(case: Measurements) -> Measurements:
    """A case with what its tables show: the measurements of the state that counts, its name."""
    return {
        **case,
        "name": case["kind"] or "x".join(map(str, case["shape"])),
        "layout": case["layout"] or case["op"].removesuffix("_loss"),
        "path_of_fused": case.get("paths", {}).get("fused"),
        "main": {"ratio_to_fused": {}, "fraction_of_copy_bandwidth": {}, **main_state(case)},
    }


def _ways_table(title: str, cases: Sequence[Measurements]) -> str:
    columns = [
        *CASE,
        *_each(cases, "median_us", "{} µs", "{{main[median_us][{}]:.1f}}"),
        *((f"{name}/fused", f"{{main[ratio_to_fused][{name}]:.2f}}") for name in BASELINES),
        ("fastest", "{main[fastest]}"),
        ("fused/fastest", "{main[fused_over_fastest]:.2f}"),
        ("warm fused µs", "{replayed[warm][median_us][fused]:.1f}"),
    ]
    return table_of(f"{title}, forward + backward", columns, cases, left=3)


def _passes(cases: Sequence[Measurements]) -> Columns:
    launched = dict.fromkeys(name for case in cases for name in case["launches"])
    rate = "{{main[fraction_of_copy_bandwidth][{}]!c:.0f}}"
    return [
        *CASE,
        ("path of fused", "{path_of_fused!u}"),
        ("copy GB/s", "{main[gb_per_s][copy]:.0f}"),
        *_each(cases, "fraction_of_copy_bandwidth", "{} %", rate),
        *((f"{name} launches", f"{{launches[{name}]!p}}") for name in launched),
    ]


def _each(cases: Iterable[Measurements], key: str, heading: str, form: str) -> Columns:
    """A column for each way that one of the cases has a figure of."""
    names = dict.fromkeys(name for case in cases for name in case["main"][key])
    return [(heading.format(name), form.format(name)) for name in names]


def _left_out_table(cases: Iterable[Mapping[str, Any]]) -> str:
    reasons: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        for name, why in case["left_out"].items():
            reasons.setdefault((case["op"], name), []).append(why)
    rows = [[op, name, str(len(whys)), whys[0]] for (op, name), whys in reasons.items()]
    return table("left out", ["op", "way", "cases", "why, of the first"], rows, left=4)

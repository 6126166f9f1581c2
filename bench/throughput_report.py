"""The figures of ``bench.throughput`` as text: for a terminal, and for a page."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report import table
from bench.throughput_figures import Figures

# What a column shows of a variant: its heading, the key and the form.
COLUMNS = (
    ("images/s", "images_per_second", "{:.1f}"),
    ("ms/step", "ms_per_step", "{:.2f}"),
    ("times reference", "times_reference", "{:.2f}"),
    ("over floor", "times_floor", "{:.2f}"),
    ("peak MB", "peak_mb", "{:.0f}"),
    ("resident MB", "resident_mb", "{:.0f}"),
    ("launches", "launches", "{}"),
    ("by host", "host_launches", "{}"),
    ("host busy", "host_busy", "{:.0%}"),
    ("dispatched ops", "dispatched_ops", "{}"),
    ("first step s", "first_step_s", "{:.1f}"),
)


def report(record: Figures) -> str:
    """Everything but the samples, as text for a terminal."""
    parts = []
    for point in record["points"]:
        parts += [_point_table(point), _left_out_table(point), _target_table(point)]
    parts.append(_growth_table(record.get("growth") or []))
    return "\n\n".join(filter(None, parts))


def name_of(point: Figures) -> str:
    """Where a point lies."""
    return f"{point['resolution']} pixels, batch {point['batch_size']}"


def _point_table(point: Figures) -> str:
    variants = point["variants"]
    shown = [column for column in COLUMNS if any(column[1] in each for each in variants.values())]
    rows = [
        [name, *(form.format(each[key]) if key in each else "-" for _, key, form in shown)]
        for name, each in variants.items()
    ]
    return table(name_of(point), ["variant", *(heading for heading, _, _ in shown)], rows, left=1)


def _left_out_table(point: Figures) -> str:
    rows = [[name, why] for name, why in point["left_out"].items()]
    return table(f"left out at {name_of(point)}", ["variant", "why"], rows, left=2)


def _target_table(point: Figures) -> str:
    rows = [
        [row["what"], row["wanted"], f"{row['got']:.2f}", "met" if row["met"] else "FALLS SHORT"]
        for row in point["targets"]
    ]
    header = ["target", "wanted", "got", ""]
    return table(f"targets at {name_of(point)}", header, rows, left=2)


def _growth_table(growth: Sequence[Figures]) -> str:
    rows = [
        [
            row["variant"],
            f"batch {row['batch_size']}" if "batch_size" in row else f"{row['resolution']} pixels",
            "images" if row["along"] == "batch_size" else "pixels",
            f"{row['from']} to {row['to']}",
            f"{row['overall']:.2f}",
            f"{row['most']:.2f}",
            "met" if row["grows_no_faster"] else "FALLS SHORT",
        ]
        for row in growth
    ]
    header = ["variant", "at", "with", "from", "overall", "most", "no faster"]
    title = "time of a pixel after over before, as batch size (with images) or resolution grows"
    return table(title, header, rows, left=4)

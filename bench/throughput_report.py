"""The measurements of ``bench.throughput`` as text: for a terminal, and for a page."""

from __future__ import annotations

from bench.tables import table_of
from bench.throughput_measurements import Measurements

VARIANT = [
    ("images/s", "{images_per_second:.1f}"),
    ("ms/step", "{ms_per_step:.2f}"),
    ("times reference", "{times_reference:.2f}"),
    ("over floor", "{times_floor:.2f}"),
    ("peak MB", "{peak_mb:.0f}"),
    ("resident MB", "{resident_mb:.0f}"),
    ("launches", "{launches}"),
    ("by host", "{host_launches}"),
    ("host busy", "{host_busy:.0%}"),
    ("dispatched ops", "{dispatched_ops}"),
    ("first step s", "{first_step_s:.1f}"),
]
"""Those that a point has no variant with a figure for are left out."""
TARGET = [("target", "{what}"), ("wanted", "{wanted}"), ("got", "{got:.2f}"), ("", "{verdict}")]
GROWTH = [
    ("variant", "{variant}"),
    ("at", "{at}"),
    ("with", "{of}"),
    ("from", "{from} to {to}"),
    ("overall", "{overall:.2f}"),
    ("most", "{most:.2f}"),
    ("no faster", "{verdict}"),
]


def report(record: Measurements) -> str:
    """Everything but the samples, as text for a terminal."""
    parts = []
    for point in record["points"]:
        name, variants = name_of(point), point["variants"]
        shown = [
            (heading, form)
            for heading, form in VARIANT
            if any(form[1:].rstrip("}").partition(":")[0] in each for each in variants.values())
        ]
        rows = [{"name": variant, **each} for variant, each in variants.items()]
        parts.append(table_of(name, [("variant", "{name}"), *shown], rows, left=1))
        left_out = [{"name": variant, "why": why} for variant, why in point["left_out"].items()]
        columns = [("variant", "{name}"), ("why", "{why}")]
        parts.append(table_of(f"left out at {name}", columns, left_out, left=2))
        rows = [{**row, "verdict": _verdict(row["met"])} for row in point["targets"]]
        parts.append(table_of(f"targets at {name}", TARGET, rows, left=2))
    title = "time of a pixel after over before, as batch size (with images) or resolution grows"
    growth = map(_growth, record.get("growth") or [])
    parts.append(table_of(title, GROWTH, growth, left=4))
    return "\n\n".join(filter(None, parts))


def name_of(point: Measurements) -> str:
    """Where a point lies."""
    return f"{point['resolution']} pixels, batch {point['batch_size']}"


def _growth(row: Measurements) -> Measurements:
    at = f"batch {row['batch_size']}" if "batch_size" in row else f"{row['resolution']} pixels"
    of = "images" if row["along"] == "batch_size" else "pixels"
    return {**row, "at": at, "of": of, "verdict": _verdict(row["grows_no_faster"])}


def _verdict(met: bool) -> str:
    return "met" if met else "FALLS SHORT"

"""What the result of ``research.disturbances`` says, in words and tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from bench.tables import table
from cxrgan_fast.metrics.estimate import CONFIDENCE_Z
from cxrgan_fast.metrics.metric import all_metrics

COLUMNS = {
    "fid": ("FID", "{:.4g}"),
    "fid_infinity": ("FID∞", "{:.4g}"),
    "kid": ("KID", "{:.3g}"),
    "inception_score": ("IS", "{:.3f}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "nearest_neighbour": ("1-NN", "{:.3f}"),
    "likeness": ("LS", "{:.3f}"),
    "class_fid": ("class FID", "{:.4g}"),
    "creativity": ("creat.", "{:.3f}"),
    "inheritance": ("inher.", "{:.3f}"),
    "diversity": ("divers.", "{:.3f}"),
    "cid": ("CID", "{:.3f}"),
    "memorisation": ("memor.", "{:.3f}"),
    "memorisation_p": ("memor. p", "{:.2g}"),
    "near_copies": ("near", "{:.0f}"),
    "exact_copies": ("copies", "{:.0f}"),
    "exact_duplicates": ("repeats", "{:.0f}"),
}
"""The metrics in the order of the tables: heading and format."""

RISES, FALLS, SAME, NEITHER, UNKNOWN = "rises", "falls", "stays", "neither", "unknown"

# What a metric that does its work has to do. FID and KID are listed for every disturbance, since
# it is of them that most is expected, and FID at infinity with them; of the others those that are
# made for it.
_WORSE = {"fid": RISES, "fid_infinity": RISES, "kid": RISES}
EXPECTED = {
    "blur": {**_WORSE, "precision": FALLS, "inheritance": FALLS},
    "noise": {**_WORSE, "precision": FALLS, "inheritance": FALLS},
    "occlusion": {**_WORSE, "precision": FALLS},
    "contrast": {**_WORSE, "precision": FALLS, "inheritance": FALLS},
    "warping": {**_WORSE, "precision": FALLS},
    "missing_modes": {**_WORSE, "recall": FALLS},
    "duplicates": {**_WORSE, "recall": FALLS, "diversity": FALLS, "exact_duplicates": RISES},
    # By what FID and KID measure, training images are the best images there are.
    "copies": {
        "fid": FALLS,
        "fid_infinity": FALLS,
        "kid": FALLS,
        "nearest_neighbour": FALLS,
        "creativity": FALLS,
        "memorisation": RISES,
        "memorisation_p": FALLS,
        "near_copies": RISES,
        "exact_copies": RISES,
    },
    # All images together are the same whatever their labels.
    "swapped_labels": {"fid": SAME, "fid_infinity": SAME, "kid": SAME, "class_fid": RISES},
}


def course(values: Sequence[float | None]) -> str:
    """Whether values rise or fall from each strength to the next; they may pause.

    Strengths at which the metric could not be computed are passed over.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return UNKNOWN
    steps = [b - a for a, b in itertools.pairwise(known)]
    if all(step == 0 for step in steps):
        return SAME
    if all(step >= 0 for step in steps):
        return RISES
    return FALLS if all(step <= 0 for step in steps) else NEITHER


def seen_from(
    values: Sequence[float | None], strengths: Sequence[float], error: float | None
) -> float | None:
    """The least strength from which on a metric is out of the floor's 95 % interval.

    Returns:
        None if there is none, or the floor's standard error is not known.
    """
    floor = values[0]
    if error is None or floor is None:
        return None
    found = None
    for value, strength in zip(reversed(values[1:]), reversed(strengths[1:]), strict=True):
        if value is None or abs(value - floor) <= CONFIDENCE_Z * error:
            break
        found = strength
    return found


def verdicts(record: dict[str, Any]) -> None:
    """Add to each disturbance what each metric did, and which did not do what was expected."""
    for row in record["disturbances"]:
        expected = EXPECTED[row["name"]]
        row["courses"] = {metric: course(values) for metric, values in row["metrics"].items()}
        row["seen_from"] = {
            metric: seen_from(
                values, record["strengths"], record["floor_standard_errors"].get(metric)
            )
            for metric, values in row["metrics"].items()
        }
        row["expected"] = {
            metric: wanted for metric, wanted in expected.items() if metric in row["metrics"]
        }
        row["unexpected"] = [
            metric for metric, wanted in row["expected"].items() if row["courses"][metric] != wanted
        ]


def report(record: dict[str, Any]) -> str:
    """The tables: the numbers of every set, and what they should have done and did."""
    extractor, settings, data = record["extractor"], record["settings"], record["data"]
    shown = {
        metric: column
        for metric, column in COLUMNS.items()
        if metric in record["disturbances"][0]["metrics"]
    }
    title = (
        f"{data['name']} at {settings['resolution']} pixels, {settings['samples']} real and as "
        f"many disturbed images of other patients; features: {extractor['name']} "
        f"{extractor['version']}, {extractor['dimension']} dimensions"
    )
    floor = record["disturbances"][0]["metrics"]
    errors = record["floor_standard_errors"]
    rows = [
        ["none (the floor)", "0", *_cells(floor, shown, 0)],
        [
            "  ± its standard error",
            "",
            *("" if errors.get(metric) is None else f"{errors[metric]:.2g}" for metric in shown),
        ],
    ]
    for row in record["disturbances"]:
        for place, strength in enumerate(record["strengths"][1:], 1):
            name = row["name"].replace("_", " ") if place == 1 else ""
            rows.append([name, f"{strength:g}", *_cells(row["metrics"], shown, place)])
    header = ["disturbance", "strength", *(heading for heading, _ in shown.values())]
    parts = [table(title, header, rows, left=1)]
    several = [row for row in record["disturbances"] if row["sets"] > 1]
    if several:
        names = ", ".join(row["name"].replace("_", " ") for row in several)
        parts.append(f"{names}: means over {several[0]['sets']} sets of each strength")
    parts.append(_verdict_table(record))
    for metric, reason in record["omitted"].items():
        where = "where it shows -" if metric in shown else "everywhere"
        heading = COLUMNS[metric][0] if metric in COLUMNS else all_metrics()[metric].title
        parts.append(f"{heading} is left out {where}: {reason}")
    return "\n\n".join(parts)


def _cells(
    metrics: dict[str, list[float | None]], shown: dict[str, tuple[str, str]], place: int
) -> list[str]:
    values = [(metrics[metric][place], text) for metric, (_, text) in shown.items()]
    return ["-" if value is None else text.format(value) for value, text in values]


def _verdict_table(record: dict[str, Any]) -> str:
    rows = []
    for row in record["disturbances"]:
        name = row["name"].replace("_", " ")
        for metric, wanted in row["expected"].items():
            found, seen = row["courses"][metric], row["seen_from"][metric]
            rows.append(
                [
                    name,
                    COLUMNS[metric][0],
                    wanted,
                    found if found == wanted else f"{found} (!)",
                    "" if seen is None else f"{seen:g}",
                ]
            )
            name = ""
    return table(
        "what each metric ought to do as the strength grows, what it did, and the strength from "
        "which on it is outside the floor's 95 % interval",
        ["disturbance", "metric", "expected", "found", "seen from"],
        rows,
        left=4,
    )

"""What the result of ``research.extractors`` says, in words and tables."""

from __future__ import annotations

import statistics
from typing import Any

from bench.tables import table
from research.disturbances_report import RISES, course, seen_from

VISIBLE = 0.5
"""The strength at which a person sees a disturbance."""

ASKED = {"participation_ratio": 30.0, "directions_90": 30.0, "probe_auc": 0.95}
"""The least that is asked of an extractor on held-out patients."""

_LABELS = "swapped_labels"  # all images together are the same whatever their labels
_CLEAN = {
    "dimension": ("dimensions", "{:d}"),
    "participation_ratio": ("participation ratio", "{:.1f}"),
    "directions_90": ("directions with 90 % of the variance", "{:d}"),
    "directions_99": ("directions with 99 % of the variance", "{:d}"),
    "between_classes": ("share of the variance between classes", "{:.2f}"),
    "probe_auc": ("AUC normal/pneumonia of a linear probe", "{:.3f}"),
}


def metric_of(kind: str) -> str:
    """Return the metric that is asked whether it rises with a disturbance."""
    return "class_fid" if kind == _LABELS else "fid"


def verdicts(record: dict[str, Any]) -> None:
    """Add to each extractor what it did of what is asked of it.

    ``judged`` has of each disturbance the course of the metric, how many standard deviations of the
    floor it lies over the floor's mean at `VISIBLE`, and the strength from which on it is outside
    the floor's 95 % interval. ``falls_short`` names what did not come out as asked.
    """
    strengths = record["strengths"]
    for found in record["extractors"].values():
        short = [name for name, least in ASKED.items() if found[name] < least]
        judged = {}
        for kind, values in found["disturbances"].items():
            metric = metric_of(kind)
            floors = found["floors"][metric]
            mean, deviation = statistics.fmean(floors), statistics.stdev(floors)
            over = (values[strengths.index(VISIBLE)] - mean) / deviation
            seen = seen_from([mean, *values[1:]], strengths, deviation)
            judged[kind] = {
                "metric": metric,
                "course": course(values),
                "deviations": over,
                "seen_from": seen,
            }
            if course(values) != RISES or over < 0 or seen is None or seen > VISIBLE:
                short.append(kind)
        found["judged"], found["falls_short"] = judged, short


def report(record: dict[str, Any]) -> str:
    """Return the tables: features, disturbances, noise."""
    extractors, settings = record["extractors"], record["settings"]
    head = [f"{name} {found['version']}" for name, found in extractors.items()]
    images = sum(settings["held_out_images"].values())
    parts = [
        table(
            f"{images} images of patients that cxr_ssl was not trained on, at "
            f"{settings['resolution']} pixels",
            ["features", *head],
            [
                *(
                    [title, *(text.format(found[name]) for found in extractors.values())]
                    for name, (title, text) in _CLEAN.items()
                ),
                [
                    "FID of other patients' images",
                    *(_spread(found["floors"]["fid"]) for found in extractors.values()),
                ],
            ],
            left=1,
        ),
        _disturbances(record),
        _noise(record),
    ]
    for name, found in extractors.items():
        short = ", ".join(each.replace("_", " ") for each in found["falls_short"]) or "nothing"
        parts.append(f"{name} falls short in: {short}")
    return "\n\n".join(parts)


def _spread(values: list[float]) -> str:
    return f"{statistics.fmean(values):.3g} ± {statistics.stdev(values):.2g}"


def _disturbances(record: dict[str, Any]) -> str:
    extractors, settings = record["extractors"], record["settings"]
    header = ["disturbance"]
    for name in extractors:
        header += [name, "deviations", "course", "seen from"]
    rows = []
    place = record["strengths"].index(VISIBLE)
    for kind in next(iter(extractors.values()))["disturbances"]:
        metric = metric_of(kind)
        row = [kind.replace("_", " ") + (" (class FID)" if metric != "fid" else "")]
        for found in extractors.values():
            judged = found["judged"][kind]
            seen = judged["seen_from"]
            row += [
                f"{found['disturbances'][kind][place]:.3g}",
                f"{judged['deviations']:.1f}",
                judged["course"] + ("" if judged["course"] == RISES else " (!)"),
                "never (!)" if seen is None else f"{seen:g}" + (" (!)" if seen > VISIBLE else ""),
            ]
        rows.append(row)
    return table(
        f"FID of {settings['samples']} real and as many disturbed images of other patients at "
        f"strength {VISIBLE:g}; standard deviations of the floor (of {settings['divisions'] + 1} "
        "divisions of the patients) that it lies over the floor's mean; its course over all "
        "strengths; and the strength from which on it is outside the floor's 95 % interval",
        header,
        rows,
        left=1,
    )


def _noise(record: dict[str, Any]) -> str:
    rows = []
    for through, found in record["noise_attacked_through"].items():
        for name in record["extractors"]:
            values = found[name]
            rows.append(
                [
                    through,
                    name,
                    f"{values['noise']:.3g}",
                    f"{values['after']:.3g}",
                    f"{values['real']:.3g}",
                ]
            )
    return table(
        f"FID of white noise, and of what {record['settings']['gradient_steps']} steps along the "
        "gradient of an extractor make of it, each image moved towards the features of a real one",
        ["gradient through", "judged by", "noise", "after", "real images"],
        rows,
        left=2,
    )

"""The measurements of ``research.compare_settings`` as text: for a terminal, and for a page."""

from __future__ import annotations

from typing import Any

from bench.tables import table_of
from research.compare_measurements import FEWEST_SEEDS
from research.compare_work import Record

TITLES = {
    "fid": "FID",
    "fid_over_floor": "FID / floor",
    "fid_less_floor": "FID - floor",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "nearest_neighbour": "1-NN",
    "near_copies": "near copies",
    "images_per_second": "images/s",
    "r_t": "r_t",
}
"""How numbers are shown, in the order of the tables."""

_OF_FEATURES = [name for name in TITLES if name not in ("near_copies", "images_per_second", "r_t")]
_ARM = [
    ("arm", "{name}"),
    ("seeds", "{seeds}"),
    ("FID", "{fid[mean]:.4g}"),
    ("SD", "{fid[deviation]:.2g}"),
    ("of halves", "{fid_at_floor[mean]:.4g}"),
    ("FID / floor", "{fid_over_floor[mean]:.2f}"),
    ("FID - floor", "{fid_less_floor[mean]:.3g}"),
    ("KID", "{kid[mean]:.3g}"),
    ("precision", "{precision[mean]:.3f}"),
    ("recall", "{recall[mean]:.3f}"),
    ("density", "{density[mean]:.3f}"),
    ("coverage", "{coverage[mean]:.3f}"),
    ("1-NN", "{nearest_neighbour[mean]:.3f}"),
]
_RUN = [
    ("arm", "{name}"),
    ("near copies", "{near_copies[mean]:.1f}"),
    ("r_t", "{r_t[mean]:.2f}"),
    ("images/s", "{images_per_second[mean]:.1f}"),
    ("steps", "{steps[mean]:.0f}"),
    ("minutes", "{minutes:.1f}"),
    ("networks", "{networks}"),
]
_DIFFERENCE = [
    ("arm", "{name}"),
    ("number", "{number}"),
    ("difference", "{mean:+.3g}"),
    ("95 % interval (t)", "{low:+.3g} to {high:+.3g}"),
    ("p (t)", "{p_t:.3f}"),
    ("better in", "{better} of {pairs}"),
    ("p (signs)", "{p_signs:.3f}"),
]


def report(record: Record) -> str:
    """Everything but the single seeds, as text for a terminal."""
    parts = [_heading(record), *_of(record, record["summary"])]
    confirmed = record["confirmation"]
    if confirmed is not None:
        parts.append(
            f"CONFIRMATION on new seeds: {confirmed['arm']!r}, which was chosen by the seeds above"
        )
        parts += _of(record, confirmed["summary"])
    return "\n\n".join(filter(None, parts))


def _heading(record: Record) -> str:
    study, key = record["study"], record["evaluation"]
    length = f"{study['steps']} steps" if study["steps"] else f"{study['minutes']:g} minutes"
    whole = "" if record["complete"] else f" (NOT complete: {record['wanted']} runs wanted)"
    images, halves = sum(key["images"].values()), sum(key["images_of_floor"].values())
    lines = [
        f"{record['data']}, {study['resolution']} pixels, {length} a run, {study['threads']} "
        f"thread(s) a run, {study['workers']} run(s) at a time, {record['device_name']}; "
        f"{len(record['runs'])} runs{whole}",
        f"FID: {images} generated against {images} training images; all else against halves of "
        f"these, {halves} of each kind, as the floor is",
    ]
    commits = sorted({str(run["commit"])[:8] for run in record["runs"]})
    if len(commits) > 1:
        lines.append(f"trained at several commits: {', '.join(commits)}")
    return "\n".join(lines)


def _of(record: Record, summary: Record) -> list[str]:
    """The tables of one summary, the features that decide first."""
    parts = []
    for features in record["evaluation"]["features"]:
        name = features["name"]
        rows = [
            {"name": arm, "seeds": len(found["seeds"]), **found["numbers"][name]}
            for arm, found in summary["arms"].items()
            if found["numbers"]
        ]
        floor = {k: {"mean": value} for k, value in record["floors"][name].items()}
        floor["fid_at_floor"] = floor.pop("fid")
        rows.append({"name": f"floor, {sum(record['evaluation']['images_of_floor'].values())}",
                     "seeds": "", **{**floor, "fid_over_floor": {"mean": 1.0}}})  # fmt: skip
        parts.append(table_of(f"features {name}: mean over seeds", _ARM, rows, left=1))
        parts.append(_differences(record, summary, name, _OF_FEATURES))
    parts.append(table_of("of the runs: mean over seeds", _RUN, _runs(record, summary), left=1))
    parts.append(_differences(record, summary, "run", ["near_copies", "images_per_second"]))
    failed = [
        f"{arm}, seed {seed}: {reason}"
        for arm, found in summary["arms"].items()
        for seed, reason in found["failed"].items()
    ]
    return [*parts, "\n".join(["failed:", *failed]) if failed else ""]


def _differences(record: Record, summary: Record, kind: str, names: list[str]) -> str:
    rows = []
    for arm, found in summary["differences"].items():
        for name in names:
            if name in found.get(kind, {}):
                each = found[kind][name]
                low, high = each["interval_95"] or (None, None)
                shown = TITLES[name] + (", from 0.5" if name == "nearest_neighbour" else "")
                rows.append({"name": arm, "number": shown, **each, "low": low, "high": high})
    first = next(iter(summary["arms"]))
    of = "of the runs" if kind == "run" else kind
    title = f"{of}: less {first!r} of the same seed; p not corrected for several arms"
    if rows and max(row["pairs"] for row in rows) < FEWEST_SEEDS:
        title += f"; signs need {FEWEST_SEEDS} seeds for p < 0.05"
    return table_of(title, _DIFFERENCE, rows, left=2)


def _runs(record: Record, summary: Record) -> list[dict[str, Any]]:
    rows = []
    of_arm = {run["arm"]: run for run in record["runs"] if run["failed"] is None}
    first = of_arm.get(next(iter(summary["arms"])), {}).get("parameters")
    for arm, found in summary["arms"].items():
        if not found["numbers"]:
            continue
        of_run = found["numbers"]["run"]
        same = of_arm[arm]["parameters"] == first
        rows.append({"name": arm, **of_run, "minutes": of_run["seconds"]["mean"] / 60,
                     "networks": "of equal size" if same else "of another size"})  # fmt: skip
    return rows

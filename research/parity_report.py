"""The figures of ``research.parity`` as text: for a terminal, and for a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from bench.report import table
from research.parity_figures import MAIN, METRICS, TESTS, Figures
from research.parity_training import REFERENCE

NAMES = {MAIN: "FID", "kid": "KID", "nearest_neighbour": "1-NN"}
"""How metrics are shown."""


def report(record: Figures) -> str:
    """Everything but the single seeds, as text for a terminal."""
    compared = record["comparisons"]
    parts = [
        heading(record),
        _variant_table(record),
        _difference_table(compared),
        _equivalence_table(compared),
        _reach_table(record),
    ]
    return "\n\n".join(filter(None, parts))


def heading(record: Figures) -> str:
    """What the numbers are of."""
    training, key = record["settings"]["training"], record["evaluation"]
    seeds = len(record["variants"][REFERENCE]["seeds"])
    whole = "" if record["complete"] else f" (NOT complete: {record['wanted_seeds']} wanted)"
    images, device = sum(key["images"].values()), record["settings"]["device"]
    if record["device"] == "cpu":
        device = f"CPU, {record['settings']['threads']} threads"
    return (
        f"{_versions(record)}"
        f"{record['data']}, {training['resolution']} pixels, batch {training['batch_size']}, "
        f"{record['settings']['steps']} steps, {seeds} seeds{whole}; {device}\n"
        f"features {key['features']} ({key['dimension']} dimensions, version {key['version']}), "
        f"{images} generated and {images} real images"
    )


def _versions(record: Figures) -> str:
    """A line where not all was trained and put together by one version of the program."""
    trained = {run.get("commit") for runs in record.get("runs", {}).values() for run in runs}
    known = sorted(commit[:8] for commit in trained if commit)
    if len(trained) < 2 and trained <= {record.get("commit")}:
        return ""
    return f"trained at {', '.join(known)}, put together at {str(record.get('commit'))[:8]}\n"


def _variant_table(record: Figures) -> str:
    rows = [
        [
            name,
            *_with_deviation(figures),
            f"{figures['images_per_second']['median']:.1f}",
            f"{figures['times_reference']:.2f}",
        ]
        for name, figures in record["variants"].items()
    ]
    floor = record["floor"]
    rows.append([f"real, {floor['images']} and as many", *_with_deviation(floor), "-", "-"])
    header = ["variant", *(f"{NAMES[metric]}{sd}" for metric in METRICS for sd in ("", " SD"))]
    title = "mean and standard deviation over seeds; of real images over divisions by patient"
    return table(title, [*header, "images/s", "times reference"], rows, left=1)


def _with_deviation(figures: Figures) -> list[str]:
    return [number(figures[metric][part]) for metric in METRICS for part in ("mean", "deviation")]


def _difference_table(compared: Mapping[str, Figures]) -> str:
    rows = [
        [
            name,
            test,
            NAMES[metric],
            f"{difference['value']:+.4g}",
            f"{difference['share']:+.1%}",
            _interval(difference["interval_90"]),
            _interval(difference["interval_95"]),
        ]
        for name, figures in compared.items()
        for test in TESTS
        for metric, difference in figures[test]["differences"].items()
    ]
    header = ["variant", "test", "metric", "difference", "of the mean"]
    header += ["90 % interval", "95 % interval"]
    together = ", ".join(
        f"{name} {figures['correlation']:.2f}"
        for name, figures in compared.items()
        if "correlation" in figures
    )
    title = "difference to the reference: of two samples (Welch), and of the pairs of one seed"
    if together:
        title += f"\n(correlation of the FIDs of one seed: {together})"
    return table(title, header, rows, left=3)


def _equivalence_table(compared: Mapping[str, Figures]) -> str:
    rows = [
        [
            name,
            test,
            row["what"],
            number(row["margin"]),
            f"{row['p_not_worse']:.3f}",
            f"{row['p_equivalent']:.3f}",
            row["verdict"],
            f"{row['power']:.0%}",
            f"{row['smallest_margin']:.4g} ({row['smallest_share']:.0%})",
            str(row["seeds_needed"] or "over 1000"),
        ]
        for name, figures in compared.items()
        for test in TESTS
        for row in figures[test].get("equivalence", [])
    ]
    header = ["variant", "test", "margin", "is", "p not worse", "p equivalent", "FID is", "power"]
    header += ["margin for 80 %", "seeds for 80 %"]
    title = (
        "equivalence in FID (TOST, 5 %); power: how likely so many seeds show it if there is no "
        "difference"
    )
    return table(title, header, rows, left=3)


def _reach_table(record: Figures) -> str:
    reach = record["reach"]
    if not reach:
        return ""
    rows = []
    for name, figures in reach["variants"].items():
        mean, seeds = figures["mean"], figures["seeds"]
        reached = [each["seconds"] for each in seeds if each]
        rows.append(
            [
                name,
                f"{mean['seconds']:.1f}" if mean else "not reached",
                f"{figures['times_sooner']:.2f}" if "times_sooner" in figures else "-",
                f"{mean['images']:.0f}" if mean else "-",
                f"{len(reached)} of {len(seeds)}",
                f"{statistics.median(reached):.1f}" if reached else "-",
            ]
        )
    header = ["variant", "seconds", "times sooner", "images", "seeds that come to it"]
    title = f"until the mean FID is the reference's last, {reach['target']:.4g}"
    return table(title, [*header, "their median s"], rows, left=1)


def _interval(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:+.4g} to {bounds[1]:+.4g}"


def number(value: Any) -> str:
    """Four digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"

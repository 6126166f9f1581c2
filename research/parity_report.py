"""The measurements of ``research.parity`` as text: for a terminal, and for a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from bench.tables import table_of
from research.parity_measurements import MAIN, METRICS, TESTS, Measurements
from research.parity_training import REFERENCE

NAMES = {MAIN: "FID", "kid": "KID", "nearest_neighbour": "1-NN"}
"""How metrics are shown."""


def report(record: Measurements) -> str:
    """Everything but the single seeds, as text for a terminal."""
    compared = record["comparisons"]
    title = "mean and standard deviation over seeds; of real images over divisions by patient"
    parts = [
        heading(record),
        table_of(title, VARIANT, _variants(record), left=1),
        table_of(_difference_title(compared), DIFFERENCE, _differences(compared), left=3),
        table_of(EQUIVALENCE_TITLE, EQUIVALENCE, _equivalences(compared), left=3),
        _reach_table(record["reach"]),
    ]
    return "\n\n".join(filter(None, parts))


def heading(record: Measurements) -> str:
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


def _versions(record: Measurements) -> str:
    """A line where not all was trained and put together by one version of the program."""
    trained = {run.get("commit") for runs in record.get("runs", {}).values() for run in runs}
    known = sorted(commit[:8] for commit in trained if commit)
    if len(trained) < 2 and trained <= {record.get("commit")}:
        return ""
    return f"trained at {', '.join(known)}, put together at {str(record.get('commit'))[:8]}\n"


def _variants(record: Measurements) -> list[Measurements]:
    rows = [{"name": name, **measurements} for name, measurements in record["variants"].items()]
    floor = record["floor"]
    return [*rows, {"name": f"real, {floor['images']} and as many", **floor}]


VARIANT = [
    ("variant", "{name}"),
    *(
        (f"{NAMES[metric]}{suffix}", f"{{{metric}[{part}]:.4g}}")
        for metric in METRICS
        for suffix, part in (("", "mean"), (" SD", "deviation"))
    ),
    ("images/s", "{images_per_second[median]:.1f}"),
    ("times reference", "{times_reference:.2f}"),
]


def _differences(compared: Mapping[str, Measurements]) -> list[Measurements]:
    return [
        {"name": name, "test": test, "metric": NAMES[metric], **difference}
        for name, measurements in compared.items()
        for test in TESTS
        for metric, difference in measurements[test]["differences"].items()
    ]


DIFFERENCE = [
    ("variant", "{name}"),
    ("test", "{test}"),
    ("metric", "{metric}"),
    ("difference", "{value:+.4g}"),
    ("of the mean", "{share:+.1%}"),
    ("90 % interval", "{interval_90[0]:+.4g} to {interval_90[1]:+.4g}"),
    ("95 % interval", "{interval_95[0]:+.4g} to {interval_95[1]:+.4g}"),
]


def _difference_title(compared: Mapping[str, Measurements]) -> str:
    together = ", ".join(
        f"{name} {measurements['correlation']:.2f}"
        for name, measurements in compared.items()
        if "correlation" in measurements
    )
    title = "difference to the reference: of two samples (Welch), and of the pairs of one seed"
    return title + (f"\n(correlation of the FIDs of one seed: {together})" if together else "")


def _equivalences(compared: Mapping[str, Measurements]) -> list[Measurements]:
    return [
        {"name": name, "test": test, **row, "seeds": row["seeds_needed"] or "over 1000"}
        for name, measurements in compared.items()
        for test in TESTS
        for row in measurements[test].get("equivalence", [])
    ]


EQUIVALENCE = [
    ("variant", "{name}"),
    ("test", "{test}"),
    ("margin", "{what}"),
    ("is", "{margin:.4g}"),
    ("p not worse", "{p_not_worse:.3f}"),
    ("p equivalent", "{p_equivalent:.3f}"),
    ("FID is", "{verdict}"),
    ("power", "{power:.0%}"),
    ("margin for 80 %", "{smallest_margin:.4g} ({smallest_share:.0%})"),
    ("seeds for 80 %", "{seeds}"),
]
EQUIVALENCE_TITLE = (
    "equivalence in FID (TOST, 5 %); power: how likely so many seeds show it if there is no "
    "difference"
)


def _reach_table(reach: Measurements) -> str:
    if not reach:
        return ""
    rows = []
    for name, measurements in reach["variants"].items():
        mean = measurements["mean"]
        reached = [each["seconds"] for each in measurements["seeds"] if each]
        rows.append(
            {
                "name": name,
                **measurements,
                "seconds": f"{mean['seconds']:.1f}" if mean else "not reached",
                "reached": f"{len(reached)} of {len(measurements['seeds'])}",
                "median": statistics.median(reached) if reached else None,
            }
        )
    title = f"until the mean FID is the reference's last, {reach['target']:.4g}"
    return table_of(title, REACH, rows, left=1)


REACH = [
    ("variant", "{name}"),
    ("seconds", "{seconds}"),
    ("times sooner", "{times_sooner:.2f}"),
    ("images", "{mean[images]:.0f}"),
    ("seeds that come to it", "{reached}"),
    ("their median s", "{median:.1f}"),
]

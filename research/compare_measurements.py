"""From runs to what is said of arms: means, and differences to the first arm within seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cxrgan_fast.metrics.metric import all_metrics
from cxrgan_fast.studies.differences import paired_difference
from research.compare_evaluation import numbers_of
from research.compare_work import Record

FEWEST_SEEDS = 6  # with fewer, signs alone cannot come to p < 0.05
_DERIVED: dict[str, str | float | None] = {
    "fid_at_floor": "lower",
    "fid_over_floor": "lower",
    "fid_less_floor": "lower",
}
_OF_A_RUN: dict[str, str | float | None] = {
    "near_copies": "lower",
    "images_per_second": "higher",
    "r_t": None,
    "steps": None,
    "seconds": None,
}


def better(name: str) -> str | float | None:
    """Which way a number is better: "lower", "higher", the best value, or None for neither."""
    if name in _OF_A_RUN:
        return _OF_A_RUN[name]
    return _DERIVED[name] if name in _DERIVED else all_metrics()[name].better


def numbers(run: Record, floors: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """All numbers of a run that is done: those of its features by their name, others by "run"."""
    evaluation = run["evaluation"]
    of_run = {name: run[name] for name in _OF_A_RUN if run.get(name) is not None}
    if evaluation["near_copies"] is not None:
        of_run["near_copies"] = evaluation["near_copies"]["found"]
    return {**numbers_of(evaluation, floors), "run": of_run}


def summarize(
    runs: Sequence[Record], floors: Mapping[str, Mapping[str, float]], arms: Sequence[str]
) -> Record:
    """Summarize what there is of some arms, the first of which the others are compared with.

    Args:
        runs: each with ``arm``, ``seed``, ``failed`` and, where that is None, ``evaluation``.
        floors: as `Judge.floors`.
        arms: names, in the order of the tables.

    Returns:
        ``arms``: of each its ``seeds``, ``failed`` (reasons by seed) and ``numbers``: by kind and
        name ``values``, ``mean`` and ``deviation``. ``differences``: of each other arm, by kind and
        name, as `paired_difference` gives it, over the seeds of which both are done.
    """
    done: dict[str, dict[int, dict[str, dict[str, float]]]] = {name: {} for name in arms}
    failed: dict[str, dict[str, str]] = {name: {} for name in arms}
    for run in runs:
        if run["arm"] not in done:
            continue
        if run["failed"] is not None:
            failed[run["arm"]][str(run["seed"])] = run["failed"]
        else:
            done[run["arm"]][run["seed"]] = numbers(run, floors)
    first = done[arms[0]]
    return {
        "arms": {
            name: {
                "seeds": sorted(done[name]),
                "failed": failed[name],
                "numbers": _means([done[name][seed] for seed in sorted(done[name])]),
            }
            for name in arms
        },
        "differences": {
            name: _differences(
                [(done[name][seed], first[seed]) for seed in sorted(done[name]) if seed in first]
            )
            for name in arms[1:]
        },
    }


def _means(of_seeds: Sequence[dict[str, dict[str, float]]]) -> Record:
    found: Record = {}
    for kind in of_seeds[0] if of_seeds else ():
        for name in of_seeds[0][kind]:
            values = [each[kind][name] for each in of_seeds if name in each[kind]]
            found.setdefault(kind, {})[name] = {
                "values": values,
                "mean": statistics.fmean(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
            }
    return found


def _differences(pairs: Sequence[tuple[Any, Any]]) -> Record:
    found: Record = {}
    for kind in pairs[0][0] if pairs else ():
        for name in pairs[0][0][kind]:
            both = [
                (arm[kind][name], first[kind][name])
                for arm, first in pairs
                if name in arm[kind] and name in first[kind]
            ]
            if both and better(name) is not None:
                found.setdefault(kind, {})[name] = paired_difference(both, better(name))
    return found


def best_arm(summary: Record, arms: Sequence[str], features: str) -> str | None:
    """The arm whose FID is lowest beside the first arm's, by the features that decide.

    None where no arm is better than the first. An arm with a failed run is not taken.
    """
    means = {
        name: summary["differences"][name][features]["fid"]["mean"]
        for name in arms[1:]
        if features in summary["differences"][name] and not summary["arms"][name]["failed"]
    }
    best = min(means, key=means.__getitem__, default=None)
    return best if best is not None and means[best] < 0 else None

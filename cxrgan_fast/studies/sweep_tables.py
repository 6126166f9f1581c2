"""The tables and sentences of a sweep's report, of the plain values that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cxrgan_fast.studies.effects import BLOCK, LEVEL, shown_value

BEST = 10
"""Trials of the table of the best ones; the default is one more."""

_DASH = "-"
_GIB = 2**30


def lines(record: Mapping[str, Any]) -> list[str]:
    """Say in a few sentences what a sweep has found.

    Args:
        record: as `sweep_summary.summarize` gives it.
    """
    counts = record["counts"]
    found = [
        f"{counts['finished']} trials have run to the end, {counts['pruned']} were pruned, "
        f"{counts['failed']} failed, {counts['running']} are running; "
        f"{record['hours']:.3g} hours of training in all"
    ]
    trials = {trial["number"]: trial for trial in record["trials"]}
    best, default = trials.get(record["best"]), trials.get(record["default"])
    if best is None:
        return [*found, "no trial has run to the end, so that there is no best one"]
    line = f"best: trial {best['number']}, FID / floor {best['ratio']:.4g}"
    if default is not None and default["ratio"] is not None:
        line += f"; default: trial {default['number']}, {default['ratio']:.4g}"
    found.append(line)
    if record["luck"] is not None:
        found.append(_luck(record["luck"]))
    elif best is not default:
        found.append(
            "the best of several trials looks better than it is: sweep --confirm runs it and the "
            "default again on new seeds"
        )
    shown = [row for row in record["parameters"] if row["shown"]]
    found += [f"{row['name']}: {row['words']}" for row in shown]
    rest = [row["name"] for row in record["parameters"] if not row["shown"]]
    if rest:
        found.append(f"no difference shown: {', '.join(rest)}")
    if record["confirmation"] is not None:
        found.append(f"confirmation of trial {record['confirmation']['trial']}: "
                     f"{record['confirmation']['words']}")  # fmt: skip
    return found


def _luck(luck: Mapping[str, Any]) -> str:
    line = (
        f"the default's log(FID / floor) has a standard deviation of {luck['deviation']:.2g} over "
        f"seeds: the best of {luck['finished']} trials as good as the default would be "
        f"{luck['by_luck']:.2g} below their mean by luck alone"
    )
    if luck["below"] is not None:
        line += f", and the best one is {luck['below']:.2g} below the default"
    return line


def setting_rows(record: Mapping[str, Any]) -> list[list[str]]:
    """Lay out what the trials show of each setting, in the columns of the report."""
    rows = []
    for row in record["parameters"]:
        importance = row["importance"] or {}
        best = None if row["best"] is None else row["groups"][row["best"]]
        rows.append([
            row["name"],
            _cell(row["default"]),
            str(row["trials"]),
            _form(importance.get("share"), ".2f"),
            _interval(importance.get("interval"), ".2f"),
            _form(importance.get("by_chance"), ".2f"),
            _form(row["p"], ".3g"),
            _form(row["adjusted"], ".3g"),
            _DASH if best is None else f"{best['text']} ({best['median_ratio']:.3g})",
            row["words"],
        ])  # fmt: skip
    return rows


def note(record: Mapping[str, Any]) -> str:
    """Say how the table of settings is to be read."""
    random = record["settings"].get("sampler") == "random"
    compared = (
        "all trials" if random else
        f"trials that are neighbors in time ({BLOCK} at a time), for the sampler goes where trials "
        "were good: over the whole sweep settings that do nothing go with the objective as well"
    )  # fmt: skip
    return (
        "Importance is the share of what settings explain alone in a random forest (fANOVA). Its "
        "95 % interval is of the mean share in random sweeps of as many trials (by leaving a third "
        "out); few trials favor the strongest setting. By chance is the mean share where the "
        "objective is shuffled, which is not the same for all, since they sum to 1. p "
        "is of the hypothesis that the setting does nothing, by shuffles among "
        f"{compared}. A difference is shown where p for all settings together (Holm) is below "
        f"{LEVEL}. Pruned trials count by their rank where they were stopped, diverged ones as the "
        "worst. The lowest median is that of the trials with these values, in FID / floor."
    )


def best_rows(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Lay out the best trials and the default with all that was measured.

    Returns:
        The headings and the rows.
    """
    finished = sorted((trial for trial in record["trials"] if trial["ratio"] is not None),
                      key=lambda trial: trial["ratio"])  # fmt: skip
    chosen = finished[:BEST] + [trial for trial in finished[BEST:] if trial["default"]]
    measured = [_measured(trial) for trial in chosen]
    names = list(dict.fromkeys(name for each in measured for name in each))
    parameters = [row["name"] for row in record["parameters"]]
    header = ["trial", "FID / floor", *names, *parameters]
    rows = [
        [
            f"{trial['number']}{' (default)' if trial['default'] else ''}",
            _form(trial["ratio"], ".4g"),
            *(each.get(name, _DASH) for name in names),
            *(_cell(trial["parameters"].get(name)) for name in parameters),
        ]
        for trial, each in zip(chosen, measured, strict=True)
    ]
    return header, rows


def _measured(trial: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for features, numbers in (trial.get("measurements") or {}).items():
        for name, value in numbers.items():
            if name != "classes":
                found[f"{features} {name}"] = _form(value, ".4g")
        for class_name, of_class in (numbers.get("classes") or {}).items():
            for name, value in of_class.items():
                found[f"{features} {class_name} {name}"] = _form(value, ".4g")
    for name, form in (("seconds", ".0f"), ("images_per_second", ".1f"), ("r_t", ".2f"),
                       ("steps", ".0f"), ("seed", "d")):  # fmt: skip
        if trial.get(name) is not None:
            found[name] = _form(trial[name], form)
    if trial.get("peak_memory") is not None:
        found["peak GiB"] = _form(trial["peak_memory"] / _GIB, ".2f")
    if trial.get("commit"):
        found["commit"] = str(trial["commit"])[:8]
    return found


def difference_rows(confirmation: Mapping[str, Any]) -> list[list[str]]:
    """Lay out the differences of a confirmation, in the columns of the report."""
    return [
        [
            name,
            _form(found["mean"], "+.3g"),
            _interval(found["interval_95"], "+.3g"),
            _form(found["p_t"], ".3g"),
            f"{found['better']} of {found['pairs']}",
            _form(found["p_signs"], ".3g"),
        ]
        for name, found in confirmation["differences"].items()
    ]


def _form(value: Any, form: str) -> str:
    return _DASH if value is None else format(value, form)


def _interval(ends: Sequence[float | None] | None, form: str) -> str:
    if ends is None:
        return _DASH
    return " to ".join(_form(end, form) for end in ends)


def _cell(value: Any) -> str:
    return _DASH if value is None else shown_value(value)

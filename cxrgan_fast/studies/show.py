"""What a study says: a list of studies, a table of trials, the best settings, and CSV."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config_file import EVERY_SETTING
from cxrgan_fast.studies.ownership import WORKER
from cxrgan_fast.studies.pruning import (
    FIRST,
    LEAST_RHO,
    LEAST_SHARE,
    prunes,
    rank_correlations,
)
from cxrgan_fast.studies.record import MEASUREMENTS, REASON, completed, failed
from cxrgan_fast.studies.space import GIVEN
from cxrgan_fast.studies.study import SETTINGS, SPACE

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

CONFIG = "config"
"""Attribute of a trial: its complete settings as YAML."""

_SHOWN = 10  # trials of the table
_LONG = (CONFIG, WORKER)  # attributes that are no numbers of a table


def describe_studies(found: Iterable[tuple[str, Study]]) -> str:
    """Format a line for each of some studies, with where it is kept."""
    lines = []
    for where, study in found:
        best = _ordered(study)[:1]
        shown = f"lowest FID {_fid(best[0]):.4g}" if best else "no trial has run to the end"
        lines.append(f"{study.study_name}: {_counts(study)}; {shown} ({where})")
    return "\n".join(lines) or "there are no studies"


def _counts(study: Study) -> str:
    trials = study.get_trials(deepcopy=False)
    counts = Counter("failed" if failed(trial) else trial.state.name.lower() for trial in trials)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def describe_study(study: Study) -> str:
    """Format a study for people: what is fixed, its best trials, failures, and what prunes."""
    settings: Mapping[str, Any] = study.user_attrs[SETTINGS]
    fixed = ", ".join(
        f"{name} {value}"
        for name, value in settings.items()
        if name not in ("train", "fingerprint") and value is not None
    )
    lines = [
        f"{study.study_name}: {_counts(study)}",
        f"fixed: {fixed}",
        f"varied: {', '.join(study.user_attrs[SPACE])}",
        "",
        *_table(_ordered(study)[:_SHOWN]),
        "",
        *_failures(study),
        _pruning(study),
    ]
    return "\n".join(lines)


def _ordered(study: Study) -> list[FrozenTrial]:
    return sorted(completed(study), key=lambda trial: trial.values)


def _decisive(trial: FrozenTrial) -> Mapping[str, Any]:
    measured: Mapping[str, Mapping[str, Any]] = trial.user_attrs[MEASUREMENTS]
    return next(iter(measured.values()))


def _fid(trial: FrozenTrial) -> float:
    return float(_decisive(trial)["fid"])


def _table(trials: list[FrozenTrial]) -> list[str]:
    if not trials:
        return ["no trial has run to the end yet"]
    rows = [["trial", "FID", "÷ floor", "recall", "images/s", "seconds", "settings"]]
    for trial in trials:
        measured, attributes = _decisive(trial), trial.user_attrs
        rows.append(
            [
                f"{trial.number}{' (default)' if attributes.get('default') else ''}",
                f"{measured['fid']:.4g}",
                f"{measured['fid'] / measured['floor']:.3g}",
                f"{measured['recall']:.3f}",
                f"{attributes['images_per_second']:.0f}",
                f"{attributes['seconds']:.0f}",
                " ".join(f"{name}={_short(value)}" for name, value in trial.params.items()),
            ]
        )
    widths = [max(map(len, column)) for column in itertools.islice(zip(*rows, strict=True), 6)]
    return [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _failures(study: Study) -> list[str]:
    return [
        f"trial {trial.number} failed: {trial.user_attrs.get(REASON, 'no reason is known')}"
        for trial in study.get_trials(deepcopy=False)
        if failed(trial)
    ]


def _pruning(study: Study) -> str:
    if not prunes(study):
        return "pruning: none, for Optuna prunes no study of two objectives"
    found = rank_correlations(study)
    shown = ", ".join(
        f"{float(name):.0%} of the budget {'-' if rho is None else f'{rho:.2f}'}"
        for name, rho in found.items()
        if name != "trials"
    )
    return (
        f"pruning: Spearman's ρ with the final FID over {found['trials']} trials: {shown}; after "
        f"{FIRST} trials, a rung of {LEAST_RHO} or more prunes, not before {LEAST_SHARE:.0%}"
    )


def best_config(study: Study) -> str:
    """Write the settings of the trial of lowest FID as YAML that ``train --config`` takes.

    What the sweep gives itself (data, seed, length, folders) is left out.

    Raises:
        UserError: no trial has run to the end.
    """
    ordered = _ordered(study)
    if not ordered:
        raise UserError(
            f"no trial of {study.study_name} has run to the end yet ({_counts(study) or 'none'}), "
            "so that there is no best one; --show tells more"
        )
    best = ordered[0]
    measured = _decisive(best)
    given = {*GIVEN} - {"preset"}
    config = yaml.safe_load(best.user_attrs[CONFIG])

    def kept(group: Mapping[str, Any]) -> dict[str, Any]:
        found = {
            name: kept(value) if isinstance(value, Mapping) else value
            for name, value in group.items()
            if name not in given
            and not (name in EVERY_SETTING and EVERY_SETTING[name].setting.resumable)
        }
        return {name: value for name, value in found.items() if value != {}}

    return (
        f"# Trial {best.number} of the sweep {study.study_name}: FID {measured['fid']:.4g}, "
        f"{measured['fid'] / measured['floor']:.3g} times the floor.\n"
        + yaml.safe_dump(kept(config), sort_keys=False)
    )


def to_csv(study: Study) -> str:
    """Write a line for each trial as CSV: state, values, settings and every number kept of it."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        values = {} if trial.values is None else {f"value_{n}": v for n, v in
                                                  enumerate(trial.values)}  # fmt: skip
        rows.append(
            {
                "trial": trial.number,
                "state": "FAIL" if failed(trial) else trial.state.name,
                **values,
                **{f"param_{name}": value for name, value in trial.params.items()},
                **dict(_flat(trial.user_attrs)),
            }
        )
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(attributes: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in attributes.items():
        if name in _LONG:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}_")
        else:
            yield f"{before}{name}", value

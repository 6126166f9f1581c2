"""What became of the trials of a sweep: one record a trial, as the report reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cxrgan_fast.studies.record import DEFAULT, MEASUREMENTS, REASON, RUNGS, failed

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

FINISHED, PRUNED, FAILED, RUNNING = "finished", "pruned", "failed", "running"
"""States of a trial. One whose settings made it fail is FAILED, however the sampler was told."""

LAST_RUNG = "1.0"

_NO_REASON = "no reason was kept"


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        number: the trial's number in its study.
        state: `FINISHED`, `PRUNED`, `FAILED` or `RUNNING`.
        parameters: values that were drawn for it; one that would do nothing is not drawn.
        distributions: what each value was drawn from.
        value: log(FID / floor) at the end; None unless the trial is finished.
        seconds: seconds of training; for a trial that has kept none, the time from its start to its
            end; None while it runs.
        reached: seconds of training to its FID, for a finished trial: the second objective where
            there are two, else the seconds of the whole training.
        is_default: whether its settings are the default.
        by_settings: whether it failed because of its settings, as one that diverges does.
        reason: why it failed; empty for all others.
        ended: when it ended; None while it runs.
        kept: everything that the trial has kept of itself, by name.
    """

    number: int
    state: str
    parameters: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    value: float | None
    seconds: float | None
    reached: float | None
    is_default: bool
    by_settings: bool
    reason: str
    ended: datetime | None
    kept: Mapping[str, Any]

    @property
    def ratio(self) -> float | None:
        """Return FID / floor at the end; None unless the trial is finished."""
        return None if self.value is None else math.exp(self.value)

    @property
    def rungs(self) -> Mapping[str, float]:
        """Return FID by the share of the budget, in the order of the shares."""
        rungs = self.kept.get(RUNGS) or {}
        return dict(sorted(rungs.items(), key=lambda item: float(item[0])))

    @property
    def measurements(self) -> Mapping[str, Any]:
        """Return numbers of the whole run by the features' name; the first of them decide."""
        return self.kept.get(MEASUREMENTS) or {}


def outcomes_of(study: Study) -> list[Outcome]:
    """Return what became of each trial of a sweep, by number. Trials that wait are left out."""
    trials = study.get_trials(deepcopy=False)
    return [_outcome(trial) for trial in trials if trial.state.name != "WAITING"]


def _outcome(trial: FrozenTrial) -> Outcome:
    kept, values = trial.user_attrs, trial.values or []
    whole = bool(values) and all(map(math.isfinite, values))
    if not trial.state.is_finished():
        state = RUNNING
    elif failed(trial):
        state = FAILED
    elif trial.state.name == "PRUNED":
        state = PRUNED
    else:
        state = FINISHED if whole else FAILED
    seconds = kept.get("seconds")
    if seconds is None and trial.duration is not None:
        seconds = trial.duration.total_seconds()
    return Outcome(
        number=trial.number,
        state=state,
        parameters=trial.params,
        distributions=trial.distributions,
        value=values[0] if state == FINISHED else None,
        seconds=seconds,
        reached=None if state != FINISHED else values[1] if len(values) > 1 else seconds,
        is_default=kept.get(DEFAULT) is True,
        by_settings=state == FAILED and trial.state.name != "FAIL",
        reason=str(kept.get(REASON) or _NO_REASON) if state == FAILED else "",
        ended=trial.datetime_complete,
        kept=kept,
    )


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the finished trial of the lowest FID, the first of equal ones; None without any."""
    finished = [each for each in outcomes if each.value is not None]
    return min(finished, key=lambda each: each.value or 0.0, default=None)


def default_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the trial of the default settings; None where there is none."""
    return next((each for each in outcomes if each.is_default), None)


def values_for_comparison(outcomes: Sequence[Outcome]) -> dict[int, float]:
    """Return log(FID / floor) of every trial whose settings have been judged, by number.

    Left out, the trials that were pruned or diverged would make their settings look untried. A
    pruned trial counts with the value of the finished trial whose FID was nearest to its own where
    it was stopped, since its rank there has been shown to last; one that failed because of its
    settings counts with the worst value. Trials that broke for other reasons are left out.
    """
    finished = {each.number: each.value for each in outcomes if each.value is not None}
    if not finished:
        return {}
    found, worst = dict(finished), max(finished.values())
    for each in outcomes:
        if each.by_settings:
            found[each.number] = worst
        elif each.state == PRUNED and any(fid > 0 for fid in each.rungs.values()):
            rung, fid = [item for item in each.rungs.items() if item[1] > 0][-1]
            others = [(abs(math.log(other.rungs[rung] / fid)), other.number)
                      for other in outcomes
                      if other.number in finished and other.rungs.get(rung)]  # fmt: skip
            if others:
                found[each.number] = finished[min(others)[1]]
    return dict(sorted(found.items()))

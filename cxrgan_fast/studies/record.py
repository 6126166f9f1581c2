"""What a study keeps of each trial: the names of its attributes, and how a trial is told.

A trial that has run to the end is COMPLETE, and its values are log(FID / floor) and, of the
objective ``fid,seconds``, the seconds. One that was stopped since others were better is PRUNED.
One that failed has a ``reason``: where its settings are at fault (it diverged, or its memory does
not suffice) it is PRUNED without a value, which TPE takes for the worst of all; FAIL, of which no
sampler learns, is one whose program broke.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cxrgan_fast.studies.library import load_optuna

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

REASON = "reason"
"""Why a trial failed; no other trial has it."""
DEFAULT = "default"
"""True of trial 0, whose settings are the default."""
RUNGS = "rungs"
"""FID by the share of the budget, "0.1" to "1.0", of the features that decide."""
MEASUREMENTS = "measurements"
"""Numbers of the whole run by the features' name, each with those of each class."""

Record = dict[str, Any]


def objective_values(
    objective: str, measured: Mapping[str, float], seconds: float
) -> tuple[float, ...]:
    """Return what a trial is told with.

    Args:
        objective: one of `cxrgan_fast.studies.study.OBJECTIVES`.
        measured: ``fid`` and its ``floor`` of the features that decide, of equal numbers of images.
        seconds: how long the training took to come to about its own FID.
    """
    tiny = 1e-12  # FID of two equal sets is 0
    value = math.log(max(measured["fid"], tiny) / max(measured["floor"], tiny))
    return (value, seconds) if objective == "fid,seconds" else (value,)


def keep_record(study: Study, trial_id: int, record: Mapping[str, Any]) -> None:
    """Keep attributes of a trial that is running, as plain values for JSON."""
    # Through the storage: a study has no public way to a trial that it has not asked for itself.
    for name, value in record.items():
        study._storage.set_trial_user_attr(trial_id, name, value)


def tell_complete(study: Study, number: int, values: Sequence[float]) -> None:
    """Tell the study the values of a trial that has run to the end."""
    study.tell(number, list(values), skip_if_finished=True)


def tell_pruned(study: Study, trial: FrozenTrial, share: float, value: float) -> None:
    """Tell the study that a trial was stopped early.

    Args:
        study: study of the trial.
        trial: one of its trials.
        share: share of the budget after which it was stopped.
        value: FID at that time, by which the sampler ranks what was stopped at the same share.
    """
    pruned = load_optuna().trial.TrialState.PRUNED
    # Reported only here: a trial that diverges later would have this value, and not be the worst.
    study._storage.set_trial_intermediate_value(trial._trial_id, round(100 * share), value)
    study.tell(trial.number, state=pruned, skip_if_finished=True)


def tell_failed(study: Study, trial: FrozenTrial, reason: str, *, by_settings: bool) -> None:
    """Tell the study that a trial failed.

    Args:
        study: study of the trial.
        trial: one of its trials.
        reason: in words.
        by_settings: whether the trial's settings are at fault, so that the sampler has to learn.
    """
    states = load_optuna().trial.TrialState
    keep_record(study, trial._trial_id, {REASON: reason})
    state = states.PRUNED if by_settings else states.FAIL
    study.tell(trial.number, state=state, skip_if_finished=True)


def failed(trial: FrozenTrial) -> bool:
    """Tell whether a trial failed, by whichever way it was told."""
    return REASON in trial.user_attrs or trial.state.name == "FAIL"


def completed(study: Study) -> list[FrozenTrial]:
    """Return the trials that have run to the end, by number."""
    complete = load_optuna().trial.TrialState.COMPLETE
    return study.get_trials(deepcopy=False, states=(complete,))

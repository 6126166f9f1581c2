"""What became of trials, as the report reads it from a study."""

from __future__ import annotations

import math

import pytest
from optuna.trial import TrialState

from cxrgan_fast.studies.outcomes import (
    FAILED,
    FINISHED,
    PRUNED,
    RUNNING,
    best_of,
    default_of,
    outcomes_of,
    values_for_comparison,
)
from sweep_studies import DEFAULT, FLOOR, add_trial, new_study


def test_each_state_is_told_from_the_others() -> None:
    study = new_study()
    add_trial(study, DEFAULT, 1.0, default=True)
    add_trial(study, DEFAULT, None, TrialState.PRUNED, rungs={"0.5": 1.0})
    add_trial(study, DEFAULT, None, TrialState.PRUNED, reason="the loss is not finite")
    add_trial(study, DEFAULT, None, TrialState.FAIL, reason="the process was ended by SIGKILL")
    add_trial(study, DEFAULT, None, TrialState.FAIL)
    add_trial(study, DEFAULT, None, TrialState.RUNNING)
    study.enqueue_trial({})
    found = outcomes_of(study)
    states = [each.state for each in found]
    assert states == [FINISHED, PRUNED, FAILED, FAILED, FAILED, RUNNING]
    assert [each.by_settings for each in found] == [False, False, True, False, False, False]
    assert [each.reason for each in found][2:5] == [
        "the loss is not finite", "the process was ended by SIGKILL", "no reason was kept",
    ]  # fmt: skip
    assert (found[0].value, found[0].ratio) == (1.0, math.exp(1.0))
    # Where no time is kept it is that between start and end, which add_trial makes ten minutes.
    assert [each.seconds for each in found] == [600.0] * 5 + [None]
    assert default_of(found) is found[0]
    assert best_of(found) is found[0]


def test_the_best_is_the_lowest_also_below_the_floor_and_where_two_are_wanted() -> None:
    for objective in ("fid", "fid,seconds"):
        study = new_study(objective=objective)
        for value in (0.5, -0.2, 0.0, -0.2):
            add_trial(study, DEFAULT, value)
        best = best_of(outcomes_of(study))
        assert best is not None
        assert best.number == 1, objective
    assert best_of([]) is None


def test_pruned_and_diverged_trials_count_and_broken_ones_do_not() -> None:
    study = new_study()
    for value in (0.5, 1.0, 2.0):
        add_trial(study, DEFAULT, value)  # which has 1.5 times its FID at the half of its budget
    near = 1.5 * FLOOR * math.exp(1.1)
    add_trial(study, DEFAULT, None, TrialState.PRUNED, rungs={"0.1": 1e9, "0.5": near})
    add_trial(study, DEFAULT, None, TrialState.PRUNED, reason="the loss is not finite")
    add_trial(study, DEFAULT, None, TrialState.FAIL, reason="the disk is full")
    assert values_for_comparison(outcomes_of(study)) == {
        0: 0.5, 1: 1.0, 2: 2.0, 3: pytest.approx(1.0), 4: 2.0,
    }  # fmt: skip


def test_without_a_finished_trial_nothing_is_compared() -> None:
    study = new_study()
    add_trial(study, DEFAULT, None, TrialState.PRUNED, reason="the loss is not finite")
    assert values_for_comparison(outcomes_of(study)) == {}

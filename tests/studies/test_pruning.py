"""Pruning: earned by the first trials, at rungs that foretell, after a quarter of the budget."""

from __future__ import annotations

import math
import random

import pytest

from cxrgan_fast.studies.pruning import (
    FIRST,
    SHARES,
    rank_correlation,
    rank_correlations,
    rung_name,
    shares_to_measure,
    should_prune,
)
from cxrgan_fast.studies.record import RUNGS, tell_failed, tell_pruned
from cxrgan_fast.studies.study import SETTINGS

optuna = pytest.importorskip("optuna")
stats = pytest.importorskip("scipy.stats")


def study_with(curves: list[list[float]], objective: str = "fid"):
    """A study whose trials have these FIDs at the rungs."""
    study = optuna.create_study(directions=["minimize"] * objective.count(",") + ["minimize"])
    study.set_user_attr(SETTINGS, {"objective": objective})
    for curve in curves:
        trial = study.ask()
        trial.set_user_attr(RUNGS, dict(zip(map(rung_name, SHARES), curve, strict=True)))
        study.tell(trial, [curve[-1]] * len(study.directions))
    return study


# Of the first at 10 and 50 percent the order is the final one, at 20 percent the opposite one.
FORETOLD = [[10.0 + k, 50.0 - k, 20.0 + k, 1.0 + k] for k in range(FIRST)]


def test_the_correlation_is_that_of_scipy():
    rng = random.Random(0)
    for size in (2, 5, 12):
        first = [float(k // 2 % 4) for k in range(1, size + 1)]  # some are equal
        second = [rng.random() for _ in range(size)]
        expected = stats.spearmanr(first, second).statistic
        assert rank_correlation(first, second) == pytest.approx(expected)
    assert math.isnan(rank_correlation([1.0, 1.0], [1.0, 2.0]))
    assert math.isnan(rank_correlation([], []))


def test_the_correlations_are_of_trials_with_all_rungs():
    study = study_with(FORETOLD)
    later = study.ask()
    later.set_user_attr(RUNGS, {"0.5": 0.0, "1.0": 99.0})
    study.tell(later, 99.0)
    assert rank_correlations(study) == {
        "trials": FIRST, "0.1": pytest.approx(1), "0.2": pytest.approx(-1), "0.5": pytest.approx(1),
    }  # fmt: skip


def test_the_first_trials_are_measured_at_all_rungs_and_prune_nothing():
    study = study_with(FORETOLD[: FIRST - 1])
    assert shares_to_measure(study) == list(SHARES)
    assert not should_prune(study, 0.5, 1e9)


def test_a_rung_that_foretells_prunes_what_is_above_the_median_after_a_quarter_only():
    study = study_with(FORETOLD)
    assert shares_to_measure(study) == [0.5, 1.0]  # that of 10 % foretells too, but is too early
    assert should_prune(study, 0.5, 25.6)
    assert not should_prune(study, 0.5, 25.5)  # the median of 20 to 31
    assert not should_prune(study, 0.1, 1e9)
    assert not should_prune(study, 0.2, 1e9)


def test_a_rung_that_does_not_foretell_prunes_nothing():
    curves = [[*curve[:2], 20.0 + (k * 5) % FIRST, curve[3]] for k, curve in enumerate(FORETOLD)]
    study = study_with(curves)
    assert rank_correlations(study)["0.5"] < 0.7
    assert shares_to_measure(study) == [1.0]
    assert not should_prune(study, 0.5, 1e9)


def test_the_median_has_the_pruned_ones_and_not_those_that_failed():
    study = study_with(FORETOLD)
    for at_half, fails in ((1000.0, True), (500.0, False), (501.0, False)):
        trial = study.ask()
        trial.set_user_attr(RUNGS, {"0.5": at_half})
        frozen = study.get_trials(deepcopy=False)[trial.number]
        if fails:
            tell_failed(study, frozen, "step 3: d_loss is not finite", by_settings=True)
        else:
            tell_pruned(study, frozen, 0.5, 3.0)
    assert should_prune(study, 0.5, 26.6)
    assert not should_prune(study, 0.5, 26.4)  # the median of 14


def test_two_objectives_prune_nothing():
    study = study_with(FORETOLD, "fid,seconds")
    assert shares_to_measure(study) == list(SHARES)
    assert not should_prune(study, 0.5, 1e9)

"""What the report's JSON says of studies whose right answers are known."""

from __future__ import annotations

import json
import math

import pytest
from optuna.trial import TrialState

from cxrgan_fast.studies.outcomes import outcomes_of
from cxrgan_fast.studies.sweep_summary import failures, front, history, rung_correlations, summarize
from cxrgan_fast.studies.sweep_tables import best_rows, lines, setting_rows
from sweep_studies import DEFAULT, FLOOR, SPACE, add_trial, filled_study, new_study


def summary_of(study, **options):
    return summarize(
        study.study_name, outcomes_of(study), study.user_attrs["settings"],
        study.user_attrs["space"], redraws=2, progress=False, **options,
    )  # fmt: skip


def test_what_matters_is_told_from_what_does_not() -> None:
    record = summary_of(filled_study(30))
    rows = {row["name"]: row for row in record["parameters"]}
    assert set(rows) == set(SPACE)
    assert [name for name, row in rows.items() if row["shown"]] == ["g_lr"]
    assert record["parameters"][0]["name"] == "g_lr"
    assert record["strongest"][0] == "g_lr"
    rate = rows["g_lr"]
    best = rate["groups"][rate["best"]]
    assert best["low"] < 1e-3 < best["high"]
    assert best["median_ratio"] == min(group["median_ratio"] for group in rate["groups"])
    assert rate["words"].startswith(f"it matters: FID / floor is lowest with {best['text']}")
    assert (rate["default"], rate["log"], rows["momentum"]["default"]) == (3e-4, True, None)
    assert {rows[name]["words"] for name in ("optimizer", "base_channels", "output")} == {
        "no difference shown"
    }
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert f"g_lr: {rate['words']}" in lines(record)
    assert next(row[-1] for row in setting_rows(record)) == rate["words"]


def test_a_sampler_that_learns_is_compared_in_blocks() -> None:
    """The objective falls with the number of the trial, and the width rises with it."""
    shown = {}
    for sampler in ("random", "tpe"):
        study = new_study(sampler=sampler)
        for number in range(30):
            wide = 16 + number + (number * 7) % 5
            add_trial(
                study, {**DEFAULT, "base_channels": wide}, 3 - number / 10 + (number * 3) % 5 / 9
            )
        rows = summary_of(study)["parameters"]
        shown[sampler] = {row["name"] for row in rows if row["shown"]}
    assert shown == {"random": {"base_channels"}, "tpe": set()}


@pytest.mark.parametrize("objective", ["fid", "fid,seconds"])
@pytest.mark.parametrize("finished", [0, 1, 2])
def test_few_trials_show_nothing_and_break_nothing(objective: str, finished: int) -> None:
    study = new_study(objective=objective)
    add_trial(study, DEFAULT, None, TrialState.FAIL, reason="the disk is full", default=True)
    add_trial(study, DEFAULT, None, TrialState.PRUNED, reason="the loss is not finite")
    for value in range(finished):
        add_trial(study, DEFAULT, float(value))
    record = summary_of(study)
    assert record["counts"] == {"finished": finished, "pruned": 0, "failed": 2, "running": 0}
    assert record["best"] == (2 if finished else None)
    assert not any(row["shown"] for row in record["parameters"])
    words = "no trial has run to the end, so that there is no best one"
    assert (words in lines(record)) == (finished == 0)
    assert len(best_rows(record)[1]) == finished


def test_an_empty_study_has_a_summary() -> None:
    record = summary_of(new_study())
    assert (record["best"], record["parameters"], record["history"]) == (None, [], [])


def test_history_counts_hours_and_keeps_the_best() -> None:
    study = new_study()
    add_trial(study, DEFAULT, 2.0)
    add_trial(study, DEFAULT, None, TrialState.PRUNED, seconds=300.0)
    add_trial(study, DEFAULT, 1.0)
    add_trial(study, DEFAULT, 1.5)
    add_trial(study, DEFAULT, None, TrialState.RUNNING)
    found = history(outcomes_of(study))
    assert [row["hours"] for row in found] == pytest.approx([1 / 6, 1 / 4, 5 / 12, 7 / 12])
    best = [math.exp(2.0), math.exp(2.0), math.exp(1.0), math.exp(1.0)]
    assert [row["best"] for row in found] == pytest.approx(best)
    assert summary_of(study)["hours"] == pytest.approx(7 / 12)


def test_the_front_has_none_that_is_both_slower_and_worse() -> None:
    study = new_study(objective="fid,seconds")
    for value, seconds in ((1.0, 60.0), (2.0, 30.0), (1.5, 90.0), (0.5, 120.0), (2.5, 30.0)):
        add_trial(study, DEFAULT, value, seconds=seconds)
    assert front(outcomes_of(study)) == [1, 0, 3]


def test_rungs_are_correlated_with_the_end_over_the_trials_that_have_all() -> None:
    study = filled_study(12)
    add_trial(study, DEFAULT, 9.0, rungs={"0.5": 0.0001, "1.0": FLOOR * math.exp(9)})
    found = rung_correlations(outcomes_of(study))
    assert found["0.5"] == {"rho": pytest.approx(1.0), "trials": 12}
    assert found["0.1"] == {"rho": pytest.approx(-1.0), "trials": 12}
    assert math.isnan(found["0.2"]["rho"])  # it is the same for all
    assert summary_of(study)["rungs"]["0.2"] == {"rho": None, "trials": 12}


def test_failures_are_counted_by_cause() -> None:
    study = filled_study(3)
    for step in (120, 5, 99):
        add_trial(study, DEFAULT, None, TrialState.PRUNED,
                  reason=f"step {step}: d_loss is not finite (1.5e-{step})")  # fmt: skip
    add_trial(study, DEFAULT, None, TrialState.FAIL, reason="the disk is full")
    add_trial(study, DEFAULT, None, TrialState.PRUNED, rungs={"0.5": 1.0})
    assert failures(outcomes_of(study)) == [
        {"cause": "step 120: d_loss is not finite (1.5e-120)", "count": 3, "trials": [3, 4, 5]},
        {"cause": "the disk is full", "count": 1, "trials": [6]},
    ]


def test_numbers_that_are_not_finite_are_none() -> None:
    study = filled_study(2)
    add_trial(study, DEFAULT, 1.0, r_t=math.nan, images_per_second=math.inf)
    record = summary_of(study)
    assert (record["trials"][2]["r_t"], record["trials"][2]["images_per_second"]) == (None, None)
    json.dumps(record, allow_nan=False)


def test_the_table_of_the_best_has_all_measurements_and_the_default() -> None:
    worst = 9.0
    record = summary_of(filled_study(14, lambda drawn: worst * (drawn == DEFAULT)))
    header, rows = best_rows(record)
    assert len(rows) == 11  # ten, and the default, which is not among them
    assert rows[-1][0] == "0 (default)"
    for name in ("cxr_ssl fid", "cxr_ssl floor", "cxr kid", "cxr recall", "cxr inception_score",
                 "cxr_ssl normal fid", "seconds", "images_per_second", "r_t", "seed", "commit",
                 "g_lr", "momentum"):  # fmt: skip
        assert name in header, name
    ratios = [float(row[1]) for row in rows]
    assert ratios == sorted(ratios)
    assert all(len(row) == len(header) for row in rows)

"""What is said of a winner, on runs whose answers are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from cxrgan_fast.studies.confirmation import (
    DEFAULT,
    NO_DIFFERENCE,
    NOT_COMPLETE,
    STANDS,
    VALUE,
    WINNER,
    WORSE,
    Rerun,
    judge_confirmation,
    lowest_by_luck,
)
from sweep_studies import record_of

SEEDS = range(1000, 1006)
DEFAULTS = [1.0, 1.2, 0.9, 1.1, 1.3, 1.0]


def runs_of(winner: list[float], default: list[float] = DEFAULTS) -> list[Rerun]:
    """Give both arms' runs of some values of log(FID / floor)."""
    return [
        Rerun(arm, seed, value, "", record_of(0, value))
        for arm, values in ((WINNER, winner), (DEFAULT, default))
        for seed, value in zip(SEEDS, values, strict=False)
    ]


def test_a_winner_that_is_better_on_every_seed_stands() -> None:
    winner = [
        each - gain for each, gain in zip(DEFAULTS, (0.2, 0.3, 0.25, 0.2, 0.3, 0.15), strict=True)
    ]
    found = judge_confirmation(7, SEEDS, runs_of(winner))
    paired = stats.ttest_rel(winner, DEFAULTS)
    interval = paired.confidence_interval(0.95)
    difference = found["differences"][VALUE]
    assert difference["interval_95"] == pytest.approx([interval.low, interval.high])
    assert difference["p_signs"] == pytest.approx(2 / 2**6)
    assert (found["verdict"], found["pairs"], found["waiting"]) == (STANDS, 6, 0)
    ends = [f"{math.exp(each):.3g}" for each in (paired.statistic * 0 + difference["mean"],
                                                 interval.low, interval.high)]  # fmt: skip
    assert found["words"].startswith(
        f"stands: on 6 new seeds FID / floor is {ends[0]} times (95 % interval {ends[1]} to "
        f"{ends[2]}) that of the default, lower in 6 of 6 (sign test: p = 0.031); by cxr it is"
    )
    assert found["noise"] == {
        "n": 6, "mean": pytest.approx(np.mean(DEFAULTS)),
        "deviation": pytest.approx(np.std(DEFAULTS, ddof=1)),
    }  # fmt: skip
    # Everything that was measured is compared, each the way that it is better.
    assert found["differences"]["cxr_ssl: fid"]["better"] == 6
    assert found["differences"]["cxr: inception_score"]["pairs"] == 0
    assert found["differences"]["cxr_ssl, normal: fid"]["better"] == 6
    assert {(run["arm"], run["seed"]) for run in found["runs"]} == {
        (arm, seed) for arm in (WINNER, DEFAULT) for seed in SEEDS
    }
    assert json.loads(json.dumps(found)) == found


def test_one_that_is_worse_or_no_different_is_called_so() -> None:
    worse = judge_confirmation(
        7, SEEDS, runs_of([each + 0.3 + 0.02 * k for k, each in enumerate(DEFAULTS)])
    )
    assert worse["verdict"] == WORSE
    mixed = [each + (-0.3 if k % 2 else 0.28) for k, each in enumerate(DEFAULTS)]
    found = judge_confirmation(7, SEEDS, runs_of(mixed))
    assert found["verdict"] == NO_DIFFERENCE
    assert found["words"].startswith("no difference shown: on 6 new seeds")


def test_there_is_no_verdict_before_all_runs_have_ended() -> None:
    better = [each - 0.5 for each in DEFAULTS]
    found = judge_confirmation(7, SEEDS, runs_of(better[:5]))
    assert (found["verdict"], found["pairs"], found["waiting"]) == (NOT_COMPLETE, 5, 1)
    assert "1 run of" in found["words"]
    assert judge_confirmation(7, SEEDS, [])["verdict"] == NOT_COMPLETE


def test_a_winner_whose_run_fails_does_not_stand() -> None:
    runs = runs_of([each - 0.5 for each in DEFAULTS])
    runs[2] = Rerun(WINNER, 1002, None, "the loss is not finite", {})
    found = judge_confirmation(7, SEEDS, runs)
    assert found["verdict"] == NO_DIFFERENCE
    assert "seed 1002 (the loss is not finite)" in found["words"]
    assert found["failed"] == {WINNER: {"1002": "the loss is not finite"}, DEFAULT: {}}
    # The default's own failures take away pairs, and nothing else.
    runs = runs_of([each - 0.5 - 0.01 * k for k, each in enumerate(DEFAULTS)])
    runs[8] = Rerun(DEFAULT, 1002, None, "the loss is not finite", {})
    assert judge_confirmation(7, SEEDS, runs)["verdict"] == STANDS
    assert judge_confirmation(7, SEEDS, runs)["pairs"] == 5


def test_features_that_contradict_the_first_take_the_claim_back() -> None:
    runs = runs_of([each - 0.3 - 0.01 * k for k, each in enumerate(DEFAULTS)])
    for run in runs:
        measured = run.kept["measurements"]["cxr"]
        measured["fid"] = 2.0 + (0.5 if run.arm == WINNER else 0.0) + 0.01 * (run.seed % 3)
    found = judge_confirmation(7, SEEDS, runs)
    assert found["verdict"] == NO_DIFFERENCE
    assert "the features contradict each other" in found["words"]


def test_one_pair_shows_nothing() -> None:
    runs = [run for run in runs_of([0.1] * 6) if run.seed == 1000]
    found = judge_confirmation(7, [1000], runs)
    assert found["verdict"] == NO_DIFFERENCE
    assert "two pairs or more are needed, there are 1" in found["words"]


def test_the_lowest_by_luck_is_that_of_normal_draws() -> None:
    drawn = np.random.default_rng(0).normal(0, 0.2, (20_000, 30)).min(axis=1)
    assert lowest_by_luck(0.2, 30) == pytest.approx(-drawn.mean(), rel=0.01)
    assert lowest_by_luck(1.0, 2) == pytest.approx(1 / math.sqrt(math.pi))
    assert lowest_by_luck(0.2, 1) == 0

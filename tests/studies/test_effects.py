"""What is called a difference: what matters, and not what a sampler has drifted to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from scipy import stats

from cxrgan_fast.studies.effects import effects, holm
from cxrgan_fast.studies.library import load_optuna
from sweep_studies import SPACE, draw

UNIT = FloatDistribution(0.0, 1.0)


def test_a_setting_that_matters_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    trials = [draw(rng) for _ in range(40)]
    values = [abs(math.log10(each["g_lr"]) + 3) + rng.normal(0, 0.1) for each in trials]
    found = effects(
        {name: [each.get(name) for each in trials] for name in SPACE}, SPACE, values, learns=False
    )
    assert found["g_lr"].is_shown
    best = found["g_lr"].best
    assert best is not None
    assert best.low < 1e-3 < best.high
    assert not any(found[name].is_shown for name in SPACE if name != "g_lr")
    # Momentum is drawn with sgd only.
    sgd = sum(each["optimizer"] == "sgd" for each in trials)
    assert sum(group.count for group in found["momentum"].groups) == sgd < 40
    assert [group.text for group in found["output"].groups] == ["tanh", "sigmoid"]


def test_the_test_of_one_block_is_that_of_kruskal_and_wallis() -> None:
    rng = np.random.default_rng(1)
    choices = CategoricalDistribution(("a", "b", "c"))
    given = [str(each) for each in rng.choice(["a", "b", "c"], 60)]
    values = rng.normal(0, 1, 60) + [0.4 * (each == "b") for each in given]
    found = effects({"x": given}, {"x": choices}, list(values), learns=False)["x"]
    by_group = [[v for v, g in zip(values, given, strict=True) if g == each] for each in "abc"]
    assert found.p == pytest.approx(stats.kruskal(*by_group).pvalue, abs=0.02)
    assert [group.median for group in found.groups] == pytest.approx(
        [np.median(of_group) for of_group in
         sorted(by_group, key=lambda each: given.index("abc"[by_group.index(each)]))]
    )  # fmt: skip


def test_what_drifts_together_over_the_sweep_is_no_effect() -> None:
    """The objective falls over the sweep, and the setting rises, within blocks at random."""
    rng = np.random.default_rng(2)
    trend = np.arange(60) / 60
    given, values = list(trend + rng.normal(0, 0.3, 60)), list(-trend + rng.normal(0, 0.3, 60))
    blind = effects({"x": given}, {"x": UNIT}, values, learns=False)["x"]
    aware = effects({"x": given}, {"x": UNIT}, values, learns=True)["x"]
    assert blind.p is not None
    assert aware.p is not None
    assert blind.p < 0.01
    assert aware.p > 0.05
    # What matters is seen although the objective has a trend.
    values = list(-trend + np.abs(np.array(given) - 0.5))
    assert effects({"x": given}, {"x": UNIT}, values, learns=True)["x"].is_shown


@pytest.mark.long
def test_how_often_a_sweep_of_tpe_is_said_to_show_what_is_not_there() -> None:
    """Of settings that do nothing, beside two that matter, by shuffles over all and in blocks."""
    optuna_ = load_optuna()
    wrong = {True: 0, False: 0}
    sweeps, names = 24, [f"x{place}" for place in range(8)]
    for seed in range(sweeps):
        rng = np.random.default_rng(seed)

        def objective(trial: optuna.Trial, rng: np.random.Generator = rng) -> float:
            rate = trial.suggest_float("rate", 1e-5, 1e-2, log=True)
            family = trial.suggest_categorical("family", ["a", "b", "c"])
            for place, name in enumerate(names):
                if place % 2:
                    trial.suggest_float(name, 0, 1)
                else:
                    trial.suggest_categorical(name, ["p", "q"])
            value = 0.4 * abs(math.log10(rate) + 3.5) + 0.3 * (family != "a")
            return value + float(rng.normal(0, 0.12))

        study = optuna_.create_study(sampler=optuna_.samplers.TPESampler(seed=seed))
        study.optimize(objective, n_trials=40)
        trials = study.get_trials(deepcopy=False)
        given = {
            name: [each.params[name] for each in trials] for name in ["rate", "family", *names]
        }
        values = [each.value for each in trials]
        for learns in wrong:
            found = effects(given, trials[0].distributions, values, learns=learns)
            wrong[learns] += any(found[name].is_shown for name in names)
    assert wrong[True] <= 4  # more have a probability below 1 % where 5 % of sweeps are right
    assert wrong[False] >= 12  # as it would be without blocks


@pytest.mark.parametrize("n", [0, 1, 9])
def test_too_few_trials_show_nothing(n: int) -> None:
    values = [float(each) for each in range(n)]
    found = effects({"x": values}, {"x": UNIT}, values, learns=True)["x"]
    assert (found.p, found.adjusted, found.is_shown) == (None, None, False)
    assert sum(group.count for group in found.groups) == n
    assert (found.best is None) == (n == 0)


def test_equal_values_stay_in_one_group_and_one_group_shows_nothing() -> None:
    cases: list[tuple[list[Any], BaseDistribution, list[int]]] = [
        ([0.5] * 20, UNIT, [20]),
        ([0.1] * 15 + [0.2, 0.3, 0.4, 0.5, 0.6], UNIT, [15, 5]),
        ([1, 2] * 10, SPACE["base_channels"], [10, 10]),
        ([True, False] * 10, CategoricalDistribution((True, False)), [10, 10]),
    ]
    for given, distribution, counts in cases:
        values = [float(place % 7) for place in range(20)]
        found = effects({"x": given}, {"x": distribution}, values, learns=False)["x"]
        assert sorted((group.count for group in found.groups), reverse=True) == counts
        assert (found.p is None) == (len(counts) == 1)


def test_an_objective_that_is_always_the_same_shows_nothing() -> None:
    given = [place / 20 for place in range(20)]
    found = effects({"x": given}, {"x": UNIT}, [1.0] * 20, learns=True)["x"]
    assert (found.p, found.is_shown) == (1.0, False)


def test_holm_is_that_of_the_paper() -> None:
    # Sorted and times 4, 3, 2, 1; none is less than one before it.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}

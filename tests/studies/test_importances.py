"""Importances: known shares, settings that not every trial has, intervals that cover."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.importances import importances
from sweep_studies import SPACE, draw

PLANE = {name: FloatDistribution(0.0, 1.0) for name in ("strong", "weak", "none")}


def plane(n: int, seed: int) -> tuple[list[dict[str, float]], list[float]]:
    """Draw points and 3 strong + weak: of its variance 0.9 and 0.1."""
    rng = np.random.default_rng(seed)
    points = [{name: float(rng.uniform()) for name in PLANE} for _ in range(n)]
    return points, [3 * each["strong"] + each["weak"] for each in points]


def test_shares_are_those_of_the_variance() -> None:
    points, values = plane(40, 0)
    found = importances(points, PLANE, values, redraws=10, progress=False)
    assert next(iter(found)) == "strong"
    assert found["strong"].share == pytest.approx(0.9, abs=0.09)
    low, high = found["strong"].interval
    assert 0.6 < low < found["strong"].share < high <= 1
    assert found["none"].share < 0.06
    assert found["none"].interval[0] == 0
    assert sum(each.share for each in found.values()) == pytest.approx(1)
    # Shuffled, each of three has a third.
    assert [each.by_chance for each in found.values()] == pytest.approx([1 / 3] * 3, abs=0.2)


def test_a_setting_that_not_every_trial_has_takes_part() -> None:
    """Optuna's own fANOVA leaves it out: here it is all that matters, beside the optimizer."""
    rng = np.random.default_rng(3)
    trials = [draw(rng) for _ in range(30)]
    values = [5 * each.get("momentum", 0.5) for each in trials]
    found = importances(trials, SPACE, values, redraws=2, progress=False)
    assert max(found, key=lambda name: found[name].share) == "momentum"


def test_a_logarithmic_scale_counts_by_decades() -> None:
    """By length nine tenths of the range are the highest decade, where the objective is flat."""
    rng = np.random.default_rng(4)
    trials = [draw(rng) for _ in range(40)]
    values = [-min(0.0, math.log10(each["g_lr"]) + 3) + each["base_channels"] / 64
              for each in trials]  # fmt: skip
    found = importances(trials, SPACE, values, redraws=2, progress=False)
    assert found["g_lr"].share > 2 * found["base_channels"].share > 0


@pytest.mark.long
def test_intervals_cover_the_mean_share_of_such_sweeps() -> None:
    found = []
    for seed in range(16):
        points, values = plane(24, seed)
        noise = np.random.default_rng(seed).normal(0, 1, 24)
        values = [value + float(each) for value, each in zip(values, noise, strict=True)]
        found.append(importances(points, PLANE, values, redraws=20, progress=False))
    for name in PLANE:
        mean = np.mean([each[name].share for each in found])
        covered = [each[name].interval[0] <= mean <= each[name].interval[1] for each in found]
        assert sum(covered) >= 14, name
    # An interval that holds everything would cover as well.
    widths = [each["none"].interval[1] - each["none"].interval[0] for each in found]
    assert np.median(widths) < 0.7


@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_of_few_trials_there_are_none(n: int) -> None:
    points, values = plane(n, 0)
    assert importances(points, PLANE, values, progress=False) == {}


def test_where_nothing_varies_there_are_none() -> None:
    points, _ = plane(20, 0)
    assert importances(points, PLANE, [1.0] * 20, progress=False) == {}
    fixed = {"strong": FloatDistribution(0.5, 0.5)}
    assert importances([{"strong": 0.5}] * 20, fixed, [*map(float, range(20))]) == {}


def test_without_scikit_learn_it_is_said_how_to_get_it(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    points, values = plane(20, 0)
    with pytest.raises(UserError, match=r"importances need scikit-learn .*\[sweep\]"):
        importances(points, PLANE, values, redraws=2, progress=False)

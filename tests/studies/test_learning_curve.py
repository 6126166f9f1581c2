"""Break-even sizes and learning curves: closed forms, and what cannot be told."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from cxrgan_fast.studies.augmentation.effects import Effect
from cxrgan_fast.studies.augmentation.learning_curve import (
    LearningCurve,
    find_break_even,
    fit_curve,
    worth_in_images,
)

SIZES = (50, 100, 400, 1600)


def effect(value: float, seed: int, patients: float = 1e-3, seeds: float = 1e-3) -> Effect:
    """An effect with errors of so much from patients and from seeds."""
    replicates = np.random.default_rng(seed).normal(0, patients, 1000)
    error = math.hypot(patients, seeds)
    return Effect(value, error, 25.0, (patients / error) ** 2, 30, 500, seeds**2, replicates)


def gains(values, **errors: float) -> list[Effect]:
    return [effect(value, seed, **errors) for seed, value in enumerate(values)]


def test_gains_on_a_line_cross_0_where_it_does() -> None:
    line = [0.01 - 0.004 * math.log(size / 200) for size in SIZES]
    found = find_break_even(SIZES, gains(line))
    assert found.size == pytest.approx(200 * math.exp(2.5))
    assert found.slope == pytest.approx(-0.004)
    assert found.low < found.size < found.high


def test_the_interval_is_where_the_line_is_not_told_from_0() -> None:
    values = [0.03, 0.02, 0.004, -0.01]
    effects = gains(values, patients=1e-9, seeds=4e-3)
    found = find_break_even(SIZES, effects)
    x = np.log(SIZES)
    spread = np.linalg.inv(np.stack([np.ones(4), x]) @ np.stack([np.ones(4), x], 1)) * 4e-3**2
    slope, level = np.polyfit(x, values, 1)
    for end in (found.low, found.high):
        at = np.array([1, math.log(end)])
        error = math.sqrt(at @ spread @ at)
        assert abs(level + slope * at[1]) == pytest.approx(stats.t.ppf(0.975, 25) * error, rel=1e-4)


def test_gains_that_do_not_change_with_the_size_have_no_interval() -> None:
    found = find_break_even(SIZES, gains([0.011, 0.009, 0.01, 0.01], seeds=0.01))
    assert (found.low, found.high) == (None, None)
    assert found.slope_p_value > 0.5
    assert find_break_even(SIZES[:1], gains([0.01])) is None
    assert find_break_even(SIZES, gains([0.01] * 4, patients=0.0, seeds=1e-300)) is None


def test_patients_that_all_sizes_share_do_not_blur_where_gains_cross_0() -> None:
    """An error that is the same at all sizes moves the line, and does not turn it."""
    values = [0.03, 0.02, 0.004, -0.01]
    together = [effect(value, seed=7, patients=4e-3, seeds=1e-4) for value in values]
    apart = gains(values, patients=4e-3, seeds=1e-4)
    slopes = [find_break_even(SIZES, each).slope_p_value for each in (together, apart)]
    assert slopes[0] < slopes[1] / 100


@pytest.mark.parametrize("sizes", [SIZES[:2], SIZES[:3]])
def test_a_power_law_is_found_again(sizes) -> None:
    truth = LearningCurve(0.0, 0.6, 0.4)
    found = fit_curve(sizes, [truth.auc(size) for size in sizes])
    assert (found.scale, found.exponent) == pytest.approx((0.6, 0.4))


def test_with_four_sizes_what_is_left_at_last_is_found_too() -> None:
    truth = LearningCurve(0.03, 0.9, 0.5)
    found = fit_curve(SIZES, [truth.auc(size) for size in SIZES])
    assert (found.asymptote, found.scale, found.exponent) == pytest.approx((0.03, 0.9, 0.5), 1e-3)
    assert found.size_of(truth.auc(777)) == pytest.approx(777, rel=1e-3)
    assert found.size_of(0.975) == math.inf


def test_what_does_not_rise_is_no_learning_curve() -> None:
    assert fit_curve(SIZES[:3], [0.9, 0.9, 0.89]) is None
    assert fit_curve(SIZES[:1], [0.9]) is None
    assert fit_curve(SIZES, [0.9, 0.95, 0.99, 1.0]) is not None  # no logarithm of 0
    assert worth_in_images(SIZES[:3], gains([0.9, 0.9, 0.89]), 50, effect(0.01, 9)) is None


def test_a_gain_is_worth_the_images_that_the_curve_says() -> None:
    truth = LearningCurve(0.0, 0.6, 0.4)
    real = gains([truth.auc(size) for size in SIZES], patients=1e-5, seeds=1e-5)
    of_100_more = effect(truth.auc(200) - truth.auc(100), 9, patients=1e-5, seeds=1e-5)
    found = worth_in_images(SIZES, real, 100, of_100_more)
    assert found.images == pytest.approx(100, rel=0.01)
    assert found.low < 100 < found.high
    assert not found.beyond
    none = worth_in_images(SIZES, real, 100, effect(0.0, 9))
    assert none.images == pytest.approx(0, abs=1e-6)
    loss = worth_in_images(SIZES, real, 100, effect(truth.auc(60) - truth.auc(100), 9))
    assert loss.images == pytest.approx(-40, rel=0.02)


def test_more_than_the_largest_size_is_not_extrapolated() -> None:
    real = gains([LearningCurve(0.0, 0.6, 0.4).auc(size) for size in SIZES])
    found = worth_in_images(SIZES, real, 100, effect(0.2, 9))
    assert (found.images, found.high, found.beyond) == (1500, None, True)


def test_less_certain_gains_are_worth_less_certain_numbers() -> None:
    real = gains([LearningCurve(0.0, 0.6, 0.4).auc(size) for size in SIZES])
    widths = []
    for seeds in (1e-4, 4e-3):
        found = worth_in_images(SIZES, real, 100, effect(0.01, 9, seeds=seeds))
        widths.append(found.high - found.low)
    assert all(narrow < wide for narrow, wide in pairwise(widths))

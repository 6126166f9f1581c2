"""The statistics of ``research.parity`` against scipy's tests, simulations and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cxrgan_fast.studies.differences import Difference
from research.parity_statistics import (
    MOST_SEEDS,
    seeds_needed,
    smallest_margin,
    tost_power,
)

SAMPLES = [
    ([10.1, 9.7, 10.4, 10.0, 9.9], [10.0, 10.2, 9.6, 10.3, 10.1]),
    ([1.0, 2.0, 4.0], [3.0, 3.5, 2.5, 3.2, 2.9, 3.1]),
    ([-1e-3, 2e-3], [5e-3, 1e-3]),
]


def test_without_any_spread_the_difference_itself_decides() -> None:
    difference = Difference.of([5.0, 5.0, 5.0], [4.0, 4.0, 4.0])
    assert difference.interval(0.95) == (1.0, 1.0)
    assert (difference.p_equivalent(1.1), difference.p_equivalent(0.9)) == (0.0, 1.0)
    assert difference.p_equivalent(1.0) == 1.0
    assert smallest_margin(difference) == 0.0
    assert tost_power(0.1, ((0.0, 4.0),)) == 1.0
    assert tost_power(0.1, ((0.0, 4.0),), true=-0.2) == 0.0


def test_power_is_the_published_one() -> None:
    """Of a crossover with a variation of 30 %, 40 subjects, ratio 0.95, limits 0.8 to 1.25.

    0.8158 by Owen's Q: Julious, Sample Sizes for Clinical Trials, 2010, and R's PowerTOST.
    """
    deviation = math.sqrt(math.log(1 + 0.3**2))
    power = tost_power(math.log(1.25), ((deviation**2 * 2 / 40, 38),), true=math.log(0.95))
    assert power == pytest.approx(0.8158, abs=2e-4)


@pytest.mark.parametrize(
    ("seeds", "deviation", "true"), [((3, 3), 0.4, 0.0), ((5, 5), 0.6, 0.2), ((4, 9), 0.5, 0.1)]
)
def test_power_is_how_often_welchs_test_shows_it(seeds, deviation, true) -> None:
    """With the degrees of freedom that each repetition finds, not 2 n - 2 of them."""
    rng = np.random.default_rng(0)
    samples = [
        rng.normal(mean, deviation, (20_000, n)) for mean, n in zip((true, 0), seeds, strict=True)
    ]
    found = stats.ttest_ind(*samples, axis=1, equal_var=False)
    low, high = found.confidence_interval(0.90)
    shown = ((low > -1) & (high < 1)).mean()
    parts = tuple((deviation**2 / n, n - 1) for n in seeds)
    power = tost_power(1.0, parts, true)
    assert 0.05 < power < 0.95
    assert power == pytest.approx(shown, abs=0.01)
    pooled = tost_power(1.0, ((sum(square for square, _ in parts), sum(seeds) - 2),), true)
    if seeds == (3, 3):
        assert pooled > power + 0.015  # what it would be with all degrees of freedom


def test_the_smallest_margin_and_the_seeds_needed_come_to_a_power_of_80_percent() -> None:
    difference = Difference.of(*SAMPLES[0])
    margin = smallest_margin(difference)
    power = tost_power(margin, difference.parts)
    assert power == pytest.approx(0.8, abs=1e-6)

    def power_of(seeds: int) -> float:
        return tost_power(1.0, ((1.2**2 / seeds, seeds - 1),) * 2)

    seeds = seeds_needed(1.0, [1.2, 1.2])
    assert seeds is not None
    assert power_of(seeds - 1) < 0.8 <= power_of(seeds)
    assert seeds_needed(1.0, [0.0, 0.0]) == 2
    assert seeds_needed(0.01, [MOST_SEEDS, 1.0]) is None

"""Differences of means against scipy's tests and values known in closed form."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import stats

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.differences import Difference, paired_difference, require_scipy

SAMPLES = [
    ([10.1, 9.7, 10.4, 10.0, 9.9], [10.0, 10.2, 9.6, 10.3, 10.1]),
    ([1.0, 2.0, 4.0], [3.0, 3.5, 2.5, 3.2, 2.9, 3.1]),
    ([-1e-3, 2e-3], [5e-3, 1e-3]),
]
ARM = [1.0, 2.0, 3.5, 3.0, 2.0, 1.5]
FIRST = [1.5, 2.1, 4.0, 3.9, 2.2, 1.6]


@pytest.mark.parametrize(("values", "reference"), SAMPLES)
def test_the_difference_is_welchs(values, reference) -> None:
    difference = Difference.of(values, reference)
    expected = stats.ttest_ind(values, reference, equal_var=False)
    assert difference.value == pytest.approx(np.mean(values) - np.mean(reference))
    assert difference.freedom == pytest.approx(expected.df)
    assert difference.value / difference.standard_error == pytest.approx(expected.statistic)
    for confidence in (0.9, 0.95):
        wanted = expected.confidence_interval(confidence)
        assert difference.interval(confidence) == pytest.approx((wanted.low, wanted.high))


@pytest.mark.parametrize("margin", [1e-4, 0.3, 2.0])
@pytest.mark.parametrize(("values", "reference"), SAMPLES)
def test_equivalence_is_two_one_sided_tests(values, reference, margin) -> None:
    difference = Difference.of(values, reference)
    of = np.asarray(values)
    not_higher, not_lower = (
        stats.ttest_ind(of + shift, reference, equal_var=False, alternative=alternative).pvalue
        for shift, alternative in ((-margin, "less"), (margin, "greater"))
    )
    assert difference.p_not_higher(margin) == pytest.approx(not_higher)
    assert difference.p_equivalent(margin) == pytest.approx(max(not_higher, not_lower))
    # The same by the 90 % interval.
    low, high = difference.interval(0.9)
    assert (difference.p_equivalent(margin) < 0.05) == (-margin < low and high < margin)


def test_a_difference_is_that_of_the_t_test_of_pairs() -> None:
    found = paired_difference(list(zip(ARM, FIRST, strict=True)), "lower")
    paired = stats.ttest_rel(ARM, FIRST)
    interval = paired.confidence_interval(0.95)
    assert found["p_t"] == pytest.approx(paired.pvalue)
    assert found["interval_95"] == pytest.approx([interval.low, interval.high])
    # Six of six is the fewest with which signs alone come below 0.05.
    assert (found["better"], found["pairs"]) == (6, 6)
    assert found["p_signs"] == pytest.approx(2 / 2**6)
    assert found["p_signs"] < 0.05 < 2 / 2**5


def test_which_way_is_better_counts() -> None:
    pairs = list(zip(ARM, FIRST, strict=True))
    assert paired_difference(pairs, "higher")["better"] == 0
    # From 0.5: 0.6 is nearer than 0.3, and 0.45 than 0.52 is not.
    near = paired_difference([(0.6, 0.3), (0.45, 0.52), (0.4, 0.6)], 0.5)
    assert near["values"] == pytest.approx([-0.1, 0.03, 0.0])
    assert (near["better"], near["pairs"]) == (1, 2)  # a tie is no pair


def test_a_single_pair_or_equal_ones_show_nothing() -> None:
    alone = paired_difference([(1.0, 2.0)], "lower")
    assert (alone["interval_95"], alone["p_t"], alone["p_signs"]) == (None, None, 1.0)
    equal = paired_difference([(1.0, 1.0)] * 3, "lower")
    assert (equal["p_t"], equal["p_signs"], equal["pairs"]) == (1.0, 1.0, 0)
    same = paired_difference([(1.0, 2.0)] * 3, "lower")
    assert (same["p_t"], same["interval_95"]) == (0.0, [-1.0, -1.0])


def test_without_scipy_it_is_said_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(UserError, match=r"need scipy: pip install scipy"):
        require_scipy()

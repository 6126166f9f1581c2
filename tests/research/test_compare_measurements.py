"""What is said of arms, on numbers whose answers are known."""

from __future__ import annotations

import pytest
from scipy import stats

from research.compare_measurements import best_arm, difference

ARM = [1.0, 2.0, 3.5, 3.0, 2.0, 1.5]
FIRST = [1.5, 2.1, 4.0, 3.9, 2.2, 1.6]


def test_a_difference_is_that_of_the_t_test_of_pairs() -> None:
    found = difference(list(zip(ARM, FIRST, strict=True)), "lower")
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
    assert difference(pairs, "higher")["better"] == 0
    # From 0.5: 0.6 is nearer than 0.3, and 0.45 than 0.52 is not.
    near = difference([(0.6, 0.3), (0.45, 0.52), (0.4, 0.6)], 0.5)
    assert near["values"] == pytest.approx([-0.1, 0.03, 0.0])
    assert (near["better"], near["pairs"]) == (1, 2)  # a tie is no pair


def test_a_single_pair_or_equal_ones_show_nothing() -> None:
    alone = difference([(1.0, 2.0)], "lower")
    assert (alone["interval_95"], alone["p_t"], alone["p_signs"]) == (None, None, 1.0)
    equal = difference([(1.0, 1.0)] * 3, "lower")
    assert (equal["p_t"], equal["p_signs"], equal["pairs"]) == (1.0, 1.0, 0)
    same = difference([(1.0, 2.0)] * 3, "lower")
    assert (same["p_t"], same["interval_95"]) == (0.0, [-1.0, -1.0])


def test_the_best_arm_has_the_lowest_fid_and_no_failed_run() -> None:
    def summary(of_arms: dict[str, float], failed: str = "") -> dict:
        return {
            "arms": {name: {"failed": {"0": "so"} if name == failed else {}} for name in of_arms},
            "differences": {
                name: {"pixels": {"fid": {"mean": mean}}} for name, mean in of_arms.items()
            },
        }

    arms = ["first", "a", "b"]
    assert best_arm(summary({"a": -1.0, "b": -2.0}), arms, "pixels") == "b"
    assert best_arm(summary({"a": -1.0, "b": -2.0}, failed="b"), arms, "pixels") == "a"
    assert best_arm(summary({"a": 1.0, "b": 2.0}), arms, "pixels") is None

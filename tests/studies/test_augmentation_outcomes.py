"""Outcomes in closed form, against other libraries, and thresholds from validation alone."""

import json
import math

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.outcomes import (
    LOWER_IS_BETTER,
    OUTCOMES,
    calibration_slope,
    choose_thresholds,
    expected_calibration_error,
    measure_outcomes,
    steps_until,
)

DISEASED = np.array([False, False, False, False, True, True, True, True])
SCORES = np.array([-3.0, -1.0, 0.5, -2.0, 2.0, 3.0, -0.5, 1.0])


def drawn(seed: int, n: int = 4000, slope: float = 1.0):
    """Scores whose log-odds are ``slope`` times themselves."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, n)
    return scores, rng.random(n) < special.expit(slope * scores)


def test_outcomes_of_a_case_that_is_counted_by_hand() -> None:
    found = measure_outcomes(SCORES, DISEASED, {"half": 0.0, "sensitivity_95": -0.5, "youden": 1.0})
    assert tuple(found) == OUTCOMES
    assert found["auc"] == 15 / 16  # only 0.5 of a normal is above -0.5 of an ill one
    assert (found["accuracy"], found["sensitivity"], found["specificity"]) == (0.75, 0.75, 0.75)
    assert (found["type_1_half"], found["type_2_half"]) == (0.25, 0.25)
    assert (found["type_1_sensitivity_95"], found["type_2_sensitivity_95"]) == (0.25, 0.0)
    assert (found["type_1_youden"], found["type_2_youden"]) == (0.0, 0.25)
    chances = special.expit(SCORES)
    assert found["brier"] == pytest.approx(np.mean((chances - DISEASED) ** 2))
    assert json.loads(json.dumps(found)) == found
    assert {"brier", "type_2_youden"} <= LOWER_IS_BETTER < set(OUTCOMES)
    assert "auc" not in LOWER_IS_BETTER


def test_thresholds_are_the_highest_that_keep_what_they_promise() -> None:
    scores, diseased = drawn(0)
    chosen = choose_thresholds(scores, diseased)
    assert chosen["half"] == 0.0
    ill, well = scores[diseased], scores[~diseased]
    assert np.mean(ill >= chosen["sensitivity_95"]) >= 0.95
    assert np.mean(ill > chosen["sensitivity_95"]) < 0.95
    best = max(np.mean(ill >= t) - np.mean(well >= t) for t in scores)
    at = chosen["youden"]
    assert np.mean(ill >= at) - np.mean(well >= at) == pytest.approx(best)


def test_where_calling_none_diseased_is_best_the_threshold_is_a_number() -> None:
    chosen = choose_thresholds(np.array([2.0, 1.0]), np.array([False, True]))
    assert math.isfinite(chosen["youden"])
    assert chosen["youden"] > 2.0


def test_equal_scores_are_called_alike() -> None:
    chosen = choose_thresholds(np.zeros(4), np.array([False, True, True, True]))
    assert chosen["sensitivity_95"] == 0.0
    found = measure_outcomes(np.zeros(4), np.array([False, True, True, True]), chosen)
    assert (found["auc"], found["type_1_half"], found["type_2_half"]) == (0.5, 1.0, 0.0)
    assert found["calibration_slope"] is None


def test_the_calibration_error_is_that_of_its_bins() -> None:
    chances = np.array([0.01, 0.02, 0.99, 0.98, 1.0])
    diseased = np.array([False, True, True, True, False])
    expected = (abs(0.03 - 1) + abs(2.97 - 2)) / 5
    assert expected_calibration_error(chances, diseased) == pytest.approx(expected)


def test_scores_that_say_what_is_are_calibrated_and_too_sure_ones_are_not() -> None:
    scores, diseased = drawn(1, 20000)
    assert calibration_slope(scores, diseased) == pytest.approx(1.0, abs=0.05)
    assert expected_calibration_error(special.expit(scores), diseased) < 0.015
    assert calibration_slope(3 * scores, diseased) == pytest.approx(1 / 3, abs=0.02)
    assert expected_calibration_error(special.expit(3 * scores), diseased) > 0.08


def test_the_slope_is_that_of_another_library() -> None:
    scores, diseased = drawn(2, 500)
    other = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(scores[:, None], diseased)
    assert calibration_slope(scores, diseased) == pytest.approx(other.coef_[0, 0], rel=1e-4)


def test_without_a_mistake_there_is_no_slope() -> None:
    assert calibration_slope(np.array([-2.0, -1.0, 1.0]), np.array([False, False, True])) is None
    assert calibration_slope(np.array([2.0, 1.0, -1.0]), np.array([False, False, True])) is None


def test_steps_are_the_first_of_the_curve() -> None:
    curve = [(10, 0.7), (20, 0.9), (30, 0.85)]
    assert [steps_until(curve, auc) for auc in (0.5, 0.85, 0.95)] == [10, 20, None]


@pytest.mark.parametrize(("kind", "word"), [(True, "diseased"), (False, "without disease")])
def test_images_of_one_kind_are_refused(kind: bool, word: str) -> None:
    diseased = np.full(3, kind)
    with pytest.raises(UserError, match=f"the validation images are all {word}"):
        choose_thresholds(np.zeros(3), diseased)
    with pytest.raises(UserError, match=f"the test images are all {word}"):
        measure_outcomes(np.zeros(3), diseased, {})

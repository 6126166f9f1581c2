"""McNemar's test, by images and by patients."""

import numpy as np
import pytest
from scipy import stats

from cxrgan_fast.studies.augmentation.mcnemar import compare_mistakes


def test_it_is_the_exact_one_of_the_images_on_which_one_arm_is_wrong() -> None:
    ours = np.array([True] * 3 + [False] * 10 + [True] * 5 + [False] * 9)
    theirs = np.array([False] * 3 + [True] * 10 + [True] * 5 + [False] * 9)
    found = compare_mistakes(ours, theirs, [str(row) for row in range(27)])
    assert (found.images, found.only_ours, found.only_theirs) == (27, 3, 10)
    assert found.p_value == pytest.approx(stats.binomtest(3, 13).pvalue)
    # With an image a patient it is McNemar's statistic without a correction.
    assert found.p_by_patient == pytest.approx(stats.chi2.sf((3 - 10) ** 2 / 13, 1))
    assert found.to_plain()["only_ours"] == 3


def test_images_of_one_patient_are_no_ten_patients() -> None:
    ours, theirs = np.zeros(40, bool), np.zeros(40, bool)
    theirs[:10] = True
    apart = compare_mistakes(ours, theirs, [str(row) for row in range(40)])
    together = compare_mistakes(ours, theirs, [str(row // 10) for row in range(40)])
    assert apart.p_value == together.p_value < 0.01
    assert apart.p_by_patient < 0.01
    assert together.p_by_patient > 0.3


def test_equal_mistakes_say_nothing() -> None:
    wrong = np.array([True, False, True])
    found = compare_mistakes(wrong, wrong, ["a", "b", "c"])
    assert (found.p_value, found.p_by_patient) == (1.0, None)


def test_under_no_effect_it_errs_as_often_as_it_says() -> None:
    """Patients have three images, which are alike; by images it would err too often."""
    rng = np.random.default_rng(0)
    patients = [str(row // 3) for row in range(300)]
    found = []
    for _ in range(300):
        of_patient = rng.random((2, 100)) < 0.3
        ours, theirs = np.repeat(of_patient, 3, axis=1)
        found.append(compare_mistakes(ours, theirs, patients))
    by_patient = np.mean([each.p_by_patient < 0.05 for each in found])
    assert 0.02 < by_patient < 0.09
    assert np.mean([each.p_value < 0.05 for each in found]) > 0.12

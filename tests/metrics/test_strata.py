"""Classes and patients of two sets of images."""

import numpy as np
import pytest
import torch

from cxrgan_fast.metrics.strata import Grouping, Strata


def test_units_are_the_patients_of_each_class() -> None:
    groups = Grouping.of(
        7, labels=torch.tensor([1, 0, 0, 1, 0, 2, 0]), patients=["p", "q", "q", "p", "p", "r", "s"]
    )
    unit, label = groups.units()
    alike = unit[:, None] == unit
    expected = torch.eye(7).bool()
    for first, second in ((1, 2), (0, 3)):  # 4 is the same patient in another class
        expected[first, second] = expected[second, first] = True
    assert torch.equal(alike, expected)
    assert torch.equal(label[unit], groups.labels)
    assert len(label) == 5


def test_what_is_unknown_is_one_class_and_a_patient_each() -> None:
    strata = Strata.unknown(3, 2)
    assert (len(strata.real), len(strata.fake)) == (3, 2)
    assert strata.real.units()[0].tolist() == [0, 1, 2]
    assert strata.real.labels.tolist() == [0, 0, 0]


def test_one_image_of_each_patient_at_random() -> None:
    patients = torch.tensor([0, 0, 0, 1, 1, 2])
    groups = Grouping.of(6, patients=patients)
    rows = [groups.one_a_patient(seed) for seed in range(30)]
    assert all(patients[row].tolist() == [0, 1, 2] for row in rows)
    assert {int(row[0]) for row in rows} == {0, 1, 2}
    assert torch.equal(rows[4], groups.one_a_patient(4))


def test_the_variance_of_a_sum_is_that_over_patients_within_classes() -> None:
    """Against its definition, and by simulation: patients drawn anew, their number fixed."""
    groups = Grouping.of(
        8, labels=torch.tensor([0] * 5 + [1] * 3), patients=list("aabbc") + list("xyz")
    )
    values = torch.tensor([1.0, 2, 4, 4, 9, 50, 53, 50]).double()
    residuals = [1 + 2 - 8.0, 4 + 4 - 8, 9 - 4]
    first = 3 / 2 * sum(each**2 for each in residuals)
    assert groups.variance(values) == pytest.approx(first + 3 / 2 * (1 + 4 + 1))
    rng = np.random.default_rng(0)
    sums, estimates = [], []
    pairs = Grouping.of(40, patients=[str(row // 2) for row in range(40)])
    for _ in range(400):
        drawn = torch.from_numpy(rng.normal(size=20).repeat(2))
        sums.append(float(drawn.sum()))
        estimates.append(pairs.variance(drawn))
    assert np.mean(estimates) == pytest.approx(np.var(sums), rel=0.25)


def test_a_class_of_one_patient_adds_nothing() -> None:
    groups = Grouping.of(3, labels=torch.tensor([0, 0, 1]), patients=["a", "a", "b"])
    assert groups.variance(torch.tensor([1.0, 5.0, 7.0]).double()) == 0


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 each, got 2 and 3"):
        Grouping.of(3, labels=torch.zeros(2))
    with pytest.raises(ValueError, match=r"expected \(N,\) and \(N,\), got \(2,\) and \(3,\)"):
        Grouping(torch.zeros(2), torch.zeros(3))


def test_some_of_the_images() -> None:
    strata = Strata(Grouping.of(4, labels=torch.tensor([0, 1, 0, 1])), Grouping.of(3))
    part = strata.take(torch.tensor([1, 2]), torch.tensor([2])).to("cpu")
    assert part.real.labels.tolist() == [1, 0]
    assert part.real.patients.tolist() == [1, 2]
    assert len(part.fake) == 1

"""The discrepancy of two sets by any kernel: pairs in loops, patients, classes and its spread."""

import importlib
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.metrics.kid import kid
from cxrgan_fast.metrics.mmd import mmd
from cxrgan_fast.metrics.strata import Grouping, Strata

METRICS = pytest.mark.parametrize("metric", [kid, mmd])
_Metric = Callable[..., Estimate]


def drawn(n: int, dimension: int, *, shift: float = 0, seed: int = 0) -> Tensor:
    return torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed)) + shift


def kernel(metric: _Metric, found: Estimate, first: Tensor, second: Tensor) -> np.ndarray:
    x, y = first.double().numpy(), second.double().numpy()
    if metric is kid:
        return polynomial_kernel(x, y, degree=3)
    return rbf_kernel(x, y, gamma=0.5 / found.details["bandwidth"] ** 2)


@METRICS
def test_blocks_of_the_kernel_matrix_change_nothing(
    metric: _Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake = drawn(23, 6), drawn(31, 6, shift=1, seed=1)
    resamples = Resamples.draw(23, 31, count=6)
    whole = metric(real, fake, resamples=resamples)
    module = importlib.import_module("cxrgan_fast.metrics.discrepancy")
    monkeypatch.setattr(module, "_ELEMENTS", 100)
    blocked = metric(real, fake, resamples=resamples)
    assert blocked.value == pytest.approx(whole.value, rel=1e-12)
    assert blocked.standard_error == pytest.approx(whole.standard_error, rel=1e-9)
    assert blocked.bounds == pytest.approx(whole.bounds, rel=1e-9)
    assert blocked.details == pytest.approx(whole.details, rel=1e-9)


@METRICS
def test_matched_classes_do_not_push_it_below_0_nor_patients_up(metric: _Metric) -> None:
    """Two classes apart, equal numbers of each in both sets, three images a patient."""
    labels = torch.arange(24) // 12
    strata = Strata(Grouping(labels, torch.arange(24) // 3), Grouping(labels, torch.arange(24)))
    values, plain = [], []
    for seed in range(200):
        of_patient, real, fake = (drawn(24, 2, seed=3 * seed + k) for k in range(3))
        real = (of_patient[strata.real.patients] + 0.3 * real) / 1.09**0.5  # of variance 1
        real, fake = real + 2.0 * labels[:, None], fake + 2.0 * labels[:, None]
        values.append(metric(real, fake, strata=strata).value)
        plain.append(metric(real, fake).value)
    noise = np.std(values) / 200**0.5
    assert abs(np.mean(values)) < 4 * noise
    moved = np.subtract(plain, values)  # by what is left out
    assert abs(moved.mean()) > 4 * moved.std() / 200**0.5


@METRICS
def test_pairs_are_of_different_patients_within_and_between_the_classes(metric: _Metric) -> None:
    real, fake = drawn(9, 3), drawn(8, 3, seed=1)
    sides = (
        Grouping(torch.tensor([0] * 6 + [1] * 3), torch.tensor([0, 0, 1, 1, 2, 2, 3, 4, 4])),
        Grouping.of(8, labels=torch.tensor([0] * 5 + [1] * 3)),
    )
    found = metric(real, fake, strata=Strata(*sides))
    expected = 0.0
    for vectors, groups in zip((real, fake), sides, strict=True):
        within = kernel(metric, found, vectors, vectors)
        labels, patients = groups.labels.numpy(), groups.patients.numpy()
        for k, m in itertools.product((0, 1), repeat=2):
            pairs = [
                within[i, j]
                for i, j in itertools.product(range(len(within)), repeat=2)
                if (labels[i], labels[j]) == (k, m) and patients[i] != patients[j]
            ]
            expected += (labels == k).mean() * (labels == m).mean() * np.mean(pairs)
    across = kernel(metric, found, real, fake)
    assert found.value == pytest.approx(expected - 2 * across.mean(), rel=1e-9)


@METRICS
def test_a_class_of_one_patient_is_taken_with_another_and_a_set_of_one_is_refused(
    metric: _Metric,
) -> None:
    real, fake = drawn(9, 3), drawn(8, 3, seed=1)
    alone = Grouping.of(9, labels=torch.tensor([0] * 8 + [1]))
    found = metric(real, fake, strata=Strata(alone, Grouping.of(8)))
    assert found.value == pytest.approx(metric(real, fake).value, rel=1e-12)
    one = Grouping.of(9, patients=["p"] * 9)
    name = metric.__name__.upper()
    with pytest.raises(UserError, match=f"{name}: all 9 images of a set are of one patient"):
        metric(real, fake, strata=Strata(one, Grouping.of(8)))


@METRICS
def test_the_spread_of_equal_sets_is_that_of_fresh_draws(metric: _Metric) -> None:
    """A bootstrap's is √3 times too large. 80 samples know their spread to 8 %."""
    values, errors = [], []
    for seed in range(80):
        real, fake = drawn(100, 4, seed=2 * seed), drawn(100, 4, seed=2 * seed + 1)
        values.append(metric(real, fake).value)
        if seed < 12:
            resamples = Resamples.draw(100, 100, seed=seed)
            errors.append(metric(real, fake, resamples=resamples).details["error_if_equal"])
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.35)

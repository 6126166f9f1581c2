"""The interval of a squared distance, where its distribution is known."""

import numpy as np
import pytest
import torch
from scipy import stats

from cxrgan_fast.metrics.second_order import SecondOrder, quantile


def test_quantiles_are_students() -> None:
    for freedom in (6, 9, 49, 99, 10_000):
        assert quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)


@pytest.mark.parametrize("true", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_the_squared_mean_of_gaussians_is_covered(true: float) -> None:
    """x² - 1 of x ~ N(true, 1), of which L = 2 x δ and Q = δ² - 1: 93 to 97 % hold true²."""
    x = stats.norm.ppf((np.arange(4000) + 0.5) / 4000) + true
    held = []
    for value in x:
        found = SecondOrder(linear=4 * value**2, quadratic=2.0, freedom=10**6)
        low, high = found.interval(value**2 - 1)
        held.append(low <= true**2 <= high)
    assert 0.93 <= np.mean(held) <= 0.98


def test_far_away_it_is_two_standard_errors() -> None:
    found = SecondOrder(linear=9.0, quadratic=1e-6, freedom=10**6)
    low, high = found.interval(1e4)
    assert (high - low) / 2 == pytest.approx(1.96 * 3, rel=1e-2)
    assert found.standard_error == pytest.approx(3, rel=1e-3)
    assert found.error_if_equal == pytest.approx(1e-3)


def test_what_is_beside_it_widens_it() -> None:
    parts = torch.tensor([1.0, 2.0, 4.0, 0.5]).double()
    without = SecondOrder.of(5.0, parts)
    assert without.quadratic == pytest.approx(np.var(parts.numpy(), ddof=1))
    assert without.freedom == 3
    beside = SecondOrder(without.linear, without.quadratic, without.freedom, other=4.0)
    for value in (-1.0, 0.0, 3.0):
        widths = [high - low for low, high in (each.interval(value) for each in (without, beside))]
        assert widths[1] > widths[0]
    assert beside.standard_error**2 == pytest.approx(without.standard_error**2 + 4)


def test_without_any_spread_it_is_a_point() -> None:
    nothing = SecondOrder(0.0, 0.0, 9)
    assert nothing.interval(2.0) == (2.0, 2.0)
    assert nothing.interval(0.0) == (0.0, 0.0)
    assert nothing.standard_error == 0

"""KID against sums over pairs as the paper writes them, and against what is known of its mean."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.kid import kid


def drawn(n: int, dimension: int, *, shift: float = 0, seed: int = 0) -> Tensor:
    return torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed)) + shift


def by_pairs(real: Tensor, fake: Tensor) -> float:
    """Equation 4 in loops."""

    def mean(first: np.ndarray, second: np.ndarray, *, same: bool) -> float:
        kernels = [
            (float(x @ y) / len(x) + 1) ** 3
            for i, x in enumerate(first)
            for j, y in enumerate(second)
            if not (same and i == j)
        ]
        return sum(kernels) / len(kernels)

    x, y = real.double().numpy(), fake.double().numpy()
    return mean(x, x, same=True) + mean(y, y, same=True) - 2 * mean(x, y, same=False)


@pytest.mark.parametrize(("n_real", "n_fake", "dimension"), [(20, 13, 5), (4, 30, 50), (9, 4, 1)])
def test_it_is_the_sum_over_pairs(n_real: int, n_fake: int, dimension: int) -> None:
    real, fake = drawn(n_real, dimension), drawn(n_fake, dimension, shift=0.5, seed=1)
    found = kid(real, fake)
    assert found.value == pytest.approx(by_pairs(real, fake), rel=1e-11)
    assert (found.n_real, found.n_fake) == (n_real, n_fake)
    assert found.standard_error is None
    assert kid(fake, real).value == pytest.approx(found.value, rel=1e-11)


def test_by_hand() -> None:
    """Kernels 1 within the real, 8 within the generated; across them 1."""
    real = torch.zeros(4, 1)
    fake = torch.ones(4, 1)
    assert kid(real, fake).value == pytest.approx(1 + 8 - 2)


def test_it_is_unbiased_at_any_number_of_images() -> None:
    """Of one distribution the mean is 0, and near it half of the values are negative."""
    values = [kid(drawn(8, 4, seed=2 * s), drawn(11, 4, seed=2 * s + 1)).value for s in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 400**0.5
    assert 0.3 < np.mean(np.array(values) < 0) < 0.8


def test_its_mean_where_the_distributions_differ() -> None:
    """In one dimension, x = 0 against y = ±1: E k = 1, (8 + 0)/2 and 1, so 1 + 4 - 2."""
    real = torch.zeros(6, 1)
    generator = torch.Generator().manual_seed(3)
    values = [
        kid(real, torch.randint(0, 2, (6, 1), generator=generator) * 2.0 - 1).value
        for _ in range(400)
    ]
    assert abs(np.mean(values) - 3) < 4 * np.std(values) / 400**0.5


def test_a_set_against_itself_is_not_positive() -> None:
    """The pairs of an image with itself are left out within the set but not across."""
    real = drawn(30, 8)
    own = (real.double().square().sum(1) / 8 + 1) ** 3
    kernel = polynomial_kernel(real.double().numpy(), degree=3)  # gamma = 1/D, coef0 = 1
    across = (kernel.sum() - float(own.sum())) / (30 * 29)
    expected = 2 * (across - kernel.mean())
    assert kid(real, real).value == pytest.approx(expected, rel=1e-9)
    assert expected < 0


def test_a_large_offset_costs_no_digits() -> None:
    """At 1,000 kernels are 1e18; the same numbers as exact fractions say how many digits stay."""
    near = torch.randint(-8, 8, (2, 12, 3), generator=torch.Generator().manual_seed(0))
    real, fake = (near + 1000).tolist()

    def total(first: list[list[int]], second: list[list[int]], *, same: bool) -> tuple[int, int]:
        kernels = [  # 27 times, in whole numbers
            (sum(a * b for a, b in zip(x, y, strict=True)) + 3) ** 3
            for i, x in enumerate(first)
            for j, y in enumerate(second)
            if not (same and i == j)
        ]
        return sum(kernels), len(kernels)

    within = Fraction(*total(real, real, same=True)) + Fraction(*total(fake, fake, same=True))
    exact = float((within - 2 * Fraction(*total(real, fake, same=False))) / 27)
    found = kid(*(near + 1000).float()).value
    assert found == pytest.approx(exact, rel=1e-6)


def test_constant_images() -> None:
    same = torch.full((5, 4), 0.3)
    assert kid(same, same).value == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(("n_real", "n_fake"), [(1, 9), (9, 1), (2, 2), (3, 9)])
def test_too_few_images(n_real: int, n_fake: int) -> None:
    with pytest.raises(UserError, match=f"KID: expected 4 .* got {n_real} real and {n_fake} gen"):
        kid(torch.rand(n_real, 3), torch.rand(n_fake, 3))


def test_subsets() -> None:
    """Unbiased too, of the size it says; the seed moves them and not the value."""
    real, fake = drawn(60, 4), drawn(50, 4, shift=0.7, seed=1)
    first, again, other = (kid(real, fake, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert other.value == first.value
    assert other.details["subset_mean"] != first.details["subset_mean"]
    assert (first.details["subsets"], first.details["subset_size"]) == (100, 25)
    noise = first.details["subset_deviation"] / 100**0.5
    assert abs(first.details["subset_mean"] - first.value) < 4 * noise


def test_subsets_spread_as_all_pairs_of_subsets_do() -> None:
    """Two of four images on each side: 36 values. 100 draws know a deviation to 1/√200 = 7 %."""
    real, fake = drawn(4, 4), drawn(4, 4, shift=0.7, seed=1)
    pairs = list(itertools.combinations(range(4), 2))
    values = [by_pairs(real[list(some)], fake[list(others)]) for some in pairs for others in pairs]
    found = kid(real, fake)
    assert found.value == pytest.approx(np.mean(values), rel=1e-9)
    assert found.details["subset_deviation"] == pytest.approx(np.std(values), rel=0.28)


def test_subsets_of_many_images_are_the_papers() -> None:
    assert kid(drawn(2100, 2), drawn(2000, 2, seed=1)).details["subset_size"] == 1000


def test_the_spread_is_that_of_the_squared_distance_of_weighted_images() -> None:
    """Of the sums over all pairs, with weights: a quadratic form, taken apart by hand."""
    real, fake = drawn(12, 3), drawn(10, 3, shift=1, seed=1)
    resamples = Resamples.draw(12, 10, count=40)
    moves = torch.cat([resamples.directions()[0] / 12, -resamples.directions()[1] / 10], 1).numpy()
    both = torch.cat([real, fake]).double().numpy()
    kernel = polynomial_kernel(both, degree=3)
    whole = np.r_[np.full(12, 1 / 12), np.full(10, -1 / 10)]
    quadratic = np.einsum("bi,ij,bj->b", moves, kernel, moves).var(ddof=1)
    influence = 2 * whole * (kernel @ whole)  # of each image
    linear = sum(len(part) * part.var(ddof=1) for part in np.split(influence, [12]))
    found = kid(real, fake, resamples=resamples)
    expected = max(linear - quadratic, quadratic)
    assert found.standard_error == pytest.approx(expected**0.5, rel=1e-9)
    assert found.details["error_if_equal"] == pytest.approx(quadratic**0.5, rel=1e-9)
    assert found.details["resamples"] == 40
    assert kid(real, fake, resamples=Resamples.draw(12, 10, count=1)).standard_error is None


def test_the_standard_error_is_the_spread_of_new_samples() -> None:
    """60 samples know their spread to 1/√120 = 9 %: four of these and a little."""
    values, errors = [], []
    for seed in range(60):
        real, fake = drawn(200, 4, seed=2 * seed), drawn(200, 4, shift=0.7, seed=2 * seed + 1)
        values.append(kid(real, fake).value)
        if seed < 8:
            resamples = Resamples.draw(200, 200, seed=seed)
            errors.append(kid(real, fake, resamples=resamples).standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.4)


def test_the_standard_error_of_equal_sets_is_right_too() -> None:
    """A bootstrap's is √3 times too large. 100 samples know their spread to 7 %, and 20 errors."""
    values, errors = [], []
    for seed in range(100):
        real, fake = drawn(200, 4, seed=2 * seed), drawn(200, 4, seed=2 * seed + 1)
        values.append(kid(real, fake).value)
        if seed < 20:
            resamples = Resamples.draw(200, 200, seed=seed)
            errors.append(kid(real, fake, resamples=resamples).details["error_if_equal"])
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.3)

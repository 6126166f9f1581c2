"""Density and coverage: another library, the definition, closed forms, and their errors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prdc import compute_prdc
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.density_coverage import density_coverage
from properties import at_most


def _values(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    density, coverage = density_coverage(real, fake, k=k)
    return density.value, coverage.value


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("dimension", "n_fake"), [(3, 120), (60, 90)])
def test_the_authors_library(k: int, dimension: int, n_fake: int) -> None:
    real = torch.randn(120, dimension)
    fake = torch.randn(n_fake, dimension) * 0.8 + 0.2
    theirs = compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=k)
    assert _values(real, fake, k) == pytest.approx((theirs["density"], theirs["coverage"]))


def test_a_case_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])  # radii for k = 1: 1, 1, 2, 7
    fake = torch.tensor([[-1.0], [2.0], [5.0]])  # in the balls of 0; of 1 and 3; of 3 and 10
    density, coverage = density_coverage(real, fake, k=1)
    assert density.value == 5 / 3
    assert coverage.value == 1
    assert density.details == {"k": 1}
    # 1 − (N − 1)/(M + N − 1)
    assert coverage.details == {"k": 1, "expected": pytest.approx(1 - 3 / 6)}
    assert (density.n_real, density.n_fake, density.standard_error) == (4, 3, None)


@at_most(40)
@given(n=st.integers(6, 14), m=st.integers(6, 14), d=st.integers(1, 4), seed=st.integers(0, 9999))
def test_ties_and_copies_follow_the_definition(n: int, m: int, d: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    real = torch.randint(0, 3, (n, d), generator=generator).float()
    fake = torch.randint(0, 3, (m, d), generator=generator).float()

    def squares(a: Tensor, b: Tensor) -> Tensor:  # integers: exact
        return (a[:, None] - b[None]).square().sum(2)

    within = squares(real, real)
    within.fill_diagonal_(torch.inf)
    held = squares(real, fake) <= within.sort(1).values[:, 4:5]  # (n, m)
    expected = (float(held.sum()) / (5 * m), float(held.any(1).double().mean()))
    assert _values(real, fake) == pytest.approx(expected, abs=1e-12)


def test_two_sets_of_one_distribution_have_the_expected_values() -> None:
    found = []
    for _ in range(40):
        both = density_coverage(torch.randn(60, 4), torch.randn(80, 4))
        found.append([one.value for one in both])
    expected = both[1].details["expected"]
    means, errors = np.mean(found, 0), np.std(found, 0, ddof=1) / np.sqrt(40)
    assert abs(means[0] - 1) < 4 * errors[0]
    assert abs(means[1] - expected) < 4 * errors[1]


def test_a_collapsed_generator_covers_little_and_may_be_dense() -> None:
    real = torch.randn(60, 4)
    middle = real.mean(0).expand(60, -1).contiguous()
    density, coverage = _values(real, middle)
    assert density > 1
    assert coverage < 0.5
    assert _values(real, real.clone()) == (pytest.approx(6 / 5, abs=0.2), 1)
    assert _values(real, real + 100) == (0, 0)


@pytest.mark.parametrize(("dimension", "shift", "scale"), [(8, 0.5, 1.0), (16, 0.3, 1.0)])
def test_standard_errors_are_those_of_fresh_draws(
    dimension: int, shift: float, scale: float
) -> None:
    count = 150
    values, errors = [], []
    for draw in range(100):
        real = torch.randn(count, dimension)
        fake = torch.randn(count, dimension) * scale + shift
        resamples = Resamples.draw(count, count, seed=draw) if draw < 10 else None
        both = density_coverage(real, fake, resamples=resamples)
        values.append([one.value for one in both])
        if resamples is not None:
            errors.append([one.standard_error for one in both])
    ratios = np.mean(errors, axis=0) / np.std(values, axis=0, ddof=1)
    assert (ratios > 0.7).all(), ratios
    assert (ratios < 1.6).all(), ratios


def test_too_few_images() -> None:
    vectors = torch.randn(6, 2)
    assert _values(vectors, vectors)[1] == 1
    with pytest.raises(UserError, match=r"of 5 neighbors: expected 6 images .* got 5 real"):
        density_coverage(vectors[:5], vectors)
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        density_coverage(vectors, vectors, k=0)

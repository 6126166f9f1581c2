"""The Likeness Score: exact statistics over all pairs, ties, limits and errors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist, pdist
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples, likeness
from cxrgan_fast.metrics.likeness import likeness_score
from properties import at_most


def _by_scipy(real: Tensor, fake: Tensor) -> tuple[float, float]:
    a, b = real.double().numpy(), fake.double().numpy()
    # Squares of integers are exact, which the ties of the tests need.
    between = cdist(a, b, "sqeuclidean").ravel()
    return (
        stats.ks_2samp(pdist(a, "sqeuclidean"), between, method="asymp").statistic,
        stats.ks_2samp(pdist(b, "sqeuclidean"), between, method="asymp").statistic,
    )


@pytest.mark.parametrize(("n", "m"), [(120, 120), (80, 150), (2, 2), (2, 60)])
@pytest.mark.parametrize("dimension", [1, 4, 100])
def test_the_statistics_are_those_of_scipy(n: int, m: int, dimension: int) -> None:
    real, fake = torch.randn(n, dimension), torch.randn(m, dimension) * 0.9 + 0.2
    estimate = likeness_score(real, fake)
    ks_real, ks_fake = _by_scipy(real, fake)
    assert estimate.details["ks_real"] == pytest.approx(ks_real, abs=1e-12)
    assert estimate.details["ks_fake"] == pytest.approx(ks_fake, abs=1e-12)
    assert estimate.value == pytest.approx(1 - max(ks_real, ks_fake), abs=1e-12)
    assert estimate.details["score_by_mean"] == pytest.approx(
        1 - (ks_real + ks_fake) / 2, abs=1e-12
    )
    assert estimate.details["pairs_real"] == n * (n - 1) // 2
    assert estimate.details["pairs_fake"] == m * (m - 1) // 2
    assert estimate.details["pairs_between"] == n * m
    assert (estimate.n_real, estimate.n_fake) == (n, m)


@at_most(100)
@given(n=st.integers(2, 15), m=st.integers(2, 15), d=st.integers(1, 4), seed=st.integers(0, 9999))
def test_equal_distances_are_not_ordered_by_rounding(n: int, m: int, d: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # A mean that is no integer: the products of the centred vectors are all rounded.
    real = torch.randint(0, 3, (n, d), generator=generator).float()
    fake = torch.randint(0, 3, (m, d), generator=generator).float()
    details = likeness_score(real, fake).details
    found = [details["ks_real"], details["ks_fake"]]
    np.testing.assert_allclose(found, _by_scipy(real, fake), atol=1e-12)


def test_a_case_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0]])  # within: 1, 2, 3
    fake = torch.tensor([[1.0], [6.0]])  # within: 5; between: 0, 1, 2, 3, 5, 6
    details = likeness_score(real, fake).details
    # At 3 all of the real distances are reached and four of the six between: 1/3.
    assert details["ks_real"] == pytest.approx(1 / 3, abs=1e-15)
    # Just below 5 none of the distances within and four of the six between: 2/3.
    assert details["ks_fake"] == pytest.approx(2 / 3, abs=1e-15)


def test_sets_apart_score_nought() -> None:
    real = torch.randn(40, 5)
    assert likeness_score(real, real + 100).value == 0


@pytest.mark.parametrize("count", [2, 10, 80])
def test_a_set_and_its_copy(count: int) -> None:
    # Between are all distances within, twice, and n of 0, a share of 1/n: there the distribution
    # functions differ by 1/n, and by less anywhere else.
    real = torch.randn(count, 4)
    estimate = likeness_score(real, real.flip(0))
    assert estimate.value == pytest.approx(1 - 1 / count, abs=1e-12)


def test_vectors_that_are_all_equal_cannot_be_told_apart() -> None:
    assert likeness_score(torch.full((9, 3), 0.1), torch.full((7, 3), 0.1)).value == 1


def test_a_generator_of_one_image_scores_nought_and_half_with_the_mean() -> None:
    real, fake = torch.randn(200, 50), torch.randn(1, 50).repeat(200, 1)
    estimate = likeness_score(real, fake)
    assert estimate.details["ks_fake"] == 1
    assert estimate.value == 0
    assert estimate.details["score_by_mean"] > 0.2


def test_one_distribution_scores_nearly_one_and_more_with_more_images() -> None:
    means = [
        np.mean([likeness_score(torch.randn(n, 8), torch.randn(n, 8)).value for _ in range(20)])
        for n in (50, 400)
    ]
    assert 0.8 < means[0] < means[1] < 1
    # Distances from an image are of order 1/√n off, those of a pair 1/n: with eight times the
    # images what is missing to 1 falls to between 1/√8 and 1/8.
    assert 8**0.5 < (1 - means[0]) / (1 - means[1]) < 8


def test_exchanging_turning_and_scaling_change_nothing() -> None:
    real, fake = torch.randn(60, 6), torch.randn(50, 6) * 0.7
    value = likeness_score(real, fake).value
    assert likeness_score(fake, real).value == pytest.approx(value, abs=1e-12)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    turned = likeness_score(real.double() @ turn * 3, fake.double() @ turn * 3).value
    assert turned == pytest.approx(value, abs=1e-12)


def test_far_from_the_origin_and_with_an_outlier() -> None:
    real, fake = ((torch.randn(60, 8) * 64).round() / 64 for _ in range(2))
    near = likeness_score(real, fake).value
    assert likeness_score(real + 4096, fake + 4096).value == near
    # A vector of 1e12 leaves no digit of the others in the products about the mean.
    fake[0] = 1e12
    details = likeness_score(real, fake).details
    assert [details["ks_real"], details["ks_fake"]] == pytest.approx(
        _by_scipy(real, fake), abs=1e-12
    )


def test_large_sets_are_sampled_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = torch.randn(90, 3), torch.randn(40, 3)
    monkeypatch.setattr(likeness, "MAX_IMAGES", 50)
    estimate = likeness_score(real, fake, resamples=Resamples.draw(90, 40))
    assert (estimate.n_real, estimate.n_fake) == (90, 40)
    assert (estimate.details["images_real"], estimate.details["images_fake"]) == (50, 40)
    assert estimate.details["pairs_between"] == 2000
    assert likeness_score(real, fake).value == estimate.value  # the same ones every time
    # Not the first ones: sets are ordered by class.
    assert likeness_score(real[:50], fake).value != estimate.value


def test_a_resample_is_scored_as_its_images_would_be_but_for_their_own_copies() -> None:
    real, fake = torch.randn(30, 3), torch.randn(25, 3) + 0.4
    resamples = Resamples.draw(30, 25, count=5)
    scores = []
    for of_real, of_fake in zip(resamples.real.long(), resamples.fake.long(), strict=True):
        a = real.double().repeat_interleave(of_real, 0).numpy()
        b = fake.double().repeat_interleave(of_fake, 0).numpy()
        between = cdist(a, b).ravel()
        within = [distances[distances > 0] for distances in (pdist(a), pdist(b))]
        scores.append(1 - max(stats.ks_2samp(part, between).statistic for part in within))
    estimate = likeness_score(real, fake, resamples=resamples)
    # 1,359 distances in 1,024 bins: two distances in a bin, of 400 within, are 0.005 at most.
    assert estimate.standard_error == pytest.approx(np.std(scores, ddof=1), abs=0.005)
    assert estimate.details["resamples"] == 5


def test_fewer_resamples_of_many_pairs_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = torch.randn(30, 3), torch.randn(30, 3)
    monkeypatch.setattr(likeness, "_RESAMPLED_PAIRS", 20 * (435 + 435 + 900))
    estimate = likeness_score(real, fake, resamples=Resamples.draw(30, 30))
    assert estimate.details["resamples"] == 20


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_standard_errors_are_those_of_fresh_draws(shift: float) -> None:
    # Of 400 draws the mean bootstrap error was 1.15 of the deviation, one error's own spread 0.17
    # of itself. 150 draws know the deviation to 1/√300 = 0.058, and ten errors their mean to 0.054:
    # together 0.08, three of which are left on either side.
    count = 150
    values, errors = [], []
    for draw in range(150):
        real, fake = torch.randn(count, 8), torch.randn(count, 8) + shift
        resamples = Resamples.draw(count, count, seed=draw) if draw < 10 else None
        estimate = likeness_score(real, fake, resamples=resamples)
        values.append(estimate.value)
        if resamples is not None:
            errors.append(estimate.standard_error)
    ratio = np.mean(errors) / np.std(values, ddof=1)
    assert 0.9 < ratio < 1.45


def test_too_few_images() -> None:
    vectors = torch.randn(5, 2)
    with pytest.raises(UserError, match=r"Likeness Score: expected 2 images .* got 1 real"):
        likeness_score(vectors[:1], vectors)
    with pytest.raises(UserError, match="got 5 real and 0 generated"):
        likeness_score(vectors, vectors[:0])
    # Half of the resamples of two images have one of them only, and no pair.
    smallest = likeness_score(vectors[:2], vectors[2:4], resamples=Resamples.draw(2, 2))
    assert smallest.standard_error is not None
    assert np.isfinite(smallest.standard_error)

"""FID at infinity on Gaussians, whose distance is known, and where it has to refuse."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.fid import fid, fid_with_spread
from cxrgan_fast.metrics.fid_infinity import fid_infinity
from cxrgan_fast.metrics.strata import Grouping, Strata


def gaussian(n: int, dimension: int, *, shift: float = 0, scale: float = 1, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n, dimension, generator=generator) * scale
    drawn[:, 0] += shift
    return drawn


def with_interval(
    real: Tensor, fake: Tensor, seed: int = 0, strata: Strata | None = None
) -> Estimate:
    strata = strata or Strata.unknown(len(real), len(fake))
    resamples = Resamples.draw(len(real), len(fake), strata=strata, count=50)
    _, spread = fid_with_spread(real, fake, resamples=resamples, strata=strata)
    return fid_infinity(real, fake, seed=seed, strata=strata, spread=spread)


def test_equal_gaussians_come_out_at_zero() -> None:
    """FID of n images of each has, to first order, the bias (2 D + D²/2)/n.

    2 D/n is of the means; the covariances' part is Σᵢⱼ λᵢλⱼ/(λᵢ + λⱼ)/n with eigenvalues of 1.
    What a line cannot follow is of second order, D/n = 0.1 of the first.
    """
    n, dimension = 160, 16
    bias = (2 * dimension + dimension**2 / 2) / n
    plain, extrapolated, slopes = [], [], []
    for seed in range(12):
        real = gaussian(n, dimension, seed=2 * seed)
        fake = gaussian(n, dimension, seed=2 * seed + 1)
        found = fid_infinity(real, fake)
        plain.append(fid(real, fake).value)
        extrapolated.append(found.value)
        slopes.append(found.details["slope"])
    assert np.mean(plain) == pytest.approx(bias, rel=0.1)
    assert np.mean(slopes) == pytest.approx(bias, rel=0.1)
    noise = np.std(extrapolated) / 12**0.5
    assert abs(np.mean(extrapolated)) < 0.1 * bias + 3 * noise
    assert min(extrapolated) < 0  # as an estimate without bias has to be at times


def test_gaussians_apart_and_of_unequal_counts() -> None:
    """The distance μ² + D (σ - τ)²; what 16 samples do not average out is allowed on top."""
    dimension, shift, scale = 10, 2.0, 1.5
    true = shift**2 + dimension * (scale - 1) ** 2
    plain, extrapolated = [], []
    for seed in range(16):
        real = gaussian(300, dimension, seed=2 * seed)
        fake = gaussian(120, dimension, shift=shift, scale=scale, seed=2 * seed + 1)
        plain.append(fid(real, fake).value)
        extrapolated.append(fid_infinity(real, fake).value)
    noise = np.std(plain) / 16**0.5
    mean_bias = dimension * (1 / 300 + scale**2 / 120)
    assert np.mean(plain) - true > mean_bias - 3 * noise
    # The same samples in both: their difference shows the bias much more sharply than either.
    removed = np.subtract(plain, extrapolated)
    assert removed.mean() > mean_bias
    assert removed.std() < np.std(plain) / 2
    assert abs(np.mean(extrapolated) - true) < 3 * noise


def test_the_points_and_their_line() -> None:
    real, fake = gaussian(280, 5, seed=0), gaussian(56, 5, shift=1, seed=1)
    found = fid_infinity(real, fake)
    details = found.details
    assert details["real_sizes"] == list(range(140, 281, 10))
    assert details["fake_sizes"] == list(range(28, 57, 2))
    assert details["fid"][-1] == pytest.approx(fid(real, fake).value, rel=1e-12)
    over_share = np.array([280 / n for n in details["real_sizes"]])
    design = np.stack([np.ones(15), over_share], 1)
    (intercept, slope), *_ = np.linalg.lstsq(design, np.array(details["fid"]), rcond=None)
    assert found.value == pytest.approx(intercept, rel=1e-9)
    assert details["slope"] == pytest.approx(slope, rel=1e-9)
    assert slope > 0
    assert (found.n_real, found.n_fake, details["dimension"]) == (280, 56, 5)


def test_the_seed_moves_it_by_much_less_than_its_standard_error() -> None:
    """So much of the variance of thinning cancels; at random it would be as large as the error."""
    real, fake = gaussian(200, 6, seed=0), gaussian(200, 6, shift=1.5, seed=1)
    found = [with_interval(real, fake, seed=seed) for seed in range(10)]
    assert with_interval(real, fake, seed=0) == found[0]
    values = [estimate.value for estimate in found]
    assert 0 < np.std(values) < 0.35 * (found[0].standard_error or 0)


@pytest.mark.parametrize(("shift", "least", "most"), [(1.5, 0.6, 1.5), (0.0, 0.7, 1.7)])
def test_the_standard_error(shift: float, least: float, most: float) -> None:
    """40 samples know their spread to 1/√80 = 11 %."""
    found = [
        with_interval(gaussian(150, 6, seed=2 * s), gaussian(150, 6, shift=shift, seed=2 * s + 1))
        for s in range(40)
    ]
    spread = np.std([estimate.value for estimate in found], ddof=1)
    errors = [estimate.standard_error for estimate in found]
    assert least < np.mean(errors) / spread < most


def test_more_directions_than_half_of_the_images() -> None:
    """Where the line would end far above 0."""
    real, fake = gaussian(60, 64, seed=0), gaussian(60, 64, seed=1)
    with pytest.raises(UserError, match=r"expected \d+ images or more .* got 60 real and 60 gen"):
        fid_infinity(real, fake)


def test_dimensions_in_which_next_to_nothing_varies_do_not_count() -> None:
    """200 dimensions, of which all but 4 hold 1 % of 1 % of the variance."""
    scales = torch.cat([torch.ones(4), torch.full((196,), (4e-4 / 196) ** 0.5)])
    real, fake = (gaussian(60, 200, seed=seed) * scales for seed in (0, 1))
    found = fid_infinity(real, fake)
    assert found.details["directions"] == 4
    in_four = fid_infinity(real[:, :4], fake[:, :4]).value
    # The rest adds at most its variance, of both sets.
    assert found.value == pytest.approx(in_four, abs=2 * 4e-4 * 2)


@pytest.mark.parametrize(("n_real", "n_fake"), [(27, 50), (50, 27), (1, 1), (0, 30)])
def test_too_few_images(n_real: int, n_fake: int) -> None:
    with pytest.raises(UserError, match=f"expected 28 .* got {n_real} real and {n_fake} gen"):
        fid_infinity(torch.rand(n_real, 1), torch.rand(n_fake, 1))


def test_as_few_images_as_it_takes() -> None:
    found = with_interval(gaussian(28, 2, seed=0), gaussian(28, 2, shift=3, seed=1))
    assert found.details["real_sizes"] == list(range(14, 29))
    assert np.isfinite([found.value, found.standard_error]).all()


def test_images_that_are_all_one() -> None:
    same = torch.full((30, 4), 0.1)
    found = with_interval(same, same + 1)
    assert found.value == pytest.approx(4, rel=1e-6)
    assert found.standard_error == pytest.approx(0, abs=1e-6)


def test_it_is_thinned_by_patient_within_class() -> None:
    """Images of a patient all equal bias FID as a third of the images would: it comes out at 0."""
    strata = Strata(
        Grouping.of(180, labels=torch.arange(180) // 60, patients=torch.arange(180) // 3),
        Grouping.of(180, labels=torch.arange(180) // 60),
    )
    with_patients, without = [], []
    for seed in range(12):
        real = gaussian(180, 6, seed=2 * seed)[strata.real.patients]
        fake = gaussian(180, 6, seed=2 * seed + 1)
        found = with_interval(real, fake, strata=strata)
        # 10, 11, ... 20 of the 20 patients of each class, with three images each.
        assert set(found.details["real_sizes"]) <= {float(9 * n) for n in range(10, 21)}
        with_patients.append(found.value)
        without.append(fid_infinity(real, fake).value)
    noise = np.std(with_patients) / 12**0.5
    assert abs(np.mean(with_patients)) < 3 * noise + 0.03
    assert np.mean(without) > np.mean(with_patients) + 3 * noise


def test_images_of_few_patients_are_too_few() -> None:
    strata = Strata(Grouping.of(60, patients=torch.arange(60) // 3), Grouping.of(60))
    real, fake = gaussian(60, 2, seed=0), gaussian(60, 2, seed=1)
    with pytest.raises(UserError, match=r"expected images of 28 patients .* got 20 and 60"):
        fid_infinity(real, fake, strata=strata)

"""FID against scipy's matrix root and closed forms of Gaussians, and its moments in batches."""

import importlib

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.fid import Moments, fid, frechet_distance, weighted_terms
from cxrgan_fast.metrics.second_order import SecondOrder


def gaussian(n: int, scales: Tensor, *, shift: float = 0, seed: int = 0) -> Tensor:
    """(n, D) float32 of independent Gaussians; the first is shifted."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n, len(scales), generator=generator) * scales
    drawn[:, 0] += shift
    return drawn


def whitened(n: int, dimension: int, seed: int = 0) -> Tensor:
    """(n, D) float64, n > D, of mean 0 and covariance 1 exactly."""
    drawn = torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed)).double()
    basis = torch.linalg.qr(drawn - drawn.mean(0)).Q
    return basis * (n - 1) ** 0.5


def rotation(dimension: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dimension, dimension, generator=generator).double()).Q


def moments_of(*batches: Tensor) -> Moments:
    moments = Moments()
    for batch in batches:
        moments.update(batch)
    return moments


def by_matrix_root(real: Tensor, fake: Tensor) -> float:
    """As the formula is written, in numpy and scipy."""
    real, fake = real.double().numpy(), fake.double().numpy()
    first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second).real
    step = real.mean(0) - fake.mean(0)
    return float(step @ step + np.trace(first + second - 2 * root))


@pytest.mark.parametrize(("n_real", "n_fake", "dimension"), [(200, 90, 12), (40, 300, 31)])
def test_it_is_the_formula(n_real: int, n_fake: int, dimension: int) -> None:
    scales = torch.linspace(0.2, 3, dimension)
    real = gaussian(n_real, scales, seed=1)
    fake = gaussian(n_fake, scales.flip(0), shift=0.7, seed=2) @ rotation(dimension, 3).float()
    expected = by_matrix_root(real, fake)
    assert fid(real, fake).value == pytest.approx(expected, rel=1e-10)
    by_moments = frechet_distance(moments_of(real), moments_of(fake))
    assert by_moments == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n_real", "n_fake"), [(10, 10), (5, 30), (30, 5), (100, 7), (2, 2)])
def test_fewer_images_than_dimensions(n_real: int, n_fake: int) -> None:
    """Where scipy's root of a singular product is right to its own root of rounding only."""
    dimension = 40
    real = gaussian(n_real, torch.linspace(0.5, 2, dimension), seed=1)
    fake = gaussian(n_fake, torch.linspace(2, 0.5, dimension), shift=1, seed=2)
    found = fid(real, fake).value
    # The product of the covariances has the eigenvalues of this small matrix, and zeros.
    a, b = (x.double() - x.double().mean(0) for x in (real, fake))
    inner = (a @ b.T @ b @ a.T).numpy() / ((n_real - 1) * (n_fake - 1))
    overlap = np.sqrt(np.linalg.eigvalsh(inner).clip(0)).sum()
    traces = a.square().sum() / (n_real - 1) + b.square().sum() / (n_fake - 1)
    step = (real.double().mean(0) - fake.double().mean(0)).square().sum()
    assert found == pytest.approx(float(step + traces) - 2 * overlap, rel=1e-6)
    assert found == pytest.approx(by_matrix_root(real, fake), rel=1e-4)
    by_moments = frechet_distance(moments_of(real), moments_of(fake))
    assert found == pytest.approx(by_moments, rel=1e-5)


def test_gaussians_of_known_moments() -> None:
    """|μ|² + Σ (σ - τ)², the sets having just these moments; turned together, the same."""
    dimension = 9
    first, second = torch.linspace(0.1, 4, dimension), torch.linspace(5, 1, dimension)
    real, fake = whitened(100, dimension) * first, whitened(60, dimension, 1) * second
    fake[:, 3] += 2.5
    expected = 2.5**2 + float((first - second).double().square().sum())
    assert fid(real, fake).value == pytest.approx(expected, rel=1e-6)
    turn = rotation(dimension, 5)
    assert fid(real @ turn, fake @ turn).value == pytest.approx(expected, rel=1e-6)


def test_covariances_turned_against_each_other() -> None:
    """In the plane: Tr (Σ₁ Σ₂)^½ = √(Tr Σ₁Σ₂ + 2 √det Σ₁Σ₂), by Cayley and Hamilton."""
    angle = torch.tensor(0.6, dtype=torch.float64)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    first = torch.diag(torch.tensor([4.0, 0.25]).double())
    second = turn @ torch.diag(torch.tensor([9.0, 1.0]).double()) @ turn.T
    real = whitened(50, 2) @ first.sqrt()
    fake = whitened(50, 2, 1) @ torch.linalg.cholesky(second).T
    product = first @ second
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = float(first.trace() + second.trace() - 2 * root)
    assert fid(real, fake).value == pytest.approx(expected, rel=1e-6)


def test_two_images_by_hand() -> None:
    """Variances 2 and 8 with (n - 1), means 1 and 4: 9 + 2 + 8 - 2·4."""
    found = fid(torch.tensor([[0.0], [2.0]]), torch.tensor([[2.0], [6.0]]))
    assert found.value == pytest.approx(11, rel=1e-12)
    assert found.details["mean_term"] == pytest.approx(9)
    assert found.details["covariance_term"] == pytest.approx(2)
    assert (found.n_real, found.n_fake, found.details["dimension"]) == (2, 2, 1)
    assert found.standard_error is None


@pytest.mark.parametrize("n", [5, 300])
def test_a_set_against_itself_is_zero_and_never_below(n: int) -> None:
    real = gaussian(n, torch.linspace(0.1, 30, 20)) + 1000
    total_variance = float(real.double().var(0).sum())
    assert 0 <= fid(real, real).value <= 1e-12 * total_variance
    assert 0 <= fid(real, real.flip(0)).value <= 1e-12 * total_variance
    moments = moments_of(real)
    assert 0 <= frechet_distance(moments, moments) <= 1e-12 * total_variance


def test_shift_scale_and_order() -> None:
    real = gaussian(80, torch.linspace(0.5, 2, 10), seed=1)
    fake = gaussian(70, torch.linspace(2, 1, 10), seed=2)
    value = fid(real, fake).value
    assert fid(fake, real).value == pytest.approx(value, rel=1e-12)
    assert fid(real[torch.randperm(80)], fake).value == pytest.approx(value, rel=1e-12)
    assert fid(real * 4, fake * 4).value == pytest.approx(16 * value, rel=1e-12)
    step = torch.arange(10) / 8  # exact in float32
    moved = fid(real.double(), real.double() + step).value
    assert moved == pytest.approx(float(step.square().sum()), rel=1e-12)


def test_a_large_offset_costs_no_digits() -> None:
    """In float32 a covariance by E[x²] - E[x]² would be noise."""
    whole = torch.randint(-8, 8, (2, 100, 6)).float()  # exact beside 1,000 too
    near = fid(whole[0], whole[1]).value
    assert fid(whole[0] + 1000, whole[1] + 1000).value == pytest.approx(near, rel=1e-11)
    far = frechet_distance(*(moments_of(*(part + 1000).split(9)) for part in whole))
    assert far == pytest.approx(near, rel=1e-9)


def test_images_that_are_all_one() -> None:
    same = torch.full((5, 4), 0.1)
    assert fid(same, same).value == 0
    spread = gaussian(50, torch.ones(4))
    apart = (spread.double().mean(0) - same[0].double()).square().sum()
    expected = float(apart + spread.double().var(0).sum())
    found = [fid(same, spread).value, frechet_distance(moments_of(same), moments_of(spread))]
    assert found == pytest.approx([expected, expected], rel=1e-9)


@pytest.mark.parametrize(("n_real", "n_fake"), [(1, 5), (5, 1), (0, 5)])
def test_too_few_images(n_real: int, n_fake: int) -> None:
    with pytest.raises(UserError, match=f"FID: expected 2 .* got {n_real} real and {n_fake} gen"):
        fid(torch.rand(n_real, 3), torch.rand(n_fake, 3))


def test_shapes_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(5, 4\)"):
        fid(torch.rand(5, 3), torch.rand(5, 4))
    with pytest.raises(ValueError, match=r"expected \(N, D\)"):
        fid(torch.rand(5), torch.rand(5))
    with pytest.raises(ValueError, match="got 3 and 4"):
        frechet_distance(moments_of(torch.rand(5, 3)), moments_of(torch.rand(5, 4)))


@given(
    cuts=st.lists(st.integers(0, 40), max_size=6),
    dimension=st.integers(1, 6),
    offset=st.sampled_from([0.0, 1000.0]),
)
def test_moments_do_not_depend_on_the_batches(
    cuts: list[int], dimension: int, offset: float
) -> None:
    vectors = gaussian(40, torch.linspace(0.1, 3, dimension)) + offset
    batches = torch.tensor_split(vectors, sorted(cuts))  # some are empty
    streamed = moments_of(*batches)
    merged = Moments()
    for batch in reversed(batches):
        merged.merge(moments_of(batch))
    expected = np.atleast_2d(np.cov(vectors.double().numpy(), rowvar=False))
    for moments in (streamed, merged):
        assert moments.count == 40
        assert moments.mean.numpy() == pytest.approx(vectors.double().mean(0).numpy(), rel=1e-12)
        assert moments.covariance.numpy() == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_merging_leaves_the_other_as_it_is() -> None:
    first, other = moments_of(torch.rand(5, 3)), moments_of(torch.rand(6, 3))
    before = other.mean.clone(), other.covariance.clone()
    collected = Moments()
    collected.merge(other)
    collected.merge(first)
    collected.update(torch.rand(4, 3))
    assert collected.count == 15
    assert other.count == 6
    assert torch.equal(other.mean, before[0])
    assert torch.equal(other.covariance, before[1])


def test_moments_from_statistics_go_on() -> None:
    vectors = gaussian(30, torch.ones(4))
    first = moments_of(vectors[:20])
    again = Moments.from_statistics(20, first.mean, first.covariance)
    again.update(vectors[20:])
    whole = moments_of(vectors)
    assert torch.allclose(again.covariance, whole.covariance, rtol=1e-12)
    assert torch.allclose(again.mean, whole.mean, rtol=1e-12)


def test_moments_refuse() -> None:
    moments = moments_of(torch.rand(1, 3))
    with pytest.raises(UserError, match="expected 2 images or more, got 1"):
        _ = moments.covariance
    with pytest.raises(ValueError, match=r"expected \(n, 3\), got \(5, 4\)"):
        moments.update(torch.rand(5, 4))
    with pytest.raises(ValueError, match="expected D = 3, got 4"):
        moments.merge(moments_of(torch.rand(5, 4)))
    with pytest.raises(ValueError, match=r"expected \(D,\) and \(D, D\)"):
        Moments.from_statistics(5, torch.zeros(3), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="count: expected 2 or more, got 1"):
        Moments.from_statistics(1, torch.zeros(3), torch.zeros(3, 3))


def test_the_spread_is_that_of_fid_of_weighted_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derivatives of FID in directions of the weights, by differences: to 1e-7 of themselves."""
    module = importlib.import_module("cxrgan_fast.metrics.fid")
    scales = torch.linspace(1, 2, 6)
    real, fake = (
        gaussian(n, scales, shift=shift, seed=n).double() for n, shift in ((60, 0), (50, 1))
    )
    drawn = Resamples.draw(60, 50, count=5)
    seen = []
    of = SecondOrder.of

    def noted(linear: float, parts: Tensor) -> SecondOrder:
        seen.append(parts)
        return of(linear, parts)

    monkeypatch.setattr(module.SecondOrder, "of", noted)
    found = fid(real, fake, resamples=drawn)
    step, moves = 1e-3, drawn.directions()
    value = sum(weighted_terms(real, fake))

    def moved(moves: tuple[Tensor, Tensor], row: int, by: float) -> Tensor:
        return sum(weighted_terms(real, fake, *(1 + by * move[row] for move in moves)))

    for row, part in enumerate(seen[0]):
        both_ways = moved(moves, row, step) + moved(moves, row, -step)
        curvature = (both_ways / 2 - value) / step**2
        assert float(part) == pytest.approx(float(curvature), rel=1e-5)
    assert found.details["bias"] == pytest.approx(float(seen[0].mean()))
    # The first order, whose variance is summed over the images, by those of 1,000 directions.
    many = Resamples.draw(60, 50, count=1000).directions()
    slopes = [
        (moved(many, row, step) - moved(many, row, -step)) / (2 * step) for row in range(1000)
    ]
    quadratic = float(seen[0].var())
    expected = float(torch.stack(slopes).var()) - quadratic
    assert found.standard_error**2 == pytest.approx(expected, rel=0.2)


def test_the_bias_is_that_of_so_many_images() -> None:
    """Equal Gaussians: (2 D + (D² + D)/2)/n, here of D = 4. Of 30 samples, to a few percent."""
    biases = []
    for seed in range(30):
        real, fake = (gaussian(400, torch.ones(4), seed=2 * seed + k) for k in (0, 1))
        found = fid(real, fake, resamples=Resamples.draw(400, 400, count=30, seed=seed))
        biases.append(found.details["bias"])
        low, high = found.interval
        assert low <= found.value < high
    assert np.mean(biases) == pytest.approx((2 * 4 + (4**2 + 4) / 2) / 400, rel=0.08)


def test_with_fewer_images_than_dimensions_it_has_an_interval() -> None:
    real, fake = (gaussian(40, torch.ones(90), seed=seed) for seed in (1, 2))
    found = fid(real, fake, resamples=Resamples.draw(40, 40, count=20))
    assert found.details["directions"] == 20
    assert 0 < found.standard_error < found.value
    assert found.details["bias"] > 0
    one = fid(real, fake, resamples=Resamples.draw(40, 40, count=1))
    assert one.standard_error is None


def test_the_standard_error_is_the_spread_of_new_samples() -> None:
    """60 samples know their spread to 1/√120 = 9 %, 400 resamples to 4 %: four of these."""
    scales = torch.linspace(1, 2, 4)
    values, errors = [], []
    for seed in range(60):
        real = gaussian(200, scales, seed=2 * seed)
        fake = gaussian(200, scales, shift=1.5, seed=2 * seed + 1)
        values.append(fid(real, fake).value)
        if seed < 8:  # of different samples; they differ by less than they are known
            resamples = Resamples.draw(200, 200, count=50, seed=seed)
            errors.append(fid(real, fake, resamples=resamples).standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.4)


def test_resamples_are_cut_where_they_would_take_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = torch.rand(6, 3), torch.rand(6, 3)
    resamples = Resamples.draw(6, 6, count=30)
    assert fid(real, fake, resamples=resamples).details["resamples"] == 30
    module = importlib.import_module("cxrgan_fast.metrics.fid")
    monkeypatch.setattr(module, "_BUDGET", 1)
    assert fid(real, fake, resamples=resamples).details["resamples"] == 10

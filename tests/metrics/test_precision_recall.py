"""Precision and recall: the definition, its limits, and errors that fresh draws confirm."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.precision_recall import precision_recall
from properties import at_most


def _values(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    precision, recall = precision_recall(real, fake, k=k)
    return precision.value, recall.value


def _by_definition(real: Tensor, fake: Tensor, k: int) -> tuple[float, float]:
    """Equations 1 and 2 with scikit-learn's radii and NumPy's distances."""

    def share(vectors: np.ndarray, others: np.ndarray) -> float:
        search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(others)
        radii = search.kneighbors()[0][:, -1]  # without arguments it leaves one out
        distances = np.linalg.norm(vectors[:, None] - others[None], axis=2)
        return float((distances <= radii).any(1).mean())

    a, b = real.double().numpy(), fake.double().numpy()
    return share(b, a), share(a, b)


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("dimension", [1, 5, 60])
def test_the_definition(k: int, dimension: int) -> None:
    real, fake = torch.randn(130, dimension), torch.randn(90, dimension) * 0.8 + 0.3
    assert _values(real, fake, k) == _by_definition(real, fake, k)


def test_a_case_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])  # radii for k = 1: 1, 1, 2, 7
    fake = torch.tensor([[-1.0], [5.0], [18.0], [-1.5]])  # radii: 0.5, 6, 13, 0.5
    # Fake −1 is on the surface of 0's ball, 5 on 3's; 18 and −1.5 are in none. 0, 1, 3 and 10 are
    # all within 6 of 5.
    precision, recall = precision_recall(real, fake, k=1)
    assert (precision.value, recall.value) == (0.5, 1.0)
    assert precision.details == recall.details == {"k": 1}
    assert (precision.n_real, precision.n_fake) == (recall.n_real, recall.n_fake) == (4, 4)
    assert precision.standard_error is None
    assert recall.standard_error is None


def test_identical_sets_give_one_and_disjoint_sets_nought() -> None:
    real = torch.randn(60, 9)
    assert _values(real, real.clone()) == (1, 1)
    assert _values(real, real.flip(0)) == (1, 1)
    assert _values(real, real + 100) == (0, 0)


def test_exchanging_the_sets_exchanges_the_numbers() -> None:
    real, fake = torch.randn(80, 6), torch.randn(50, 6) * 0.5
    assert _values(real, fake) == _values(fake, real)[::-1]


def test_a_generator_of_one_image_has_precision_and_no_recall() -> None:
    real = torch.randn(50, 4)
    middle = real.mean(0).expand(50, -1).contiguous()
    assert _values(real, middle) == (1, 0)
    # If that image is a real one, it reaches that one.
    assert _values(real, real[:1].expand(50, -1).contiguous()) == (1, 1 / 50)


def test_copies_within_a_set_shrink_its_balls_to_points() -> None:
    real = torch.tensor([[0.0, 0.0]] * 4 + [[1.0, 0.0]] * 3)  # k = 3: radius 0 four times, then 1
    fake = torch.tensor([[0.0, 0.0], [-0.1, 0.0], [2.0, 0.0], [1.0, 1.0], [2.1, 0.0]])
    precision, _ = precision_recall(real, fake)
    assert precision.value == 3 / 5


def test_copied_images_have_full_precision() -> None:
    real = torch.randn(100, 10)
    precision, recall = _values(real, real[torch.arange(100) // 10 * 10])
    assert precision == 1
    assert recall == 0.1  # ten copies of each: balls of radius 0


def test_far_from_the_origin() -> None:
    # The steps of float32 at 4,096 are 2⁻¹¹: vectors on that grid are exact with the offset too.
    real = (torch.randn(80, 8) * 64).round() / 64
    fake = (torch.randn(80, 8) * 64).round() / 64 * 0.5
    assert _values(real + 4096, fake + 4096) == _values(real, fake)


@at_most(60)
@given(n=st.integers(4, 14), m=st.integers(4, 14), d=st.integers(1, 4), seed=st.integers(0, 9999))
def test_ties_and_copies_follow_the_definition(n: int, m: int, d: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    real = torch.randint(0, 3, (n, d), generator=generator).float()
    fake = torch.randint(0, 3, (m, d), generator=generator).float()

    def squares(a: Tensor, b: Tensor) -> Tensor:  # integers: exact
        return (a[:, None] - b[None]).square().sum(2)

    def share(vectors: Tensor, others: Tensor) -> float:
        within = squares(others, others)
        within.fill_diagonal_(torch.inf)
        radii = within.sort(1).values[:, 2]
        return float((squares(vectors, others) <= radii).any(1).double().mean())

    assert _values(real, fake) == (share(fake, real), share(real, fake))


def test_too_few_images() -> None:
    vectors = torch.randn(4, 2)
    assert _values(vectors, vectors) == (1, 1)
    with pytest.raises(UserError, match=r"of 3 neighbours: expected 4 images .* got 3 real"):
        precision_recall(vectors[:3], vectors)
    with pytest.raises(UserError, match="got 4 real and 0 generated"):
        precision_recall(vectors, vectors[:0])
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        precision_recall(vectors, vectors, k=0)


def test_four_images_have_standard_errors_too() -> None:
    vectors = torch.randn(4, 2)
    both = precision_recall(vectors, vectors * 2, resamples=Resamples.draw(4, 4))
    assert all(one.standard_error is not None for one in both)
    assert all(np.isfinite(one.standard_error) for one in both)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(("dimension", "shift", "scale"), [(8, 0.5, 1.0), (32, 0.0, 0.8)])
def test_standard_errors_are_those_of_fresh_draws(
    dimension: int, shift: float, scale: float
) -> None:
    # Of 400 draws the mean bootstrap errors were 0.98 to 1.15 of the deviation, one error's own
    # spread 0.23 of itself at most; the indicators' errors alone were 0.56 to 0.63 in the first
    # case. 120 draws know the deviation to 1/√240 = 0.065, and ten errors their mean to 0.23/√10 =
    # 0.073: together 0.1, three of which are left on either side.
    count = 200
    values, errors = [], []
    for draw in range(120):
        real = torch.randn(count, dimension)
        fake = torch.randn(count, dimension) * scale + shift
        resamples = Resamples.draw(count, count, seed=draw) if draw < 10 else None
        both = precision_recall(real, fake, resamples=resamples)
        values.append([one.value for one in both])
        if resamples is not None:
            errors.append([one.standard_error for one in both])
    ratios = np.mean(errors, axis=0) / np.std(values, axis=0, ddof=1)
    assert (ratios > 0.7).all(), ratios
    assert (ratios < 1.5).all(), ratios


def test_resamples_of_whole_patients_are_less_certain() -> None:
    # Five nearly equal images of each patient: a fifth as much is known of the real images.
    patients = torch.randn(40, 4).repeat_interleave(5, 0)
    real = patients + torch.randn(200, 4) * 0.3
    fake = torch.randn(200, 4)
    names = [str(image // 5) for image in range(200)]
    alone = Resamples.draw(200, 200)
    together = Resamples.draw(200, 200, patients=names)
    errors = [
        precision_recall(real, fake, resamples=r)[1].standard_error for r in (alone, together)
    ]
    assert errors[1] > errors[0]

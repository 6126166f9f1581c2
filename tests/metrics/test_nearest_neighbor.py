"""1-NN accuracy: limits, shared votes, its mean and its p-values under the null hypothesis."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples, nearest_neighbor
from cxrgan_fast.metrics.nearest_neighbor import nearest_neighbor_accuracy
from cxrgan_fast.metrics.strata import Grouping, Strata
from properties import at_most


def _by_loop(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Expected accuracies of real and of generated images, ties shared, from all distances."""
    vectors = torch.cat([real, fake]).double()
    labels = [True] * len(real) + [False] * len(fake)
    right = []
    for i, vector in enumerate(vectors):
        squares = (vectors - vector).square().sum(1).tolist()
        squares[i] = float("inf")
        tied = [j for j, square in enumerate(squares) if square == min(squares)]
        right.append(sum(labels[j] == labels[i] for j in tied) / len(tied))
    return sum(right[: len(real)]) / len(real), sum(right[len(real) :]) / len(fake)


def test_scikit_learn_classifies_the_same() -> None:
    real, fake = torch.randn(70, 6), torch.randn(70, 6) + 0.5
    vectors = torch.cat([real, fake]).double().numpy()
    labels = np.arange(140) < 70
    right = []
    for left_out in range(140):
        others = np.delete(np.arange(140), left_out)
        classifier = KNeighborsClassifier(1).fit(vectors[others], labels[others])
        right.append(classifier.predict(vectors[left_out : left_out + 1])[0] == labels[left_out])
    estimate = nearest_neighbor_accuracy(real, fake, permutations=10)
    assert estimate.value == np.mean(right)
    assert estimate.details["real_accuracy"] == np.mean(right[:70])
    assert estimate.details["fake_accuracy"] == np.mean(right[70:])
    assert (estimate.n_real, estimate.n_fake) == (70, 70)
    assert estimate.standard_error is None


@at_most(100)
@given(n=st.integers(2, 9), d=st.integers(1, 3), top=st.integers(1, 4), seed=st.integers(0, 9999))
def test_ties_and_copies_share_the_vote(n: int, d: int, top: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    real = torch.randint(0, top, (n, d), generator=generator).float()
    fake = torch.randint(0, top, (n, d), generator=generator).float()
    details = nearest_neighbor_accuracy(real, fake, permutations=5).details
    expected = _by_loop(real, fake)
    np.testing.assert_allclose(
        [details["real_accuracy"], details["fake_accuracy"]], expected, rtol=1e-14, atol=1e-15
    )


def test_sets_apart_copied_sets_and_one_vector_only() -> None:
    real = torch.randn(50, 5)
    apart = nearest_neighbor_accuracy(real, real + 100)
    assert apart.value == 1
    assert apart.details["p_value"] == apart.details["p_value_by_set"] == 1 / 1001
    copied = nearest_neighbor_accuracy(real, real.flip(0))
    assert copied.value == 0
    assert copied.details["p_value"] == copied.details["p_value_by_set"] == 1 / 1001
    # Every image has n − 1 of its own and n of the others at distance 0: exactly chance.
    equal = nearest_neighbor_accuracy(torch.ones(50, 5), torch.ones(50, 5))
    assert equal.value == pytest.approx(49 / 99, abs=1e-15)
    assert equal.details["chance"] == 49 / 99
    assert equal.details["p_value"] == equal.details["p_value_by_set"] == 1


def test_two_identical_images_of_each_set_give_a_third() -> None:
    pair = torch.zeros(2, 3)
    assert nearest_neighbor_accuracy(pair, pair).value == pytest.approx(1 / 3, abs=1e-15)


def test_a_copy_wrongs_both() -> None:
    # 0 is in both sets, and each of the two has the other as its neighbour; 10 and 10.5 are real.
    real = torch.tensor([[0.0], [10.0], [10.5]])
    fake = torch.tensor([[0.0], [-5.0], [-5.5]])
    estimate = nearest_neighbor_accuracy(real, fake)
    assert estimate.value == 4 / 6
    assert estimate.details["real_accuracy"] == estimate.details["fake_accuracy"] == 2 / 3


def test_one_collapsed_generator() -> None:
    # n equal generated images amid the real ones: each has its copies; the real image nearest to
    # them and some others have them as neighbours.
    real, fake = torch.randn(200, 6), torch.zeros(200, 6)
    estimate = nearest_neighbor_accuracy(real, fake, permutations=100)
    assert estimate.details["fake_accuracy"] == 1
    assert estimate.details["real_accuracy"] == pytest.approx(_by_loop(real, fake)[0], abs=1e-15)
    assert estimate.details["p_value"] == 1 / 101


def test_a_generator_whose_errors_cancel_is_caught_by_the_sets_apart() -> None:
    # A little nearer to the middle in 100 dimensions: nearest to everything.
    real, fake = torch.randn(300, 100), torch.randn(300, 100) * 0.93
    details = nearest_neighbor_accuracy(real, fake).details
    assert details["real_accuracy"] < 0.35
    assert details["fake_accuracy"] > 0.65
    assert details["p_value"] > 0.01
    assert details["p_value_by_set"] == 1 / 1001


def test_the_mean_of_one_distribution_is_chance() -> None:
    # Of 400 draws of 2 × 20 images. Exchangeable labels: the mean is exactly 19/39; the deviation
    # of the mean of the draws is measured on them. Four of it: wrong once in 16,000.
    values = [
        nearest_neighbor_accuracy(torch.randn(20, 3), torch.randn(20, 3), permutations=1).value
        for _ in range(400)
    ]
    error = np.std(values, ddof=1) / 20
    assert abs(np.mean(values) - 19 / 39) < 4 * error
    assert error < 0.01


@pytest.mark.parametrize("name", ["p_value", "p_value_by_set"])
def test_p_values_of_one_distribution_are_uniform_or_larger(name: str) -> None:
    # The test is exact: P(p ≤ α) ≤ α. Among 300 draws the count below α is at most binomial:
    # bounds that a right test breaks once in 100,000. From below the steps of the statistic cost
    # power: half of α is what must be left, once in 100,000 again.
    p_values = np.array(
        [
            nearest_neighbor_accuracy(
                torch.randn(30, 2), torch.randn(30, 2), permutations=199, seed=draw
            ).details[name]
            for draw in range(300)
        ]
    )
    for level in (0.1, 0.2, 0.5):
        below = int((p_values <= level).sum())
        assert below <= stats.binom.ppf(1 - 1e-5, 300, level), level
        assert below >= stats.binom.ppf(1e-5, 300, level / 2), level


def test_permutations_do_not_depend_on_how_many_fit_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, fake = torch.randn(25, 3), torch.randn(25, 3)
    whole = nearest_neighbor_accuracy(real, fake, permutations=101, seed=4)
    monkeypatch.setattr(nearest_neighbor, "_AT_ONCE", 500)
    assert nearest_neighbor_accuracy(real, fake, permutations=101, seed=4) == whole
    other = nearest_neighbor_accuracy(real, fake, permutations=101, seed=5)
    assert other.details["p_value"] != whole.details["p_value"]


def test_the_p_value_is_that_of_permuting_and_computing_anew() -> None:
    real, fake = torch.randn(15, 2), torch.randn(15, 2) + 0.7
    estimate = nearest_neighbor_accuracy(real, fake, permutations=20_000)
    vectors = torch.cat([real, fake])
    rng = np.random.default_rng(1)
    as_far = 0
    for _ in range(400):
        order = torch.from_numpy(rng.permutation(30))
        value = sum(_by_loop(vectors[order[:15]], vectors[order[15:]])) / 2
        as_far += abs(value - 14 / 29) >= abs(estimate.value - 14 / 29) - 1e-9
    # Two proportions, of 400 and of 20,000: four standard errors.
    p = estimate.details["p_value"]
    assert abs(as_far / 400 - p) < 4 * (p * (1 - p) / 400) ** 0.5 + 1 / 400


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(("dimension", "shift"), [(8, 0.5), (2, 0.0)])
def test_standard_errors_are_those_of_fresh_draws(dimension: int, shift: float) -> None:
    # Of 400 draws the mean bootstrap error was 1.05 and 1.16 of the deviation, one error's own
    # spread 0.09 of itself; with fixed neighbours 0.74 and 0.82. 150 draws know the deviation to
    # 1/√300 = 0.058, and ten errors their mean to 0.03: together 0.065, three of which are left.
    count = 200
    values, errors = [], []
    for draw in range(150):
        real, fake = torch.randn(count, dimension), torch.randn(count, dimension) + shift
        resamples = Resamples.draw(count, count, seed=draw) if draw < 10 else None
        estimate = nearest_neighbor_accuracy(real, fake, permutations=1, resamples=resamples)
        values.append(estimate.value)
        if resamples is not None:
            errors.append(estimate.standard_error)
    ratio = np.mean(errors) / np.std(values, ddof=1)
    assert 0.84 < ratio < 1.4


def test_far_from_the_origin() -> None:
    real, fake = ((torch.randn(60, 8) * 64).round() / 64 for _ in range(2))
    far = nearest_neighbor_accuracy(real + 4096, fake + 4096)
    assert far == nearest_neighbor_accuracy(real, fake)


def test_bad_sizes() -> None:
    vectors = torch.randn(5, 2)
    with pytest.raises(ValueError, match="sets of the same size, got 5 and 4"):
        nearest_neighbor_accuracy(vectors, vectors[:4])
    with pytest.raises(UserError, match=r"1-NN accuracy: expected 2 images .* got 1 real"):
        nearest_neighbor_accuracy(vectors[:1], vectors[:1])
    with pytest.raises(ValueError, match="permutations: expected at least 0, got -1"):
        nearest_neighbor_accuracy(vectors, vectors, permutations=-1)
    smallest = nearest_neighbor_accuracy(vectors[:2], vectors[2:4], resamples=Resamples.draw(2, 2))
    assert 0 <= smallest.value <= 1
    assert smallest.standard_error is not None
    assert np.isfinite(smallest.standard_error)


def patients_of_three(n: int) -> Strata:
    """Two classes, three images of each real patient, the generated ones independent."""
    labels = torch.arange(n) // (n // 2)
    return Strata(
        Grouping.of(n, labels=labels, patients=torch.arange(n) // 3),
        Grouping.of(n, labels=labels),
    )


def test_patients_are_there_with_one_image_and_classes_in_equal_numbers() -> None:
    strata = Strata(
        Grouping.of(12, labels=torch.arange(12) // 6, patients=torch.arange(12) // 3),
        Grouping.of(9, labels=torch.tensor([0] * 3 + [1] * 6)),
    )
    real, fake = torch.randn(12, 3), torch.randn(9, 3)
    found = nearest_neighbor_accuracy(
        real, fake, strata=strata, resamples=Resamples.draw(12, 9, strata=strata, count=9)
    )
    assert (found.n_real, found.n_fake) == (4, 4)
    assert found.standard_error is not None
    others = Grouping.of(9, labels=torch.full((9,), 2))
    with pytest.raises(UserError, match="same classes in both sets, got 0"):
        nearest_neighbor_accuracy(real, fake, strata=Strata(strata.real, others))


@pytest.mark.parametrize("name", ["p_value", "p_value_by_set"])
def test_p_values_are_uniform_where_images_of_a_patient_are_alike(name: str) -> None:
    # Bounds as above; without the patients, nearly all of them are below 0.1.
    strata = patients_of_three(60)
    found, without = [], []
    for draw in range(200):
        real = 0.95 * torch.randn(20, 8)[strata.real.patients]
        real += (1 - 0.95**2) ** 0.5 * torch.randn(60, 8)
        fake = torch.randn(60, 8)
        for side in (real, fake):
            side[30:] += 1
        estimate = nearest_neighbor_accuracy(real, fake, permutations=99, seed=draw, strata=strata)
        found.append(estimate.details[name])
        if draw < 20:
            alone = nearest_neighbor_accuracy(real, fake, permutations=99, seed=draw)
            without.append(alone.details[name])
    assert np.mean(np.array(without) <= 0.1) > 0.8
    for level in (0.1, 0.2, 0.5):
        below = int((np.array(found) <= level).sum())
        assert below <= stats.binom.ppf(1 - 1e-5, 200, level), level
        assert below >= stats.binom.ppf(1e-5, 200, level / 2), level


def test_labels_are_permuted_within_classes() -> None:
    """One image of each kind in each class, far from the others: no labels are ever right."""
    labels = torch.arange(10)
    strata = Strata(Grouping.of(10, labels=labels), Grouping.of(10, labels=labels))
    places = 100.0 * torch.arange(10)[:, None]
    found = nearest_neighbor_accuracy(places, places + 1, strata=strata)
    assert found.value == 0
    assert found.details["p_value"] == found.details["p_value_by_set"] == 1
    assert nearest_neighbor_accuracy(places, places + 1).details["p_value"] < 0.05

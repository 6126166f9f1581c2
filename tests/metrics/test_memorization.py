"""Memorisation: what it says of copies and of new images; its p-value against SciPy's."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import kstest, mannwhitneyu

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.memorization import (
    Memorization,
    exact_copies,
    exact_duplicates,
    memorization,
    smaller_p_value,
)


def normal(n: int, seed: int, dimension: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimension, generator=generator)


def test_it_is_what_a_plain_computation_gives() -> None:
    train, fake, held_out = normal(60, 0), normal(40, 1), normal(30, 2)
    fake[7] = train[11] + 0.001
    fake[3] = train[11]
    found = memorization(train, fake, held_out)
    distances = cdist(fake.double(), train.double())
    expected = cdist(held_out.double(), train.double()).min(1)
    torch.testing.assert_close(found.fake_distances, torch.from_numpy(distances.min(1)))
    assert found.fake_nearest.tolist() == distances.argmin(1).tolist()
    torch.testing.assert_close(found.yardstick_distances, torch.from_numpy(expected))
    assert found.yardstick == "held-out images"
    assert found.fake_median == pytest.approx(np.median(distances.min(1)))
    assert found.yardstick_median == pytest.approx(np.median(expected))
    assert found.median_ratio == pytest.approx(found.fake_median / found.yardstick_median)
    assert found.quantile_distance == pytest.approx(expected.min())  # 1 % of 30 is the first
    assert found.share.value == (distances.min(1) <= expected.min()).mean()
    assert (found.share.n_real, found.share.n_fake) == (60, 40)
    assert found.share.details["n_reference"] == 30
    assert found.yardstick_share == pytest.approx(1 / 30)
    assert found.near_copy_distance == found.quantile_distance / 2
    assert found.n_near_copies == 2
    assert [(copy.fake, copy.train) for copy in found.near_copies] == [(3, 11), (7, 11)]
    assert found.near_copies[0].distance == 0
    assert found.near_copies[1].distance == pytest.approx(0.001 * 8**0.5, rel=1e-3)


def test_without_held_out_images_those_of_other_patients_serve() -> None:
    train = normal(50, 0)
    patients = torch.arange(50) // 2
    train[1::2] = train[::2] + 0.01  # the second image of each patient is much like the first
    found = memorization(train, normal(40, 1), patients=patients)
    assert found.yardstick == "other patients"
    distances = cdist(train.double(), train.double())
    distances[patients.numpy()[:, None] == patients.numpy()] = np.inf
    torch.testing.assert_close(found.yardstick_distances, torch.from_numpy(distances.min(1)))
    assert found.n_near_copies == 0


def test_new_images_are_as_near_as_held_out_ones() -> None:
    shares, p_values, copies = [], [], 0
    for seed in range(40):
        found = memorization(
            normal(150, 3 * seed), normal(200, 3 * seed + 1), normal(300, 3 * seed + 2)
        )
        shares.append(found.share.value)
        p_values.append(found.p_value)
        copies += found.n_near_copies
    # The 1 % quantile of 300 is the third: 3 / 301 on average. One set's share has a standard
    # error of about 0.009 (a binomial one of 200 and that of the quantile), their mean of 0.0015.
    assert np.mean(shares) == pytest.approx(3 / 301, abs=0.0045)
    assert np.mean(np.array(p_values) < 0.05) < 0.2  # more than 8 of 40 has a chance of 1e-4
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.16)  # 3.5 standard errors of 0.29 / √40
    # 0.01·2⁻⁸ of 8,000 images: 0.3; that ten are is a chance of 1e-12.
    assert copies < 10


def test_a_few_copies_are_found_and_listed_nearest_first() -> None:
    train, fake = normal(500, 0), normal(300, 1)
    chosen = torch.tensor([5, 100, 200, 299])
    for rank, row in enumerate(chosen.tolist()):
        fake[row] = train[row + 50] + 0.01 * rank
    found = memorization(train, fake, normal(400, 2))
    assert [copy.fake for copy in found.near_copies[:4]] == chosen.tolist()
    assert [copy.train for copy in found.near_copies[:4]] == (chosen + 50).tolist()
    assert found.share.value >= 4 / 300
    assert found.p_value > 0.001  # four of 300 shift no median


def test_a_generator_that_copies_with_noise_is_convicted() -> None:
    train = normal(300, 0)
    fake = train[:200] + 0.5 * normal(200, 1)
    found = memorization(train, fake, normal(200, 2))
    assert found.p_value < 1e-6
    assert found.median_ratio is not None
    assert found.median_ratio < 0.9


def test_at_most_fifty_are_listed_and_all_counted() -> None:
    train = normal(300, 0)
    found = memorization(train, train[:120].clone(), normal(200, 2))
    assert found.n_near_copies == 120
    assert len(found.near_copies) == 50
    assert [copy.fake for copy in found.near_copies] == list(range(50))
    assert found.share.value == 1
    assert found.median_ratio == 0


def test_far_images_pass() -> None:
    found = memorization(normal(100, 0), normal(50, 1) + 100, normal(50, 2))
    assert found.p_value == pytest.approx(1)
    assert found.share.value == 0
    assert found.near_copies == []


def test_held_out_images_that_are_copies_themselves_hide_nothing() -> None:
    train = normal(50, 0)
    fake = normal(20, 1)
    fake[4] = train[9]
    found = memorization(train, fake, train[:40])
    assert found.quantile_distance == found.near_copy_distance == 0
    assert found.yardstick_share == 1
    assert [(copy.fake, copy.train) for copy in found.near_copies] == [(4, 9)]
    assert found.share.value == 1 / 20
    assert found.median_ratio is None
    assert found.p_value == pytest.approx(1)


def test_the_standard_error_is_binomial() -> None:
    train, fake = normal(100, 0), normal(200, 1)
    fake[:60] = train[:60]
    resamples = Resamples.draw(100, 200, count=2000)
    share = memorization(train, fake, normal(100, 2), resamples=resamples).share
    binomial = (share.value * (1 - share.value) / 200) ** 0.5
    assert share.standard_error == pytest.approx(binomial, rel=0.06)  # 1.6 % for 2,000 resamples


@pytest.mark.parametrize(("n", "m"), [(8, 30), (40, 25), (1, 5)])
@pytest.mark.parametrize("values", [4, 10_000])
def test_the_p_value_is_that_of_scipy(n: int, m: int, values: int) -> None:
    rng = np.random.default_rng(n + values)
    for shift in (-0.2, 0, 0.2):
        first = np.round(rng.random(n) * values + shift * values)
        second = np.round(rng.random(m) * values)  # with many ties, or hardly any
        expected = mannwhitneyu(first, second, alternative="less", method="asymptotic").pvalue
        found = smaller_p_value(torch.from_numpy(first), torch.from_numpy(second))
        assert found == pytest.approx(expected, rel=1e-12)


def test_equal_values_show_nothing() -> None:
    assert smaller_p_value(torch.ones(5).double(), torch.ones(9).double()) == 1


def some_bytes(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 1, 8, 8), generator=generator).to(torch.uint8)


def test_duplicates_are_equal_in_every_byte() -> None:
    images = some_bytes(6)[[0, 1, 2, 1, 3, 0, 1, 4]]
    assert exact_duplicates(images) == [[0, 5], [1, 3, 6]]
    images[5, 0, 7, 7] ^= 1
    assert exact_duplicates(images) == [[1, 3, 6]]
    assert exact_duplicates(images[:0]) == []
    # What counts is what the images show, not how they lie in memory.
    strided = images.expand(-1, 3, -1, -1)[:, :1].transpose(2, 3)
    assert exact_duplicates(strided) == [[1, 3, 6]]


def test_copies_of_training_images() -> None:
    train = some_bytes(5)[[0, 1, 2, 1]]
    fake = torch.cat([some_bytes(3, 1), train[[3, 2]], 255 - train[:1]])
    assert exact_copies(fake, train) == [(3, 1), (4, 2)]
    assert exact_copies(fake.reshape(-1, 1, 4, 16), train) == []  # same bytes, another image
    with pytest.raises(TypeError, match=r"expected torch\.uint8, got torch\.float32"):
        exact_copies(fake.float(), train)


def test_what_cannot_be_judged() -> None:
    def attempt(n: int, m: int, h: int) -> Memorization:
        return memorization(normal(n, 0), normal(m, 1), normal(h, 2))

    with pytest.raises(UserError, match="0 training, 5 generated and 5 held-out images came"):
        attempt(0, 5, 5)
    with pytest.raises(UserError, match="5 training, 1 generated"):
        attempt(5, 1, 5)
    with pytest.raises(UserError, match="5 generated and 1 held-out"):
        attempt(5, 5, 1)
    with pytest.raises(UserError, match="all training images are of one patient"):
        memorization(normal(9, 0), normal(5, 1), patients=torch.zeros(9, dtype=torch.int64))
    with pytest.raises(ValueError, match="patients: expected"):
        memorization(normal(9, 0), normal(5, 1))


def clustered(patients: int, seed: int, correlation: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of one distribution, one to five a patient, and whose they are."""
    generator = torch.Generator().manual_seed(seed)
    count = torch.randint(1, 6, (patients,), generator=generator)
    whose = torch.arange(patients).repeat_interleave(count)
    shared = torch.randn(patients, generator=generator).double()[whose]
    own = torch.randn(len(whose), generator=generator).double()
    return correlation**0.5 * shared + (1 - correlation) ** 0.5 * own, whose


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_p_value_is_uniform_where_patients_have_several_images(correlation: float) -> None:
    by_patient, by_image = [], []
    for draw in range(400):
        first, of_first = clustered(60, 2 * draw, correlation)
        second, of_second = clustered(100, 2 * draw + 1, correlation)
        groups = {"first_groups": of_first, "second_groups": of_second}
        by_patient.append(smaller_p_value(first, second, **groups))
        by_image.append(smaller_p_value(first, second))
    assert kstest(by_patient, "uniform").pvalue > 1e-3
    assert 0.02 < np.mean(np.array(by_patient) < 0.05) < 0.085  # 5 % ± 3.2 standard errors
    if correlation:  # which images as units do not know
        assert np.mean(np.array(by_image) < 0.05) > 0.12


def test_groups_of_one_value_change_nothing_and_one_group_says_nothing() -> None:
    first, second = torch.arange(9).double(), torch.arange(9).double() + 1.5
    alone = smaller_p_value(first, second)
    whose = torch.arange(9)
    assert smaller_p_value(first, second, first_groups=whose, second_groups=whose + 3) == alone
    assert smaller_p_value(first, second, second_groups=whose * 0) == 1
    # Two equal values of each group say no more than one of them does.
    twice = {"first_groups": whose.repeat(2), "second_groups": whose.repeat(2)}
    of_two = smaller_p_value(first.repeat(2), second.repeat(2), **twice)
    assert of_two == pytest.approx(alone, rel=0.15)
    assert smaller_p_value(first.repeat(2), second.repeat(2)) < 0.6 * alone


def test_the_patients_of_the_yardstick_count() -> None:
    train, fake, held_out = normal(200, 0), normal(150, 1), normal(120, 2)
    whose = torch.arange(120) // 4
    of_patients = held_out[whose * 4] + 0.01 * held_out
    found = memorization(train, fake, of_patients, held_out_patients=whose, yardstick="kept out")
    expected = smaller_p_value(found.fake_distances, found.yardstick_distances, second_groups=whose)
    assert found.p_value == expected
    assert found.p_value != memorization(train, fake, of_patients).p_value
    assert found.yardstick == "kept out"

"""Bootstrap resamples are what they say, on every machine, and their spread is a standard error."""

import numpy as np
import pytest
import torch

from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.strata import Grouping, Strata


def test_an_interval_is_about_the_value() -> None:
    low, high = Estimate(5.0, 10, 10, standard_error=2.0).interval or (0, 0)
    assert (low, high) == pytest.approx((5 - 3.92, 5 + 3.92), abs=1e-3)
    assert Estimate(5.0, 10, 10).interval is None
    assert Estimate(5.0, 10, 10, 2.0, bounds=(4.0, 9.0)).interval == (4.0, 9.0)


def test_details_are_not_shared() -> None:
    first, second = Estimate(1.0, 1, 1), Estimate(1.0, 1, 1)
    first.details["one"] = 1
    assert second.details == {}


def test_resamples_draw_as_many_images_as_there_are() -> None:
    drawn = Resamples.draw(7, 12, count=30)
    assert drawn.real.shape == (30, 7)
    assert drawn.fake.shape == (30, 12)
    assert drawn.real.dtype == drawn.fake.dtype == torch.float64
    assert (drawn.real.sum(1) == 7).all()
    assert (drawn.fake.sum(1) == 12).all()
    assert drawn.real.min() >= 0
    assert (drawn.real == drawn.real.round()).all()


def test_the_seed_decides() -> None:
    first, again, other = (Resamples.draw(9, 9, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.real, again.real)
    assert torch.equal(first.fake, again.fake)
    assert not torch.equal(first.real, other.real)
    assert not torch.equal(first.real, first.fake)


def test_counts_have_the_moments_of_drawing_with_replacement() -> None:
    """Mean 1, variance 1 - 1/n, covariance -1/n; 4,000 draws know a variance to 1/√2000."""
    counts = Resamples.draw(10, 1, count=4000).real.numpy()
    assert counts.mean(0) == pytest.approx(np.ones(10), abs=4 / 4000**0.5)
    covariance = np.cov(counts, rowvar=False)
    expected = np.eye(10) - 1 / 10
    assert covariance == pytest.approx(expected, abs=6 / 2000**0.5)


def test_whole_patients_are_drawn() -> None:
    patients = ["b", "a", "b", "c", "b", "a"]
    drawn = Resamples.draw(6, 3, patients=patients, count=200)
    for moved in (drawn.real, drawn.real_signs):
        assert (moved[:, 0] == moved[:, 2]).all()
        assert (moved[:, 0] == moved[:, 4]).all()
        assert (moved[:, 1] == moved[:, 5]).all()
        assert (moved[:, 0] != moved[:, 1]).any()
    assert drawn.real.sum(1).numpy() == pytest.approx(6)  # though they have 1 to 3 images


def test_the_classes_keep_their_shares() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 2])
    real = Grouping.of(10, labels=labels, patients=list("aabccddefg"))
    fake = Grouping.of(7, labels=torch.tensor([1, 0, 0, 2, 2, 0, 1]))
    drawn = Resamples.draw(10, 7, strata=Strata(real, fake), count=100)
    for weights, signs, groups in (
        (drawn.real, drawn.real_signs, real),
        (drawn.fake, drawn.fake_signs, fake),
    ):
        for k in range(3):
            of_class = groups.labels == k
            assert weights[:, of_class].sum(1).numpy() == pytest.approx(int(of_class.sum()))
            assert signs[:, of_class].sum(1).numpy() == pytest.approx(0, abs=1e-12)
    assert (drawn.real[:, 9] == 1).all()  # alone in its class: nothing to draw
    with pytest.raises(ValueError, match="expected 9 real and 7 generated images, got 10 and 7"):
        Resamples.draw(9, 7, strata=Strata(real, fake))
    with pytest.raises(ValueError, match="patients, strata: expected one of them"):
        Resamples.draw(10, 7, patients=["a"] * 10, strata=Strata(real, fake))


def test_most_of_the_variance_between_classes_is_no_uncertainty() -> None:
    """The mean of two classes 100 apart, in fixed numbers, is known to the spread within them."""
    labels = torch.arange(60) // 30
    values = torch.randn(60, generator=torch.Generator().manual_seed(0)).double() + 100 * labels
    strata = Strata(Grouping.of(60, labels=labels), Grouping.of(1))
    drawn = Resamples.draw(60, 1, strata=strata, count=2000)
    within = Grouping.of(60, labels=labels).centered(values)
    expected = float(within.square().mean()) ** 0.5 / 60**0.5
    assert standard_error(drawn.real @ values / 60) == pytest.approx(expected, rel=0.1)


def test_some_images_and_another_device_are_taken_of_all_parts() -> None:
    drawn = Resamples.draw(5, 4, count=3)
    part = drawn.take(torch.tensor([0, 3]), torch.tensor([1])).to("cpu")
    assert torch.equal(part.real, drawn.real[:, [0, 3]])
    assert torch.equal(part.fake, drawn.fake[:, [1]])
    moves = part.directions()
    assert torch.equal(moves[0], drawn.real_signs[:, [0, 3]])
    assert torch.equal(moves[1], drawn.fake_signs[:, [1]])
    bare = Resamples(drawn.real, drawn.fake).take(torch.tensor([0]), torch.tensor([1]))
    assert torch.equal(bare.directions()[0], drawn.real[:, [0]] - 1)


def test_images_of_a_patient_that_are_alike_count_as_one() -> None:
    """The mean of 40 values, each there five times, is no better known than that of the 40."""
    values = np.random.default_rng(0).normal(size=40)
    images = torch.from_numpy(values.repeat(5))
    patients = [str(number) for number in np.arange(40).repeat(5)]
    drawn = Resamples.draw(200, 2, patients=patients, count=1000).real
    of_patients = standard_error(drawn @ images / drawn.sum(1))
    assert of_patients == pytest.approx(values.std() / 40**0.5, rel=0.1)
    drawn = Resamples.draw(200, 2, count=1000).real
    of_images = standard_error(drawn @ images / drawn.sum(1))
    assert of_images == pytest.approx(values.std() / 200**0.5, rel=0.1)


def test_standard_error_is_a_deviation_without_those_that_are_undefined() -> None:
    nan = float("nan")
    assert standard_error(torch.tensor([1.0, nan, 3.0, nan])) == pytest.approx(2**0.5)
    assert standard_error(torch.tensor([2.0, 2.0])) == 0


@pytest.mark.parametrize("values", [[], [1.0], [1.0, float("nan")], [float("nan")] * 3])
def test_without_two_resamples_nothing_is_known(values: list[float]) -> None:
    assert standard_error(torch.tensor(values)) is None


def test_a_share_that_is_the_same_in_every_resample_has_no_interval() -> None:
    assert Estimate(1.0, 5, 5, 0.0).interval is None

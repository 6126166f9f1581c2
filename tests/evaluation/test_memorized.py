"""What new images are that generated ones are held against, and which generated ones are copies."""

from dataclasses import replace

import pytest
import torch

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.evaluation.matching import Described, subset
from cxrgan_fast.evaluation.memorized import (
    HELD_OUT,
    TEST_SPLIT,
    memorized,
    near_copies_of,
    second_opinion,
)
from cxrgan_fast.metrics import extract_features
from cxrgan_fast.metrics.copy_search import find_nearest
from cxrgan_fast.metrics.memorization import smaller_p_value
from cxrgan_fast.metrics.pixels import Pixels

CPU = torch.device("cpu")


def described(dataset: ImageDataset) -> Described:
    return Described(dataset, extract_features(Pixels(), dataset.images, CPU))


def phantoms(split: str, n: int) -> ImageDataset:
    return load_dataset("phantom", resolution=32, split=split, phantom_images=n, progress=False)


@pytest.fixture(scope="module")
def train() -> Described:
    return described(phantoms("train", 60))


@pytest.fixture(scope="module")
def fake() -> Described:
    return described(phantoms("val", 30))


@pytest.fixture(scope="module")
def others() -> Described:
    """Forty images of ten patients."""
    dataset = phantoms("test", 40)
    return described(replace(dataset, patients=[f"p{row // 4}" for row in range(40)]))


def test_held_out_patients_are_the_yardstick_with_patients_as_units(train, fake, others):
    found = memorized(train, fake, others)
    assert found.yardstick == HELD_OUT
    assert len(found.yardstick_distances) == 40
    whose = torch.arange(40) // 4
    expected = smaller_p_value(found.fake_distances, found.yardstick_distances, second_groups=whose)
    assert found.p_value == expected
    assert found.p_value != smaller_p_value(found.fake_distances, found.yardstick_distances)


def test_without_them_or_with_few_other_patients_are(train, fake, others):
    few = others.take(torch.arange(19))
    for held_out in (None, few):
        found = memorized(train, fake, held_out)
        assert found.yardstick == "other patients"
        assert len(found.yardstick_distances) == 60


def test_the_test_split_is_a_second_opinion_that_says_what_it_is(train, fake, others):
    found = second_opinion(train, fake, others)
    assert found.yardstick == TEST_SPLIT
    assert "another distribution" in found.yardstick
    assert second_opinion(train, fake, others.take(torch.arange(1))) is None


def test_copies_are_found_by_pixels_and_held_out_images_are_not(train, fake, others):
    images = fake.dataset.images.clone()
    images[3] = train.dataset.images[7].flip(2)  # mirrored
    images[20] = train.dataset.images[50].roll(1, 1)
    found = near_copies_of(
        train.dataset, replace(fake.dataset, images=images), others.dataset, CPU, progress=False
    )
    assert found.found.tolist()[:2] in ([3, 20], [20, 3])
    assert found.nearest.rows[[3, 20]].tolist() == [7, 50]
    assert found.nearest.transforms[3].mirrored
    assert found.nearest.transforms[20].down == 2  # of 64 pixels
    of_held_out = find_nearest(others.dataset.images, train.dataset.images).likeness
    above = of_held_out > found.threshold.likeness
    assert found.held_out_share == above.double().mean()
    assert found.held_out_share < 0.1
    assert found.n_held_out == 40


def test_one_patient_tells_of_no_copies(train, fake):
    of_one = replace(subset(train.dataset, torch.arange(9)), patients=["p"] * 9)
    assert near_copies_of(of_one, fake.dataset, None, CPU, progress=False) is None

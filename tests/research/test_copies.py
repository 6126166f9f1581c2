"""Copies of phantoms are found whatever was done to them, new phantoms are not called copies."""

import pytest
import torch

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.evaluation.matching import numbered_patients
from cxrgan_fast.metrics.copies import Threshold, calibrate
from research import copies
from research.copy_disturbances import DISTURBANCES, MIXED, disturb


@pytest.fixture(scope="module")
def phantoms() -> ImageDataset:
    return load_dataset("phantom", resolution=64, phantom_images=80, progress=False)


@pytest.fixture(scope="module")
def threshold(phantoms: ImageDataset) -> Threshold:
    return calibrate(phantoms.images, numbered_patients(phantoms))


@pytest.fixture(scope="module")
def few(phantoms: ImageDataset, threshold: Threshold) -> dict[str, dict[str, float]]:
    return copies.found_copies(phantoms, threshold, 10, 0)


@pytest.mark.parametrize("name", DISTURBANCES)
def test_copies_are_found(few: dict[str, dict[str, float]], name: str) -> None:
    assert few[name]["found"] >= 0.95


@pytest.mark.parametrize("name", MIXED)
def test_originals_are_found_after_several(few: dict[str, dict[str, float]], name: str) -> None:
    assert few[name]["right_original"] >= 0.95


def test_new_images_are_no_copies(phantoms: ImageDataset, threshold: Threshold) -> None:
    new = load_dataset("phantom", resolution=64, split="val", phantom_images=60, progress=False)
    found = copies.new_images(phantoms, new, threshold)
    assert found["images"] == 60
    assert found["share"] < 0.01
    assert found["called_copies"] == len(found["files"]) == 0


@pytest.mark.long
def test_nineteen_in_twenty_of_many_are_found(phantoms: ImageDataset, threshold: Threshold) -> None:
    found = copies.found_copies(phantoms, threshold, 40, 1)
    assert min(found[name]["found"] for name in DISTURBANCES) >= 0.95
    assert min(of["right_original"] for of in found.values()) >= 0.95


def test_every_disturbance_changes_the_image_but_the_one_that_does_nothing(
    phantoms: ImageDataset,
) -> None:
    generator = torch.Generator().manual_seed(0)
    for name in DISTURBANCES | MIXED:
        found = disturb(phantoms.images[:3], phantoms.images[3:6], name, generator)
        assert found.dtype == torch.uint8
        equal = torch.equal(found, phantoms.images[:3])
        assert equal == (name == "nothing")

"""Which likeness makes a copy: by real images of other patients."""

import pytest
import torch

from cxrgan_fast.data import load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import copies
from cxrgan_fast.metrics.copies import Copies, Threshold, calibrate
from cxrgan_fast.metrics.copy_search import Nearest, Transform, find_nearest


@pytest.fixture(scope="module")
def train() -> torch.Tensor:
    return load_dataset("phantom", resolution=64, phantom_images=30, progress=False).images


def test_the_threshold_is_the_largest_likeness_of_few_other_patients(train: torch.Tensor) -> None:
    patients = torch.arange(30)
    found = calibrate(train, patients)
    others = find_nearest(train, train, image_patients=patients, train_patients=patients)
    assert found.likeness == float(others.likeness.max())
    assert found.n == 30
    assert found.false_rate == pytest.approx(1 / 31)


def test_of_many_it_is_a_quantile(train: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that the data have under two names does not hide copies."""
    twice = torch.cat([train, train[:1]])
    patients = torch.arange(31)
    assert calibrate(twice, patients).likeness > 0.999
    monkeypatch.setattr(copies, "FALSE_RATE", 0.1)
    found = calibrate(twice, patients)
    others = find_nearest(twice, twice, image_patients=patients, train_patients=patients)
    assert found.likeness == float(others.likeness.sort(descending=True).values[2])
    assert found.likeness < 0.999
    assert found.false_rate == pytest.approx(3 / 32)


def test_a_patient_counts_once(train: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    patients = torch.arange(30) // 10  # 10 images each
    assert calibrate(train, patients).n == 3
    monkeypatch.setattr(copies, "MOST_CALIBRATED", 2)
    assert calibrate(train, patients).n == 2
    with pytest.raises(UserError, match="of one patient"):
        calibrate(train, patients * 0)


def test_copies_are_above_the_threshold_the_most_alike_first() -> None:
    nearest = Nearest(
        torch.arange(5),
        torch.tensor([0.9, 0.97, 0.95, 1.0, 0.95]),
        [Transform(False, 0, 1, 0, 0)] * 5,
    )
    assert Copies(nearest, Threshold(0.95, 0.005, 100)).found.tolist() == [3, 1]
    assert Copies(nearest, Threshold(0.9, 0.005, 100)).found.tolist() == [3, 1, 2, 4]

"""Whether images kept out of a training are told from others, on features with a planted answer."""

import pytest
import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Features
from research.cxr_features import split_patients
from research.cxr_held_out import METRICS, measure


def dataset(n: int) -> ImageDataset:
    return ImageDataset(
        images=torch.zeros(n, 1, 8, 8, dtype=torch.uint8),
        labels=torch.arange(n) % 3,
        class_names=("normal", "bacterial", "viral"),
        patients=[f"p{row // 2}" for row in range(n)],
        files=[f"{row}.png" for row in range(n)],
        name="planted",
    )


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_a_shift_of_what_was_kept_out_is_seen_and_nothing_is_not(shift: float) -> None:
    data = dataset(900)
    vectors = torch.randn(900, 4, generator=torch.Generator().manual_seed(1))
    vectors[split_patients(data, 0)[1]] += shift
    found = measure(data, Features(vectors), draws=19)
    assert 20 < found["images"]["normal"] <= 40
    for metric in METRICS:
        p_value = found[metric]["p_value"]
        assert (p_value == 0.05) if shift else (p_value > 0.1)
    if shift:
        assert found["fid"]["held_out"] > 3 * found["fid"]["trained_on"]


def test_too_few_images() -> None:
    data = dataset(20)
    with pytest.raises(UserError, match="20 images are too few for sets of one size"):
        measure(data, Features(torch.randn(20, 4)), draws=5)

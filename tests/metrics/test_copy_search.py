"""The search for originals, against a plain computation of the likeness of one pair."""

import numpy as np
import pytest
import torch

from cxrgan_fast.data import load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import copy_search
from cxrgan_fast.metrics.copy_search import Transform, find_nearest


@pytest.fixture(scope="module")
def train() -> torch.Tensor:
    """Phantoms of 64 pixels, (40, 1, 64, 64)."""
    return load_dataset("phantom", resolution=64, phantom_images=40, progress=False).images


def plain_likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Of two (64, 64) arrays of bytes that lie on each other, window by window."""
    windows = []
    for top in range(4, 60, 8):
        for left in range(4, 60, 8):
            a, b = (
                image[top : top + 8, left : left + 8].reshape(4, 2, 4, 2).mean((1, 3)) / 255
                for image in (first.astype(np.float64), second.astype(np.float64))
            )
            covariance = np.cov(a.ravel(), b.ravel(), bias=True)[0, 1]
            product = (a.var() + 0.0004) * (b.var() + 0.0004)
            windows.append((covariance + 0.0004) / product**0.5)
    return float(np.mean(sorted(windows)[-36:]))


def test_the_likeness_in_place_is_that_of_the_plain_computation(train: torch.Tensor) -> None:
    template = copy_search._Template(train[:1].float() / 255)
    for other in train[1:6]:
        inner = other[None, :, 4:60, 4:60].float() / 255
        found = template.windows(copy_search._cells(inner)).topk(36).values.mean()
        expected = plain_likeness(train[0, 0].numpy(), other[0].numpy())
        assert float(found) == pytest.approx(expected, abs=1e-4)


def test_an_image_itself_is_found_as_it_is(train: torch.Tensor) -> None:
    found = find_nearest(train[10:14], train)
    assert found.rows.tolist() == [10, 11, 12, 13]
    assert found.likeness.tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    assert found.transforms == [Transform(False, 0, 1, 0, 0)] * 4
    assert str(found.transforms[0]) == "as it is"


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("right", "down"), [(3, -2), (-4, 4), (0, 1)])
def test_the_shift_of_a_copy_is_named(
    train: torch.Tensor, mirrored: bool, right: int, down: int
) -> None:
    copies = train[20:23].flip(3) if mirrored else train[20:23]
    found = find_nearest(copies.roll((down, right), (2, 3)), train)
    assert found.rows.tolist() == [20, 21, 22]
    for transform in found.transforms:
        assert transform.mirrored == mirrored
        assert transform.right == pytest.approx(right, abs=0.5)
        assert transform.down == pytest.approx(down, abs=0.5)
    assert min(found.likeness) > 0.98


def test_a_patients_own_images_are_passed_over(train: torch.Tensor) -> None:
    patients = torch.arange(40) // 2
    twins = train.clone()
    twins[1::2] = twins[::2]
    found = find_nearest(twins[:6], twins, image_patients=patients[:6], train_patients=patients)
    assert (patients[found.rows] != patients[:6]).all()
    assert find_nearest(twins[1:2], twins).rows.tolist() == [0]
    with pytest.raises(UserError, match="all of an image's own patient"):
        find_nearest(train[:1], train, image_patients=patients[:1] * 0, train_patients=patients * 0)
    with pytest.raises(ValueError, match="both or neither"):
        find_nearest(train[:1], train, image_patients=patients[:1])


def test_flat_images_are_like_nothing_that_has_a_structure(train: torch.Tensor) -> None:
    flat = torch.full((3, 1, 64, 64), 90, dtype=torch.uint8)
    flat[1], flat[2] = 0, 255
    assert find_nearest(flat, train).likeness.max() < 0.7


def test_size_and_colors_do_not_matter_and_neither_do_blocks(
    train: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find_nearest(train[:9].flip(2), train)
    monkeypatch.setattr(copy_search, "_QUERIES_AT_ONCE", 4)
    parts = find_nearest(train[:9].flip(2), train)
    assert parts.rows.tolist() == whole.rows.tolist()
    torch.testing.assert_close(parts.likeness, whole.likeness)
    large = train[5:7].repeat_interleave(3, 2).repeat_interleave(3, 3).expand(-1, 3, -1, -1)
    found = find_nearest(large, train)
    assert found.rows.tolist() == [5, 6]
    assert found.likeness.min() > 0.98


def test_nothing_to_search_for_or_among(train: torch.Tensor) -> None:
    assert find_nearest(train[:0], train).rows.shape == (0,)
    assert find_nearest(train[:2], train[:1]).rows.tolist() == [0, 0]
    with pytest.raises(UserError, match="no training images that might be copied"):
        find_nearest(train[:1], train[:0])


def test_a_change_of_the_search_is_another_version() -> None:
    """Kept thresholds are of the likenesses of a version: raise `SEARCH_VERSION` with these."""
    images = load_dataset("phantom", resolution=64, phantom_images=8, progress=False).images
    found = find_nearest(images[:3], images[3:])
    assert copy_search.SEARCH_VERSION == 1
    assert found.likeness.tolist() == pytest.approx([0.88909, 0.88873, 0.86705], abs=1e-4)

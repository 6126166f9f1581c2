"""The phantoms: reproducible, varied, with the anatomy and the disease they claim."""

import numpy as np
import pytest

from cxrgan_fast.data import Phantom, phantom_image
from cxrgan_fast.data.phantom import CLASS_NAMES, Box

COUNT = 24


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Phantom, Phantom]]:
    """The same patients healthy and ill."""
    return [(phantom_image(7, i, 0), phantom_image(7, i, 1)) for i in range(COUNT)]


def inside(box: Box, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = True
    return mask


def test_the_same_numbers_give_the_same_phantom() -> None:
    first, again = phantom_image(3, 5, 1), phantom_image(3, 5, 1)
    assert np.array_equal(first.image, again.image)
    assert first.marker_box == again.marker_box
    assert first.consolidation_box == again.consolidation_box
    for other in (phantom_image(3, 6, 1), phantom_image(4, 5, 1)):
        assert other.image.shape != first.image.shape or not np.array_equal(
            other.image, first.image
        )


def test_sizes_aspects_and_exposures_vary(pairs: list[tuple[Phantom, Phantom]]) -> None:
    shapes = [healthy.image.shape for healthy, _ in pairs]
    aspects = [width / height for height, width in shapes]
    assert len(set(shapes)) > COUNT // 2
    assert min(aspects) < 1.05 < 1.3 < max(aspects)
    assert min(min(shape) for shape in shapes) >= 120
    assert np.std([healthy.image.mean() for healthy, _ in pairs]) > 6


def test_lungs_are_dark_between_bright_tissue(pairs: list[tuple[Phantom, Phantom]]) -> None:
    for healthy, _ in pairs:
        lungs = healthy.image[healthy.lung_mask].mean()
        rows = np.flatnonzero(healthy.lung_mask.any(1))
        middle = healthy.image[rows[len(rows) // 2] :, :]
        bright = np.percentile(middle, 85)
        assert 0.1 < healthy.lung_mask.mean() < 0.5
        assert lungs + 35 < bright
        both_sides = np.array_split(healthy.lung_mask.sum(0), 2)
        assert min(side.sum() for side in both_sides) > 0.2 * healthy.lung_mask.sum()


def test_the_heart_lies_to_the_images_right(pairs: list[tuple[Phantom, Phantom]]) -> None:
    share = [
        # Of the lower lung field, the patient's right (the image's left) has more left.
        np.subtract(*(half.sum() for half in np.array_split(lower_lungs(healthy), 2, axis=1)))
        for healthy, _ in pairs
    ]
    assert np.mean(np.array(share) > 0) > 0.8


def lower_lungs(phantom: Phantom) -> np.ndarray:
    rows = np.flatnonzero(phantom.lung_mask.any(1))
    return phantom.lung_mask[rows[len(rows) // 2] :]


def test_ribs_cross_the_lungs(pairs: list[tuple[Phantom, Phantom]]) -> None:
    for healthy, _ in pairs[:8]:
        columns = np.flatnonzero(healthy.lung_mask.sum(0) > 0.8 * healthy.lung_mask.sum(0).max())
        column = columns[len(columns) // 4]
        rows = np.flatnonzero(healthy.lung_mask[:, column])
        profile = healthy.image[rows, column - 1 : column + 2].mean(1)
        profile = profile - np.convolve(np.pad(profile, 12, "edge"), np.ones(25) / 25, "valid")
        crossings = np.flatnonzero(np.diff(np.sign(np.convolve(profile, np.ones(3) / 3, "same"))))
        assert len(crossings) >= 8  # at least four bright bands


def test_the_marker_is_where_its_box_says(pairs: list[tuple[Phantom, Phantom]]) -> None:
    for healthy, _ in pairs:
        left, top, right, bottom = healthy.marker_box
        height, width = healthy.image.shape
        assert 0 <= left < right <= width // 3
        assert 0 <= top < bottom <= height // 2
        letter = healthy.image[top:bottom, left:right]
        assert letter.max() > 200
        assert letter[:, 0].min() > 120  # the stem of the R runs down the left border
        assert letter[-1, right - left - 1] > letter[-1, (right - left) // 2]  # its leg ends right


def test_disease_is_where_its_box_says(pairs: list[tuple[Phantom, Phantom]]) -> None:
    for healthy, ill in pairs:
        assert healthy.label == 0
        assert ill.label == 1
        assert healthy.consolidation_box is None
        assert ill.consolidation_box is not None
        assert healthy.marker_box == ill.marker_box
        assert np.array_equal(healthy.lung_mask, ill.lung_mask)
        change = ill.image.astype(int) - healthy.image
        box = inside(ill.consolidation_box, change.shape)
        # Outside, only the exposure's wide-area equalisation reacts.
        assert np.abs(change[~box]).max() < 0.6 * change[box].max()
        assert change[box].max() > 35
        opaque = (change > 15) & ill.lung_mask
        assert opaque.sum() > 0.04 * ill.lung_mask.sum()


def test_the_classes_can_be_told_apart_from_brightness_in_the_lungs(
    pairs: list[tuple[Phantom, Phantom]],
) -> None:
    ill_is_brighter = [
        ill.image[ill.lung_mask].mean() > healthy.image[healthy.lung_mask].mean() + 3
        for healthy, ill in pairs
    ]
    assert all(ill_is_brighter)


def test_labels_beyond_the_classes() -> None:
    assert CLASS_NAMES == ("normal", "bacterial")
    for label in (-1, 2):
        with pytest.raises(IndexError, match=f"label {label}"):
            phantom_image(0, 0, label)


def test_far_along_the_sequence() -> None:
    assert phantom_image(2**40, 2 << 40, 1).image.std() > 20


def test_no_arithmetic_warnings() -> None:
    with np.errstate(all="raise", under="ignore"):
        for index in range(30):
            phantom_image(1, index, index % 2)

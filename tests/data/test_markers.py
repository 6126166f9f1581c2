"""Burned-in markers are found and filled; bone, lines and noise are left alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cxrgan_fast.data import phantom_image
from cxrgan_fast.data.markers import find_markers, remove_markers
from research.markers import FOUND, bright_pixels, on_phantoms


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("square", [False, True])
def test_markers_of_phantoms(square: bool) -> None:
    measured = on_phantoms(120, 5, square)
    assert measured["recall"] >= 0.95
    assert measured["lung_pixels_touched"] <= 0.01


def chest(height: int, width: int) -> np.ndarray:
    """Two dark lungs between brighter tissue, without any print."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    image = 150 - 60 * np.exp(-(((x - 0.33) / 0.13) ** 2 + ((y - 0.5) / 0.3) ** 2))
    image -= 60 * np.exp(-(((x - 0.67) / 0.13) ** 2 + ((y - 0.5) / 0.3) ** 2))
    return image.astype(np.uint8)


def with_letter(image: np.ndarray, left: float, top: float, size: float) -> np.ndarray:
    """Strokes of an L, in shares of the width."""
    drawn = Image.fromarray(image)
    pen, width = ImageDraw.Draw(drawn), image.shape[1]
    x, y, s = left * width, top * width, size * width
    pen.rectangle((x, y, x + 0.25 * s, y + s), fill=250)
    pen.rectangle((x, y + 0.75 * s, x + 0.7 * s, y + s), fill=250)
    return np.asarray(drawn)


@pytest.mark.parametrize("shape", [(96, 96), (224, 224), (600, 800), (2500, 2000)])
def test_a_letter_is_found_at_every_size(shape: tuple[int, int]) -> None:
    plain = chest(*shape)
    marked = with_letter(plain, 0.06, 0.05, 0.07)
    letter = marked != plain
    found = find_markers(marked)
    assert found[letter].mean() > 0.95
    assert found.sum() < 4 * letter.sum()
    assert not find_markers(plain).any()


def test_a_letter_in_the_middle_is_left() -> None:
    assert not find_markers(with_letter(chest(224, 224), 0.45, 0.5, 0.07)).any()


@pytest.mark.parametrize("how", ["mask", "inpaint"])
@pytest.mark.parametrize("color", [False, True])
def test_filling_changes_the_marker_and_nothing_else(how: str, color: bool) -> None:
    plain = chest(224, 224)
    marked = with_letter(plain, 0.06, 0.05, 0.07)
    found = find_markers(marked)
    if color:
        plain, marked = (np.stack([each] * 3, -1) for each in (plain, marked))
    before = marked.copy()
    marked.flags.writeable = False
    filled = remove_markers(marked, how)  # type: ignore[arg-type]
    assert filled.dtype == np.uint8
    assert filled.shape == marked.shape
    assert np.array_equal(filled[~found], before[~found])
    assert np.abs(filled.astype(int) - plain)[found].max() < 25  # as if it had not been there
    assert np.array_equal(marked, before)


def test_what_is_not_print_is_left() -> None:
    image = Image.fromarray(chest(224, 224))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 60, 40), fill=245)  # too large
    pen.line((5, 60, 30, 220), fill=230, width=3)  # a cable
    pen.ellipse((180, 10, 183, 12), fill=250)  # a speck
    assert not find_markers(np.asarray(image)).any()


def test_images_with_nothing_in_them() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 150)).astype(np.uint8)
    for image in (
        *(
            np.full(shape, level, np.uint8)
            for shape in ((1, 1), (300, 2), (90, 90))
            for level in (0, 255)
        ),
        chest(1000, 60),
    ):
        assert not find_markers(image).any()
        assert remove_markers(image, "inpaint") is image
    assert find_markers(noise).mean() < 0.02


def test_threads_give_the_same_bits() -> None:
    images = [phantom_image(3, index, 0).image for index in range(12)]
    one = [remove_markers(image, "inpaint") for image in images]
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda image: remove_markers(image, "inpaint"), images))
    assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))


def test_what_counts_as_found_is_the_letter() -> None:
    phantom = phantom_image(7, 0, 0)
    left, top, right, bottom = phantom.marker_box
    bright = bright_pixels(phantom.image, phantom.marker_box)
    assert 0 < FOUND <= 1
    assert 0.15 < bright[top:bottom, left:right].mean() < 0.9
    assert bright.sum() == bright[top:bottom, left:right].sum()

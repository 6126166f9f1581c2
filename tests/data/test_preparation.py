"""What is done to an image beside decoding it: fit, contrast, markers, and the settings."""

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrgan_fast.data.contrast import percentile_range, stretch, to_bytes
from cxrgan_fast.data.fit import to_square
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import prepare_image, read_image
from cxrgan_fast.errors import UserError


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def quarters(height: int, width: int) -> np.ndarray:
    """Four columns of bands of 10, 80, 160 and 240."""
    return np.repeat(np.array([10, 80, 160, 240], np.uint8), width // 4)[None].repeat(height, 0)


def test_pad_continues_each_border_in_its_own_tone() -> None:
    tall = Image.fromarray(quarters(80, 40))
    square = np.asarray(to_square(tall, 80, "pad"))
    assert square.shape == (80, 80)
    assert (square[:, :20] == 10).all()
    assert (square[:, 60:] == 240).all()
    assert np.array_equal(square[:, 20:60], np.asarray(tall))
    wide = Image.fromarray(quarters(80, 40).T.copy())
    assert np.array_equal(np.asarray(to_square(wide, 80, "pad")), square.T)


def test_pad_of_an_odd_difference_and_of_colors() -> None:
    color = np.zeros((33, 16, 3), np.uint8)
    color[..., 2] = 99
    square = np.asarray(to_square(Image.fromarray(color), 33, "pad"))
    assert square.shape == (33, 33, 3)
    assert (square == (0, 0, 99)).all()


def test_pad_takes_the_median_and_not_the_mean_of_a_border() -> None:
    image = np.full((90, 30), 100, np.uint8)
    image[:20, 0] = 255  # a letter at the border
    assert (np.asarray(to_square(Image.fromarray(image), 90, "pad"))[:, 0] == 100).all()


def test_crop_takes_the_middle() -> None:
    square = np.asarray(to_square(Image.fromarray(quarters(40, 80)), 40, "crop"))
    assert np.array_equal(square, quarters(40, 80)[:, 20:60])
    small = np.asarray(to_square(Image.fromarray(quarters(40, 80)), 20, "crop"))
    assert small.shape == (20, 20)
    assert small[:, 0].max() <= 85  # nothing of what lies outside shines in
    assert small[:, 0].min() >= 75


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (437, 144), (64, 64)])
def test_every_fit_of_every_shape(fit: Any, size: tuple[int, int]) -> None:
    image = np.full(size, 77, np.uint8)
    for channels in (1, 3):
        picture = read_image(encoded(image), Preparation(64, channels, fit=fit))
        assert picture.pixels.shape == (channels, 64, 64)
        assert (picture.pixels == 77).all()
        assert (picture.height, picture.width) == size


def test_size_is_that_of_the_upright_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("L", (30, 20)).save(buffer, "JPEG", exif=exif)
    picture = read_image(buffer.getvalue(), Preparation(16))
    assert (picture.width, picture.height) == (20, 30)


def test_percentiles_become_black_and_white() -> None:
    values = np.arange(1000).reshape(20, 50) % 100 + 50
    out = np.asarray(stretch(Image.fromarray(values.astype(np.uint8)), (1, 99)))
    assert (out[values <= 50] == 0).all()
    assert (out[values >= 148] == 255).all()
    inner = (values > 50) & (values < 148)
    expected = (values - 50) * 255 / 98
    assert np.abs(out[inner] - expected[inner]).max() <= 0.5 + 1e-9


def test_one_tone_stays_what_it_is() -> None:
    flat = np.full((9, 9), 120, np.uint8)
    assert (np.asarray(stretch(Image.fromarray(flat), (0.5, 99.5))) == 120).all()
    picture = read_image(
        encoded(flat.astype(np.uint16) * 100), Preparation(8, contrast="percentile")
    )
    assert len(np.unique(picture.pixels)) == 1


def test_colors_are_stretched_alike() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5], image[5:] = (50, 60, 70), (100, 110, 120)
    out = np.asarray(stretch(Image.fromarray(image), (10, 90)))
    steps = np.diff(out.astype(int), axis=2)
    assert (steps >= 0).all()  # the order of the channels stays
    assert (steps.max(2) > 30).all()


def test_contrast_of_deep_values_loses_nothing_to_bytes() -> None:
    """A narrow band of 16-bit values has all its steps in the result."""
    deep = (30_000 + np.arange(256).repeat(4)).reshape(32, 32).astype(np.uint16)
    plain = read_image(encoded(deep), Preparation(32))
    assert len(np.unique(plain.pixels)) <= 2
    stretched = read_image(
        encoded(deep), Preparation(32, contrast="percentile", percentiles=(0, 100))
    )
    assert np.array_equal(stretched.pixels[0].reshape(-1), np.arange(256).repeat(4))


def test_two_exposures_become_one() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(60, 180, (64, 64)).astype(np.uint8)
    dim = (image * 0.7).astype(np.uint8)
    settings = Preparation(64, contrast="percentile")
    first, second = (prepare_image(Image.fromarray(each), settings) for each in (image, dim))
    assert np.abs(first.astype(int) - second).max() <= 3


def test_contrast_is_measured_before_padding() -> None:
    image = np.linspace(50, 200, 400).round().astype(np.uint8).reshape(1, 400).repeat(8, 0)
    settings = {"contrast": "percentile", "percentiles": (5, 95)}
    padded = prepare_image(Image.fromarray(image), Preparation(64, fit="pad", **settings))  # type: ignore[arg-type]
    assert padded[0, 31].min() == 0
    assert padded[0, 31].max() == 255


def test_ranges() -> None:
    assert percentile_range(np.arange(101), (10, 90)) == (10, 90)
    assert percentile_range(np.full(5, 3), (10, 90)) is None
    assert to_bytes(np.array([[-5.0, 0, 5, 10, 99]]), 0, 10).tolist() == [[0, 0, 128, 255, 255]]
    assert to_bytes(np.array([[0.0, 10]]), 10, 0).tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": "stretch"}, "fit 'stretch': expected one of squash, pad, crop"),
        ({"markers": "no"}, "markers 'no': expected one of keep, mask, inpaint"),
        ({"contrast": "auto"}, "contrast 'auto'"),
        ({"percentiles": (99, 1)}, r"percentiles 99 1: expected two numbers"),
        ({"percentiles": (-1, 99)}, "percentiles -1 99"),
        ({"resolution": 4}, "resolution 4"),
        ({"image_channels": 2}, "image channels 2"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Preparation(**settings).validate()


def test_settings_in_files_have_their_names_of_before() -> None:
    """They go into the hash that finds a set: with other names, every cache would be made anew."""
    settings = Preparation(32, 3, "pad", "mask", "percentile", (1, 99))
    assert list(settings.recorded().items()) == [
        ("resolution", 32),
        ("image_channels", 3),
        ("fit", "pad"),
        ("markers", "mask"),
        ("exposure", "percentile"),
        ("percentiles", (1, 99)),
    ]


def test_markers_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"OpenCV: pip install 'cxrgan_fast\[data\]'"):
        read_image(encoded(quarters(80, 80)), Preparation(32, markers="mask"))

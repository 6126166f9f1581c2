"""Any image file becomes the right square of bytes, or a line that says why not."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrgan_fast.data import readers
from cxrgan_fast.data.opening import MAX_PIXELS
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.errors import UserError

# Pillow warns of what it then raises; the loader silences the same.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

RAMP = np.linspace(0, 255, 64, dtype=np.uint8)[None, :].repeat(64, 0)  # (64, 64), black to white


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def read_image(path: Path, resolution: int, image_channels: int = 1) -> np.ndarray:
    preparation = Preparation(resolution, image_channels)
    return readers.read_image(path.read_bytes(), preparation).pixels


def prepare(image: Image.Image, resolution: int, image_channels: int) -> np.ndarray:
    return readers.prepare_image(image, Preparation(resolution, image_channels))


def read_ramp(path: Path) -> np.ndarray:
    return read_image(path, 64)[0].astype(int)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV"])
def test_modes_give_the_same_grayscale(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RAMP).convert("RGB").convert(mode)
    suffix = ".tif" if mode in ("CMYK", "YCbCr") else ".png"
    if mode == "HSV":
        square = prepare(image, 64, 1)[0].astype(int)
    else:
        square = read_ramp(save(tmp_path / f"ramp{suffix}", image))
    assert np.abs(square - RAMP).max() <= 2  # the modes' own rounding


def test_exact_palette(tmp_path: Path) -> None:
    image = Image.fromarray(RAMP).convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.abs(read_ramp(save(tmp_path / "p.png", image)) - RAMP).max() <= 1


def test_one_bit(tmp_path: Path) -> None:
    image = Image.fromarray(RAMP > 127)
    assert image.mode == "1"
    assert set(np.unique(read_ramp(save(tmp_path / "bits.png", image)))) == {0, 255}


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bit_files_fill_the_range_by_the_bits_in_use(tmp_path: Path, bits: int) -> None:
    deep = np.linspace(0, 2**bits - 1, 64).round().astype(np.uint16)[None, :].repeat(64, 0)
    for name in ("deep.png", "deep.tif"):
        square = read_ramp(save(tmp_path / name, Image.fromarray(deep)))
        assert np.abs(square - RAMP).max() <= 1


def test_thirty_two_bit_integers(tmp_path: Path) -> None:
    deep = RAMP.astype(np.int32) * 257
    square = read_ramp(save(tmp_path / "deep.tif", Image.fromarray(deep)))
    assert np.abs(square - RAMP).max() <= 1


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((8, 8, 4), 255, np.uint8))
    image.putalpha(Image.fromarray(np.full((8, 8), 51, np.uint8)))
    assert read_image(save(tmp_path / "a.png", image), 8).mean() == 51
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 255, 255] * 256)
    square = read_image(save(tmp_path / "p.png", palette, transparency=0), 8)
    assert square.max() == 0


def test_three_channels_keep_color_and_repeat_gray(tmp_path: Path) -> None:
    red = save(tmp_path / "red.png", Image.new("RGB", (9, 9), (255, 0, 0)))
    assert read_image(red, 8, 3)[:, 0, 0].tolist() == [255, 0, 0]
    gray = save(tmp_path / "grey.jpg", Image.fromarray(RAMP))
    square = read_image(gray, 64, 3)
    assert square.shape == (3, 64, 64)
    assert (square == square[:1]).all()


def test_color_jpeg_is_read_as_luma(tmp_path: Path) -> None:
    path = save(tmp_path / "g.jpg", Image.new("RGB", (64, 64), (0, 255, 0)), quality=95)
    assert read_image(path, 32).mean() == pytest.approx(150, abs=2)  # 0.587 · 255


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (64, 64), (1, 1), (5, 700)])
def test_the_whole_image_is_stretched_to_the_square(size: tuple[int, int]) -> None:
    width, height = size
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    square = prepare(Image.fromarray(x.round().astype(np.uint8)), 32, 1)
    assert square.shape == (1, 32, 32)
    assert square.dtype == np.uint8
    if width > 32:
        assert square[0, :, 0].max() < 12  # both borders are still there: nothing is cropped
        assert square[0, :, -1].min() > 243


def test_resizing_is_antialiased() -> None:
    checks = np.indices((256, 256)).sum(0) % 2 * 255  # the finest pattern there is
    square = prepare(Image.fromarray(checks.astype(np.uint8)), 60, 1)
    assert np.abs(square.astype(int) - 127.5).max() < 3


def test_large_jpeg_is_read_as_its_png_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 16), np.uint8)).resize((1600, 1200))
    exact = read_image(save(tmp_path / "x.png", smooth), 64).astype(int)
    quick = read_image(save(tmp_path / "x.jpg", smooth, quality=95), 64).astype(int)
    assert np.abs(exact - quick).max() <= 4  # decoded at a fraction of its size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    corner = np.zeros((64, 64), np.uint8)
    corner[:32, :32] = 255  # upright: the bright quarter at the top left
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    corner[:16, 32:48] = 128  # and not symmetric
    stored = Image.fromarray(corner)
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "turned.jpg", stored, exif=exif, quality=95)
    assert np.abs(read_ramp(path) - corner).mean() < 3


def test_damaged_exif_does_not_cost_the_image(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", Image.fromarray(RAMP), exif=b"Exif\0\0MM\0*" + b"\xff" * 40)
    assert np.abs(read_ramp(path) - RAMP).max() < 12


def test_several_frames_are_refused(tmp_path: Path) -> None:
    first, second = Image.new("L", (8, 8), 200), Image.new("L", (8, 8), 10)
    for suffix in ("gif", "tif", "webp", "png"):
        path = save(tmp_path / f"x.{suffix}", first, save_all=True, append_images=[second])
        with pytest.raises(UserError, match=r"^holds several frames; expected one image"):
            read_image(path, 8)


def test_a_telephones_preview_is_no_second_frame(tmp_path: Path) -> None:
    first, second = Image.new("L", (8, 8), 200), Image.new("L", (8, 8), 10)
    path = save(tmp_path / "x.mpo", first, save_all=True, append_images=[second])
    assert read_image(path, 8).mean() == pytest.approx(200, abs=2)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_cut_off_files_are_named(tmp_path: Path, kind: str, share: float) -> None:
    whole = encoded(kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError) as caught:
        read_image(path, 32)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_raise_user_errors_or_nothing(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = ["JPEG", "PNG", "TIFF", "WEBP", "GIF"][seed % 5]
    damaged = bytearray(encoded(kind))
    for place in rng.integers(0, min(len(damaged), 400), 6):
        damaged[place] = rng.integers(0, 256)
    path = tmp_path / "damaged"
    path.write_bytes(damaged)
    try:
        outcome = f"{read_image(path, 16).shape}"
    except UserError as error:
        outcome = str(error)
        assert outcome.startswith(("damaged", "not an image", "claims", "holds several"))
    else:
        assert outcome == "(1, 16, 16)"
    assert "\n" not in outcome


def png_header(width: int, height: int) -> bytes:
    """Make a PNG that claims a size and holds next to nothing: a decompression bomb."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize("side", [8001, 9500, 60_000])
def test_decompression_bombs_are_refused_unopened(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(UserError, match=r"^claims .* pixels"):
        read_image(path, 32)


def test_pixels_without_known_black_and_white_are_refused(tmp_path: Path) -> None:
    real = save(tmp_path / "real.tif", Image.fromarray(np.zeros((4, 4), np.float32)))
    with pytest.raises(UserError, match=r"^floating-point pixels"):
        read_image(real, 8)
    below = save(tmp_path / "below.tif", Image.fromarray(np.full((4, 4), -5, np.int32)))
    with pytest.raises(UserError, match=r"^negative pixel values"):
        read_image(below, 8)


def test_other_files_under_image_names(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not an image")
    with pytest.raises(UserError, match=r"^not an image that can be read"):
        read_image(path, 8)

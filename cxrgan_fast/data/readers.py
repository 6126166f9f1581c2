"""One image file's bytes in, one square array of bytes out."""

import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrgan_fast.data.dicom import dicom_size, is_dicom, read_dicom
from cxrgan_fast.data.exposure import percentile_range, stretch, to_bytes, used_range
from cxrgan_fast.data.fit import to_square
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.errors import UserError, printable

Bytes: TypeAlias = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {
        *(".avif", ".bmp", ".dcm", ".dib", ".dicom", ".gif", ".j2c", ".j2k", ".jfif", ".jp2"),
        *(".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png"),
        *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
"""File name endings (in lower case) that are read as images."""

MAX_PIXELS = 64_000_000
"""Larger images are refused: the biggest X-ray detectors have some 20 million pixels."""

_LARGE_PIXELS = 16_000_000
_one_large_image = threading.Lock()

# Markers have strokes of a hundredth of the image's width: of fewer pixels, they could not be told
# from bone any more.
_SMALLEST_FOR_MARKERS = 512

_ONE_FRAME_FORMATS = frozenset({"GIF", "PNG", "TIFF", "WEBP"})  # MPO's second is a preview

_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A prepared image.

    Attributes:
        pixels: uint8, (C, R, R).
        width: of the original as it is looked at, upright.
        height: likewise.
        patient: as a DICOM file tells it, not in the clear; None if unknown.
    """

    pixels: Bytes
    width: int
    height: int
    patient: str | None = None


@dataclass(frozen=True)
class Decoded:
    """A decoded image, upright.

    Attributes:
        image: perhaps at a fraction of its size.
        width: of the original, upright.
        height: likewise.
        kind: its format and mode, such as "JPEG L".
        patient: as a DICOM file tells it, not in the clear; None if unknown.
    """

    image: Image.Image
    width: int
    height: int
    kind: str
    patient: str | None


def read_image(content: bytes, preparation: Preparation) -> Picture:
    """Turn the bytes of an image file into a square of bytes.

    Any mode is accepted: grayscale, RGB, palette, CMYK, 1-bit, 16-bit (scaled by the bits in
    use, so that 12-bit detector data fills the range). Transparency is laid over black, which
    is air in a radiograph. The EXIF orientation is applied, then markers are removed, the
    exposure is normalised, and the image is made square and resized, antialiased (bicubic).

    Memory: at most 24 bytes a pixel of the original beside `content` (DICOM: 40), so 1.5 GB for an
    image of `MAX_PIXELS`; images of more than 16 million pixels are read one at a time.

    Args:
        content: of the file.
        preparation: valid settings.

    Raises:
        UserError: why it cannot be decoded whole, or that it is larger than `MAX_PIXELS`; the
            file's name is for the caller to put before it.
    """
    least = 2 * preparation.resolution
    if preparation.markers != "keep":
        least = max(least, _SMALLEST_FOR_MARKERS)
    mode = "L" if preparation.image_channels == 1 else "RGB"
    percentiles = preparation.percentiles if preparation.exposure == "percentile" else None
    with _failures_named(), _opened(content, mode, least, percentiles) as found:
        pixels = prepare(found.image, preparation)
    return Picture(pixels, found.width, found.height, found.patient)


def look(content: bytes, least: int) -> Decoded:
    """Decode an image to be looked at: upright, 8-bit grayscale.

    Args:
        content: of the file.
        least: JPEGs may be decoded at a fraction of their size, but of at least so many pixels a
            side.

    Raises:
        UserError: as `read_image`.
    """
    with _failures_named(), _opened(content, "L", least, None) as found:
        return replace(found, image=_eight_bit(found.image, None).convert("L"))


def image_size(content: bytes) -> tuple[int, int]:
    """Width and height that a file claims, before EXIF turns it.

    Raises:
        UserError: why it cannot be read, or that it is larger than `MAX_PIXELS`.
    """
    if is_dicom(content):
        return dicom_size(content)
    with _failures_named(), Image.open(io.BytesIO(content)) as image:
        _refuse_enormous(image)
        return image.size


def prepare(image: Image.Image, preparation: Preparation) -> Bytes:
    """Bring a decoded, upright image to bytes, to its channels and to the square.

    Args:
        image: any mode that `read_image` accepts.
        preparation: valid settings.

    Returns:
        uint8, (C, R, R).

    Raises:
        UserError: a floating-point image, whose black and white are unknown.
    """
    normalised = preparation.exposure == "percentile"
    image = _eight_bit(image, preparation.percentiles if normalised else None)
    image = image.convert("L" if preparation.image_channels == 1 else "RGB")
    if preparation.markers != "keep":
        from cxrgan_fast.data.markers import remove_markers  # it needs OpenCV, an extra

        image = Image.fromarray(remove_markers(np.asarray(image), preparation.markers))
    if normalised:
        image = stretch(image, preparation.percentiles)
    image = to_square(image, preparation.resolution, preparation.fit)
    pixels = np.asarray(image, dtype=np.uint8)  # (R, R) or (R, R, 3)
    return pixels[None] if preparation.image_channels == 1 else pixels.transpose(2, 0, 1)


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    """Turn whatever a decoder raises into one line that says what is wrong with the file."""
    try:
        yield
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(_too_large("more than 178 million")) from None
    except MemoryError:
        raise UserError("the memory does not suffice for it: make it smaller") from None
    except Exception as error:  # a decoder fed with damaged bytes may raise anything
        raise UserError(_reason(error)) from None


@contextlib.contextmanager
def _opened(
    content: bytes, mode: str, least: int, percentiles: tuple[float, float] | None
) -> Iterator[Decoded]:
    """Decode an image; large ones one at a time, for as long as they are in use."""
    if is_dicom(content):
        width, height = dicom_size(content)
        with _one_at_a_time(width * height):
            yield _of_dicom(content, percentiles)
        return
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        kind = f"{image.format} {image.mode}"
        _refuse_enormous(image)
        if image.format in _ONE_FRAME_FORMATS and getattr(image, "is_animated", False):
            raise UserError("holds several frames; expected one image: save the one to use")
        with _one_at_a_time(width * height):
            # JPEG can decode straight to a smaller size. Twice the target leaves the last
            # factor to the antialiased filter, which is what Pillow's thumbnails do too.
            image.draft(mode, (least, least))
            orientation = _orientation(image)
            image.load()
            if orientation in (5, 6, 7, 8):
                width, height = height, width
            yield Decoded(_upright(image, orientation), width, height, kind, None)


def _one_at_a_time(pixels: int) -> contextlib.AbstractContextManager[object]:
    return _one_large_image if pixels > _LARGE_PIXELS else contextlib.nullcontext()


def _of_dicom(content: bytes, percentiles: tuple[float, float] | None) -> Decoded:
    found = read_dicom(content, MAX_PIXELS)
    values, black, white = found.values, found.low, found.high
    height, width = values.shape[:2]
    if values.ndim == 3:
        return Decoded(Image.fromarray(values), width, height, "DICOM RGB", found.patient)
    if percentiles is not None:
        ends = percentile_range(values, percentiles)
        if ends is not None:
            black, white = ends if black < white else ends[::-1]
    image = Image.fromarray(to_bytes(values, black, white))
    return Decoded(image, width, height, "DICOM L", found.patient)


def _eight_bit(image: Image.Image, percentiles: tuple[float, float] | None) -> Image.Image:
    """Scale an image of more than 8 bits to them, and lay transparency over black."""
    if image.mode == "F":
        raise UserError("floating-point pixels have no known black and white: save it as 16-bit")
    if image.mode == "I" or image.mode.startswith("I;"):
        values = np.asarray(image)
        black_and_white: tuple[float, float] = used_range(values)
        if percentiles is not None:
            # Of the deep values, so that no contrast is lost to bytes in between.
            black_and_white = percentile_range(values, percentiles) or black_and_white
        return Image.fromarray(to_bytes(values, *black_and_white))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image)
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels, which may be whole
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def _refuse_enormous(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UserError(_too_large(f"{image.width} x {image.height}"))


def _too_large(size: str) -> str:
    return (
        f"claims {size} pixels, more than the {MAX_PIXELS:,} that are read: "
        "make it smaller or remove it"
    )


def _reason(error: Exception) -> str:
    """Put a decoder's complaint in a few words of one line."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image that can be read (damaged, or another format under this name)"
    detail = printable(" ".join(str(error).split())) or type(error).__name__
    return f"damaged or incomplete image ({detail})"

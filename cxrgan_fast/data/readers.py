"""One image file's bytes in, one square array of bytes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrgan_fast.data.contrast import Percentiles, percentile_range, stretch, to_bytes
from cxrgan_fast.data.decoding import Opened, decode, may_be_deep, size_of
from cxrgan_fast.data.depth import Brightest, DeepImage, Storage, UnknownWhiteError
from cxrgan_fast.data.dicom import DicomImage, decode_dicom, dicom_patient, dicom_size
from cxrgan_fast.data.dicom_file import is_dicom
from cxrgan_fast.data.fit import to_square
from cxrgan_fast.data.preparation import Preparation

Bytes: TypeAlias = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {
        *(".avif", ".bmp", ".dcm", ".dib", ".dicom", ".gif", ".j2c", ".j2k", ".jfif", ".jp2"),
        *(".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png"),
        *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
"""File name endings (in lower case) that are read as images."""

# Markers have strokes of a hundredth of the image's width: of fewer pixels, they could not be told
# from bone any more.
_SMALLEST_FOR_MARKERS = 512

_ROWS = 1 << 20  # pixels that are laid over black at once

T = TypeVar("T")

READER_VERSION = 3
"""Raised whenever other bytes are made of a file, so that sets made before are not taken for it."""

Whites: TypeAlias = Mapping[Storage, int]
"""The value that is white in a set, for each way in which its images are stored."""


@dataclass(frozen=True)
class Picture:
    """A prepared image.

    Attributes:
        pixels: uint8, (C, R, R).
        width: width of the original once it is upright, in pixels.
        height: height of the original once it is upright, in pixels.
        patient: hash of the patient that a DICOM file names; None if unknown.
        notes: what was decided where the file leaves a choice, in words.
    """

    pixels: Bytes
    width: int
    height: int
    patient: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """A decoded image, upright, of 8 bits.

    Attributes:
        image: perhaps at a fraction of its size.
        width: width of the original once it is upright, in pixels.
        height: height of the original once it is upright, in pixels.
        kind: its format and mode, such as "JPEG L".
        patient: hash of the patient that a DICOM file names; None if unknown.
        notes: what was decided where the file leaves a choice, in words.
    """

    image: Image.Image
    width: int
    height: int
    kind: str
    patient: str | None = None
    notes: tuple[str, ...] = ()


def read_image(content: bytes, preparation: Preparation, whites: Whites | None = None) -> Picture:
    """Turn the bytes of an image file into a square of bytes.

    Any mode is accepted: grayscale, RGB, palette, CMYK, 1-bit, and up to 16 bits a channel, of
    which `depth` says what is white. Transparency is laid over black, which is air in a
    radiograph. The image is turned upright, then markers are removed, the contrast is
    normalised, and the image is made square and resized, antialiased (bicubic).

    Memory: `memory.DECODING` for all threads together, beside `content`.

    Args:
        content: bytes of the file.
        preparation: valid settings.
        whites: whites of the set that the image belongs to, as far as they are known; None for one
            that is a set by itself.

    Raises:
        UnknownWhiteError: neither its header nor `whites` says what is white.
        UserError: why it cannot be decoded whole, or that it is larger than `MAX_PIXELS`; the
            file's name is for the caller to put before it.
    """
    least = 2 * preparation.resolution
    if preparation.markers != "keep":
        least = max(least, _SMALLEST_FOR_MARKERS)
    mode = "L" if preparation.image_channels == 1 else "RGB"
    percentiles = preparation.percentiles if preparation.contrast == "percentile" else None

    def use(found: Decoded) -> Picture:
        pixels = prepare_image(found.image, preparation)
        return Picture(pixels, found.width, found.height, found.patient, found.notes)

    return _decoded(content, mode, least, percentiles, whites, use)


def look_at(content: bytes, least: int, whites: Whites | None, use: Callable[[Decoded], T]) -> T:
    """Decode an image to upright 8-bit grayscale, and use it within the memory that all share.

    Args:
        content: bytes of the file.
        least: JPEGs may be decoded at a fraction of their size, but of at least so many pixels a
            side.
        whites: as for `read_image`.
        use: what is done with the image; its result is all that is left of it.

    Raises:
        UnknownWhiteError: as `read_image`.
        UserError: as `read_image`.
    """
    return _decoded(
        content,
        "L",
        least,
        None,
        whites,
        lambda found: use(replace(found, image=_over_black(found.image).convert("L"))),
    )


def brightest_value(content: bytes) -> Brightest | None:
    """Read what a set needs to know of one of its images (see `depth.whites_of`).

    Returns:
        None if the image has no more than 8 bits, or its header says what is white.

    Raises:
        UserError: as `read_image`.
    """
    if not may_be_deep(content):
        return None

    def use(file: Opened) -> Brightest | None:
        return file.image.brightest() if isinstance(file.image, DeepImage) else None

    return decode(content, "L", 1, use)


def image_size(content: bytes) -> tuple[int, int]:
    """Read the width and height that a file claims, in pixels, before EXIF turns it.

    Raises:
        UserError: why it cannot be read, or that it is larger than `MAX_PIXELS`.
    """
    if is_dicom(content):
        return dicom_size(content)
    return size_of(content)


def patient_of(content: bytes) -> str | None:
    """Read the patient that a file itself names, as a hash; None if it names none.

    Raises:
        UserError: why it cannot be read.
    """
    return dicom_patient(content) if is_dicom(content) else None


def prepare_image(image: Image.Image, preparation: Preparation) -> Bytes:
    """Bring an upright image of 8 bits to its channels and to the square.

    Args:
        image: an image of any mode of Pillow's with 8 bits or fewer, except floating point.
        preparation: valid settings.

    Returns:
        uint8, (C, R, R).
    """
    image = _over_black(image).convert("L" if preparation.image_channels == 1 else "RGB")
    if preparation.markers != "keep":
        from cxrgan_fast.data.markers import remove_markers  # it needs OpenCV, an extra

        image = Image.fromarray(remove_markers(np.asarray(image), preparation.markers))
    if preparation.contrast == "percentile":
        image = stretch(image, preparation.percentiles)
    image = to_square(image, preparation.resolution, preparation.fit)
    pixels = np.asarray(image, dtype=np.uint8)  # (R, R) or (R, R, 3)
    return pixels[None] if preparation.image_channels == 1 else pixels.transpose(2, 0, 1)


def _decoded(
    content: bytes,
    mode: str,
    least: int,
    percentiles: Percentiles | None,
    whites: Whites | None,
    use: Callable[[Decoded], T],
) -> T:
    """Decode an image to 8 bits and use it, while the memory that it takes is held."""
    if is_dicom(content):
        return decode_dicom(content, lambda found: use(_of_dicom(found, percentiles)))

    def scaled(file: Opened) -> Decoded:
        image, notes = file.image, list[str]()
        if isinstance(image, DeepImage):
            brightest = image.brightest()
            if brightest is not None and whites is not None and brightest.storage not in whites:
                raise UnknownWhiteError(brightest)
            image, note = image.eight_bit(whites, percentiles)
            notes.append(note)
        return Decoded(image, file.width, file.height, file.kind, notes=tuple(notes))

    return decode(content, mode, least, lambda file: use(scaled(file)))


def _of_dicom(found: DicomImage, percentiles: Percentiles | None) -> Decoded:
    values, black, white = found.values, found.low, found.high
    height, width = values.shape[:2]
    if values.ndim == 3:
        image, kind = Image.fromarray(values), "DICOM RGB"
    else:
        ends = None if percentiles is None else percentile_range(values, percentiles)
        if ends is not None:
            black, white = ends if black < white else ends[::-1]
        image, kind = Image.fromarray(to_bytes(values, black, white)), "DICOM L"
    return Decoded(image, width, height, kind, found.patient, found.notes)


def _over_black(image: Image.Image) -> Image.Image:
    """Lay transparency over black, some rows at a time."""
    if image.mode in ("La", "RGBa"):
        # Multiplied by their transparency, they lie over black already.
        return Image.merge(image.mode[:-1], image.split()[:-1])
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    rows = max(1, _ROWS // image.width)
    out = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        bottom = min(image.height, top + rows)
        strip = image.crop((0, top, image.width, bottom)).convert("RGBA")
        black = Image.new("RGBA", strip.size, (0, 0, 0, 255))
        out.paste(Image.alpha_composite(black, strip).convert("RGB"), (0, top))
    return out

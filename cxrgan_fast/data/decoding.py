"""Image files that Pillow decodes: upright, in bounded memory, with all bits of their values."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from cxrgan_fast.data.all_bits import all_bits
from cxrgan_fast.data.depth import DeepImage
from cxrgan_fast.data.memory import DECODING
from cxrgan_fast.data.opening import PNG, naming_failures, open_image
from cxrgan_fast.errors import UserError

_MAY_BE_DEEP = (
    b"II*\0", b"II+\0", b"MM\0*", b"MM\0+",  # TIFF and BigTIFF
    b"P2", b"P3", b"P5", b"P6",  # Netpbm
    b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51",  # JPEG 2000
)  # fmt: skip
_ONE_FRAME_FORMATS = frozenset({"GIF", "PNG", "TIFF", "WEBP"})  # MPO's second is a preview

_PIXEL_COST = 24  # bytes a pixel that decoding, laying over black and resizing take, at most
_ROWS_OF_JPEG = 16  # that are decoded at once
_JPEG2000_COST = 16  # more of each channel: OpenJPEG works in 32 bits

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

_TIFF_TILE_SIZE = (322, 323)

T = TypeVar("T")


@dataclass(frozen=True)
class Opened:
    """A decoded image file, upright.

    Attributes:
        image: an image of 8 bits or fewer, perhaps at a fraction of its size; or one of more bits.
        width: width of the original once it is upright, in pixels.
        height: height of the original once it is upright, in pixels.
        kind: its format and mode, such as "JPEG L".
    """

    image: Image.Image | DeepImage
    width: int
    height: int
    kind: str


def size_of(content: bytes) -> tuple[int, int]:
    """Read the width and height that a file claims, in pixels, before EXIF turns it.

    Raises:
        UserError: it claims too much, or is damaged.
    """
    size: tuple[int, int] = naming_failures(lambda: open_image(content)).size
    return size


def may_be_deep(content: bytes) -> bool:
    """Tell whether a file may have more than 8 bits and a header that does not say its white."""
    if content.startswith(PNG):
        return content[24:25] == b"\x10"
    return content.startswith(_MAY_BE_DEEP)


def decode(content: bytes, mode: str, least: int, use: Callable[[Opened], T]) -> T:
    """Decode an image file, within the memory that all threads share, and use it there.

    Args:
        content: bytes of the file.
        mode: "L" or "RGB", in which a JPEG may be decoded at once.
        least: JPEGs may be decoded at a fraction of their size, but of at least so many pixels a
            side.
        use: what is done with the decoded image; its result is all that is left of it.

    Raises:
        UserError: it claims too much, holds several frames, is of a kind that is not read, or is
            damaged; and what `use` raises.
    """
    # A list, so that nothing here refers to the image when its memory is given back.
    only = [naming_failures(lambda: open_image(content))]
    claimed: tuple[int, int] = only[0].size
    # JPEG can decode straight to a smaller size. Twice the target leaves the last factor to the
    # antialiased filter, which is what Pillow's thumbnails do too.
    naming_failures(lambda: only[0].draft(mode, (least, least)))
    cost = naming_failures(lambda: _cost(only[0], content, claimed))
    with DECODING.hold(cost, "its decoding"):
        return naming_failures(lambda: use(_load(only.pop(), content, claimed)))


def _load(image: Any, content: bytes, claimed: tuple[int, int]) -> Opened:
    if image.format in _ONE_FRAME_FORMATS and getattr(image, "is_animated", False):
        raise UserError("holds several frames; expected one image: save the one to use")
    kind = f"{image.format} {image.mode}"
    found = all_bits(image, content)
    # Asked after the image was loaded: TIFFs come upright, and say so only then.
    orientation = _orientation(image)
    width, height = image.size if image.format == "TIFF" else claimed
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return Opened(_upright(found, orientation), width, height, kind)


def _cost(image: Any, content: bytes, claimed: tuple[int, int]) -> int:
    """Bytes of memory that decoding takes at most, beside the file's."""
    pixels = claimed[0] * claimed[1]
    if image.format == "TIFF":
        columns, rows = (int(image.tag_v2.get(tag, 1)) for tag in _TIFF_TILE_SIZE)
        pixels = max(pixels, columns * rows)  # a tile is unpacked whole
    if image.format in ("JPEG", "MPO") and _is_in_one_scan(image, content):
        # It comes row by row at a fraction of its size; others are decoded whole before.
        pixels = image.width * image.height + _ROWS_OF_JPEG * claimed[0]
    cost = _PIXEL_COST
    if image.format == "JPEG2000":
        cost += _JPEG2000_COST * len(image.getbands())
    return pixels * cost + (2 * len(content) if image.format == "PNG" else 0)


def _is_in_one_scan(image: Any, content: bytes) -> bool:
    """Whether a JPEG has all of its channels in its first scan, once."""
    place = 2
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != b"\xda":
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return not image.info.get("progressive") and content[place + 4] == image.layers


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels, which may be whole
        return 1


def _upright(found: Image.Image | DeepImage, orientation: int) -> Image.Image | DeepImage:
    method = _TRANSPOSE.get(orientation)
    if method is None:
        return found
    if isinstance(found, DeepImage):
        values = found.values
        if orientation in (2, 3):
            values = values[:, ::-1]
        if orientation in (3, 4):
            values = values[::-1]
        if orientation > 4:
            values = np.rot90(values, {5: 1, 6: 3, 7: 3, 8: 1}[orientation])
        if orientation in (5, 7):
            values = values[::-1]
        return replace(found, values=values)
    return found.transpose(method)

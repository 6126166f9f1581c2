"""Image files that Pillow decodes: upright, in bounded memory, with all bits of their values.

Pillow keeps 8 bits of colours that have 16. Its decoders are asked for the lower 8 as well: for
the other byte order, or, of gray with alpha, for the same bytes as four channels of 8 bits.
"""

import io
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrgan_fast.data.depth import DeepImage, Storage, UnknownWhiteError
from cxrgan_fast.data.memory import DECODING
from cxrgan_fast.errors import UserError, printable

MAX_PIXELS = 64_000_000
"""Larger images are refused: the biggest X-ray detectors have some 20 million pixels."""

MAX_SIDE = 65_535
"""Longer images are refused: as long as JPEG and DICOM can say. Resizing takes memory by sides."""

_FORMATS = ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "JPEG2000")  # MPO opens as JPEG
_PNG = b"\x89PNG\r\n\x1a\n"
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

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES, _TIFF_SAMPLE_FORMAT = 258, 262, 284, 339
_TIFF_TILE_SIZE = (322, 323)
_SIGNED = 2

_BLOCK = 1 << 20  # pixels that are put together at once

T = TypeVar("T")

_opening = threading.Lock()  # what is unpacked while a header is read has a bound an image


@dataclass(frozen=True)
class Opened:
    """A decoded image file, upright.

    Attributes:
        image: of 8 bits or fewer, perhaps at a fraction of its size; or of more bits.
        width: of the original, upright.
        height: likewise.
        kind: its format and mode, such as "JPEG L".
    """

    image: Image.Image | DeepImage
    width: int
    height: int
    kind: str


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height that a file claims, before EXIF turns it.

    Raises:
        UserError: it claims too much, or is damaged.
    """
    size: tuple[int, int] = naming_failures(lambda: _open(content)).size
    return size


def may_be_deep(content: bytes) -> bool:
    """Whether a file may have more than 8 bits whose white its header does not say."""
    if content.startswith(_PNG):
        return content[24:25] == b"\x10"
    return content.startswith(_MAY_BE_DEEP)


def decode(content: bytes, mode: str, least: int, use: Callable[[Opened], T]) -> T:
    """Decode an image file, within the memory that all threads share, and use it there.

    Args:
        content: of the file.
        mode: "L" or "RGB", in which a JPEG may be decoded at once.
        least: JPEGs may be decoded at a fraction of their size, but of at least so many pixels a
            side.
        use: what is done with the decoded image; its result is all that is left of it.

    Raises:
        UserError: it claims too much, holds several frames, is of a kind that is not read, or is
            damaged; and what `use` raises.
    """
    # A list, so that nothing here refers to the image when its memory is given back.
    only = [naming_failures(lambda: _open(content))]
    claimed: tuple[int, int] = only[0].size
    # JPEG can decode straight to a smaller size. Twice the target leaves the last factor to the
    # antialiased filter, which is what Pillow's thumbnails do too.
    naming_failures(lambda: only[0].draft(mode, (least, least)))
    cost = naming_failures(lambda: _cost(only[0], content, claimed))
    with DECODING.hold(cost, "its decoding"):
        return naming_failures(lambda: use(_load(only.pop(), content, claimed)))


def naming_failures(work: Callable[[], T]) -> T:
    """Turn whatever a decoder raises into one line that says what is wrong with the file.

    Raises:
        UserError: that line; `work`'s own UserErrors and UnknownWhiteErrors are passed on.
    """
    try:
        return work()
    except (UserError, UnknownWhiteError):
        raise
    except Image.DecompressionBombError:
        reason = (
            f"claims more than 178 million pixels, more than the {MAX_PIXELS:,} that are read: "
            "make it smaller or remove it"
        )
    except MemoryError:
        reason = "the memory does not suffice for it: make it smaller"
    except Image.UnidentifiedImageError:
        reason = (
            "not an image that can be read (damaged, or another format or kind of it than is "
            "read: save it as PNG)"
        )
    except Exception as error:  # a decoder fed with damaged bytes may raise anything
        detail = printable(" ".join(str(error).split())) or type(error).__name__
        reason = f"damaged or incomplete image ({detail})"
    # Out here, so that the decoder's error and all that it refers to are gone.
    raise UserError(reason)


def _load(image: Any, content: bytes, claimed: tuple[int, int]) -> Opened:
    if image.format in _ONE_FRAME_FORMATS and getattr(image, "is_animated", False):
        raise UserError("holds several frames; expected one image: save the one to use")
    kind = f"{image.format} {image.mode}"
    found = _decoded(image, content)
    # Asked after the image was loaded: TIFFs come upright, and say so only then.
    orientation = _orientation(image)
    width, height = image.size if image.format == "TIFF" else claimed
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return Opened(_upright(found, orientation), width, height, kind)


def _open(content: bytes, formats: tuple[str, ...] = _FORMATS) -> Any:
    if content.startswith(_PNG):
        content = _without_texts(content)
    with _opening:
        image = Image.open(io.BytesIO(content), formats=formats)
    refuse_size(*image.size)
    return image


def _without_texts(content: bytes) -> bytes:
    """A PNG without its comments, which Pillow would unpack and keep, up to 64 MB of them."""
    kept: list[bytes] = []
    begins = place = len(_PNG)
    while place + 8 <= len(content):
        name = content[place + 4 : place + 8]
        ends = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if name in (b"tEXt", b"zTXt", b"iTXt"):
            kept.append(content[begins:place])
            begins = ends
        place = ends
    return b"".join([_PNG, *kept, content[begins:]]) if kept else content


def refuse_size(width: int, height: int) -> None:
    """Raise UserError if an image of this size is not read."""
    if width * height > MAX_PIXELS:
        raise UserError(
            f"claims {width} x {height} pixels, more than the {MAX_PIXELS:,} that are read: "
            "make it smaller or remove it"
        )
    if max(width, height) > MAX_SIDE:
        raise UserError(
            f"claims {width} x {height} pixels, more than the {MAX_SIDE:,} a side that are read: "
            "make it smaller or remove it"
        )


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


def _decoded(image: Any, content: bytes) -> Image.Image | DeepImage:
    """Load an image, with all its bits."""
    if image.mode == "F":
        raise UserError("floating-point pixels have no known black and white: save it as 16-bit")
    if image.format == "TIFF":
        return _of_tiff(image, content)
    if image.format == "PNG" and content[24] == 16:
        return _of_png(image, content)
    if image.format == "PPM" and image.mode in ("I", "RGB"):
        return _of_netpbm(image, content)
    if image.format == "JPEG2000":
        return _of_jpeg2000(image, content)
    image.load()
    return image


def _of_png(image: Any, content: bytes) -> DeepImage:
    color_type = content[25]
    claims = _significant_bits(content)[: 1 if color_type in (0, 4) else 3]  # alpha's is last
    storage = Storage(max(claims, default=16), 0xFFFF)
    if color_type == 4:
        # As four channels of 8 bits it has the same bytes, and the same filters, which look back
        # by four bytes.
        header = content[12:24] + bytes((8, 6)) + content[26:29]
        patched = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
        channels = _open(patched)
        channels.load()
        return DeepImage(_joined(channels, channels, (0, 2), (1, 3)), "LA", storage)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        transparent = (transparent,)
    if color_type == 0:
        image.load()
        return DeepImage(np.asarray(image), "L", storage, transparent=transparent)
    return DeepImage(_both_halves(image, content), image.mode, storage, transparent=transparent)


def _significant_bits(content: bytes) -> list[int]:
    """What the sBIT chunk of a PNG says of each channel; nothing without one that can be."""
    place = 8
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        name = content[place + 4 : place + 8]
        if name == b"sBIT" and length <= 4:
            found = list(content[place + 8 : place + 8 + length])
            return found if all(0 < bits <= 16 for bits in found) else []
        if name == b"IDAT":
            break
        place += 12 + length
    return []


def _of_tiff(image: Any, content: bytes) -> Image.Image | DeepImage:
    tags = image.tag_v2
    bits = tuple(tags.get(_TIFF_BITS, (1,)))
    signed = set(tags.get(_TIFF_SAMPLE_FORMAT, (1,))) == {_SIGNED}
    white_is_zero = tags.get(_TIFF_PHOTOMETRIC, 0) == 0
    if image.mode == "LAB":
        raise UserError("CIELAB colors are not read: save it as gray or RGB")
    if len(bits) > 1 and max(bits) > 8:
        if tags.get(_TIFF_PLANES, 1) != 1 or "a" in str(image.tile[0][3][0]):
            raise UserError(
                f"{max(bits)}-bit colors in planes, or multiplied by their transparency, are not "
                "read: save it as PNG"
            )
        values = _both_halves(image, content)
        return DeepImage(values, image.mode, Storage(16, 0xFFFF))
    image.load()
    if image.mode == "L" and signed:
        return DeepImage(np.asarray(image).view(np.int8), "L", Storage(7, 0x7F))
    if image.mode == "I":
        values = np.asarray(image)
        if not signed:
            values = values.view(np.uint32)
        most = (1 << (bits[0] - signed)) - 1
        return DeepImage(values, "L", Storage(most.bit_length(), most))
    if image.mode.startswith("I;16"):
        storage = Storage(16, 0xFFFF)
        values = np.asarray(image)
        if bits[0] < 16:
            white = (1 << bits[0]) - 1
            said_by = f"its {bits[0]} bits a value"
            return DeepImage(values, "L", storage, white, said_by, white_is_zero)
        return DeepImage(values, "L", storage, white_is_zero=white_is_zero)
    return image


def _of_netpbm(image: Any, content: bytes) -> Image.Image | DeepImage:
    codec, _, offset, arguments = image.tile[0]
    plain = codec == "ppm_plain"
    most = 0xFFFF if codec == "raw" and image.mode == "I" else 0xFF
    if not isinstance(arguments, str):
        most = int(arguments[1])
    storage = Storage(16, 0xFFFF)
    if image.mode == "RGB":
        if most < 0xFFFF:  # Pillow scales by it
            image.load()
            return image
        if plain:
            raise UserError("16-bit colors as text are not read: save it as PNG")
        width, height = image.size
        values = np.frombuffer(content, ">u2", 3 * width * height, offset)
        return DeepImage(values.reshape(height, width, 3), "RGB", storage)
    image.load()
    # 65535 is what programs write that store any number of bits in 16.
    white = 0xFFFF if most < 0xFFFF else None  # Pillow scales to 16 bits
    return DeepImage(np.asarray(image), "L", storage, white, f"its maxval {most}")


def _of_jpeg2000(image: Any, content: bytes) -> Image.Image | DeepImage:
    # The size marker follows the start of the codestream; its 39th byte is the precision.
    marker = content.index(b"\xff\x4f\xff\x51") + 2
    precision = (content[marker + 40] & 0x7F) + 1
    if content[marker + 40] & 0x80:
        raise UserError("signed pixel values have no known black: save it as unsigned")
    if precision >= 16 and not image.mode.startswith("I"):
        raise UserError(f"{precision}-bit colors in JPEG 2000 are not read: save it as PNG")
    image.load()
    if not image.mode.startswith("I"):
        return image
    # Pillow moves the values up to the highest of 16 bits.
    white = ((1 << precision) - 1) << (16 - precision) if precision < 16 else None
    storage = Storage(16, 0xFFFF)
    return DeepImage(np.asarray(image), "L", storage, white, f"its {precision} bits a value")


_OTHER_ORDER = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}


def _both_halves(image: Any, content: bytes) -> npt.NDArray[np.uint16]:
    """All 16 bits of colors of which Pillow keeps the upper 8."""
    other = _open(content, (image.format,))
    tiles = []
    for codec, box, offset, arguments in other.tile:
        rawmode = arguments if isinstance(arguments, str) else arguments[0]
        swapped = rawmode[:-4] + _OTHER_ORDER[rawmode[-4:]]
        rest = swapped if isinstance(arguments, str) else (swapped, *arguments[1:])
        make = getattr(type(other.tile[0]), "_make", tuple)  # a named tuple since Pillow 11
        tiles.append(make((codec, box, offset, rest)))
    other.tile = tiles
    other.load()
    image.load()
    channels = range(len(image.getbands()))
    return _joined(image, other, channels, channels)


def _joined(
    high: Image.Image, low: Image.Image, of_high: Sequence[int], of_low: Sequence[int]
) -> npt.NDArray[np.uint16]:
    """Channels of upper and of lower halves, put together: uint16, (H, W, C)."""
    width, height = high.size
    out = np.empty((height, width, len(of_high)), np.uint16)
    step = max(1, _BLOCK // width)
    for top in range(0, height, step):
        box = (0, top, width, min(height, top + step))
        rows = out[top : top + step]
        np.left_shift(np.asarray(high.crop(box))[..., of_high], 8, out=rows, dtype=np.uint16)
        rows |= np.asarray(low.crop(box))[..., of_low]
    return out


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

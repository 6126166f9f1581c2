"""All bits of the values of image files, format by format.

Pillow keeps 8 bits of colors that have 16. Its decoders are asked for the lower 8 as well: for
the other byte order, or, of gray with alpha, for the same bytes as four channels of 8 bits.
"""

import struct
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrgan_fast.data.depth import DeepImage, Storage
from cxrgan_fast.data.opening import open_image
from cxrgan_fast.errors import UserError

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES, _TIFF_SAMPLE_FORMAT = 258, 262, 284, 339
_TIFF_SIZE, _TIFF_TILE_SIZE = (256, 257), (322, 323)
_TIFF_STRIPS, _TIFF_SAMPLES, _TIFF_ROWS, _TIFF_TILES = 273, 277, 278, 324
_SIGNED = 2

_BLOCK = 1 << 20  # pixels that are put together at once


def all_bits(image: Any, content: bytes) -> Image.Image | DeepImage:
    """Load an image, with all its bits.

    Args:
        image: opened, of Pillow's.
        content: bytes of its file.

    Returns:
        The loaded image where it has 8 bits or fewer, and otherwise its values.

    Raises:
        UserError: it is of a kind that is not read.
        Exception: whatever Pillow raises at damaged bytes.
    """
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
        channels = open_image(patched)
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
    deep_colors = len(bits) > 1 and max(bits) > 8
    if deep_colors and (tags.get(_TIFF_PLANES, 1) != 1 or "a" in str(image.tile[0][3][0])):
        raise UserError(
            f"{max(bits)}-bit colors in planes, or multiplied by their transparency, are not "
            "read: save it as PNG"
        )
    _refuse_missing_pieces(image)
    if deep_colors:
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


def _refuse_missing_pieces(image: Any) -> None:
    """Refuse a TIFF that lists fewer strips or tiles than its size takes.

    Pillow leaves what is not listed black, or a channel out.
    """
    tags = image.tag_v2
    width, height = (int(tags[tag]) for tag in _TIFF_SIZE)
    planes = int(tags.get(_TIFF_SAMPLES, 1)) if tags.get(_TIFF_PLANES, 1) == 2 else 1
    if _TIFF_TILES in tags:
        across, down = (max(1, int(tags[tag])) for tag in _TIFF_TILE_SIZE)
        listed, expected = len(tags[_TIFF_TILES]), -(-width // across) * -(-height // down)
    else:
        rows = max(1, min(height, int(tags.get(_TIFF_ROWS, height))))
        listed, expected = len(tags[_TIFF_STRIPS]), -(-height // rows)
    if listed < expected * planes:
        raise UserError(
            f"lists {listed} of the {expected * planes} pieces that its pixels take: incomplete, "
            "copy it again"
        )


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
    other = open_image(content, (image.format,))
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

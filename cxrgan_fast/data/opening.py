"""Opening image files that Pillow decodes: what is read at all, and how failures are told."""

import io
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from PIL import Image

from cxrgan_fast.data.depth import UnknownWhiteError
from cxrgan_fast.errors import UserError, printable

MAX_PIXELS = 64_000_000
"""Larger images are refused: the biggest X-ray detectors have some 20 million pixels."""

MAX_SIDE = 65_535
"""Longer images are refused: as long as JPEG and DICOM can say. Resizing takes memory by sides."""

_FORMATS = ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "JPEG2000")  # MPO opens as JPEG
PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG begins."""

T = TypeVar("T")

_opening = threading.Lock()  # what is unpacked while a header is read has a bound an image


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


def open_image(content: bytes, formats: tuple[str, ...] = _FORMATS) -> Any:
    """Read an image's header.

    Args:
        content: bytes of the file.
        formats: Pillow's names of the formats that are allowed.

    Returns:
        An image of Pillow's that is not loaded yet.

    Raises:
        UserError: it claims too much.
        Exception: whatever Pillow raises at damaged bytes.
    """
    if content.startswith(PNG):
        content = _without_texts(content)
    with _opening:
        image = Image.open(io.BytesIO(content), formats=formats)
    refuse_size(*image.size)
    return image


def _without_texts(content: bytes) -> bytes:
    """A PNG without its comments, which Pillow would unpack and keep, up to 64 MB of them."""
    kept: list[bytes] = []
    begins = place = len(PNG)
    while place + 8 <= len(content):
        name = content[place + 4 : place + 8]
        ends = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if name in (b"tEXt", b"zTXt", b"iTXt"):
            kept.append(content[begins:place])
            begins = ends
        place = ends
    return b"".join([PNG, *kept, content[begins:]]) if kept else content


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

"""A card of four tones through every container, depth, photometric kind and orientation.

Each file is read right, or refused with the reason: never inverted, turned, folded or darkened
without a word.
"""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import Picture, read_image
from cxrgan_fast.errors import UserError
from tone_cards import GRAY, LEVELS, png, stored, tiff, tones


def read(content: bytes, **settings: Any) -> Picture:
    return read_image(content, Preparation(24, fit="crop", **settings))


def gray(content: bytes) -> np.ndarray:
    """The card in bytes: every quarter's own tone, away from the edges between them."""
    # The middle 24 columns of the card are 12 of each half, and nothing is resized.
    return read(content).pixels[0].astype(int)


EXPECTED = GRAY[:, 4:28]


def saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def color(values: np.ndarray, alpha: int | None = None) -> np.ndarray:
    """Gray values as RGB, or with alpha as RGBA."""
    channels = [values] * 3 + ([] if alpha is None else [np.full_like(values, alpha)])
    return np.stack(channels, -1)


def with_alpha(values: np.ndarray, alpha: int) -> np.ndarray:
    return np.stack([values, np.full_like(values, alpha)], -1)


def pnm(magic: str, maxval: int, values: np.ndarray) -> bytes:
    header = f"{magic}\n{values.shape[1]} {values.shape[0]}\n{maxval}\n".encode()
    if magic in ("P2", "P3"):
        return header + " ".join(map(str, values.reshape(-1).tolist())).encode()
    return header + values.astype(">u2" if maxval > 255 else "u1").tobytes()


EIGHT = GRAY.astype(np.uint8)
FULL, TWELVE = tones(65535), tones(4095)

RIGHT: dict[str, Callable[[], bytes]] = {
    **{
        f"{kind} gray": lambda kind=kind: saved(EIGHT, kind)  # type: ignore[misc]
        for kind in ("PNG", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
    },
    **{
        f"{kind} RGB": lambda kind=kind: saved(color(EIGHT), kind)  # type: ignore[misc]
        for kind in ("PNG", "TIFF", "BMP", "PPM", "JPEG2000")
    },
    "JPEG gray": lambda: saved(EIGHT, "JPEG", quality=100),
    "JPEG RGB": lambda: saved(color(EIGHT), "JPEG", quality=100),
    "WebP": lambda: saved(color(EIGHT), "WEBP", lossless=True),
    "PNG gray and alpha": lambda: saved(with_alpha(EIGHT, 255), "PNG"),
    "PNG RGBA": lambda: saved(color(EIGHT, 255), "PNG"),
    **{
        f"PNG 16 {name}, {bits} bits in use": lambda card=card: png(card)  # type: ignore[misc]
        for bits, values, alpha in ((16, FULL, 65535), (12, TWELVE, 65535), (10, tones(1023), 1023))
        for name, card in (
            ("gray", values),
            ("gray and alpha", with_alpha(values, alpha)),
            ("RGB", color(values)),
            ("RGBA", color(values, alpha)),
        )
    },
    "PNG 16, sBIT 12 in the lower bits": lambda: png(TWELVE, significant=[12]),
    "PNG 16, sBIT 12 in the upper bits": lambda: png(FULL, significant=[12]),
    "PNG 16 RGB, sBIT 12": lambda: png(color(TWELVE), significant=[12, 12, 12]),
    "PNG 16 gray and alpha, sBIT 12": lambda: png(
        with_alpha(TWELVE, 65535), significant=[12, 16]
    ),
    "PNG 16, black is transparent": lambda: png(FULL, transparent=[0]),
    "PNG 16 RGB, black is transparent": lambda: png(color(FULL), transparent=[0, 0, 0]),
    "PGM 12": lambda: pnm("P5", 4095, TWELVE),
    "PGM 16": lambda: pnm("P5", 65535, FULL),
    "PGM 16, 12 in use": lambda: pnm("P5", 65535, TWELVE),
    "PGM text 12": lambda: pnm("P2", 4095, TWELVE),
    "PPM 12": lambda: pnm("P6", 4095, color(TWELVE)),
    "PPM 16, 12 in use": lambda: pnm("P6", 65535, color(TWELVE)),
    "PPM text 12": lambda: pnm("P3", 4095, color(TWELVE)),
    "JPEG 2000 16": lambda: saved(FULL, "JPEG2000"),
    "JPEG 2000 16, 12 in use": lambda: saved(TWELVE, "JPEG2000"),
    **{
        f"TIFF {bits}, photometric {photometric}": lambda bits=bits, photometric=photometric: tiff(  # type: ignore[misc]
            (3 - LEVELS if photometric == 0 else LEVELS) * (2**bits - 1) // 3, bits, photometric
        )
        for bits in (2, 4, 8, 16)
        for photometric in (0, 1)
    },
    "TIFF 12": lambda: tiff(TWELVE, 12, 1),
    "TIFF 16, 12 in use": lambda: tiff(TWELVE, 16, 1),
    "TIFF 16 white is zero, 12 in use": lambda: tiff(tones(4095)[::-1, ::-1], 16, 0),
    "TIFF 16, deflated": lambda: tiff(FULL, 16, 1, deflated=True),
    "TIFF 16 white is zero, deflated": lambda: tiff(65535 - FULL, 16, 0, deflated=True),
    "TIFF 16, big-endian": lambda: tiff(FULL, 16, 1, order=">"),
    "TIFF 32": lambda: tiff(LEVELS * ((2**32 - 1) // 3), 32, 1),
    "TIFF signed 8": lambda: tiff(LEVELS * 127 // 3, 8, 1, sample_format=2),
    "TIFF signed 16": lambda: tiff(tones(32767), 16, 1, sample_format=2),
    "TIFF signed 32": lambda: tiff(LEVELS * ((2**31 - 1) // 3), 32, 1, sample_format=2),
    **{
        f"TIFF 16 {name}, {order}{', deflated' * deflated}": (  # type: ignore[misc]
            lambda card=card, kind=kind, extra=extra, order=order, deflated=deflated: tiff(
                card, 16, kind, order=order, extra=extra, deflated=deflated
            )
        )
        for name, card, kind, extra in (
            ("RGB", color(FULL), 2, None),
            ("RGB, 12 in use", color(TWELVE), 2, None),
            ("RGBA", color(FULL, 65535), 2, 2),
            ("RGBA, 12 in use", color(TWELVE, 65535), 2, 2),
            ("RGBX, 12 in use", color(TWELVE, 0), 2, 0),
        )
        for order in "<>"
        for deflated in (False, True)
    },
    "TIFF 16 CMYK": lambda: tiff(
        np.dstack([np.zeros((24, 32, 3), np.uint16), 65535 - FULL]), 16, 5
    ),
    "TIFF 8 CMYK": lambda: tiff(np.dstack([np.zeros((24, 32, 3), np.uint8), 255 - EIGHT]), 8, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RIGHT))
def test_four_tones_are_read_right(name: str) -> None:
    assert np.abs(gray(RIGHT[name]()) - EXPECTED).max() <= (3 if "JPEG" in name else 1)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "TIFF signed 8 below 0": (
        lambda: tiff(LEVELS * 85 - 128, 8, 1, sample_format=2),
        "^negative pixel values have no known black",
    ),
    "TIFF signed 16 below 0": (
        lambda: tiff(LEVELS.astype(int) * 85 - 128, 16, 1, sample_format=2),
        "^negative pixel values have no known black",
    ),
    "TIFF floating point": (lambda: tiff(LEVELS / 3, 32, 1, sample_format=3), "^floating-point"),
    "TIFF 16 RGB in planes": (
        lambda: tiff(color(FULL), 16, 2, planes=2, deflated=True),
        "^16-bit colors in planes",
    ),
    "TIFF 16 RGBA, multiplied by alpha": (
        lambda: tiff(color(FULL, 65535), 16, 2, extra=1),
        "multiplied by their transparency",
    ),
    "TIFF 24": (lambda: tiff(LEVELS, 8, 7), "^not an image that can be read"),
    "PPM text 16": (lambda: pnm("P3", 65535, color(FULL)), "^16-bit colors as text"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_kinds_that_are_not_read_are_refused(name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        read(content())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["tiff 8", "tiff 16", "tiff 16 RGB", "png 16", "png 16 alpha"])
def test_every_orientation(kind: str, orientation: int) -> None:
    eight, deep = stored(EIGHT, orientation), stored(FULL, orientation)
    content = {
        "tiff 8": lambda: tiff(eight, 8, 1, orientation=orientation),
        "tiff 16": lambda: tiff(65535 - deep, 16, 0, orientation=orientation),
        "tiff 16 RGB": lambda: tiff(color(deep), 16, 2, orientation=orientation),
        "png 16": lambda: png(deep, orientation=orientation),
        "png 16 alpha": lambda: png(with_alpha(deep, 65535), orientation=orientation),
    }[kind]()
    assert np.abs(gray(content) - EXPECTED).max() <= 1
    found = read(content)
    assert (found.width, found.height) == (32, 24)


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_of_16_bits_is_laid_over_black(channels: int) -> None:
    card = with_alpha(FULL, 13107) if channels == 2 else color(FULL, 13107)  # a fifth
    # Beside pixels that are opaque, so that alpha's own white is known.
    card[0, 0, -1] = 65535
    found = gray(png(card))
    assert np.abs(found - EXPECTED / 5)[1:].max() <= 1


def test_a_transparent_value_of_16_bits_is_black() -> None:
    content = png(color(FULL), transparent=[65535] * 3)
    assert np.abs(gray(content) - np.where(EXPECTED == 255, 0, EXPECTED)).max() <= 1
    assert (
        np.abs(gray(png(FULL, transparent=[65535])) - np.where(EXPECTED == 255, 0, EXPECTED)).max()
        <= 1
    )


def test_it_is_said_what_is_white_and_by_what() -> None:
    def note(content: bytes) -> str:
        (only,) = read(content).notes
        return only

    assert note(png(TWELVE)) == "values of 16 bits: 4095 is white, by this image alone"
    assert note(pnm("P5", 4095, TWELVE)) == "values of 16 bits: 65535 is white, by its maxval 4095"
    assert note(tiff(TWELVE, 12, 1)).endswith("4095 is white, by its 12 bits a value")
    assert note(tiff(TWELVE, 16, 0)).endswith("4095 is black, by this image alone")
    assert read(saved(EIGHT, "PNG")).notes == ()


@pytest.mark.parametrize("tag", [273, 324])
@pytest.mark.parametrize("planes", [1, 2])
def test_a_tiff_that_lists_fewer_pieces_than_it_takes(tag: int, planes: int) -> None:
    """Pillow leaves what is not listed black, or a channel out, without a word."""
    pixels = np.dstack([EIGHT] * 3) if planes == 2 else EIGHT
    whole = in_pieces(pixels, tag)
    assert np.abs(gray(whole) - GRAY[:, 4:28]).max() <= 1
    count = 3 * 4 if planes == 2 else 4
    entry = struct.pack("<HHI", tag, 4, count)
    assert whole.count(entry) == 1
    cut = whole.replace(entry, struct.pack("<HHI", tag, 4, count - 1))
    with pytest.raises(UserError, match=f"^lists {count - 1} of the {count} pieces that its pixel"):
        read(cut)


def in_pieces(pixels: np.ndarray, tag: int) -> bytes:
    """An uncompressed TIFF of 8 bits in 4 pieces a plane: strips of 6 rows, or tiles of 16 x 16."""
    planes = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    count = 4 * len(planes)
    if tag == 273:
        data = b"".join(plane.tobytes() for plane in planes)
        size, layout = 6 * 32, [(278, 3, [6])]
    else:
        tiles = [np.pad(plane, ((0, 8), (0, 0))) for plane in planes]
        data = b"".join(
            tile[y : y + 16, x : x + 16].tobytes()
            for tile in tiles
            for y in (0, 16)
            for x in (0, 16)
        )
        size, layout = 256, [(322, 3, [16]), (323, 3, [16])]
    tags = [
        (256, 3, [32]), (257, 3, [24]), (258, 3, [8] * len(planes)), (259, 3, [1]),
        (262, 3, [2 if len(planes) > 1 else 1]), (277, 3, [len(planes)]),
        (284, 3, [2 if len(planes) > 1 else 1]), *layout,
        (tag, 4, [8 + size * place for place in range(count)]),
        (279 if tag == 273 else 325, 4, [size] * count),
    ]  # fmt: skip
    base = 8 + len(data) + 2 + 12 * len(tags) + 4
    directory, values = struct.pack("<H", len(tags)), b""
    for number, kind, held in sorted(tags):
        raw = struct.pack(f"<{len(held)}{'H' if kind == 3 else 'I'}", *held)
        if len(raw) > 4:
            raw, values = struct.pack("<I", base + len(values)), values + raw
        directory += struct.pack("<HHI", number, kind, len(held)) + raw.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4) + values

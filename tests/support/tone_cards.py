"""A card of four gray tones, and files of it that Pillow does not write.

The tones are a third of white apart, each in its own quarter, so that a wrong scale, an inversion,
a turn and a swap of bytes all show.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

LEVELS = np.array([[3, 1], [2, 0]]).repeat(12, 0).repeat(16, 1)  # (24, 32), of 3
GRAY = LEVELS * 85


def tones(white: int, dtype: str = "uint16") -> np.ndarray:
    """The card in values from 0 to `white`."""
    return (LEVELS * white // 3).astype(dtype)


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """How an image lies in a file whose orientation tag turns it upright."""
    turned = upright.swapaxes(0, 1) if orientation > 4 else upright
    if orientation in (3, 4, 6, 7):
        turned = turned[::-1]
    if orientation in (2, 3, 7, 8):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def png(
    values: np.ndarray,
    *,
    significant: Sequence[int] = (),
    transparent: Sequence[int] = (),
    orientation: int = 1,
) -> bytes:
    """A PNG of 16 bits a channel: gray, gray and alpha, RGB or RGBA, a filter of each kind."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    height, width = values.shape[:2]
    channels = values.size // (height * width)
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = np.ascontiguousarray(values.astype(">u2")).view(np.uint8).reshape(height, -1)
    back = 2 * channels
    lines = []
    for number, row in enumerate(rows.astype(int)):
        left = np.concatenate([np.zeros(back, int), row[:-back]])
        above = rows[number - 1].astype(int) if number else np.zeros_like(row)
        kind = number % 3  # none, sub, up
        lines.append(bytes([kind, *((row - (0, left, above)[kind]) % 256).tolist()]))
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    exif = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1" + struct.pack(">HHI", orientation, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"sBIT", bytes(significant)) if significant else b"",
            chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
            if transparent
            else b"",
            chunk(b"eXIf", exif) if orientation != 1 else b"",
            chunk(b"IDAT", zlib.compress(b"".join(lines))),
            chunk(b"IEND", b""),
        ]
    )


def tiff(
    values: np.ndarray,
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    orientation: int = 1,
    sample_format: int = 1,
    extra: int | None = None,
    planes: int = 1,
    deflated: bool = False,
    tile: tuple[int, int] | None = None,
) -> bytes:
    """A TIFF of one strip, or of one tile of so many columns and rows.

    Photometric is 0 (white is zero), 1 (black is zero), 2 (RGB) or 5 (CMYK).
    """
    height, width = values.shape[:2]
    channels = values.size // (height * width)
    kind = {1: "u", 2: "i", 3: "f"}[sample_format]
    if bits == 12:  # two values in three bytes
        flat = values.reshape(height, -1, 2).astype(int)
        first, second = flat[..., 0], flat[..., 1]
        parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
        data = np.stack(parts, -1).astype(np.uint8).tobytes()
    elif bits < 8:
        each = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
        data = np.packbits(each.reshape(height, -1), axis=1).tobytes()
    else:
        data = values.astype(f"{order}{kind}{bits // 8}").tobytes()
    if deflated:
        data = zlib.compress(data)
    entries = {
        256: ("H", [width]), 257: ("H", [height]), 258: ("H", [bits] * channels),
        259: ("H", [8 if deflated else 1]), 262: ("H", [photometric]), 273: ("I", [0]),
        274: ("H", [orientation]), 277: ("H", [channels]), 278: ("H", [height]),
        279: ("I", [len(data)]), 284: ("H", [planes]), 339: ("H", [sample_format] * channels),
    }  # fmt: skip
    offsets = 273
    if tile is not None:
        offsets = 324
        entries |= {322: ("I", [tile[0]]), 323: ("I", [tile[1]]), 325: entries.pop(279)}
        entries[offsets] = entries.pop(273)
        del entries[278]
    if extra is not None:
        entries[338] = ("H", [extra])
    beside = b""
    begins = 8 + 2 + 12 * len(entries) + 4
    ends = begins + sum(
        struct.calcsize(f"{len(value)}{kind}")
        for kind, value in entries.values()
        if struct.calcsize(f"{len(value)}{kind}") > 4
    )
    entries[offsets] = ("I", [ends])
    lines = []
    for tag, (kind, value) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(value)}{kind}", *value)
        if len(packed) > 4:
            packed, beside = (
                struct.pack(f"{order}I", begins + len(beside)),
                beside + packed,
            )
        lines.append(struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(value)))
        lines.append(packed.ljust(4, b"\0"))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(lines) + bytes(4)
    return mark + struct.pack(f"{order}I", 8) + directory + beside + data

"""The values that a DICOM file stores, as far as they are gray values or colors.

Uncompressed pixels and RLE (PS3.5, annex G) are read here, other compressions by pydicom after
the size that their codestream claims was compared with the file's. Bits beside those that
BitsStored and HighBit name are no part of a value: old files keep overlays there. Values that
need those bits all the same would be folded over; such files are refused.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrgan_fast.data.dicom_file import number, numbers, whole
from cxrgan_fast.errors import UserError, printable

_RLE = "1.2.840.10008.1.2.5"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"

_ROWS = 1 << 20  # values that are looked at at once
_FLAT = 1 / 16  # of the range: what neighbors differ by in the median, at most, below an overlay

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # F7: JPEG-LS

Values = npt.NDArray[Any]


def stored_values(dataset: Any, notes: list[str]) -> tuple[Values, npt.NDArray[np.bool_] | None]:
    """Decode the picture.

    Args:
        dataset: a dataset of pydicom whose size and bits are checked.
        notes: what was decided is added here, in words.

    Returns:
        (H, W) of integers within BitsStored; or colors, uint8, (H, W, 3), in RGB. And which of the
        gray values are padding, (H, W); None where none is.

    Raises:
        UserError: values that BitsStored has no room for, or a kind that is not read.
        Exception: whatever a decoder raises at damaged bytes.
    """
    bits, stored = whole(dataset, "BitsAllocated"), whole(dataset, "BitsStored")
    if not 1 <= stored <= bits:
        raise UserError(f"has BitsStored {stored}; expected 1 to BitsAllocated, {bits}")
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) if _has_meta(dataset) else ""
    if dataset["PixelData"].is_undefined_length or _is_encapsulated(dataset):
        raw = _rle(dataset, bits) if syntax == _RLE else _compressed(dataset)
    else:
        raw = _native(dataset, bits, big_endian=syntax == _BIG_ENDIAN)
    if raw.ndim == 3:
        if raw.dtype != np.uint8 or stored != 8:
            raise UserError(f"has colors of {stored} bits each; expected 8: save it as gray")
        return np.ascontiguousarray(raw[..., :3]), None
    return _gray(dataset, raw, stored, notes)


def _has_meta(dataset: Any) -> bool:
    return getattr(dataset, "file_meta", None) is not None


def _is_encapsulated(dataset: Any) -> bool:
    if not _has_meta(dataset):
        return False
    uid = dataset.file_meta.get("TransferSyntaxUID")
    return uid is not None and bool(uid.is_compressed)


def _shape(dataset: Any) -> tuple[int, int, int]:
    return whole(dataset, "Rows"), whole(dataset, "Columns"), whole(dataset, "SamplesPerPixel", 1)


def _native(dataset: Any, bits: int, *, big_endian: bool) -> Values:
    """Uncompressed pixels; without a copy where the order of bytes is this machine's."""
    height, width, channels = _shape(dataset)
    content = dataset.PixelData
    kind = str(dataset.get("PhotometricInterpretation") or "")
    count = height * width * channels
    if kind == "YBR_FULL_422":
        return _full_422(content, height, width)
    expected = -(-count * bits // 8)
    if len(content) < expected:
        raise UserError(
            f"holds {len(content):,} bytes of pixels where its header claims {expected:,}: "
            "incomplete, copy it again"
        )
    if bits == 1:
        flat = np.frombuffer(content, np.uint8, expected)
        return np.unpackbits(flat, bitorder="little")[:count].reshape(height, width)
    if bits == 8 and big_endian and dataset["PixelData"].VR == "OW":
        content = np.frombuffer(content, ">u2").astype("<u2").tobytes()
    order = ">" if big_endian else "<"
    values = np.frombuffer(content, f"{order}u{bits // 8}", count)
    if channels == 1:
        return values.reshape(height, width)
    if whole(dataset, "PlanarConfiguration", 0):
        return _in_rgb(values.reshape(channels, height, width).transpose(1, 2, 0), kind)
    return _in_rgb(values.reshape(height, width, channels), kind)


def _in_rgb(colors: Values, kind: str) -> Values:
    if kind == "RGB" or colors.dtype != np.uint8:
        return colors
    if kind == "YBR_FULL":
        whole_image = np.ascontiguousarray(colors)
        size = whole_image.shape[1::-1]
        return np.asarray(Image.frombytes("YCbCr", size, whole_image).convert("RGB"))
    raise UserError(f"has colors in {printable(kind)}, which are not read: save it as RGB")


def _full_422(content: bytes, height: int, width: int) -> Values:
    """Two pixels of brightness with one of color: Y Y Cb Cr (PS3.3, C.7.6.3.1.2)."""
    if width % 2 or len(content) < height * width * 2:
        raise UserError("holds fewer YBR_FULL_422 pixels than its header claims: copy it again")
    pairs = np.frombuffer(content, np.uint8, height * width * 2).reshape(height, width // 2, 4)
    colors = np.empty((height, width, 3), np.uint8)
    colors[..., 0] = pairs[..., :2].reshape(height, width)
    colors[..., 1:] = np.repeat(pairs[..., 2:], 2, axis=1)
    return _in_rgb(colors, "YBR_FULL")


def _rle(dataset: Any, bits: int) -> Values:
    """Run lengths, a segment for each byte of each channel, the highest first."""
    height, width, channels = _shape(dataset)
    frame = _frame(dataset)
    count = int.from_bytes(frame[:4], "little")
    expected = channels * bits // 8
    if count != expected or bits < 8:
        raise UserError(f"has {count} RLE segments; expected {expected}: damaged, copy it again")
    offsets = [int.from_bytes(frame[4 * k : 4 * k + 4], "little") for k in range(1, count + 1)]
    ends = [*offsets[1:], len(frame)]
    planes = np.empty((channels, height, width), f"<u{bits // 8}")
    in_bytes = planes.view(np.uint8).reshape(channels, height * width, bits // 8)
    for place, (start, end) in enumerate(zip(offsets, ends, strict=True)):
        channel, byte = divmod(place, bits // 8)
        segment = _unpacked_runs(frame[start:end], height * width)
        in_bytes[channel, :, bits // 8 - 1 - byte] = np.frombuffer(segment, np.uint8)
    if channels == 1:
        return planes[0]
    return _in_rgb(planes.transpose(1, 2, 0), str(dataset.PhotometricInterpretation))


def _unpacked_runs(packed: bytes, size: int) -> bytearray:
    """Unpack PackBits runs to so many bytes, and no more."""
    out = bytearray()
    place, end = 0, len(packed)
    while len(out) < size and place < end:
        head = packed[place]
        if head < 128:
            out += packed[place + 1 : place + 2 + head]
            place += 2 + head
        else:
            if head > 128:
                out += packed[place + 1 : place + 2] * (257 - head)
            place += 2 if head > 128 else 1
    if len(out) < size:
        raise UserError("holds fewer RLE pixels than its header claims: copy it again")
    del out[size:]
    return out


def _frame(dataset: Any) -> bytes:
    from pydicom.encaps import get_frame

    found: bytes = get_frame(dataset.PixelData, 0, number_of_frames=1)
    return found


def _compressed(dataset: Any) -> Values:
    """Let pydicom decode, after a look at what the codestream claims."""
    height, width, _ = _shape(dataset)
    claimed = codestream_size(_frame(dataset))
    if claimed is not None and claimed != (width, height):
        raise UserError(
            f"has {width} x {height} pixels by its tags and {claimed[0]} x {claimed[1]} by its "
            "compressed picture: damaged, save it uncompressed"
        )
    return np.asarray(dataset.pixel_array)


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Read the width and height that a JPEG, JPEG-LS or JPEG 2000 claims; None if it has none."""
    start = frame.find(b"\xff\x4f\xff\x51")  # start of codestream, and size
    if start >= 0:
        right, bottom, left, top = (
            int.from_bytes(frame[start + 8 + 4 * k : start + 12 + 4 * k], "big") for k in range(4)
        )
        return right - left, bottom - top
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker in _START_OF_FRAME:
            height, width = (
                int.from_bytes(frame[place + k : place + k + 2], "big") for k in (5, 7)
            )
            return width, height
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None


def _gray(
    dataset: Any, raw: Values, stored: int, notes: list[str]
) -> tuple[Values, npt.NDArray[np.bool_] | None]:
    """Take the bits of the values, and what lies beside them for what it is."""
    bits = raw.dtype.itemsize * 8
    shift = whole(dataset, "HighBit", stored - 1) + 1 - stored
    if not 0 <= shift <= bits - stored:
        raise UserError(
            f"has HighBit {stored - 1 + shift} with {stored} bits of {bits}: correct the tag"
        )
    signed = whole(dataset, "PixelRepresentation", 0) == 1
    unsigned = (
        raw.view(raw.dtype.newbyteorder("=").str.replace("i", "u"))
        if (raw.dtype.kind == "i")
        else raw
    )
    ends = _padding_ends(dataset, bits, signed)
    least = -(1 << (stored - 1)) if signed else 0
    padding = None
    if ends is not None and not least <= ends[0] <= ends[1] < least + (1 << stored):
        padding = _between(
            unsigned.view(unsigned.dtype.str.replace("u", "i")) if signed else unsigned, ends
        )
        if padding is not None:
            # No pixel of the picture has this value (PS3.3, C.7.5.1.1.2), so its bits are no
            # values that were folded over.
            unsigned = np.where(padding, np.array(0, unsigned.dtype), unsigned)
            notes.append("padding beyond its BitsStored: its PixelPaddingValue says which it is")
    if stored < bits:
        beyond = _bits_beyond(unsigned, stored, shift, signed)
        beyond &= ~_declared_overlays(dataset)
        if beyond:
            if not _is_overlay(unsigned, stored, shift):
                raise UserError(
                    f"holds values beyond its {stored} BitsStored (bits {_listed(beyond)} are "
                    "in use): they would be folded over; correct BitsStored, or clear those bits"
                )
            notes.append(f"bits beyond its BitsStored passed over as an overlay: {_listed(beyond)}")
    mask = np.array((1 << stored) - 1, unsigned.dtype)
    values: Values = unsigned
    if shift or stored < bits:
        values = (unsigned >> np.array(shift, unsigned.dtype)) & mask
    if signed:
        sign = 1 << (stored - 1)
        wide = values.astype(np.int32 if bits < 32 else np.int64)
        values = np.subtract(wide ^ sign, sign, out=wide)
    if padding is None and ends is not None:
        padding = _between(values, ends)
    return values, padding


def _padding_ends(dataset: Any, bits: int, signed: bool) -> tuple[int, int] | None:
    """The smallest and largest value that is padding, as pixels of so many bits have it."""
    first = numbers(dataset, "PixelPaddingValue")
    if not first:
        return None
    last = number(dataset, "PixelPaddingRangeLimit", first[0])
    ends = [int(first[0]), int(last)]
    # Files give it as signed where pixels are unsigned, and the other way round.
    if signed:
        ends = [end - (1 << bits) if end >= 1 << (bits - 1) else end for end in ends]
    else:
        ends = [end + (1 << bits) if end < 0 else end for end in ends]
    return min(ends), max(ends)


def _between(values: Values, ends: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    found: npt.NDArray[np.bool_] = (values >= ends[0]) & (values <= ends[1])
    return found if found.any() else None


def _bits_beyond(values: Values, stored: int, shift: int, signed: bool) -> int:
    """Which bits above the values are in use, other than as continued signs."""
    bits = values.dtype.itemsize * 8
    above = ((1 << bits) - 1) & ~((1 << (stored + shift)) - 1)
    sign = 1 << (stored + shift - 1)
    found = 0
    for block in _blocks(values):
        extra = block & np.array(above, block.dtype)
        if signed:
            continued = (extra == above) & (block & np.array(sign, block.dtype) != 0)
            extra = extra[~continued]
        found |= int(np.bitwise_or.reduce(extra, axis=None))
    return found


def _declared_overlays(dataset: Any) -> int:
    """The bits that the file says are overlays, embedded in its pixels."""
    found = 0
    for group in range(0x6000, 0x6100, 2):
        position = dataset.get((group, 0x0102))
        if position is not None and position.value and (group, 0x3000) not in dataset:
            found |= 1 << int(position.value)
    return found


def _is_overlay(values: Values, stored: int, shift: int) -> bool:
    """Whether bits beyond the values lie over a picture that goes on below them.

    An overlay's edges are anywhere in the picture: without its bits, neighbors across an edge are
    alike. Values that were folded over jump there, by nearly the whole range.
    """
    mask = np.array((1 << stored) - 1, values.dtype)
    jumps: list[npt.NDArray[np.int64]] = []
    for block in _blocks(values):
        above = block >> np.array(stored + shift, values.dtype)
        below = ((block >> np.array(shift, values.dtype)) & mask).astype(np.int64)
        for axis in (0, 1):
            edge = np.diff(above.astype(np.int64), axis=axis) != 0
            jumps.append(np.abs(np.diff(below, axis=axis)[edge])[: 1 << 16])
    found = np.concatenate(jumps)
    return bool(found.size) and float(np.median(found)) <= _FLAT * ((1 << stored) - 1)


def _blocks(values: Values) -> list[Values]:
    rows = max(2, _ROWS // max(1, values.shape[1]))
    return [values[top : top + rows] for top in range(0, len(values), rows)]


def _listed(mask: int) -> str:
    return ", ".join(str(bit) for bit in range(int(math.log2(mask)) + 1) if mask >> bit & 1)

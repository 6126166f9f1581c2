"""Values of more than 8 bits: which of them is white, and how they become bytes.

Detectors deliver 10, 12 or 14 bits, commonly stored in 16: dividing those by 65535 would leave a
nearly black image. Which value is white is decided by the file's header where it says so (the
maxval of a PGM, the precision of a JPEG 2000, 12-bit TIFF), and else by the set: by the brightest
value of all its images that are stored alike, never by that of one image, which would make a dim
image bright beside its neighbours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrgan_fast.data.contrast import Percentiles, percentile_range, to_bytes
from cxrgan_fast.errors import UserError, printable

_SHOWN = 8  # notes

_ROWS = 1 << 20  # values that are converted at once: what bounds the memory


class Storage(NamedTuple):
    """How values are stored: images of a set that are stored alike are scaled alike.

    Attributes:
        claimed: bits that are in use according to the header (sBIT of PNG), or else all bits of
            the type.
        most: the largest value that can be stored.
    """

    claimed: int
    most: int


class Brightest(NamedTuple):
    """The brightest value of an image whose header does not say what is white."""

    storage: Storage
    value: int


class UnknownWhiteError(Exception):
    """An image's header does not say which value is white, and its set is not known yet.

    Attributes:
        brightest: what the set needs to know of the image (`whites_of`).
    """

    def __init__(self, brightest: Brightest) -> None:
        """Keep it."""
        super().__init__(f"white is not known for {brightest}")
        self.brightest = brightest


def white_of(brightest: Brightest) -> int:
    """Return the value that is white in a set whose brightest value is `brightest`.

    Without a claim it is the largest of the even number of bits in use. With a claim of so many
    bits, values may lie in the lower bits, or, as PNG's specification has it, in the upper ones.
    """
    (claimed, most), value = brightest
    if claimed < most.bit_length():
        return (1 << claimed) - 1 if value < 1 << claimed else most
    bits = max(8, (value.bit_length() + 1) // 2 * 2)
    return min((1 << bits) - 1, most)


def whites_of(found: list[Brightest]) -> dict[Storage, int]:
    """Find the white of every kind of storage in a set from the brightest value of each image."""
    most: dict[Storage, int] = {}
    for storage, value in found:
        most[storage] = max(value, most.get(storage, 0))
    return {storage: white_of(Brightest(storage, value)) for storage, value in most.items()}


def shown_notes(notes: Mapping[str, int]) -> list[str]:
    """List what was decided where files leave a choice, a line each, the most common first.

    Args:
        notes: each decision, with the number of images that it concerns.
    """
    ordered = sorted(notes.items(), key=lambda each: (-each[1], each[0]))
    lines = [f"{count} images: {printable(note)}" for note, count in ordered[:_SHOWN]]
    if len(ordered) > _SHOWN:
        rest = sum(count for _, count in ordered[_SHOWN:])
        lines.append(f"{rest} images: {len(ordered) - _SHOWN} other notes")
    return lines


@dataclass(frozen=True)
class DeepImage:
    """A decoded image of more than 8 bits.

    Attributes:
        values: (H, W) of any integers, or uint16, (H, W, C).
        mode: mode of the 8-bit image that it becomes: L, LA, RGB, RGBA or CMYK.
        storage: how values are stored.
        white: the value that is white, where the header says so.
        said_by: what says so, such as "the maxval".
        white_is_zero: whether 0 is white, and `white` black.
        transparent: the value of each channel that marks transparent pixels.
    """

    values: npt.NDArray[np.integer]
    mode: str
    storage: Storage
    white: int | None = None
    said_by: str = ""
    white_is_zero: bool = False
    transparent: tuple[int, ...] | None = None

    def brightest(self) -> Brightest | None:
        """Return what the set needs to know of this image; None if its header says what is white.

        Raises:
            UserError: values below 0, of which black is unknown.
        """
        values = self.values[..., :-1] if self.mode in ("LA", "RGBA") else self.values
        if values.dtype.kind == "i" and values.min(initial=0) < 0:
            raise UserError("negative pixel values have no known black: save it as unsigned 16-bit")
        if self.white is not None:
            return None
        return Brightest(self.storage, int(values.max(initial=0)))

    def eight_bit(
        self, whites: Mapping[Storage, int] | None, percentiles: Percentiles | None
    ) -> tuple[Image.Image, str]:
        """Scale to bytes, transparency laid over black.

        Args:
            whites: whites of the set that the image belongs to; None for a set of this image alone.
            percentiles: percentiles of gray values that become black and white instead.

        Returns:
            The image, of mode L, RGB or CMYK, and what was done, in words.
        """
        brightest = self.brightest()
        if brightest is None:
            assert self.white is not None
            white, said_by = self.white, self.said_by
        elif whites is None:
            white, said_by = white_of(brightest), "this image alone"
        else:
            white, said_by = whites.get(self.storage, white_of(brightest)), "the set"
            if self.storage.claimed < self.storage.most.bit_length():
                said_by = f"its header ({self.storage.claimed} bits) and the set"
        note = (
            f"values of {self.storage.most.bit_length()} bits: {white} is "
            f"{'black' if self.white_is_zero else 'white'}, by {said_by}"
        )
        ends: tuple[float, float] = (0, white)
        if percentiles is not None and self.values.ndim == 2:
            # Of the deep values, so that no contrast is lost to bytes in between.
            ends = percentile_range(self.values, percentiles) or ends
        black, white_end = ends[::-1] if self.white_is_zero else ends
        return self._scaled(black, white_end), note

    def _scaled(self, black: float, white: float) -> Image.Image:
        """Map to bytes, some rows at a time."""
        height, width = len(self.values), self.values.shape[1]
        mode = self.mode.removesuffix("A") if self.mode != "CMYK" else self.mode
        out = Image.new(mode, (width, height))
        step = max(1, _ROWS * height // self.values.size)
        opaque = self._opaque(white)
        for top in range(0, height, step):
            block = self.values[top : top + step]
            flat = block.reshape(len(block), -1)
            scaled = to_bytes(flat, black, white).reshape(block.shape)
            if opaque is not None:
                weight = block[..., -1:].astype(np.float32) / opaque
                scaled = (scaled[..., :-1] * weight.clip(0, 1) + 0.5).astype(np.uint8)
            if self.transparent is not None:
                hidden = block.reshape(*block.shape[:2], -1) == self.transparent
                scaled[hidden.all(-1)] = 0
            if scaled.ndim == 3 and mode == "L":
                scaled = scaled[..., 0]
            rows = Image.frombytes(mode, (width, len(block)), np.ascontiguousarray(scaled))
            out.paste(rows, (0, top))
        return out

    def _opaque(self, white: float) -> float | None:
        """The value of alpha that is opaque; None without alpha.

        Programs that store 12 bits in 16 do the same with alpha, or leave it at 65535.
        """
        if self.mode not in ("LA", "RGBA"):
            return None
        return white if 0 < int(self.values[..., -1].max()) <= white else self.storage.most

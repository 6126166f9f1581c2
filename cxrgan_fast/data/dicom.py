"""DICOM files: the values as they are meant to be looked at.

By the grayscale pipeline of DICOM PS3.4, N.2: rescale slope and intercept (or the modality LUT),
the window or VOI LUT, and MONOCHROME1 inverted, so that bright is dense. In enhanced images they
stand in functional groups.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cxrgan_fast.data.dicom_file import (
    group_with,
    number,
    numbers,
    open_dicom,
    warnings_heard,
    whole,
)
from cxrgan_fast.data.dicom_values import stored_values
from cxrgan_fast.data.memory import DECODING
from cxrgan_fast.data.opening import refuse_size
from cxrgan_fast.errors import UserError, printable

_PIXEL_COST = 16  # bytes a pixel that the pipeline takes at most, beside the stored values
_CHANNEL_COST = 16  # bytes a pixel and channel more that decompression takes
_JPEG2000 = "1.2.840.10008.1.2.4.9"

_opening = threading.Lock()  # headers: what they hold is bounded a file

T = TypeVar("T")
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class DicomImage:
    """The picture of a DICOM file.

    Attributes:
        values: (H, W), real; or uint8, (H, W, 3).
        low: the value that is black.
        high: the value that is white; another than `low`, and lower where bright is stored low.
        patient: "patient-" and 12 hex digits of the SHA-256 of the PatientID, which is never kept
            in the clear; None without one.
        notes: what was decided where the file leaves a choice, in words.
    """

    values: Values
    low: float
    high: float
    patient: str | None
    notes: tuple[str, ...]


def decode_dicom(content: bytes, use: Callable[[DicomImage], T]) -> T:
    """Read the picture of a DICOM file, within the memory that all threads share, and use it.

    Args:
        content: bytes of the file.
        use: what is done with the picture; its result is all that is left of it.

    Raises:
        UserError: why it cannot be read: pydicom is not installed, several frames, no picture, a
            compression that nothing here decodes, a tag that is wrong, damage; and what `use`
            raises.
    """

    def cost() -> int:
        with _opening:
            header = open_dicom(content, header_only=True)
            _refuse(header)
            return _cost(header, content)

    def picture() -> DicomImage:
        notes: list[str] = []
        heard: list[str] = []
        with warnings_heard(heard):
            found = _picture(open_dicom(content), notes)
        return DicomImage(*found, (*notes, *(f"pydicom: {message}" for message in heard)))

    with DECODING.hold(_naming_failures(cost, content), "its decoding"):
        return _naming_failures(lambda: use(picture()), content)


def dicom_size(content: bytes) -> tuple[int, int]:
    """Read the width and height that a DICOM file claims, in pixels.

    Raises:
        UserError: it has none, or cannot be read.
    """

    def size() -> tuple[int, int]:
        with _opening:
            header = open_dicom(content, header_only=True)
            return whole(header, "Columns"), whole(header, "Rows")

    return _naming_failures(size, content)


def dicom_patient(content: bytes) -> str | None:
    """Read whose image a DICOM file is, as in `DicomImage.patient`; None if it does not say.

    Raises:
        UserError: it cannot be read.
    """

    def patient() -> str | None:
        with _opening:
            return _patient(open_dicom(content, header_only=True))

    return _naming_failures(patient, content)


def _naming_failures(work: Callable[[], T], content: bytes) -> T:
    """Turn whatever damaged values raise into one line that says what is wrong with the file."""
    try:
        return work()
    except UserError:
        raise
    except MemoryError:
        reason = "the memory does not suffice for it: make it smaller"
    except Exception as error:
        reason = printable(" ".join(str(error).split()))[:200] or type(error).__name__
        reason = f"damaged or unreadable DICOM ({reason}{_compression(content)})"
    # Out here, so that the decoder's error and all that it refers to are gone.
    raise UserError(reason)


def _compression(content: bytes) -> str:
    """What to do about a compression, to be put after a message."""
    with contextlib.suppress(Exception), _opening:
        uid = open_dicom(content, header_only=True).file_meta.TransferSyntaxUID
        if uid.is_compressed:
            return (
                f"; it is compressed by {uid.name}: pip install pylibjpeg[all], or save it "
                "uncompressed"
            )
    return ""


def _refuse(header: Any) -> None:
    frames = whole(header, "NumberOfFrames", 1)
    if frames != 1:
        raise UserError(f"holds {frames} frames; expected one image: save the one to use")
    if "Rows" not in header and "Columns" not in header:
        raise UserError("holds no picture (no PixelData): remove it")
    width, height = whole(header, "Columns"), whole(header, "Rows")
    if width < 1 or height < 1:
        raise UserError(f"claims {width} x {height} pixels; expected at least 1: remove it")
    refuse_size(width, height)
    bits = whole(header, "BitsAllocated")
    if bits not in (1, 8, 16, 32):
        raise UserError(f"has {bits} bits a pixel; expected 8, 16 or 32")


def _cost(header: Any, content: bytes) -> int:
    """Bytes of memory that reading takes at most, beside the file's."""
    pixels = whole(header, "Rows") * whole(header, "Columns")
    channels = whole(header, "SamplesPerPixel", 1)
    stored = pixels * channels * -(-whole(header, "BitsAllocated") // 8)
    cost = pixels * _PIXEL_COST
    meta = getattr(header, "file_meta", None)
    uid = meta.get("TransferSyntaxUID") if meta is not None else None
    if uid is None or not uid.is_compressed:
        return cost + max(len(content), 2 * stored)  # deflated pixels twice while they are read
    kinds = 2 if str(uid).startswith(_JPEG2000) else 1  # OpenJPEG works in 32 bits
    return cost + 2 * len(content) + stored + pixels * channels * _CHANNEL_COST * kinds


def _picture(dataset: Any, notes: list[str]) -> tuple[Values, float, float, str | None]:
    if "PixelData" not in dataset:
        raise UserError("holds no picture (no PixelData): remove it")
    kind = str(dataset.get("PhotometricInterpretation") or "")
    patient = _patient(dataset)
    if kind == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        colors = apply_color_lut(stored_values(dataset, notes)[0], dataset)
        if colors.dtype != np.uint8:
            colors = (colors >> 8).astype(np.uint8)
        return np.ascontiguousarray(colors[..., :3]), 0, 255, patient
    stored, padding = stored_values(dataset, notes)
    if stored.ndim == 3:
        return stored, 0, 255, patient
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        shown = f"{printable(kind)}, which is not known" if kind else "that is missing"
        raise UserError(f"has the photometric interpretation {shown}: correct the tag")
    if kind == "MONOCHROME2" and dataset.get("PresentationLUTShape") == "INVERSE":
        raise UserError(  # which the standard allows with MONOCHROME1 alone
            "has the PresentationLUTShape (2050,0020) INVERSE and is MONOCHROME2, which contradict "
            "each other: correct one of the tags"
        )
    if padding is not None and padding.all():
        raise UserError("holds only padding: remove it")
    values = _rescaled(dataset, stored)
    del stored
    if not np.isfinite(values).all():
        raise UserError("holds values that are not numbers")
    used = values if padding is None else values[~padding]
    low, high = _of_interest(dataset, values, (float(used.min()), float(used.max())), notes)
    if kind == "MONOCHROME1":
        low, high = high, low
    if padding is not None:
        values[padding] = low
    return values, low, high, patient


def _rescaled(dataset: Any, stored: Values) -> npt.NDArray[np.float32]:
    """Apply the modality LUT, or slope and intercept."""
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(dataset, dataset.ModalityLUTSequence[0], stored)[0]
    values = stored.astype(np.float32)
    about = group_with(dataset, "PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept = number(about, "RescaleSlope", 1), number(about, "RescaleIntercept", 0)
    if slope == 0:
        raise UserError("its RescaleSlope (0028,1053) is 0, which leaves no picture: correct it")
    values *= np.float32(slope)
    values += np.float32(intercept)
    return values


def _of_interest(
    dataset: Any,
    values: npt.NDArray[np.float32],
    used: tuple[float, float],
    notes: list[str],
) -> tuple[float, float]:
    """Apply the first window that meets the values, or the VOI LUT; give black and white.

    Args:
        dataset: a dataset of pydicom.
        values: (H, W), after the modality's transformation; changed in place.
        used: the smallest and the largest of them that are no padding.
        notes: what was decided is added here.
    """
    about = group_with(dataset, "FrameVOILUTSequence", "WindowWidth")
    widths, centers = numbers(about, "WindowWidth"), numbers(about, "WindowCenter")
    if bool(widths) != bool(centers):
        number(about, "WindowCenter" if widths else "WindowWidth")  # which names what is missing
    if not widths and dataset.get("VOILUTSequence"):
        looked_up, bits = _looked_up(dataset, dataset.VOILUTSequence[0], values)
        if looked_up.min() < looked_up.max() or used[0] == used[1]:
            values[...] = looked_up
            return 0.0, float((1 << bits) - 1)
        notes.append(
            "its VOI LUT has one tone for all values: their range is black to white instead"
        )
        return used
    name = str(about.get("VOILUTFunction") or "LINEAR").upper()
    for center, width in zip(centers, widths, strict=False):
        low, high = _ends(center, width, name)
        if used[0] < high and used[1] > low:
            if name != "SIGMOID":
                np.clip(values, low, high, out=values)
                return (low, high) if high > low else (low - 0.5, high + 0.5)
            values -= np.float32(center)
            values *= np.float32(-4 / width)
            np.exp(values.clip(-60, 60, out=values), out=values)
            values += 1
            np.reciprocal(values, out=values)
            return 0.0, 1.0
    if widths:
        notes.append("its window misses all of its values: their range is black to white instead")
    else:
        notes.append("without a window: the range of its values is black to white")
    return used if used[1] > used[0] else (used[0], used[0] + 1)


def _ends(center: float, width: float, function: str) -> tuple[float, float]:
    """The values at which a window is black and white (PS3.3, C.11.2.1.2)."""
    least = 1.0 if function == "LINEAR" else 0.0
    if width < least or width == 0:
        bound = "at least 1" if least else "more than 0"
        raise UserError(
            f"its WindowWidth (0028,1051) is {width:g}; expected {bound}: correct the tag"
        )
    if function == "LINEAR":
        return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    if function == "LINEAR_EXACT":
        return center - width / 2, center + width / 2
    if function == "SIGMOID":
        return center - 2 * width, center + 2 * width  # within 0.04 % of black and white
    raise UserError(
        f"its VOILUTFunction (0028,1056) is {printable(function)}; expected LINEAR, LINEAR_EXACT "
        "or SIGMOID: correct the tag"
    )


def _looked_up(dataset: Any, item: Any, values: Values) -> tuple[npt.NDArray[np.float32], int]:
    """Apply a LUT of gray values (PS3.3, C.11.1 and C.11.2), of any number of bits up to 16.

    Returns:
        The values, and the bits of the LUT's entries.
    """
    described = [int(each) for each in numbers(item, "LUTDescriptor")]
    if len(described) != 3 or not 1 <= described[2] <= 16:
        raise UserError(
            f"its LUTDescriptor (0028,3002) is {described}; expected a count, the first value and "
            "from 1 to 16 bits: correct the tag"
        )
    count, first, bits = described
    count = count & 0xFFFF or 1 << 16
    if first > 0x7FFF and whole(dataset, "PixelRepresentation", 0) == 1:
        first -= 1 << 16
    data = item.get("LUTData")
    if isinstance(data, bytes):
        order = ">" if not dataset.is_little_endian else "<"
        table = np.frombuffer(data, np.uint8 if len(data) < 2 * count else f"{order}u2")
    else:
        table = np.array(numbers(item, "LUTData"))
    if len(table) < count:
        raise UserError(
            f"its LUTData (0028,3006) has {len(table)} entries; expected {count}: correct the tag"
        )
    if table[:count].min() < 0 or table[:count].max() >= 1 << bits:
        raise UserError(
            f"its LUTData (0028,3006) holds values of more than the {bits} bits that its "
            "LUTDescriptor names: correct the tags"
        )
    places = np.rint(values).astype(np.int32) if values.dtype.kind == "f" else values
    places = np.clip(places.astype(np.int32) - first, 0, count - 1)
    return table[:count].astype(np.float32)[places], bits


def _patient(dataset: Any) -> str | None:
    name = str(dataset.get("PatientID") or "").strip()
    if not name:
        return None
    return "patient-" + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]

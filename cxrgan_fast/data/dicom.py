"""DICOM files: the values as they are meant to be looked at.

By the grayscale pipeline of DICOM PS3.4, N.2: rescale slope and intercept (or the modality LUT),
the window or VOI LUT, and MONOCHROME1 inverted, so that bright is dense. pydicom does the
arithmetic.
"""

import contextlib
import hashlib
import io
import logging
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrgan_fast.errors import UserError, printable

_importing = threading.Lock()


@dataclass(frozen=True)
class DicomImage:
    """The picture of a DICOM file.

    Attributes:
        values: (H, W), real, bright is dense; or uint8, (H, W, 3).
        low: the value that is black.
        high: the value that is white; another than `low`, and lower after a negative slope.
        windowed: whether the file says what is black and white; without, it is the used range.
        patient: "patient-" and 12 hex digits of the SHA-256 of the PatientID, which is never kept
            in the clear; None without one.
    """

    values: npt.NDArray[Any]
    low: float
    high: float
    windowed: bool
    patient: str | None


def is_dicom(content: bytes) -> bool:
    """Whether a file is DICOM by its preamble."""
    return content[128:132] == b"DICM"


def read_dicom(content: bytes, max_pixels: int) -> DicomImage:
    """Read the picture of a DICOM file.

    Memory: up to 40 bytes a pixel, where a window is applied.

    Args:
        content: of the file.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        UserError: why it cannot be read: pydicom is not installed, several frames, no picture, a
            compression that nothing here decodes, damage.
    """
    pydicom = _pydicom()
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
        _refuse(dataset, max_pixels)
        return _picture(dataset)
    except UserError:
        raise
    except MemoryError:
        raise UserError("the memory does not suffice for it: make it smaller") from None
    except Exception as error:  # damaged values raise anything
        detail = printable(" ".join(str(error).split()))[:200] or type(error).__name__
        syntax = ""
        with contextlib.suppress(Exception):
            uid = dataset.file_meta.TransferSyntaxUID
            if uid.is_compressed:
                syntax = (
                    f"; it is compressed by {uid.name}: pip install pylibjpeg[all], or save it "
                    "uncompressed"
                )
        raise UserError(f"damaged or unreadable DICOM ({detail}{syntax})") from None


def dicom_size(content: bytes) -> tuple[int, int]:
    """Width and height that a DICOM file claims.

    Raises:
        UserError: it has none, or cannot be read.
    """
    pydicom = _pydicom()
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        return int(dataset.Columns), int(dataset.Rows)
    except Exception as error:
        detail = printable(" ".join(str(error).split()))[:200] or type(error).__name__
        raise UserError(f"damaged or unreadable DICOM ({detail})") from None


def _refuse(dataset: Any, max_pixels: int) -> None:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise UserError(f"holds {frames} frames; expected one image: save the one to use")
    if "PixelData" not in dataset:
        raise UserError("holds no picture (no PixelData): remove it")
    width, height = int(dataset.Columns), int(dataset.Rows)
    if width < 1 or height < 1 or width * height > max_pixels:
        raise UserError(
            f"claims {width} x {height} pixels; from 1 to {max_pixels:,} are read: make it smaller "
            "or remove it"
        )
    if int(dataset.get("BitsAllocated", 0)) not in (1, 8, 16, 32):
        raise UserError(f"has {dataset.get('BitsAllocated')} bits a pixel; expected 8, 16 or 32")


def _picture(dataset: Any) -> DicomImage:
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

    kind = str(dataset.PhotometricInterpretation)
    stored = dataset.pixel_array
    patient = _patient(dataset)
    if kind == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
        if stored.dtype != np.uint8:
            stored = (stored >> 8).astype(np.uint8)
    if stored.ndim == 3:
        if stored.dtype != np.uint8 or stored.shape[2] < 3:
            raise UserError(f"has colours of {stored.dtype}; expected 8 bits each")
        return DicomImage(np.ascontiguousarray(stored[..., :3]), 0, 255, True, patient)
    values = apply_modality_lut(stored, dataset)
    windowed = bool(dataset.get("VOILUTSequence")) or dataset.get("WindowWidth") is not None
    padding = _padding(dataset, stored)
    if windowed:
        values = apply_voi_lut(values, dataset, index=0, prefer_lut=False).astype(np.float32)
        low, high = _output_range(dataset, values)
    else:
        values = values.astype(np.float32)
        used = values if padding is None else values[~padding]
        if not used.size:
            raise UserError("holds only padding: remove it")
        low, high = float(used.min()), float(used.max())
    if not np.isfinite(values).all():
        raise UserError("holds values that are not numbers")
    if high == low:
        high = low + 1
    if kind == "MONOCHROME1":
        np.subtract(low + high, values, out=values)
    elif kind != "MONOCHROME2" and kind != "PALETTE COLOR":
        raise UserError(f"has the photometric interpretation {printable(kind)}, which is not known")
    if padding is not None:
        values[padding] = low
    return DicomImage(values, low, high, windowed, patient)


def _output_range(dataset: Any, values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Black and white of windowed values, as `apply_voi_lut` scales them.

    A LUT gives values of so many bits. A window gives the range that stored values could have.
    """
    if dataset.get("WindowWidth") is None:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return 0.0, float((1 << bits) - 1)
    if dataset.get("ModalityLUTSequence"):
        return 0.0, float((1 << int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])) - 1)
    bits = int(dataset.BitsStored)
    if int(dataset.PixelRepresentation):
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    else:
        low, high = 0, (1 << bits) - 1
    slope = float(dataset.get("RescaleSlope", 1))
    intercept = float(dataset.get("RescaleIntercept", 0))
    # In this order: below the window is the first of them, also where the slope is negative.
    return low * slope + intercept, high * slope + intercept


def _padding(dataset: Any, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    other = dataset.get("PixelPaddingRangeLimit", value)
    low, high = sorted((int(value), int(other)))
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() else None


def _patient(dataset: Any) -> str | None:
    name = str(dataset.get("PatientID") or "").strip()
    if not name:
        return None
    return "patient-" + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _pydicom() -> ModuleType:
    with _importing:
        try:
            import pydicom
        except ImportError:
            raise UserError("DICOM needs pydicom: pip install 'cxrgan_fast[dicom]'") from None
        # What it logs and warns of is either harmless or raised as well.
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom

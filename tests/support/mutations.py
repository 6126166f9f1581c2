"""Image files and archives that were damaged on purpose, the same at every run."""

import io
import random
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from image_files import encoded, smooth


def originals() -> dict[str, bytes]:
    """A small whole file of every format, by its suffix and mode."""
    gray = smooth(1)
    color = np.stack([smooth(n) for n in (1, 2, 3)], -1)
    deep = (gray.astype(np.uint16) << 4) + 3
    found = {
        "jpg": encoded(gray, "JPEG", quality=90),
        "jpeg": encoded(color, "JPEG", quality=80, progressive=True),
        "png": encoded(gray),
        "deep.png": encoded(deep),
        "alpha.png": encoded(np.dstack([color, gray])),
        "tif": encoded(deep, "TIFF"),
        "tiff": encoded(color, "TIFF", compression="tiff_lzw"),
        "deflate.tif": encoded(gray, "TIFF", compression="tiff_adobe_deflate"),
        "gif": encoded(gray, "GIF"),
        "bmp": encoded(gray, "BMP"),
        "webp": encoded(color, "WEBP"),
        "pgm": encoded(gray, "PPM"),
        "dcm": _dicom(deep),
    }
    palette = io.BytesIO()
    Image.fromarray(gray).convert("P").save(palette, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        **found,
        "palette.png": palette.getvalue(),
        "turned.jpg": encoded(gray, "JPEG", exif=exif),
    }


def _dicom(pixels: np.ndarray) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    kind, number = UID("1.2.840.10008.5.1.4.1.1.1.1"), UID("1.2.3")
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = kind
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = number
    made.Rows, made.Columns = pixels.shape
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelRepresentation, made.SamplesPerPixel = 0, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.WindowCenter, made.WindowWidth, made.PatientID = 2000, 3000, "someone"
    made.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def mutated(whole: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One kind of damage: flipped bits, cut off, another's header, doubled or lost pieces."""
    kind = rng.randrange(6)
    content = bytearray(whole)
    if kind == 0:  # bits anywhere
        for _ in range(rng.choice((1, 3, 30))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == 1:  # bytes of the header, where sizes and offsets are
        for _ in range(rng.choice((1, 4))):
            content[rng.randrange(min(len(content), 200))] = rng.choice((0, 1, 127, 128, 255))
    elif kind == 2:
        content = content[: rng.randrange(len(content))]
    elif kind == 3:
        length = rng.choice((4, 16, 64))
        content[:length] = rng.choice(others)[:length]
    elif kind == 4:
        start = rng.randrange(len(content))
        piece = content[start : start + rng.randrange(1, 400)]
        place = rng.randrange(len(content))
        content[place:place] = piece
    else:
        start = rng.randrange(len(content))
        del content[start : start + rng.randrange(1, 60)]
    return bytes(content)


def png_of_zeros(width: int, height: int, channels: int, claimed: int | None = None) -> bytes:
    """A decompression bomb: a valid PNG, thousandth the size of what it holds.

    Args:
        width: of the image.
        height: of the image.
        channels: 1 or 4.
        claimed: the height in the header, if another.
    """

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    kind = {1: 0, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, claimed or height, 8, kind, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + width * channels)
    data = b"".join([packer.compress(row) for _ in range(height)]) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def png_with_text_bomb() -> bytes:
    """A PNG with a comment that unpacks to 100 MB."""
    plain = encoded(smooth(2))
    data = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return plain[:33] + chunk + plain[33:]


def archive(contents: dict[str, bytes]) -> bytes:
    """A zip archive of these entries, whatever they are called."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in contents.items():
            made.writestr(name, content)
    return buffer.getvalue()

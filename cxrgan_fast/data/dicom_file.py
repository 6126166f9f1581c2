"""DICOM files as such: opened within a bound of memory, and their tags read one by one.

Every number goes through `number` and `numbers`, so that a wrong one is named with its tag. An
empty tag is an absent one (PS3.5, 7.4.5).
"""

import contextlib
import io
import logging
import math
import threading
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from cxrgan_fast.errors import UserError, printable

_DEFLATED = "1.2.840.10008.1.2.1.99"
_LONG_VRS = (b"OB", b"OW", b"UN", b"UT", b"SQ")  # with four bytes of length
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_HEADER_BYTES = 16 << 20  # of a deflated file before its picture: icons and private tags included
_BLOCK, _PACKED_BLOCK = 1 << 20, 1 << 16

_importing = threading.Lock()
_heard = threading.local()


def is_dicom(content: bytes) -> bool:
    """Tell whether a file is DICOM, by its preamble or, without one, by its first tag."""
    if content[128:132] == b"DICM":
        return True
    group, vr = content[:2], content[4:6]
    if group == b"\x02\0":
        return vr in (b"UL", b"OB", b"UI")
    if group not in (b"\x08\0", b"\0\x08") or len(content) < 132:
        return False
    # Identifying tags come first: of a known type, or of a plausible length where none is told.
    return vr.isalpha() or int.from_bytes(content[4:8], "little") <= 64


def open_dicom(content: bytes, *, header_only: bool = False) -> Any:
    """Read a file's tags.

    Memory: the picture once more; of a deflated file, whatever its header claims, twice.

    Args:
        content: bytes of the file.
        header_only: leave out the picture and what follows.

    Returns:
        A pydicom dataset.

    Raises:
        UserError: pydicom is not installed; a deflated file that holds more than it claims.
        Exception: whatever pydicom raises at damaged bytes.
    """
    pydicom = _pydicom()
    preamble = content[128:132] == b"DICM"
    ends, syntax = _file_meta(content, 132 if preamble else 0)
    if syntax == _DEFLATED:
        return _inflated(pydicom, memoryview(content)[ends:], header_only)
    return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=header_only, force=not preamble)


def _file_meta(content: bytes, start: int) -> tuple[int, str]:
    """Where group 2 ends (PS3.10, 7.1), and the transfer syntax that it names."""
    syntax = ""
    while content[start : start + 2] == b"\x02\0":
        if content[start + 4 : start + 6] in _LONG_VRS:
            begins = start + 12
            length = int.from_bytes(content[start + 8 : begins], "little")
        else:
            begins = start + 8
            length = int.from_bytes(content[start + 6 : begins], "little")
        if content[start + 2 : start + 4] == b"\x10\0":
            syntax = content[begins : begins + length].decode("ascii", "replace").strip(" \0")
        start = begins + length
    return start, syntax


def _inflated(pydicom: ModuleType, packed: memoryview, header_only: bool) -> Any:
    """Read a deflated file: its header first, and of the rest what that header allows."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = _EXPLICIT_LITTLE_ENDIAN
    plain = io.BytesIO()
    plain.write(bytes(128) + b"DICM")
    pydicom.filewriter.write_file_meta_info(plain, meta, enforce_standard=False)
    most = plain.tell() + _HEADER_BYTES
    blocks = _unpacked(packed)
    ended = _fill(plain, blocks, most)
    plain.seek(0)
    if header_only:
        return pydicom.dcmread(plain, stop_before_pixels=True)
    if not ended:
        header = pydicom.dcmread(plain, stop_before_pixels=True)
        size = whole(header, "Rows") * whole(header, "Columns")
        size *= whole(header, "SamplesPerPixel", 1) * -(-whole(header, "BitsAllocated") // 8)
        plain.seek(0, io.SEEK_END)
        if not _fill(plain, blocks, most + size):
            raise UserError(
                f"is deflated, and holds more than the {size:,} bytes of its picture and "
                f"{_HEADER_BYTES:,} of its header: save it uncompressed, or remove it"
            )
        plain.seek(0)
    return pydicom.dcmread(plain)


def _unpacked(packed: memoryview) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for start in range(0, len(packed), _PACKED_BLOCK):
        block: bytes | memoryview = packed[start : start + _PACKED_BLOCK]
        while len(block) and not inflater.eof:
            yield inflater.decompress(block, _BLOCK)
            block = inflater.unconsumed_tail
    yield inflater.flush()


def _fill(out: io.BytesIO, blocks: Iterator[bytes], most: int) -> bool:
    """Write blocks until there are `most` bytes; give whether they came to an end."""
    for block in blocks:
        out.write(block)
        if out.tell() >= most:
            return False
    return True


def number(dataset: Any, keyword: str, default: float | None = None) -> float:
    """Read the first number of a tag.

    Args:
        dataset: a dataset of pydicom.
        keyword: keyword of the tag, such as "PatientID".
        default: what is returned if the tag is absent or empty; None makes that an error.

    Raises:
        UserError: the tag holds something else; the message names both.
    """
    found = numbers(dataset, keyword)
    if found:
        return found[0]
    if default is None:
        raise UserError(f"has no {_named(keyword)}: add the tag, or remove the file")
    return default


def whole(dataset: Any, keyword: str, default: int | None = None) -> int:
    """Read the first number of a tag and require it to be whole; see `number`."""
    found = number(dataset, keyword, default)
    if found != int(found):
        raise UserError(f"its {_named(keyword)} is {found}; expected a whole number")
    return int(found)


def numbers(dataset: Any, keyword: str) -> list[float]:
    """Read all numbers of a tag; none if it is absent or empty.

    Raises:
        UserError: the tag holds something else; the message names both.
    """
    if keyword not in dataset:
        return []
    try:
        value = dataset[keyword].value
        if value is None or value == "":
            return []
        several = not isinstance(value, (str, bytes)) and hasattr(value, "__len__")
        found = [float(each) for each in (value if several else [value])]
        if not all(map(math.isfinite, found)):
            raise ValueError
    except (ValueError, TypeError, OverflowError, ArithmeticError):
        raw = dataset.get_item(keyword).value
        text = raw.decode("ascii", "replace") if isinstance(raw, bytes) else str(raw)
        if not text.strip(" \0\\"):
            return []
        point = " (with a decimal point)" if "," in text else ""
        raise UserError(
            f"its {_named(keyword)} is {printable(text.strip())[:40]!r}; expected a number{point}: "
            "correct the tag"
        ) from None
    return found


def _named(keyword: str) -> str:
    """A tag as people look it up, such as "RescaleSlope (0028,1053)"."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"


def group_with(dataset: Any, sequence: str, keyword: str) -> Any:
    """Find the dataset that holds a tag: a functional group of an enhanced image, or the top.

    Args:
        dataset: a dataset of pydicom.
        sequence: the functional group, such as "PixelValueTransformationSequence".
        keyword: keyword of the tag, such as "PatientID".
    """
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in dataset.get(groups) or []:
            for item in group.get(sequence) or []:
                if item.get(keyword) not in (None, ""):
                    return item
    return dataset


@contextlib.contextmanager
def warnings_heard(into: list[str]) -> Iterator[None]:
    """Collect what pydicom warns of in this thread, each message once."""
    _pydicom()
    before = getattr(_heard, "messages", None)
    _heard.messages = into
    try:
        yield
    finally:
        _heard.messages = before


class _Listener(logging.Handler):
    """Gives pydicom's warnings to whoever reads a file in the same thread."""

    def emit(self, record: logging.LogRecord) -> None:
        messages = getattr(_heard, "messages", None)
        text = printable(" ".join(record.getMessage().split()))[:200]
        if messages is not None and text not in messages:
            messages.append(text)


def _pydicom() -> ModuleType:
    with _importing:
        try:
            import pydicom
            import pydicom.dataset
            import pydicom.filewriter
        except ImportError:
            raise UserError("DICOM needs pydicom: pip install 'cxrgan_fast[dicom]'") from None
        logger = logging.getLogger("pydicom")
        if not any(isinstance(each, _Listener) for each in logger.handlers):
            logger.addHandler(_Listener(logging.WARNING))
    return pydicom

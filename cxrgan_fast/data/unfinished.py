"""The work on a set that is not finished: its pixels, and a journal of what is whole of them."""

import contextlib
import json
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cxrgan_fast import locks
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small, write_atomic

_MOST_JOB = 1 << 20  # bytes of job.json


def work_folder(out: Path, job: dict[str, Any]) -> Path:
    """Return the folder of what is not finished, with the work of this job or empty.

    Args:
        out: the set's folder.
        job: what is being made.

    Raises:
        UserError: the folder holds something else.
    """
    partial = out / ".partial"
    if not partial.is_dir():
        others = [entry.name for entry in out.iterdir()]
        if others:
            raise UserError(
                f"{out}: is not empty (it holds {printable(min(others))}); choose another folder"
            )
    try:
        same = json.loads(read_small(partial / "job.json", _MOST_JOB)) == job
    except (UserError, ValueError, RecursionError):
        same = False
    if not same:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        write_atomic(partial / "job.json", json.dumps(job).encode())
    return partial


@dataclass(frozen=True)
class Done:
    """A line of the journal."""

    place: int
    sha256: str
    width: int
    height: int
    patient: str | None
    notes: list[str]
    check: int

    def is_sound(self) -> bool:
        """Tell whether each value is of its type: a line may be damaged and still be JSON."""
        numbers = (self.place, self.width, self.height, self.check)
        texts = (self.sha256, self.patient or "")
        return (
            all(type(number) is int and number >= 0 for number in numbers)
            and all(isinstance(text, str) for text in texts)
            and isinstance(self.notes, list)
            and all(isinstance(note, str) for note in self.notes)
        )


def reserve(pixels: BinaryIO, size: int) -> None:
    """Take the room on the disk at once: a full disk is better known before than after."""
    if size:
        try:
            os.posix_fallocate(pixels.fileno(), 0, size)
        except AttributeError:  # not on every system
            pass
        except OSError as error:
            if error.errno not in locks.NOT_SUPPORTED:  # nor on every file system
                raise
    os.ftruncate(pixels.fileno(), size)


def write_at(file: BinaryIO, content: bytes, offset: int) -> None:
    """Write bytes at a place of a file that is not buffered."""
    file.seek(offset)  # Windows has no pwrite; nobody else moves it
    while content:
        content = content[file.write(content) :]


def read_at(file: BinaryIO, size: int, offset: int) -> bytes:
    """Read bytes from a place of a file."""
    file.seek(offset)
    return file.read(size)


def take_up(journal: Path, pixels: BinaryIO, size: int, count: int) -> dict[int, Done]:
    """Return what an interrupted call has finished, as far as its pixels are whole.

    Args:
        journal: the file; it may be absent.
        pixels: the images, each in its place.
        size: bytes of an image.
        count: number of images.

    Returns:
        The line of each finished image, by its place.
    """
    done: dict[int, Done] = {}
    with contextlib.suppress(FileNotFoundError):
        for text in journal.read_text("utf-8", errors="replace").splitlines():
            try:
                line = Done(*json.loads(text))
            except (ValueError, TypeError, RecursionError):  # cut off, or empty
                continue
            if not line.is_sound() or not line.place < count:
                continue
            if zlib.crc32(read_at(pixels, size, line.place * size)) == line.check:
                done[line.place] = line
    return done

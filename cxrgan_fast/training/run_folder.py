"""The run folder: a name nobody else has, and files that are whole or absent."""

import contextlib
import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from cxrgan_fast.errors import UserError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.ENOTDIR: "a part of that path is a file; choose another folder",
    errno.EEXIST: "a file of that name is in the way; choose another folder",
    errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
}


def write_error(path: Path, error: OSError) -> UserError:
    """Say in one line why `path` could not be written and what to do about it."""
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}; choose another folder")
    return UserError(f"cannot write {path}: {reason}")


def create_run_folder(root: Path, data_name: str, resolution: int, family: str) -> Path:
    """Make and return a new folder such as `root/00003-phantom-64-resnet`.

    The number is one more than the highest in `root` and is given out once, even to programs that
    start at the same moment: the bare number is made as a folder first, which only one of them
    can do, and renamed to the full name when the number is still free. Nothing is overwritten.

    Args:
        root: folder of the runs; made when missing.
        data_name: name of the data set; anything but letters, digits, `.`, `_` and `-` becomes `_`.
        resolution: side of the images in pixels.
        family: network family.

    Raises:
        UserError: when `root` cannot be written.
    """
    description = f"{_file_name_safe(data_name)}-{resolution}-{family}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            number = max(_numbers(root), default=-1) + 1
            reserved = root / f"{number:05d}"
            try:
                reserved.mkdir()
            except FileExistsError:
                continue  # someone else is between the two steps: their number shows up next time
            if _numbers(root).count(number) == 1:
                return reserved.rename(root / f"{number:05d}-{description}")
            reserved.rmdir()  # someone finished both steps between our look and our mkdir
    except OSError as error:
        raise write_error(root, error) from error


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there.

    Raises:
        UserError: when it cannot be made.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def write_atomic(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that at any moment `path` holds the old content or the new, whole.

    The content goes to `.NAME.tmp` beside `path`, is synced to the disk and renamed over `path`;
    then the folder is synced, so that the rename outlives a power cut as well. The name of the
    temporary file is fixed: what a killed program left behind is replaced by the next write
    rather than piling up. One writer a file is assumed.

    Args:
        path: file to write; its folder must exist.
        content: the bytes, or a function that writes them to the open binary file that it is
            given, such as `lambda file: torch.save(state, file)`.

    Raises:
        UserError: when the file cannot be written (a full disk, say). The old file is untouched.
    """
    aside = path.with_name(f".{path.name}.tmp")
    try:
        with aside.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        _sync_folder(path.parent)
    except BaseException as error:  # Ctrl-C too must leave nothing behind
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        os_error = _os_error_behind(error)
        if os_error is not None:
            raise write_error(path, os_error) from error
        raise


def _numbers(root: Path) -> list[int]:
    matches = (re.match(r"(\d{5,})(-|$)", name) for name in os.listdir(root))
    return [int(match[1]) for match in matches if match]


def _file_name_safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._-")[:40] or "data"


def _os_error_behind(error: BaseException) -> OSError | None:
    if isinstance(error, RuntimeError):
        # torch.save reports a failed write as a RuntimeError about its zip file.
        error = error.__context__ or error
    return error if isinstance(error, OSError) else None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems (a mounted cloud drive) know no sync of folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)

"""Writing files so that they are whole or absent, and saying why one could not be written."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from cxrgan_fast.errors import UserError, printable

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


class PlaceError(UserError):
    """Something cannot be written where it should be."""


def write_error(path: Path, error: OSError) -> PlaceError:
    """Say in one line why `path` could not be written and what to do about it."""
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}; choose another folder")
    return PlaceError(f"cannot write {path}: {reason}")


def read_error(path: str | Path, error: OSError) -> UserError:
    """Say in one line why `path` could not be read and what to do about it."""
    reason = error.strerror or str(error)
    advice = {
        errno.EACCES: "; allow this user to read it",
        errno.EIO: "; the disk may be failing: copy what can be copied",
        errno.EISDIR: "; a file is expected there",
    }.get(error.errno or 0, "")
    return UserError(f"cannot read {printable(str(path))}: {reason}{advice}")


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there.

    Raises:
        UserError: when it cannot be made.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def cache_folder() -> Path:
    """Where what can be computed again is kept.

    CXRGAN_CACHE, or the user's cache folder by the XDG convention.
    """
    named = os.environ.get("CXRGAN_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cxrgan_fast"


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

"""Writing files so that they are whole or absent, and saying why one could not be written."""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cxrgan_fast import locks
from cxrgan_fast.errors import UserError, printable

_UNFINISHED = ".unfinished"
_MOST_NAMES = 64 << 20
_MOST_JSON = 1 << 28

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


@contextlib.contextmanager
def made_whole(out: Path, names: Iterable[str]) -> Iterator[None]:
    """Make a set of files and folders in `out` within the block, whole or not at all.

    After a failure nothing is left of them. After a kill there is also `out/.unfinished`, which
    tells their names, so that the next call for `out` removes them and nothing else.

    Args:
        out: folder that is missing, empty, or what a killed call has left.
        names: names of all files and folders that will be made in it.

    Raises:
        UserError: something else is in `out`, another program is writing there, or it cannot be
            written.
    """
    existed = out.is_dir()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locks.locked(out) as alone:
            _require_free(out, alone)
            write_atomic(out / _UNFINISHED, json.dumps(sorted(set(names))).encode())
            try:
                yield
                (out / _UNFINISHED).unlink()
            except BaseException:
                _remove_unfinished(out)
                if not existed:
                    with contextlib.suppress(OSError):
                        out.rmdir()
                raise
    except OSError as error:
        raise write_error(Path(error.filename or out), error) from error


def require_free(out: Path) -> None:
    """Refuse a folder in which :func:`made_whole` could make nothing, before long work.

    What a killed call has left there is removed.

    Raises:
        UserError: something is in `out`, or another program is writing there, or it is no folder.
    """
    if not os.path.lexists(out):
        return
    try:
        if not out.is_dir():  # nor is a pipe opened, which would wait for ever
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        with locks.locked(out) as alone:
            _require_free(out, alone)
    except OSError as error:
        raise write_error(out, error) from error


def _require_free(out: Path, alone: bool) -> None:
    if not alone:  # what lies there is not left over: it is being written
        raise PlaceError(f"another program is writing to {out}: wait for it, or name a new folder")
    _remove_unfinished(out)
    if any(out.iterdir()):
        raise PlaceError(f"{out} is not empty: name a new folder, nothing is overwritten")


def _remove_unfinished(out: Path) -> None:
    """Remove what :func:`made_whole` has left in a folder where the program was killed.

    Raises:
        OSError: it cannot be removed.
    """
    marker = out / _UNFINISHED
    if marker.is_symlink() or not marker.is_file():
        return
    try:
        names = json.loads(read_small(marker, _MOST_NAMES))
    except (ValueError, RecursionError):
        names = None
    for name in names if isinstance(names, list) else []:
        # A stranger's marker may name anything: only what lies in this very folder goes.
        if not isinstance(name, str) or name in {"", ".", ".."} or set(name) & set("/\\\0"):
            continue
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    marker.unlink()


def read_small(path: Path, most_bytes: int) -> bytes:
    """Read a file that is known to be small, and refuse what would take the memory or never end.

    Args:
        path: a file; a pipe or a device only where it is named as one (`/dev/fd/63`).
        most_bytes: that it may have.

    Raises:
        UserError: it cannot be read, is larger, or is no file.
    """
    try:
        named = path.absolute().parts[1:2] == ("dev",)
        if not (named and not path.is_dir()):
            require_small(path, most_bytes)
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise read_error(path, error) from None
    except ValueError as error:  # a path with a zero byte in it
        raise UserError(f"cannot read {printable(str(path))}: {error}") from None
    if len(content) > most_bytes:  # it has grown, or is a device
        raise _too_large(path, most_bytes)
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of values by name that a study has written for itself.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    content = read_small(path, _MOST_JSON)
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise UserError(f"{path} is damaged: remove it, and what it says is made again")
    return record


def require_small(path: Path, most_bytes: int) -> None:
    """Refuse what :func:`read_small` would refuse by its kind or size; do not open it.

    Raises:
        UserError: it is no file, or is larger. What is not there is not refused.
        OSError: it cannot be looked at.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise UserError(f"cannot read {printable(str(path))}: it is not a file")
    if path.stat().st_size > most_bytes:
        raise _too_large(path, most_bytes)


def _too_large(path: Path, most_bytes: int) -> UserError:
    return UserError(
        f"{printable(str(path))} is larger than {most_bytes:,} bytes, which no such file is"
    )


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there.

    Raises:
        UserError: when it cannot be made, or is a link: what is written there would lie, and what
            is removed there would be missing, somewhere else.
    """
    try:
        if path.is_symlink():
            raise UserError(
                f"{printable(str(path))} is a link to {printable(os.readlink(path))}: files are "
                "written and removed there; put a folder in its place"
            )
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def cache_folder() -> Path:
    """Return the folder for what can be computed again.

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
        # Made anew, so that a link that lies there is replaced and not followed.
        aside.unlink(missing_ok=True)
        with aside.open("xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:  # Ctrl-C too must leave nothing behind
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        os_error = _os_error_behind(error)
        if os_error is not None:
            raise write_error(path, os_error) from error
        raise


def write_named(path: Path, content: bytes) -> None:
    """Write a file that a user names: through a link, and to a device or a pipe as it is.

    A regular file is replaced whole, as by :func:`write_atomic`, which would put one in the place
    of a link or of `/dev/stdout` as well: right in a program's own folders, and wrong here.

    Raises:
        UserError: when it cannot be written.
    """
    try:
        target = Path(os.path.realpath(path))
        # A terminal's or pipe's real path may be none that can be opened.
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                file.write(content)
            return
    except OSError as error:
        raise write_error(path, error) from error
    write_atomic(target, content)


def _os_error_behind(error: BaseException) -> OSError | None:
    if isinstance(error, RuntimeError):
        # torch.save reports a failed write as a RuntimeError about its zip file.
        error = error.__context__ or error
    return error if isinstance(error, OSError) else None


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems (a mounted cloud drive) know no sync of folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def file_name_safe(name: str) -> str:
    """Remove from a name what a file's name may not have; what is left may be empty."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._-")[:40]

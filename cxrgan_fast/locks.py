"""Locks on folders that end with the process that holds them, on Linux, macOS and Windows."""

import contextlib
import errno
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

NOT_SUPPORTED = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What a file system answers that lacks a call, as some network file systems do."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold a folder within the block, if no other process does; give whether it is held.

    It also counts as held where the system or the file system knows no locks. Windows locks no
    folders: there an empty file beside it, ``.NAME.lock``, is locked.

    Args:
        folder: it exists.

    Raises:
        OSError: the folder cannot be opened.
    """
    fcntl, msvcrt = _module("fcntl"), _module("msvcrt")
    if fcntl is None and msvcrt is None:
        yield True
        return
    whole = folder.absolute()  # "." has no name
    beside = whole.parent / f".{whole.name}.lock"
    if fcntl is not None:
        descriptor = os.open(folder, os.O_RDONLY)
    else:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT)
    try:
        yield _lock(descriptor, fcntl, msvcrt)
    finally:
        os.close(descriptor)
        if fcntl is None:
            with contextlib.suppress(OSError):  # another process has it open
                beside.unlink()


def _lock(descriptor: int, fcntl: ModuleType | None, msvcrt: ModuleType | None) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
                return False
            raise
    return True


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None

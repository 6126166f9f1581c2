"""A run is trained by one program at a time, wherever they run: a lock in the run's folder.

The lock is a file, `.lock`, that tells who holds it. It needs nothing of the file system but that a
file can be made that must not be there before, which network drives know as well; and the holder
refreshes its time, so that the lock of a program that was killed on another machine is not kept.
"""

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import write_atomic, write_error
from cxrgan_fast.processes import Process, this_process

NAME = ".lock"
REFRESH_SECONDS = 15.0
STALE_SECONDS = 120.0
"""A lock that has not been refreshed for so long is nobody's, if its holder cannot be asked."""

_MOST_BYTES = 4096


@dataclass(frozen=True)
class _Holder(Process):
    """Who holds a lock.

    Attributes:
        token: random text that belongs to this lock and no other.
    """

    token: str


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other programs from training this run within the block.

    Raises:
        UserError: Another program does; it says which. Or the folder cannot be written.
    """
    path = run / NAME
    mine = _Holder(**asdict(this_process()), token=secrets.token_hex(8))
    try:
        _acquire(path, mine)
    except OSError as error:
        raise write_error(path, error) from error
    over = threading.Event()
    # A thread of its own, since a step or an evaluation may take longer than a lock stays fresh.
    threading.Thread(target=_refresh, args=(path, over), name="lock", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(OSError):
            if _read(path) == mine:
                path.unlink()


def _acquire(path: Path, mine: _Holder) -> None:
    content = json.dumps(asdict(mine)).encode()
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            return
        holder = _read(path)
        if not os.path.lexists(path):
            continue  # released between the two looks
        if not _is_stale(path, holder):
            break
        _take_over(path, holder, content)
        if _read(path) == mine:
            return
    holder = _read(path)
    who = "another program"
    if holder is not None:
        who = f"process {holder.pid} on {printable(holder.host)}"
    raise UserError(
        f"{path.parent} is being trained by {who}: wait for it or stop it. (The lock "
        f"{path} of a program that has ended counts no more after {STALE_SECONDS:.0f} seconds.)"
    )


def _take_over(path: Path, holder: _Holder | None, content: bytes) -> None:
    """Replace a stale lock, unless somebody else is doing so.

    Of several programs only one makes the file that belongs to this lock; and none that comes
    later finds the stale lock any more.
    """
    claim = path.with_name(f"{NAME}.{holder.token if holder else 'unknown'}.claim")
    if _age(claim) > STALE_SECONDS:  # of one that was killed right here
        claim.unlink(missing_ok=True)
    try:
        os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        return
    try:
        if _read(path) == holder:
            write_atomic(path, content)
    finally:
        claim.unlink(missing_ok=True)


def _is_stale(path: Path, holder: _Holder | None) -> bool:
    ended = None if holder is None else holder.has_ended()
    if ended is not None:
        return ended
    return _age(path) > STALE_SECONDS


def _age(path: Path) -> float:
    """Seconds since a file was written, by the clock of the file system, which is not our own."""
    probe = path.with_name(f".clock-{secrets.token_hex(4)}")
    try:
        written = path.lstat().st_mtime
        probe.touch()
        return probe.stat().st_mtime - written
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> _Holder | None:
    """Who holds a lock; None if the file does not tell (it is being written, or was cut)."""
    try:
        if path.is_symlink() or not path.is_file():
            return None
        with path.open("rb") as file:
            found = _Holder(**json.loads(file.read(_MOST_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = (found.host, found.place, found.started, found.token)
    if type(found.pid) is not int or not 0 < found.pid < 2**31:
        return None
    if not all(isinstance(text, str) for text in texts) or not found.token.isalnum():
        return None
    return found


def _refresh(path: Path, over: threading.Event) -> None:
    while not over.wait(REFRESH_SECONDS):
        with contextlib.suppress(OSError):  # the next time will do
            os.utime(path, follow_symlinks=False)

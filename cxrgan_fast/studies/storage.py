"""Where a study is kept: a journal file, which needs no server, or a database.

What goes wrong there is said in one line (:func:`said_plainly`), without the password that an
address may hold.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_error, write_error
from cxrgan_fast.studies.library import INSTALL, load_optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.storages.journal import JournalFileSymlinkLock

JOURNAL = "study.journal"
"""Name of the journal file in a sweep's folder."""
CONNECT_SECONDS = 10
"""How long a database may take to answer at first."""

_MOST_MAKERS = 20  # who may make the tables of a new database at the same moment
_OPERATION = "op_code"  # which every line of a journal has


def is_address(storage: str) -> bool:
    """Tell whether this is the address of a database, and not the name of a file."""
    return "://" in storage


def without_password(storage: str) -> str:
    """Return an address of a database without its password, for messages."""
    storage = re.sub(r"(://[^/@:]*):.*@", r"\1:***@", storage)
    return re.sub(r"(password=)[^&]*", r"\1***", storage)


def open_storage(storage: str, *, create: bool = True) -> BaseStorage:
    """Open a storage of studies.

    Args:
        storage: address of a database, such as postgresql://user@host/name, or a journal file.
        create: whether a journal file that is missing is made.

    Raises:
        UserError: Optuna is missing; the database cannot be reached; the file is missing, damaged,
            or can be neither read nor written.
    """
    if is_address(storage):
        return _open_database(storage)
    path = Path(storage)
    if not create and not path.exists():
        raise UserError(f"there is no study in {printable(storage)}: the file is missing")
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        # A folder, a pipe, or a file that may not be written is found before anything is lost.
        if path.exists() and not path.is_file():
            raise UserError(f"cannot use {printable(storage)} as a storage: it is not a file")
        with path.open("ab" if create else "rb"):
            pass
    except OSError as error:
        raise write_error(path, error) if create else read_error(path, error) from None
    return _open_journal(path, mend=create)


def _open_journal(path: Path, *, mend: bool) -> BaseStorage:
    optuna = load_optuna()
    journal = optuna.storages.journal
    lock = journal.JournalFileSymlinkLock(str(path))
    try:
        if mend:
            _drop_half_line(path, lock)
        backend = journal.JournalFileBackend(str(path), lock_obj=lock)
        opened: BaseStorage = optuna.storages.JournalStorage(backend)
    except OSError as error:
        raise write_error(path, error) from None
    except Exception as error:  # of whatever kind: what a line says may be anything
        line = _damaged_line(path)
        where = f"line {line} is none of a journal" if line else f"{type(error).__name__}: {error}"
        raise UserError(
            f"{printable(str(path))} is damaged or no journal of studies ({where}); delete that "
            "line, put a copy of the file in its place, or name another --storage"
        ) from None
    return opened


def _drop_half_line(path: Path, lock: JournalFileSymlinkLock) -> None:
    """Remove what a power cut has left of a last line: the next line would stand behind it.

    Raises:
        ValueError: there is nothing before it, so that the file may be anything.
    """
    lock.acquire()  # so that it is no line that is being written
    try:
        with path.open("r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole == len(content):
                return
            if not whole:
                raise ValueError("it has no whole line")
            file.truncate(whole)
    finally:
        lock.release()


def _open_database(storage: str) -> BaseStorage:
    optuna = load_optuna()
    # SQLAlchemy takes psycopg2 for both, which is another package than the extra's.
    address = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", storage)
    options: dict[str, object] = {"pool_pre_ping": True}  # a server may have been started anew
    if address.startswith("postgresql"):
        options["connect_args"] = {"connect_timeout": CONNECT_SECONDS}

    def opened() -> BaseStorage:
        found: BaseStorage = optuna.storages.RDBStorage(address, engine_kwargs=options)
        return found

    try:
        with said_plainly(storage):
            return _once_tables_are_there(opened)
    except ImportError as error:
        raise UserError(
            f"--storage {without_password(storage)} needs a package that is missing ({error}): "
            f"{INSTALL}"
        ) from None


def _once_tables_are_there(opened: Callable[[], BaseStorage]) -> BaseStorage:
    """Open a database that several may be opening for the first time at this moment.

    Each looks whether there are tables and makes them; all but the first then find theirs there.
    """
    from sqlalchemy.exc import SQLAlchemyError

    for _ in range(_MOST_MAKERS):
        try:
            return opened()
        except SQLAlchemyError as error:  # noqa: PERF203 - it waits
            if not re.search("already exists|unique", str(error), re.IGNORECASE):
                raise
            time.sleep(random.uniform(0.2, 1.0))
    return opened()


@contextlib.contextmanager
def said_plainly(storage: str) -> Iterator[None]:
    """Turn what goes wrong within the block at a storage into one line.

    Args:
        storage: see :func:`open_storage`.

    Raises:
        UserError: the database cannot be reached or used, or the file is damaged or cannot be
            written.
    """
    optuna = load_optuna()
    if not is_address(storage):
        try:
            yield
        except OSError as error:
            raise write_error(Path(storage), error) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            line = _damaged_line(Path(storage))
            if isinstance(error, json.JSONDecodeError) and line is None:
                raise UserError(
                    f"{printable(storage)} was replaced or cut while it was in use: put the file "
                    "back that it was"
                ) from None
            if line is None:
                raise  # a defect of ours, not of the file
            raise UserError(
                f"{printable(storage)} is damaged: line {line} is none of a journal; delete that "
                "line, or put a copy of the file in its place"
            ) from None
        return
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = getattr(error, "orig", None) or error.__cause__ or error
        first = " ".join(str(reason).split()) or type(reason).__name__
        raise UserError(
            f"the database {without_password(storage)} does not answer as it should: "
            f"{printable(first):.300}"
        ) from None


def _damaged_line(path: Path) -> int | None:
    """The number of the first line that is none of a journal; None where all are."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                return number
            if not isinstance(entry, dict) or _OPERATION not in entry:
                return number
    return None

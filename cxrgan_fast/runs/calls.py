"""The record of how a run was made: a line of JSON for its start, and for each resumption."""

import contextlib
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import read_small, write_atomic
from cxrgan_fast.runs.generators import find_generators

_MOST_BYTES = 16 << 20  # of some thousand calls

# What `describe_start` gives, and no deeper: a file that may come from anywhere is copied into
# the records of evaluations.
_Plain = bool | int | float | str | None
_Value = _Plain | list[_Plain]
_CALL = TypeAdapter(dict[str, _Value | dict[str, _Value]])


def calls_path(run: Path) -> Path:
    """Return the path of the file that holds a line for each call of a run."""
    return run / "calls.jsonl"


def read_calls(run: Path) -> list[dict[str, Any]]:
    """Read the calls of a run, oldest first, as far as they were written whole.

    Raises:
        UserError: the file cannot be read, or is none.
    """
    path = calls_path(run)
    if not path.exists():  # or a link to nothing, which the next call replaces
        return []
    found = []
    for line in read_small(path, _MOST_BYTES).decode(errors="replace").splitlines():
        # Of a line that is no call (a kill has cut it, somebody has edited it) nothing is known.
        with contextlib.suppress(ValueError, RecursionError):
            found.append(_CALL.validate_python(json.loads(line)))
    return found


def record_call(run: Path, facts: dict[str, Any]) -> None:
    """Add a line to a run's calls.

    Raises:
        UserError: it cannot be written, or the lines before it cannot be read.
    """
    path = calls_path(run)
    before = read_small(path, _MOST_BYTES) if path.exists() else b""
    if before and not before.endswith(b"\n"):  # a line that a kill has cut stays one by itself
        before += b"\n"
    # Written anew: a link, or a pipe, that somebody has put there is replaced and not followed.
    write_atomic(path, before + json.dumps(facts).encode() + b"\n")


def last_call(run: Path) -> dict[str, Any] | None:
    """Return the newest call of a run that was written whole; None if there is none."""
    try:
        return next(reversed(read_calls(run)), None)
    except UserError:
        return None


def last_calls(run: Path) -> dict[str, dict[str, Any] | None]:
    """Return the newest call of each training of a run, by the names of their folders.

    Args:
        run: see `find_generators`; nothing is known of one without a generator.
    """
    try:
        folders = [path.resolve().parent for path in find_generators(run)]
    except UserError:  # what is evaluated is a file from elsewhere
        return {}
    # Generators of single steps lie in a folder of their run's.
    folders = [path.parent if path.name == "checkpoints" else path for path in folders]
    return {folder.name: last_call(folder) for folder in folders}

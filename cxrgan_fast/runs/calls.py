"""The record of how a run was made: a line of JSON for its start, and for each resumption."""

import json
from pathlib import Path
from typing import Any

from cxrgan_fast.files import write_error
from cxrgan_fast.runs.generators import find_generators


def calls_path(run: Path) -> Path:
    """Where the calls of a run lie, a line each."""
    return run / "calls.jsonl"


def record_call(run: Path, facts: dict[str, Any]) -> None:
    """Add a line to a run's calls.

    Raises:
        UserError: it cannot be written.
    """
    path = calls_path(run)
    try:
        whole = not path.exists() or path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as file:
            # A line that was cut off by a kill must not take this one along.
            file.write(("" if whole else "\n") + json.dumps(facts) + "\n")
    except OSError as error:
        raise write_error(path, error) from error


def last_call(run: Path) -> dict[str, Any] | None:
    """The newest call of a run that was written whole; None where there is none."""
    try:
        lines = calls_path(run).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in reversed(lines):
        try:
            call = json.loads(line)
        except ValueError:
            continue
        if isinstance(call, dict):
            return call
    return None


def last_calls(run: Path) -> dict[str, dict[str, Any] | None]:
    """The newest call of each training of a run, by the names of their folders.

    Args:
        run: see `find_generators`.
    """
    folders = [path.resolve().parent for path in find_generators(run)]
    # Generators of single steps lie in a folder of their run's.
    folders = [path.parent if path.name == "checkpoints" else path for path in folders]
    return {folder.name: last_call(folder) for folder in folders}

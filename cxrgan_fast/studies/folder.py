"""The folder of a sweep: its trials, its floors, and the study whose trials they are."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from cxrgan_fast import locks
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import file_name_safe, read_json, write_atomic, write_error
from cxrgan_fast.studies.storage import JOURNAL

MARK = "sweep.json"
"""File of a sweep's folder that says which study its trials are of."""


def check_name(name: str) -> None:
    """Refuse a name of a sweep that is no name of a folder, or looks like that of a run.

    Raises:
        UserError: it is.
    """
    if file_name_safe(name) != name or re.match(r"\d{5,}-", name):
        raise UserError(
            f"NAME {name!r:.100}: expected letters, digits, '.', '_' and '-', at most 40, and not "
            "five digits and '-' at first, as runs have"
        )


def require_sweep_folder(folder: Path) -> None:
    """Refuse a folder in which no sweep can be, and change nothing.

    Raises:
        UserError: it holds something else, or is none.
    """
    try:
        if not os.path.lexists(folder):
            return
        names = set(os.listdir(folder))
    except OSError as error:
        raise write_error(folder, error) from None
    if names and not names & {MARK, JOURNAL}:
        raise UserError(f"{folder} holds something else: give another NAME or --out")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other workers of this machine out of a folder within the block; wait for them first."""
    while True:
        with locks.locked(folder) as held:
            if held:
                yield
                return
        time.sleep(0.2)


def mark(folder: Path, token: str) -> None:
    """Note whose trials a folder has.

    Args:
        folder: folder of the sweep.
        token: identity of the study.

    Raises:
        UserError: it has those of another study of the same name.
    """
    path = folder / MARK
    there = read_json(path).get("study") if path.exists() else token
    if there != token:
        raise UserError(
            f"{folder} holds trials of another study of that name, in another --storage: give "
            "another NAME or --out"
        )
    write_atomic(path, json.dumps({"study": token}).encode())

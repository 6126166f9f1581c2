"""What every result file holds beside its figures: where, with what and of what."""

import json
import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cxrgan_fast import provenance
from cxrgan_fast.env import describe
from cxrgan_fast.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def commit() -> str:
    """The commit of this checkout: see :func:`cxrgan_fast.provenance.commit`."""
    return provenance.commit(ROOT)


def circumstances(command: str) -> dict[str, Any]:
    """When, where and of what a measurement is made."""
    environment = describe()
    # A path says nothing about a measurement, and something about who made it.
    environment["build"].pop("openmp_runtime", None)
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return {"command": command, "date": date, "commit": commit(), "environment": environment}


def check_out(out: Path) -> None:
    """Refuse a file that could not be written, before the work that is to go there.

    Args:
        out: of ``--out``; its folder is made.

    Raises:
        UserError: it is a folder, or cannot be written.
    """
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder, expected a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {out.parent} cannot be made: {error.strerror}") from None
    # A file is replaced by another; what is none, such as a device, is written to.
    place = out if out.exists() and not out.is_file() else out.resolve().parent
    if not os.access(place, os.W_OK):
        raise UserError(f"--out: {out} cannot be written")


def write_result(path: Path, command: str, figures: dict[str, Any]) -> None:
    """Write figures with their circumstances as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, as_text(whole(circumstances(command), figures)))


def read_result(path: Path, command: str, keys: set[str]) -> dict[str, Any]:
    """The record that a command has written.

    Raises:
        UserError: the file cannot be read, or lacks one of the keys that the command writes.
    """
    try:
        record = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path} is not JSON") from None
    if not isinstance(record, dict) or not keys <= record.keys():
        raise UserError(f"{path} was not written by python -m {command}")
    return record


def whole(circumstances: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    """Figures between what they were measured of and where, in the order of a file."""
    head = {key: circumstances[key] for key in ("command", "date", "commit")}
    return {**head, **figures, "environment": circumstances["environment"]}


def replace(path: Path, text: str) -> None:
    """Write a file so that whoever is interrupted, or reads it meanwhile, has the old or the new.

    What is not a file, such as a device, is written to.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        path.write_text(text)
        return
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        beside.write_text(text)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def as_text(record: dict[str, Any]) -> str:
    """The record as JSON, indented, but a list of numbers on one line, however long it is."""
    number = r"-?\d[-+.\deE]*"
    # No string of JSON holds a line break, so that this finds lists alone.
    lists = re.compile(rf"\[\n\s*({number}(?:,\n\s*{number})*)\n\s*\]")

    def one_line(found: re.Match[str]) -> str:
        return "[" + re.sub(r"\s+", " ", found[1]) + "]"

    return lists.sub(one_line, json.dumps(record, indent=1)) + "\n"

"""What every result file holds beside its measurements: where, with what and of what."""

import importlib.util
import json
import os
import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cxrgan_fast.env import describe
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import read_small, write_named
from cxrgan_fast.provenance import commit

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
MOST_BYTES = 1 << 28  # of a result
RENAMED = {
    f"bench.{name}": f"research.{name}"
    for name in ("parity", "disturbances", "cxr_features", "cxr_held_out", "markers")
}
"""What commands were called when results were written that name them so."""


def circumstances(command: str) -> dict[str, Any]:
    """When, where and of what a measurement is made."""
    environment = describe()
    # A path says nothing about a measurement, and something about who made it.
    environment["build"].pop("openmp_runtime", None)
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return {"command": command, "date": date, "commit": commit(ROOT), "environment": environment}


def check_out(out: Path, flag: str = "--out") -> None:
    """Refuse a file that could not be written, before the work that is to go there.

    Args:
        out: the file; its folder is made.
        flag: which it was given by.

    Raises:
        UserError: it is a folder, or cannot be written.
    """
    try:
        if out.is_dir():
            raise UserError(f"{flag}: {out} is a folder, expected a file")
        out.parent.mkdir(parents=True, exist_ok=True)
        # A file is replaced by another; what is none, such as a device, is written to.
        device = out.exists() and not out.is_file()
    except OSError as error:
        raise UserError(f"{flag}: {out.parent} cannot be made: {error.strerror}") from None
    place = out if device else Path(os.path.realpath(out)).parent
    if not os.access(place, os.W_OK):
        raise UserError(f"{flag}: {out} cannot be written")


class Result:
    """The file of a result, which can be written again and again while there is more of it.

    Args:
        path: the JSON.
        command: the command line; when and where it was run is found here.
    """

    def __init__(self, path: Path, command: str) -> None:
        self.path, self.about = path, circumstances(command)

    def write(self, measurements: dict[str, Any], *, quickly: bool = False) -> None:
        """Replace the file by measurements with their circumstances.

        Args:
            measurements: what was measured.
            quickly: in one line. As it is to be read a large record takes a second, and that
                after every case.
        """
        record = whole(self.about, measurements)
        text = json.dumps(record) + "\n" if quickly else as_text(record)
        write_named(self.path, text.encode())

    def finish(self, measurements: dict[str, Any], report: Callable[[Any], str], done: str) -> None:
        """Write the file, then print the tables, and how much of what was wanted it has."""
        self.write(measurements)  # first: what goes wrong with a table takes no figure along
        print(report(measurements), end="\n\n")
        complete = "complete" if measurements["complete"] else "NOT complete"
        print(f"{done}, {complete}: written to {self.path}")


def write_result(path: Path, command: str, measurements: dict[str, Any]) -> None:
    """Write measurements with their circumstances as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Result(path, command).write(measurements)


def read_result(path: Path) -> dict[str, Any]:
    """The record in a file.

    Raises:
        UserError: the file cannot be read, or does not hold a record.
    """
    try:
        record = json.loads(read_small(path, MOST_BYTES))
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON") from None
    if not isinstance(record, dict):
        raise UserError(f"{path} holds no result, expected what a command of bench or research has")
    return record


def read_result_of(path: Path, command: str, keys: set[str]) -> dict[str, Any]:
    """The record that one command has written, such as ``bench.kernels``.

    Raises:
        UserError: the file cannot be read, is of another command, or lacks one of the keys that
            the command writes.
    """
    record = read_result(path)
    if command_of(record) != command or not keys <= record.keys():
        raise UserError(f"{path} was not written by python -m {command}")
    return record


def command_of(record: dict[str, Any]) -> str:
    """The command that has written a record, such as ``bench.kernels``, by its name today.

    "" where it was none of bench or research.
    """
    found = re.match(r"python -m ((?:bench|research)\.\w+)", str(record.get("command")))
    return RENAMED.get(found[1], found[1]) if found else ""


def function_of(
    record: dict[str, Any], path: Path, name: str, beside: str = ""
) -> Callable[..., Any]:
    """A function of the command that has written a record.

    Args:
        record: the record.
        path: its file, for the message.
        name: of the function, such as ``report``.
        beside: the beginning of the name of a module beside the command's, where it is in one.

    Raises:
        UserError: the command has no such function.
    """
    package, _, command = command_of(record).partition(".")
    module = f"{package}.{beside}{command}"
    if command and importlib.util.find_spec(module):
        function: Callable[..., Any] | None = getattr(importlib.import_module(module), name, None)
        if function:
            return function
    raise UserError(f"{path}: results of {command_of(record) or 'no command'} have no {name}")


def whole(circumstances: dict[str, Any], measurements: dict[str, Any]) -> dict[str, Any]:
    """Measurements between what they were measured of and where, in the order of a file."""
    head = {key: circumstances[key] for key in ("command", "date", "commit")}
    return {**head, **measurements, "environment": circumstances["environment"]}


def as_text(record: dict[str, Any]) -> str:
    """The record as JSON, indented, but a list of numbers on one line, however long it is."""
    number = r"-?\d[-+.\deE]*"
    # No string of JSON holds a line break, so that this finds lists alone.
    lists = re.compile(rf"\[\n\s*({number}(?:,\n\s*{number})*)\n\s*\]")

    def one_line(found: re.Match[str]) -> str:
        return "[" + re.sub(r"\s+", " ", found[1]) + "]"

    return lists.sub(one_line, json.dumps(record, indent=1)) + "\n"

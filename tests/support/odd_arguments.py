"""Every option of a command, from its real parser, and what somebody may type in its place."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import create_autospec

import pytest
import tyro

NUMBERS = ("nan", "inf", "-inf", "1e400", "0x10", "1_000", "\uff11\uff12", "1,5", "9" * 5000, "x")
"""Never a number of a setting."""
OTHER_NUMBERS = ("0", "-1", str(10**30), str(2**64))
"""Sometimes one."""
BLANKS = ("", " ", "\t", "\n", "a\0b")
"""Never a value of anything."""


@dataclass(frozen=True)
class Option:
    """An option, or a place of a command line where something without a name stands.

    Attributes:
        name: its first flag; what help calls it, if it has none.
        kind: number, whole (number), path, text, list, mapping, choice or flag.
        choices: of which its values are.
        n: how many values it takes; None for as many as come.
    """

    name: str
    kind: str
    choices: tuple[str, ...] = ()
    n: int | None = 1


class _Found(BaseException):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that a command makes when it runs."""

    def of_form(form: Any, *, args: object = None, **how: Any) -> NoReturn:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it may go one day
            parser: Any = tyro.extras.get_parser(form, **how)
            raise _Found(parser)

    def of_parser(self: argparse.ArgumentParser, *_: object) -> NoReturn:
        raise _Found(self)

    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["command"])
        patch.setattr(tyro, "cli", create_autospec(tyro.cli, side_effect=of_form))
        patch.setattr(argparse.ArgumentParser, "parse_args", of_parser)
        try:
            main()
        except _Found as found:
            return found.parser
    raise AssertionError("the command has no parser")


def options_of(parser: argparse.ArgumentParser) -> dict[str, list[Option]]:
    """The options by subcommand; those of a command that has none are under ""."""
    found: dict[str, list[Option]] = {"": []}
    for action in parser._actions:
        if type(action).__name__ == "_SubParsersAction":
            of_name: Any = action.choices
            for name, of_command in of_name.items():
                found[str(name)] = options_of(of_command)[""]
        elif type(action).__name__ != "_HelpAction":
            found[""].append(_option(action))
    return found if len(found) == 1 else {name: each for name, each in found.items() if name}


def _option(action: argparse.Action) -> Option:
    metavar = str(action.metavar or "")
    name = action.option_strings[0] if action.option_strings else metavar or action.dest
    choices = tuple(map(str, action.choices or ()))
    n = action.nargs if isinstance(action.nargs, int) else None if action.nargs == "*" else 1
    if action.nargs == 0:
        return Option(name, "flag", n=0)
    if choices:
        return Option(name, "choice", choices, n)
    if "INT" in metavar or action.type is int:
        return Option(name, "whole", n=n)
    if "FLOAT" in metavar or action.type is float:
        return Option(name, "number", n=n)
    if "=" in metavar:
        return Option(name, "mapping", n=n)
    is_path = "PATH" in metavar or action.type is Path or not action.option_strings
    return Option(name, "path" if is_path else "text" if n else "list", n=n)


def odd_paths(place: Path) -> dict[str, str]:
    """Paths that can be neither read nor written, by what they are."""
    (place / "file").write_bytes(b"text")
    (place / "folder").mkdir()
    (place / "loop").symlink_to("loop")
    (place / "nowhere").symlink_to("gone")
    (place / "full").symlink_to("/dev/full")
    os.mkfifo(place / "pipe")
    names = ("file", "folder", "loop", "nowhere", "full", "pipe", "file/below", "loop/below")
    return {
        **{name: str(place / name) for name in names},
        "long": "a" * 300,
        "very long": "/".join(["a" * 200] * 30),
        "null": "/dev/null/x",
        "kernel": "/proc/x",
        "device": "/dev/full",
        "endless": "/dev/zero",
        "no text": "a\udcff",
        "escape": "\x1b[31mred",
        "tilde": "~nobody/x",
        "address": "https://example.org/x",
    }


MAPPINGS = ("=", "=a", "a=", "a", "a=b=c", "a==b", "normal=", "normal", "=normal", "normal=a/b",
            "normal=../a", "normal=/tmp/a", "normal=a\0", "normal=.", "NORMAL=x",
            "normal =x")  # fmt: skip
LISTS = ("normal,", ",", "normal,normal", "normal=", "=normal", "a=b", "normal=normal+", "+",
         "normal+bacterial", "Norml", "../x")  # fmt: skip
DEVICES = (
    "cuda",
    "cuda:99",
    "cuda:-1",
    "cpu:1",
    "cpu:x",
    "meta",
    "CPU",
    "gpu",
    "xpu",
    "mps",
    "cud",
)
SEEDS = (str(2**63), str(2**64), str(-(2**63)))


# Options for which a call that is done takes long, and what differs among the paths for them.
_FEWER = {
    "--name": ("file", "very long", "no text", "escape"),
    "--sheet": ("folder", "full", "null", "very long"),
}


def odd_values(option: Option, paths: dict[str, str]) -> Iterator[list[str]]:
    """What is typed after an option."""
    if option.kind == "flag":
        return
    values = [*BLANKS]
    if option.kind in ("whole", "number"):
        values += [*NUMBERS, *OTHER_NUMBERS]
    elif option.kind == "choice":
        for choice in option.choices:
            values += [choice.upper(), choice[:-1], choice[:1] + "_" + choice[2:]]
        values += ["bogus"]
    elif option.kind == "mapping":
        values += MAPPINGS
    else:
        values += [path for name, path in paths.items() if name in _FEWER.get(option.name, paths)]
        if option.kind == "list":
            values += LISTS
    if option.name == "--device":
        values += DEVICES
    if option.name == "--seed":
        values += SEEDS
    for value in values:
        if value not in option.choices:
            yield [value] * (option.n or 1)
    if option.n is None and option.choices:
        yield [option.choices[0], option.choices[0]]

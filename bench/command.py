"""What commands of ``bench`` and ``research`` share: flags, checks, the line that is recorded."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from bench.record import check_out
from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.plain_numbers import decimal, whole

MOST_ROUNDS = 10_000
MOST_SEED = 2**63 - 1


def parser_of(name: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of a command, such as ``bench.kernels``.

    It takes flags by their whole names, plain numbers, and each list and each of its values once;
    what does not fit is a `UserError`, so that it is said in a line as the package's commands do.
    """
    parser = _Parser(
        prog=f"python -m {name}",
        description=description,
        allow_abbrev=False,  # `recorded` knows flags by their names
    )
    parser.register("type", int, partial(_read, whole))
    parser.register("type", float, partial(_read, decimal))
    return parser


class _Parser(argparse.ArgumentParser):
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        arguments = super().parse_args(args, namespace)
        typed = [word.partition("=")[0] for word in (sys.argv[1:] if args is None else args)]
        for action in self._actions:
            if action.nargs not in ("+", "*"):
                continue
            values = getattr(arguments, action.dest) or ()
            for flag in action.option_strings:
                if typed.count(flag) > 1:
                    raise UserError(
                        f"{flag} is given twice: give it once, with all values after it"
                    )
                if len(set(values)) < len(values):
                    raise UserError(f"{flag}: expected each once, got {' '.join(map(str, values))}")
        return arguments

    def error(self, message: str) -> NoReturn:
        if unknown := re.match(r"unrecognized arguments: (--[^ =]+)", message):
            message += did_you_mean(unknown[1], self._option_string_actions)
        raise UserError(
            f"{message.removeprefix('argument ')}; {self.prog} --help lists the options"
        )


def _read(number: Callable[[str], float], text: str) -> float:
    try:
        return number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def check(
    arguments: argparse.Namespace,
    *,
    least: Mapping[str, int] | None = None,
    most: Mapping[str, int] | None = None,
    over_0: Collection[str] = (),
    out: str = "out",
) -> None:
    """Refuse numbers that make no sense, seeds among them, and a file that cannot be written.

    Args:
        arguments: as parsed. What is None was not given, and is not looked at.
        least: of whole numbers, or lists of some, the least that each may be.
        most: likewise.
        over_0: which numbers have to be over 0.
        out: which is a file to write, beside that of ``--out``, where there is one.

    Raises:
        UserError: naming the flag.
    """
    seed = {"seed"} & vars(arguments).keys()
    for name, bound in (dict.fromkeys(seed, 0) | dict(least or {})).items():
        for value in _values(getattr(arguments, name)):
            if value < bound:
                raise UserError(f"{_flag(name)}: got {value}, expected {bound} or more")
    for name, bound in (dict.fromkeys(seed, MOST_SEED) | dict(most or {})).items():
        for value in _values(getattr(arguments, name)):
            if value > bound:
                raise UserError(f"{_flag(name)}: got {value}, expected {bound} or less")
    for name in over_0:
        for value in _values(getattr(arguments, name)):
            if not value > 0:
                raise UserError(f"{_flag(name)}: got {value}, expected over 0")
    for name in dict.fromkeys(("out", out)):
        if getattr(arguments, name, None) is not None:
            check_out(getattr(arguments, name), _flag(name))


def _values(value: float | Iterable[float] | None) -> Iterable[float]:
    if value is None:
        return ()
    return value if isinstance(value, list) else [value]  # type: ignore[list-item]  # what is no list is one number


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def recorded(
    name: str,
    arguments: Sequence[str] | None = None,
    *,
    hidden: Collection[str] = ("--out",),
    file: Path | None = None,
) -> str:
    """The command line as given, but for where files lie, which is of no interest elsewhere.

    Args:
        name: of the command, such as ``bench.kernels``.
        arguments: the flags; those of this process if None.
        hidden: flags that are left out, with their value. Of ``--data`` the name is kept.
        file: a file that is given without a flag; it is called FILE.
    """
    words, given = [f"python -m {name}"], iter(sys.argv[1:] if arguments is None else arguments)
    for word in given:
        flag, _, value = word.partition("=")
        if flag in (*hidden, "--data"):
            value = value or next(given)
            if flag == "--data":
                words += [flag, Path(value).name]
        else:
            words.append("FILE" if file is not None and Path(word) == file else word)
    return " ".join(words)


def prepare_process(threads: int | None = None) -> None:
    """Have large tensors and threads as the training program has them, the same for all variants.

    Args:
        threads: of PyTorch on the CPU; None for PyTorch's own number.
    """
    from cxrgan_fast.training import allocator  # not every command that has flags trains

    allocator.keep_large_tensors_off_mmap()  # before the first tensor
    if threads is not None:
        torch.set_num_threads(threads)

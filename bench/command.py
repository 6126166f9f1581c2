"""What commands of ``bench`` and ``research`` share: flags, checks, the line that is recorded."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch

from bench.record import check_out
from cxrgan_fast.errors import UserError


def parser_of(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a command, such as ``bench.kernels``; it takes flags by their whole names."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        allow_abbrev=False,  # `recorded` knows flags by their names
    )


def check(
    arguments: argparse.Namespace,
    *,
    least: Mapping[str, int] | None = None,
    over_0: Collection[str] = (),
    out: str = "out",
) -> None:
    """Refuse numbers that make no sense, and a file that cannot be written.

    Args:
        arguments: as parsed. What is None was not given, and is not looked at.
        least: of whole numbers, or lists of some, the least that each may be.
        over_0: which numbers have to be over 0.
        out: which is the file; nothing is looked at where there is no such argument.

    Raises:
        UserError: naming the flag.
    """
    for name, bound in (least or {}).items():
        for value in _values(getattr(arguments, name)):
            if value < bound:
                raise UserError(f"{_flag(name)}: got {value}, expected {bound} or more")
    for name in over_0:
        for value in _values(getattr(arguments, name)):
            if not value > 0:
                raise UserError(f"{_flag(name)}: got {value}, expected over 0")
    path = getattr(arguments, out, None)
    if path is not None:
        check_out(path, _flag(out))


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

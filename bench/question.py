"""A question that ``bench.first_minute`` asks, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Details = dict[str, Any]
Answer = tuple[str, Details]
"""A line, and what stands behind it, as plain data."""


class NotHereError(Exception):
    """Why a question cannot be asked on this device."""


class WrongError(Exception):
    """What is wrong, in a line, and what stands behind it."""

    def __init__(self, line: str, details: Details) -> None:
        super().__init__(line)
        self.details = details


@dataclass(frozen=True)
class Setting:
    """Where the questions are asked."""

    device: str
    """``cpu`` or ``cuda``."""
    standin: bool
    """Whether the CUDA kernels, and CUDA graphs, are those that tests run on the CPU."""
    command: str
    """The command line, for the record."""


@dataclass(frozen=True)
class Question:
    """A question, and how to find its answer."""

    text: str
    ask: Callable[[], Answer]

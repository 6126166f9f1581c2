"""The option ``--classes`` as all commands have it."""

from typing import Annotated

import tyro

# tyro shows aliases first, so that the usual spelling is one and the name is the other.
ClassesOption = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        name="class",
        aliases=("--classes",),
        metavar="[NAME ...]",
        help_behavior_hint="(default: none)",
    ),
]
"""Names of classes, with spaces or commas between; ``--class`` is the same option."""


def given(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that are given, without empty texts."""
    return tuple(word for word in words if word.strip())

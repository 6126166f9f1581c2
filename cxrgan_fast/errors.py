"""The one exception that the commands turn into a line and exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input or settings: the message is one line that names what came and what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Word the end of a message about an unknown name: "; did you mean X?", or nothing."""
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def printable(name: str) -> str:
    """Escape control characters and stray bytes, so that a terminal can show a file's name."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in name
    )

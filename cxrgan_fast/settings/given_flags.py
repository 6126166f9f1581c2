"""Flags of ``train`` in one text, for the many trainings of a study."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from cxrgan_fast.errors import UserError


def split_flags(where: str, text: str, given: Mapping[str, str]) -> list[str]:
    """Split a text of flags into words, as a shell does.

    Args:
        where: what the text is, for messages.
        text: such as ``--resolution 32 --batch-size 16``.
        given: flags that the study gives itself, with what they are given by.

    Raises:
        UserError: the text cannot be split, or has one of those flags.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{where}: {text!r} are no flags: {error}") from None
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        if flag in ("-h", "--help"):
            raise UserError(f"{where}: {flag} is no setting; leave it out")
        if flag in given:
            raise UserError(f"{where}: {flag} is given by {given[flag]}; leave it out")
    return words


def join_flags(name: str, words: Sequence[str]) -> list[str]:
    """Join what follows a flag to it, which would be taken for another flag.

    Args:
        name: the flag whose value is a text of flags, such as ``--train``.
        words: words of the command line.
    """
    joined, left = [], iter(words)
    for word in left:
        value = next(left, None) if word == name else None
        joined.append(word if value is None else f"{word}={value}")
    return joined

"""Standard output and error that neither stop a program nor pass on what a terminal would obey."""

import contextlib
import io
import os
import re
import sys
from typing import TextIO

# Control characters but for tab, newline, carriage return and backspace; the marks that turn the
# direction of a text; and lone surrogates, which no encoding knows.
_UNSAFE = re.compile(
    "[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# What a progress bar sends to move up a line, and help to be in color: a terminal may have it.
_HARMLESS = re.compile("(\x1b\\[A|\x1b\\[[0-9;]*m)")


class _Unstoppable(io.FileIO):
    """A file descriptor on which a write that fails counts as done; `failure` keeps the first."""

    failure: OSError | None = None

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # any buffer, as FileIO's
        try:
            written = super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            written = None
        # A pipe that does not block may be full: what it does not take now is lost, not waited for.
        return len(data) if written is None else written


class SafeOutput(io.TextIOWrapper):
    """A text stream whose reader may go away, and that shows control characters escaped.

    Args:
        descriptor: file descriptor of the file, pipe or terminal.
        encoding: encoding of the text.
        line_buffering: pass on each line when it is written.
    """

    def __init__(self, descriptor: int, encoding: str, line_buffering: bool) -> None:
        self._raw_file = _Unstoppable(descriptor, "wb", closefd=False)
        super().__init__(
            io.BufferedWriter(self._raw_file),  # type: ignore[type-var]  # it is a raw file
            encoding=encoding,
            errors="backslashreplace",
            line_buffering=line_buffering,
        )
        self._is_terminal = self._raw_file.isatty()

    @property
    def failure(self) -> OSError | None:
        """Return the error of the first write that failed; None if none did."""
        return self._raw_file.failure

    def write(self, text: str, /) -> int:
        """Write text, its control characters escaped."""
        if _UNSAFE.search(text):
            parts = _HARMLESS.split(text) if self._is_terminal else [text]
            # The odd ones are what was split at.
            shown = [part if i % 2 else _UNSAFE.sub(_escaped, part) for i, part in enumerate(parts)]
            super().write("".join(shown))
            return len(text)
        return super().write(text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def protect_output() -> None:
    """Replace standard output and error by streams that never raise.

    A descriptor that is closed becomes the null device. The next file that is opened would take
    its place else, and what a library says on standard error would go into a checkpoint. Streams
    that somebody has replaced (a test, a notebook) stay as they are.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # noqa: PERF203 - three times
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
    sys.stdout = _protected(sys.stdout, 1)
    sys.stderr = _protected(sys.stderr, 2)


def _protected(stream: TextIO | None, descriptor: int) -> TextIO:
    encoding = "utf-8"
    if stream is not None:
        if type(stream) is not io.TextIOWrapper or _descriptor(stream) != descriptor:
            return stream
        encoding = stream.encoding
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    at_once = descriptor == 2 or os.isatty(descriptor)
    return SafeOutput(descriptor, encoding, at_once)


def _descriptor(stream: io.TextIOWrapper) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a stream in memory, or a closed one
        return None

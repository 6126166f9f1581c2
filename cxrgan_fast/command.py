"""What every command does with a failure: one line on stderr and an exit code, no traceback."""

import contextlib
import errno
import io
import sys
from collections.abc import Callable, Sequence

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_error
from cxrgan_fast.output import SafeOutput, protect_output
from cxrgan_fast.threads import limit_threads

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

_MAY_BE_EMPTY = ("--classes", "--class")  # without: the usual ones


def run_command(main: Callable[[], None], *, prints_result: bool = True) -> int:
    """Run `main` and give the exit code that the process should end with.

    `UserError`, any `OSError` and Ctrl-C are turned into a line. Any other exception is a defect
    of the program, so its traceback is wanted and it is left to fly. Output that cannot be written
    (its reader has gone, its disk is full) stops nothing.

    Args:
        main: the command; it takes nothing and returns nothing.
        prints_result: what it prints is what it is for: that a full disk has taken it is a failure.

    Returns:
        0, or 2 after an error (printed as `error: …`), or 130 after Ctrl-C.
    """
    protect_output()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may hold bytes that are no text. Better escaped than a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    limit_threads()
    try:
        _refuse_empty(sys.argv[1:])
        main()
    except UserError as error:
        return _fail(str(error))
    except OSError as error:
        name = error.filename if error.filename is not None else "a file"
        return _fail(str(read_error(str(name), error)).replace("cannot read", "cannot use", 1))
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if isinstance(sys.stdout, SafeOutput) and sys.stdout.failure and prints_result:
        failure = sys.stdout.failure
        if failure.errno != errno.EPIPE:  # a reader that has seen enough
            return _fail(f"the output could not be written: {failure.strerror}")
    return 0


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse arguments of nothing or blanks, which are variables of a script that are not set.

    As a path the empty text would be the current folder. No path and no name holds a zero byte.

    Raises:
        UserError: Naming the option.
    """
    option = ""
    for place, argument in enumerate(arguments, 1):
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            option = name
        else:
            value, equals = argument, "="
        after = f" after {option}" if option else f" (argument {place})"
        if equals and not value.strip() and not (option in _MAY_BE_EMPTY and not value):
            what = "an empty argument" if not value else f"an argument of blanks ({value!r})"
            raise UserError(f"{what}{after}: give a value, or leave it out")
        if "\0" in argument:
            raise UserError(f"an argument with a zero byte{after} ({argument!r}): leave it out")


def _fail(message: str) -> int:
    _say(f"error: {printable(' '.join(message.split()))}")  # one line, whatever a library said
    return BAD_INPUT


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a stream that somebody has put there
        print(line, file=sys.stderr)

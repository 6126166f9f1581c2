"""What every command does with a failure: one line on stderr and an exit code, no traceback."""

import io
import sys
from collections.abc import Callable

from cxrgan_fast.errors import UserError
from cxrgan_fast.threads import limit_threads

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


def run_command(main: Callable[[], None]) -> int:
    """Run `main` and give the exit code that the process should end with.

    Only `UserError` and Ctrl-C are turned into a line. Any other exception is a defect of the
    program, so its traceback is wanted and it is left to fly.

    Args:
        main: the command; it takes nothing and returns nothing.

    Returns:
        0, or 2 after a `UserError` (printed as `error: …`), or 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may hold bytes that are no text. Better escaped than a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    limit_threads()
    try:
        main()
    except UserError as error:
        message = " ".join(str(error).split())  # one line, whatever an inner library put in it
        print(f"error: {message}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0

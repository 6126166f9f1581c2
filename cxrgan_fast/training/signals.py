"""Stopping between two steps, never within one."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 10.0
"""From when on another Ctrl-C is a wish of its own: to end at once, although nothing is saved."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C, SIGTERM and SIGHUP in the list that the block gets; no step is cut short.

    More of them, whichever they are, belong to the first: a wrapper forwards the Ctrl-C that the
    program has had from the terminal, and batch systems repeat themselves. Only a Ctrl-C that
    comes ten seconds after the first, or later, interrupts at once: a disk may hang. SIGHUP is
    left alone where it is ignored (`nohup`).
    """
    received: list[int] = []
    first = 0.0

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not received:
            first = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - first >= AGAIN_SECONDS:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may set handlers
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on every system
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

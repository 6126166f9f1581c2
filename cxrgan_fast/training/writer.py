"""Saving while steps go on: one thread that writes what the training thread hands over."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

from cxrgan_fast.threads import use_one_core

_MOST_WAITING = 2  # each holds a copy of the weights
_GRACE_SECONDS = 2.0  # for a write that is under way when the program is interrupted


class BackgroundWriter:
    """Runs tasks one after another, in order, on a thread of its own.

    The first failure is kept and raised as it is by the next :meth:`submit`, :meth:`check`,
    :meth:`drain` or :meth:`close`, whichever comes first; no task is run after it.

    As a context manager it is closed at the end, so that all that was submitted is written
    whatever ends the block. An exception of the block goes before a failure of a task, and
    KeyboardInterrupt (a second Ctrl-C) does not wait: see :meth:`abandon`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the four that follow
        self._waiting: deque[Callable[[], object]] = deque()
        self._busy = False
        self._open = True
        self._failure: BaseException | None = None
        # A daemon: a disk that hangs must not keep an interrupted program from ending.
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[], object]) -> None:
        """Have ``task`` run after those before it; while two are waiting, wait.

        Raises:
            BaseException: What an earlier task failed with; ``task`` will not run.
            RuntimeError: The writer is closed.
        """
        with self._changed:
            if not self._open:
                raise RuntimeError("a closed BackgroundWriter runs no tasks")
            self._changed.wait_for(lambda: self._failure or len(self._waiting) < _MOST_WAITING)
            self.check()
            self._waiting.append(task)
            self._changed.notify_all()

    def check(self) -> None:
        """Raise what a task has failed with, if one has. Costs next to nothing."""
        if self._failure is not None:
            raise self._failure

    def drain(self) -> None:
        """Wait until all that was submitted is done.

        Raises:
            BaseException: What a task failed with.
        """
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._busy))
        self.check()

    def close(self) -> None:
        """Wait until all that was submitted is done, and end the thread.

        Raises:
            BaseException: What a task failed with.
        """
        try:
            self.drain()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End the thread without the tasks that wait.

        One that is running has two seconds to end; then it is left to end with the program.
        """
        with self._changed:
            self._waiting.clear()
            self._open = False
            self._changed.notify_all()
        self._thread.join(_GRACE_SECONDS)

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt):
            self.abandon()
        else:
            with contextlib.suppress(Exception):
                self.close()

    def _work(self) -> None:
        use_one_core()
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or not self._open)
                if not self._waiting:
                    return
                task = self._waiting.popleft()
                self._busy = True
                self._changed.notify_all()
            try:
                task()
            except BaseException as error:  # whatever it is: a silent thread would lose a run
                with self._changed:
                    self._failure = error
                    self._waiting.clear()
            del task  # and with it a copy of the weights, before waiting for the next

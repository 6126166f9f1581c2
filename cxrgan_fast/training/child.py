"""Trainings of a study: ``train`` in a process of its own, which nobody's end leaves behind."""

from __future__ import annotations

import ctypes
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import DEVNULL, Popen

import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.checkpoint import load_newest_checkpoint
from cxrgan_fast.runs.description import read_tail
from cxrgan_fast.runs.lock import STALE_SECONDS, locked

INTERRUPTED = 130
"""What train ends with after a signal, when it has saved all."""
UNLIMITED_STEPS = 10**7
"""Steps of a run whose length is a time."""

_SET_DEATH_SIGNAL = 1  # of Linux's prctl
# What `NonFiniteError` and `train` say, each in a test of its own.
_OF_SETTINGS = ("is not finite", "the memory of")


class TrainProcess:
    """A training in a process of its own; what it says goes to a file.

    It has the run saved and ends when it is told to (:meth:`stop`), and on Linux when this process
    is killed.

    Args:
        words: flags of ``train``.
        log: file to which all that it says is added.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as said:
            # In a session of its own: Ctrl-C is handed on by `stop`, once.
            self._process: Popen[bytes] = Popen(
                [sys.executable, "-m", "cxrgan_fast.train", *words],
                stdin=DEVNULL, stdout=said, stderr=said,
                start_new_session=True, preexec_fn=end_with_parent(),
            )  # fmt: skip

    @property
    def status(self) -> int | None:
        """Return what it ended with, minus the number of a signal; None while it runs."""
        status: int | None = self._process.poll()
        return status

    def stop(self) -> None:
        """Have the run saved and ended, as by Ctrl-C."""
        if self.status is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.wait()


def reason_of(status: int, log: Path, hidden: Path) -> str:
    """Word why a training failed.

    Args:
        status: what its process ended with.
        log: what it said.
        hidden: a folder whose path is left out.
    """
    if status < 0:
        return f"the process was ended by {signal.Signals(-status).name}"
    said = read_tail(log).decode(errors="replace").splitlines()
    errors = [line for line in said if line.startswith("error: ")]
    reason = errors[-1].removeprefix("error: ") if errors else (said or ["no reason given"])[-1]
    return reason.replace(str(hidden.absolute()), "").replace(str(hidden), "")


def is_of_settings(reason: str) -> bool:
    """Tell whether a training failed by its settings: it diverged, or its memory did not suffice.

    Args:
        reason: as :func:`reason_of` gives it.
    """
    return any(words in reason for words in _OF_SETTINGS)


def seconds_trained(run: Path) -> float:
    """Return the seconds after which the newest checkpoint of a run was made.

    Raises:
        UserError: as :func:`~cxrgan_fast.runs.checkpoint.load_newest_checkpoint`.
    """
    return float(load_newest_checkpoint(run, torch.device("cpu")).state["seconds"])


def wait_until_free(run: Path) -> None:
    """Wait for a run that is still saving, since the study that had begun it was killed.

    Raises:
        UserError: it goes on and on.
    """
    deadline = time.monotonic() + 2 * STALE_SECONDS
    while True:
        try:
            with locked(run):
                return
        except UserError:  # noqa: PERF203 - it waits
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def end_with_parent() -> Callable[[], None] | None:
    """Return what a child has to call first, so that it gets SIGTERM when its parent is killed.

    Returns:
        None where the system has no such thing.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SET_DEATH_SIGNAL, int(signal.SIGTERM))

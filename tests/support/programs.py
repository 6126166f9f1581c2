"""Programs in processes of their own: what cannot be taken back, could hang, or is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_program(source: str, *arguments: str, seconds: float = 120, **variables: str) -> str:
    """Run a Python program that may import what is beside this file; its output.

    Raises:
        AssertionError: it failed, with what it wrote; or it had not ended after so many seconds.
    """
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return _run(["-c", source, *arguments], seconds, {"PYTHONPATH": path, **variables})


def run_module(name: str, *arguments: object, seconds: float = 600, **variables: str) -> str:
    """Run ``python -m NAME`` in this checkout; its output.

    Raises:
        AssertionError: as `run_program` does.
    """
    return _run(["-m", name, *map(str, arguments)], seconds, variables)


def _run(words: list[str], seconds: float, variables: dict[str, str]) -> str:
    try:
        run = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT if words[0] == "-m" else None,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        raise AssertionError(f"still running after {seconds} s: {hung.stdout!r}") from None
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def stop_once(
    happened: Callable[[], bool], process: subprocess.Popen[str], number: int, seconds: float = 90
) -> str:
    """Send a signal to a process and all that it has started once something has happened.

    Args:
        happened: asked again and again.
        process: the leader of a session of its own.
        number: of the signal; the process has to end by it, or after Ctrl-C as commands do.
        seconds: that it may take until it has happened.

    Returns:
        What the process has printed.
    """
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert happened()
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    return output

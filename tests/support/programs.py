"""Programs in processes of their own, for what cannot be taken back or could hang."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_program(source: str, *arguments: str, seconds: float = 120, **variables: str) -> str:
    """Run a Python program that may import what is beside this file; its output.

    Raises:
        AssertionError: it failed, with what it wrote; or it had not ended after so many seconds.
    """
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    try:
        run = subprocess.run(
            [sys.executable, "-c", source, *arguments],
            env={**os.environ, "PYTHONPATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        raise AssertionError(f"still running after {seconds} s: {hung.stdout!r}") from None
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout

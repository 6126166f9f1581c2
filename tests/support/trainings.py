"""Trainings that a study starts as processes, run in this process by the real command instead."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch

from cxrgan_fast import train as train_command
from cxrgan_fast.command import run_command
from cxrgan_fast.training import child


def train_here(monkeypatch: pytest.MonkeyPatch, begins: Callable[[list[str]], int | None]) -> None:
    """Have `train` run in this process where a study starts it.

    Args:
        monkeypatch: the test's.
        begins: called with the flags of each training; what it returns, if anything, is what the
            process ends with instead of training.
    """

    def here(line: list[str], **options: Any) -> Any:
        words = line[3:]
        process = create_autospec(subprocess.Popen, instance=True)
        status = begins(words)
        if status is None:
            threads = torch.get_num_threads()
            with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
                patch.setattr("sys.argv", ["train", *words])
                said = stack.enter_context(open(options["stdout"].name, "a"))
                stack.enter_context(contextlib.redirect_stdout(said))
                stack.enter_context(contextlib.redirect_stderr(said))
                status = run_command(train_command.main, prints_result=False)
            torch.set_num_threads(threads)
        process.poll.return_value = status
        return process

    monkeypatch.setattr(child, "Popen", create_autospec(subprocess.Popen, side_effect=here))

"""Commands of ``bench`` and ``research``, run in this process."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import create_autospec

import pytest

from cxrgan_fast.command import run_command
from cxrgan_fast.training import allocator


def call(main: Callable[[], None], *words: object) -> int:
    """Run a command with some flags, and leave this process's allocator alone; its exit code."""
    kept = create_autospec(allocator.keep_large_tensors_off_mmap, return_value=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["command", *map(str, words)])
        patch.setattr(allocator, "keep_large_tensors_off_mmap", kept)
        return run_command(main)

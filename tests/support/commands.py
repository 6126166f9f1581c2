"""Commands of ``bench`` and ``research``, run in this process, and the pictures that they draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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
        try:
            return run_command(main)
        except SystemExit as end:  # whose status says how much is wrong
            return int(end.code or 0)


def size_of_picture(path: Path) -> tuple[int, int, int]:
    """Read the pixels across and down of a PNG, and its bytes: an empty picture has few."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    across, down = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    return across, down, len(content)

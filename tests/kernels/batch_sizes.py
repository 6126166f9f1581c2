"""Counts what batches of many sizes make Triton compile, and prints it as JSON.

A program of its own, without the interpreter, for test_compilation.py.
"""

from __future__ import annotations

import json
import sys

import torch
from compile_kernels import launch_image_ops, launch_losses, replace_launches
from stub_driver import CompileOnly, pretend

SIZES = (1, 2, 15, 16, 1000)


def main() -> None:
    """What the module's docstring says."""
    pretend("sm_80")
    binaries: dict[str, set[int]] = {}
    launcher = CompileOnly()
    replace_launches(launcher)
    for samples in SIZES:
        for layout in ("contiguous_format", "channels_last"):
            for channels, height, width in ((16, 8, 8), (5, 9, 7)):
                start = len(launcher.compiled)
                launch_image_ops((samples, channels, height, width), torch.float32, layout)
                for kernel, constants, binary in launcher.compiled[start:]:
                    key = f"{channels} {layout} {kernel} {constants}"
                    binaries.setdefault(key, set()).add(id(binary))
        start = len(launcher.compiled)
        launch_losses(samples, torch.float32)
        for kernel, constants, binary in launcher.compiled[start:]:
            binaries.setdefault(f"{kernel} {constants}", set()).add(id(binary))
    json.dump({key: len(different) for key, different in binaries.items()}, sys.stdout)


if __name__ == "__main__":
    main()

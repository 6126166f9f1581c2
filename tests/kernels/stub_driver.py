"""Triton without a GPU: its compiler for a chosen target, and launches that only compile."""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget

TARGETS = {
    "sm_75": GPUTarget("cuda", 75, 32),
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


class StubDriver:
    """A driver that names a target, for what asks before it compiles."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def pretend(target: str) -> None:
    """Let Triton compile for a target that is not here."""
    triton.runtime.driver.set_active(StubDriver(TARGETS[target]))


class CompileOnly:
    """Stands in for wrap_triton: launches compile for the target, and run nothing."""

    def __init__(self, *, every_configuration: bool = False) -> None:
        self.every_configuration = every_configuration
        self.compiled: list[tuple[str, dict[str, Any], Any]] = []
        """Kernels' names, constants and binaries, in the order of launches."""

    def __call__(self, kernel: Any) -> CompileOnly:
        self.kernel = kernel
        return self

    def __getitem__(self, grid: Any) -> Any:
        function, configurations = self.kernel, [{}]
        if hasattr(self.kernel, "configs"):
            function, configurations = (
                self.kernel.fn,
                [{**each.kwargs, "num_warps": each.num_warps} for each in self.kernel.configs],
            )
        if not self.every_configuration:
            configurations = configurations[-1:]

        def launch(*args: Any, **constants: Any) -> None:
            for chosen in configurations:
                every = {**constants, **chosen}
                blocks = grid(every) if callable(grid) else grid
                assert all(0 < each < 2**31 for each in blocks)
                binary = function.warmup(*args, grid=blocks, **every)
                self.compiled.append((function.__name__, every, binary))

        return launch

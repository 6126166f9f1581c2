"""What tests that need a GPU share. Each says why it is skipped where it cannot run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from cxrgan_fast.ops import use_backend
from op_cases import FUSED, Target

CUDA_TARGETS = [each for each in FUSED if each.device == "cuda"]
ON_THE_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of a profiler's trace."""


@pytest.fixture(params=CUDA_TARGETS, ids=str)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Each backend with kernels of its own on the GPU, in use; skipped where it cannot run."""
    target: Target = request.param
    if target.why_not:
        pytest.skip(f"{target}: {target.why_not}")
    with use_backend(target.backend):
        yield target


@pytest.fixture
def gpu() -> None:
    """Skip where PyTorch sees no GPU."""
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU here")


@pytest.fixture
def launches(tmp_path: Path) -> Callable[[Callable[[], object]], list[str]]:
    """Names of the kernels, copies and memory sets that a call queues, by the profiler."""

    def names(function: Callable[[], object]) -> list[str]:
        torch.cuda.synchronize()
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profiler:
            function()
            torch.cuda.synchronize()
        trace = tmp_path / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
        return [event["name"] for event in events if event.get("cat") in ON_THE_GPU]

    return names

"""What tests that need a GPU share. Where there is none, tiers leaves them out."""

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
    """Each backend with kernels of its own on the GPU, in use; tiers leaves out the others."""
    target: Target = request.param
    with use_backend(target.backend):
        yield target


@pytest.fixture
def gpu() -> None:
    """Say that a test needs a GPU: tiers leaves it out where PyTorch sees none."""


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

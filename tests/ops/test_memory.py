"""Peak memory of a forward and a backward pass, counted by PyTorch's own allocator events."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from op_cases import CASES, DTYPES, FUSED, LAYOUTS, TRITON_INTERPRETED, Target, Tensors


def peak_bytes(function: Callable[[], object], device: str, trace: Path) -> int:
    """The most that was allocated at one time while function ran, beyond what was before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        kept = function()
    profiler.export_chrome_trace(str(trace))
    events = [
        event
        for event in json.loads(trace.read_text())["traceEvents"]
        if event.get("name") == "[memory]"
        and event["args"]["Device Type"] == (1 if device == "cuda" else 0)
    ]
    del kept
    allocated = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        allocated += event["args"]["Bytes"]
        peak = max(peak, allocated)
    return peak


# The interpreter copies images.
@pytest.mark.first_tier(2)
@pytest.mark.parametrize(
    "target", [each for each in FUSED if each != TRITON_INTERPRETED], indirect=True, ids=str
)
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_peak_of_forward_and_backward(
    target: Target, device: str, dtype: torch.dtype, layout: str, op: str, tmp_path: Path
) -> None:
    case = CASES[op]((64, 64, 32, 32), dtype=dtype, layout=layout, device=device)

    def run(function: Callable[..., Tensors]) -> int:
        function()  # nothing that is made once is counted
        return peak_bytes(function, device, tmp_path / "trace.json")

    fused, eager = run(case.results), run(lambda: case.results(function=case.eager))
    image = case.variables["input"].nbytes
    # The output and the input's gradient: the least. Triton's tiles leave sums each.
    few = 0.2 if target.backend == "triton" else 0.1
    assert 2 * image <= fused < (2 + few) * image
    if "bias_leaky_relu" not in op:
        assert fused <= eager / 2

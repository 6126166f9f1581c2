"""A GPU that is the CPU, with graphs that call what they have captured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch

from bench import gpu_case, graphs, timing
from cuda_standin import standing_in
from cxrgan_fast.ops.backend import available_backends, selected_backend
from cxrgan_fast.training.allocator import keep_large_tensors_off_mmap

IMAGE_BYTES = 4 * 5 * 3 * 4 * 6
"""Of the float32 images that the tests measure; L2 holds three."""

OF_GRAPHS = ("Stream", "stream", "current_stream", "set_stream", "graph_pool_handle", "graph")
"""What captures call of torch.cuda, beside CUDAGraph."""


class Capturer(graphs.Capturer):
    """The real one, whose graphs are told what a replay is to call."""

    captured: list[Any]

    def capture(self, work: Callable[[], object]) -> torch.cuda.CUDAGraph:
        graph: Any = super().capture(work)
        graph.replay.side_effect = work
        graph.backend = selected_backend()
        self.captured.append(graph)
        return graph


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is measured is called as few times as can be."""
    for least in ("MAX_ROUNDS", "MIN_ROUNDS", "MAX_REPETITIONS", "MIN_REPETITIONS", "WARM_UP"):
        monkeypatch.setattr(timing, least, 1)


@pytest.fixture
def timed(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """With ``--benchmark-only`` pytest-benchmark's, on all threads; otherwise calls are untimed."""
    threads = torch.get_num_threads()
    benchmark.disabled = not request.config.getoption("benchmark_only")
    if not benchmark.disabled:
        keep_large_tensors_off_mmap()
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield benchmark
    torch.set_num_threads(threads)


@pytest.fixture
def kept_graphs() -> None:
    """Skip where PyTorch lacks what the benchmark needs, which then refuses to run on a GPU."""
    if not hasattr(torch.cuda.CUDAGraph, "raw_cuda_graph"):
        pytest.skip("PyTorch 2.8 or newer is needed, to look into CUDA graphs")


@pytest.fixture
def captured(kept_graphs: None, quickly: None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every graph that was captured; nothing here needs a GPU any more.

    What stands in for parts of torch.cuda takes the calls that the real parts take, and no others.
    """
    for name in OF_GRAPHS:
        monkeypatch.setattr(torch.cuda, name, create_autospec(getattr(torch.cuda, name)))
    of_capture: Any = torch.cuda.graph
    of_capture.return_value.__exit__.return_value = None  # errors go through
    real = torch.cuda.CUDAGraph

    def graph(keep_graph: bool = False) -> Any:
        return create_autospec(real, instance=True)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", create_autospec(real, side_effect=graph))
    monkeypatch.setattr(Capturer, "captured", [], raising=False)
    monkeypatch.setattr(graphs, "Capturer", Capturer)
    monkeypatch.setattr(graphs, "launches", create_autospec(graphs.launches, return_value=12))
    # PyTorch's own can be made by the driver alone.
    properties = SimpleNamespace(L2_cache_size=3 * IMAGE_BYTES)
    of_device = create_autospec(torch.cuda.get_device_properties, return_value=properties)
    monkeypatch.setattr(torch.cuda, "get_device_properties", of_device)
    return Capturer.captured


@pytest.fixture
def standin(cuda_standin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The CUDA kernels' source in place of the native CPU kernels, with the paths of a GPU."""
    why_not = available_backends()["native"].why_not.get("cpu")
    if why_not:
        pytest.skip(why_not)
    monkeypatch.setattr(gpu_case, "DEVICES_OF_PATHS", ("cpu",))
    with standing_in(cuda_standin):
        yield cuda_standin

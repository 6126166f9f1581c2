"""Work captured as CUDA graphs: replayed without Python, and its launches counted."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch

LAUNCHES = (0, 1, 2)
"""CUgraphNodeType of what the GPU is given to do: kernels, copies and memory sets."""


class Capturer:
    """Captures on one stream into one pool of memory; what its graphs compute is not kept."""

    def __init__(self) -> None:
        """Take a stream and a pool."""
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, work: Callable[[], object]) -> torch.cuda.CUDAGraph:
        """Capture some work that has run before: compiled, autotuned.

        Args:
            work: queues kernels, and neither waits for them nor reads what they have computed.

        Returns:
            The graph, ready to be replayed.

        What the work raises, or PyTorch where it cannot be captured, goes through; the stream is
        then the one before, but this object is not to be used again.
        """
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            work()  # what a stream's first call prepares is not to be captured
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        current = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                # Other threads, of a progress bar or a data loader, go on with what they do.
                capture_error_mode="thread_local",
            ):
                work()
        finally:
            # Where work fails, ending the capture fails too, before the stream is given back.
            torch.cuda.set_stream(current)
        graph.instantiate()
        return graph


def launches(graph: torch.cuda.CUDAGraph) -> int:
    """How many kernels, copies and memory sets a captured graph has.

    Raises:
        RuntimeError: the CUDA driver refuses the question.
    """
    driver: Any = ctypes.CDLL("libcuda.so.1")
    handle, count = ctypes.c_void_p(graph.raw_cuda_graph()), ctypes.c_size_t()
    _check(driver.cuGraphGetNodes(handle, None, ctypes.byref(count)))
    nodes = (ctypes.c_void_p * count.value)()
    if count.value:
        _check(driver.cuGraphGetNodes(handle, nodes, ctypes.byref(count)))
    found = 0
    for node in nodes:
        kind = ctypes.c_int()
        _check(driver.cuGraphNodeGetType(ctypes.c_void_p(node), ctypes.byref(kind)))
        found += kind.value in LAUNCHES
    return found


def _check(result: int) -> None:
    if result:
        raise RuntimeError(f"the CUDA driver answers with error {result}")

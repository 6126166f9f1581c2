"""A stand-in for CUDA graphs on the CPU: what a capture saw is run again, op by op, in place.

As with a real graph, a replay knows nothing of Python: every op reads and writes the tensors that
it had when it was recorded, with the numbers that it was given then. A step that let a number of
the host's into its work, or made a tensor anew that it should have kept, replays to something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class RecordedGraph:
    """What `torch.cuda.CUDAGraph` offers to those who capture and replay."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[torch.Tensor]]] = []
        self.generators: list[torch.Generator] = []

    def register_generator_state(self, generator: torch.Generator) -> None:
        """Let random numbers go on from replay to replay; those of others may not be captured."""
        self.generators.append(generator)

    def replay(self) -> None:
        """Run everything again, into the tensors that were made when it was recorded."""
        with torch.no_grad():
            for function, args, kwargs, outputs in self.calls:
                results = _tensors(function(*args, **kwargs))
                for output, result in zip(outputs, results, strict=True):
                    if output is not result and output.data_ptr() != result.data_ptr():
                        output.copy_(result)


class _Recording(TorchDispatchMode):
    def __init__(self, graph: RecordedGraph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        refuse_to_wait(function)
        if torch.Tag.nondeterministic_seeded in function.tags:
            known = [getattr(each, "_cdata") for each in self.graph.generators]  # noqa: B009 - untyped
            generator = kwargs.get("generator")
            assert getattr(generator, "_cdata", None) in known, f"{function}: unknown generator"
        outputs = function(*args, **kwargs)
        # Kept, as a graph keeps its memory; apart from autograd, which comes before this.
        kept = [each.detach() for each in _tensors(outputs)]
        self.graph.calls.append((function, args, kwargs, kept))
        return outputs


def refuse_to_wait(function: Any) -> None:
    """Refuse an op whose result the host would have to wait for.

    Raises:
        RuntimeError: naming it, as a capture would.
    """
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    if tags & set(function.tags):
        raise RuntimeError(f"{function} waits for the device\nmore lines")


def _tensors(outputs: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(outputs) if isinstance(each, torch.Tensor)]


@contextmanager
def _capture(graph: RecordedGraph, **_: object) -> Iterator[None]:
    try:
        with _Recording(graph):
            yield
    except BaseException:  # ending a capture that has failed fails as well
        failed = "CUDA error: operation failed due to a previous error during capture"
        raise RuntimeError(failed)  # noqa: B904 - as there: `from` would say what came before


class _Stream:
    device_index = 0

    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, stream: object) -> None:
        """Everything here happens in the order in which it is written."""


@contextmanager
def _on(stream: object) -> Iterator[None]:
    yield


def stand_in_for_cuda_graphs(patch: pytest.MonkeyPatch) -> None:
    """Have `torch.cuda`'s streams and graphs be those of this file."""
    patch.setattr(torch.cuda, "Stream", _Stream)
    patch.setattr(torch.cuda, "stream", _on)
    patch.setattr(torch.cuda, "current_stream", _Stream)
    patch.setattr(torch.cuda, "set_stream", lambda stream: None)
    patch.setattr(torch.cuda, "graph_pool_handle", object)
    patch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    patch.setattr(torch.cuda, "graph", _capture)

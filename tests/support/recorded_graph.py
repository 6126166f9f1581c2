"""A stand-in for CUDA graphs on the CPU: what a capture saw is run again, op by op, in place.

As with a real graph, a replay knows nothing of Python: every op reads and writes the tensors that
it had when it was recorded, with the numbers that it was given then. A step that let a number of
the host's into its work, or made a tensor anew that it should have kept, replays to something else.

What a capture that fails leaves half open in PyTorch before 2.13 is left open here too, and what
the streams do is looked at: see `CudaStandIn`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Pool = tuple[int, int]


class CudaStandIn:
    """What PyTorch knows of its one GPU.

    Attributes:
        stream: the current one.
        captures: whether ops are recorded now.
        pools_under_way: those that the allocator takes captures to be under way for.
        refuses_captures: whether no capture can begin.
    """

    def __init__(self) -> None:
        self._streams: list[Stream] = []
        self.stream = self.new_stream()
        self.captures = False
        self.pools_under_way: set[Pool] = set()
        self.refuses_captures = False
        self._states: dict[int, GeneratorState] = defaultdict(GeneratorState)
        self._handles = itertools.count(1)

    def new_stream(self, device: torch.device | None = None) -> Stream:
        """What `torch.cuda.Stream` makes."""
        self._streams.append(Stream())
        return self._streams[-1]

    def synchronize(self) -> None:
        """Wait until the GPU has done all that it was given."""
        for one, other in itertools.permutations(self._streams, 2):
            one.wait_stream(other)

    def state_of(self, generator: torch.Generator | None) -> GeneratorState:
        """The state of a generator; without one that of the default one."""
        return self._states[_address(generator or torch.default_generator)]

    def exchange_state(self, generator: torch.Generator, other: torch.Generator) -> None:
        """Let a generator go on with the numbers and with the state of another one."""
        generator.set_state(other.get_state())
        self._states[_address(generator)] = self.state_of(other)

    def graph_pool_handle(self) -> Pool:
        """A pool, as `torch.cuda.graph_pool_handle` names it."""
        return (0, next(self._handles))

    def end_allocations(self, device: int, pool: Pool) -> None:
        """What `torch._C._cuda_endAllocateToPool` does, and what it refuses."""
        _check_pool(device, pool)
        if pool not in self.pools_under_way:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.pools_under_way.remove(pool)

    def release_pool(self, device: int, pool: Pool) -> None:
        """Refuse what `torch._C._cuda_releasePool` does."""
        _check_pool(device, pool)

    @contextmanager
    def capture(
        self,
        graph: RecordedGraph,
        pool: Pool,
        stream: Stream,
        capture_error_mode: str = "global",
    ) -> Iterator[None]:
        """Record into a graph, as the context manager `torch.cuda.graph`."""
        _check_pool(0, pool)
        self.synchronize()
        graph.states = [self.state_of(each) for each in (None, *graph.generators)]
        for state in graph.states:
            state.capturing = True
        if self.refuses_captures:
            raise RuntimeError("CUDA error: operation not permitted")
        if pool in self.pools_under_way:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        self.pools_under_way.add(pool)
        self.stream, before = stream, self.stream
        self.captures = True
        try:
            with _Recording(graph):
                yield
        except BaseException:  # ending a capture that has failed fails too, and restores no stream
            failed = "CUDA error: operation failed due to a previous error during capture"
            raise RuntimeError(failed)  # noqa: B904 - as there: `from` would say what came before
        finally:
            self.captures = False
        self.pools_under_way.remove(pool)
        for state in graph.states:
            state.capturing = False
        self.stream = before

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """Queue work on a stream, as `torch.cuda.stream`."""
        self.stream, before = stream, self.stream
        try:
            yield
        finally:
            self.stream = before

    def set_stream(self, stream: Stream) -> None:
        """Queue work on a stream from now on."""
        self.stream = stream


class GeneratorState:
    """What a generator shares with the graphs that it is registered with."""

    capturing = False

    def check(self) -> None:
        """Refuse to draw, or to be replayed, where a capture with it has not ended well."""
        if self.capturing:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")


class Stream:
    """What `torch.cuda.Stream` offers to those who queue work and wait for it."""

    device_index = 0

    def __init__(self) -> None:
        self.queued = 0
        self._waited: dict[Stream, int] = {}

    def wait_stream(self, stream: Stream) -> None:
        """Do what is queued from now on after all that another stream has been given."""
        self._waited[stream] = stream.queued

    def comes_after(self, stream: Stream, work: int) -> bool:
        """Whether what is queued now comes after the so many first of another stream's work."""
        return self is stream or self._waited.get(stream, 0) >= work


class DefaultGenerator:
    """What `torch.cuda.default_generators` holds: here the CPU's, which draws for all."""

    device = torch.device("cpu")

    def __init__(self, cuda: CudaStandIn) -> None:
        self._cuda = cuda

    def get_state(self) -> torch.Tensor:
        """Its seed and how far it has come."""
        return torch.default_generator.get_state()

    def graphsafe_set_state(self, state: torch.Generator) -> None:
        """Go on as that generator, and with its state."""
        self._cuda.exchange_state(torch.default_generator, state)


class RecordedGraph:
    """What `torch.cuda.CUDAGraph` offers to those who capture and replay."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[torch.Tensor]]] = []
        self.generators: list[torch.Generator] = []
        self.states: list[GeneratorState] = []

    def register_generator_state(self, generator: torch.Generator) -> None:
        """Let random numbers go on from replay to replay; those of others may not be captured."""
        self.generators.append(generator)

    def replay(self) -> None:
        """Run everything again, into the tensors that were made when it was recorded."""
        for state in self.states:
            state.check()
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
            known = [_address(each) for each in self.graph.generators]
            generator = kwargs.get("generator")
            assert getattr(generator, "_cdata", None) in known, f"{function}: unknown generator"
        outputs = function(*args, **kwargs)
        # Kept, as a graph keeps its memory; apart from autograd, which comes before this.
        kept = [each.detach() for each in _tensors(outputs)]
        self.graph.calls.append((function, args, kwargs, kept))
        return outputs


class AsOnTheDevice(TorchDispatchMode):
    """Refuses what a GPU would refuse, or would not notice, of ops outside of captures.

    Args:
        cuda: the stand-in.
        tensors: those for which the order in which streams touch them is looked at.
    """

    def __init__(self, cuda: CudaStandIn, tensors: Sequence[torch.Tensor] = ()) -> None:
        super().__init__()
        self.cuda = cuda
        self.written: dict[int, tuple[Stream, int]] = {
            each.untyped_storage().data_ptr(): (cuda.stream, 0) for each in tensors
        }

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.cuda.captures:  # which does not do what it records
            return function(*args, **kwargs)
        if torch.Tag.nondeterministic_seeded in function.tags:
            self.cuda.state_of(kwargs.get("generator")).check()
        stream = self.cuda.stream
        stream.queued += 1
        arguments = [*args, *kwargs.values()]
        for declared, given in zip(function._schema.arguments, arguments, strict=False):
            writes = declared.alias_info is not None and declared.alias_info.is_write
            for tensor in _tensors(given):
                address = tensor.untyped_storage().data_ptr()
                if address in self.written:
                    assert stream.comes_after(*self.written[address]), (
                        f"{function}: another stream may still write what this one is given"
                    )
                    if writes:
                        self.written[address] = (stream, stream.queued)
        return function(*args, **kwargs)


def refuse_to_wait(function: Any) -> None:
    """Refuse an op whose result the host would have to wait for.

    Raises:
        RuntimeError: naming it, as a capture would.
    """
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    if tags & set(function.tags):
        raise RuntimeError(f"{function} waits for the device\nmore lines")


def _address(generator: torch.Generator) -> int:
    """The same for every Python object of one generator; PyTorch's types lack it."""
    found: int = getattr(generator, "_cdata")  # noqa: B009 - untyped
    return found


def _tensors(outputs: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(outputs) if isinstance(each, torch.Tensor)]


def _check_pool(device: int, pool: Pool) -> None:
    """Refuse what PyTorch's bindings refuse: they take an index and a pair of numbers."""
    if type(device) is not int:
        raise TypeError(f"expected the index of a device, got {device!r}")
    if not (isinstance(pool, tuple) and len(pool) == 2 and all(type(i) is int for i in pool)):
        raise TypeError(f"expected a pool's pair of numbers, got {pool!r}")


END_ALLOCATIONS = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")
"""One function of PyTorch's, as later versions and as earlier ones call it."""


def stand_in_for_cuda_graphs(
    patch: pytest.MonkeyPatch, end_allocations: str = END_ALLOCATIONS[0]
) -> CudaStandIn:
    """Have `torch.cuda`'s streams and graphs be those of this file.

    Args:
        patch: undoes it.
        end_allocations: the name, of `END_ALLOCATIONS`, that this PyTorch has for it.
    """
    cuda = CudaStandIn()
    in_torch: dict[str, Any] = {
        "Stream": cuda.new_stream,
        "stream": cuda.on,
        "current_stream": lambda device=None: cuda.stream,
        "set_stream": cuda.set_stream,
        "graph_pool_handle": cuda.graph_pool_handle,
        "CUDAGraph": RecordedGraph,
        "graph": cuda.capture,
        "default_generators": (DefaultGenerator(cuda),),
    }
    for name, value in in_torch.items():
        patch.setattr(torch.cuda, name, value)
    for name in END_ALLOCATIONS:
        patch.delattr(torch._C, name, raising=False)
    patch.setattr(torch._C, end_allocations, cuda.end_allocations, raising=False)
    patch.setattr(torch._C, "_cuda_releasePool", cuda.release_pool, raising=False)
    return cuda

"""How a training step is run: op by op, compiled by torch.compile, or replayed as one CUDA graph.

All three run the very same :meth:`TrainingStep.body`. What changes from step to step is in tensors
that it reads and writes in place, and which kernels run is told by its kind.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch

from cxrgan_fast.schedule import Schedule
from cxrgan_fast.training.step import TrainingStep

ExecutorName = Literal["auto", "eager", "compile", "graph"]

_WARM_UP = 3  # runs before a capture: libraries choose their algorithms, Triton compiles and tunes


class Executor:
    """Runs steps op by op.

    Args:
        step: the step to run; its weights, data and randomness.

    Attributes:
        name: which executor it is.
    """

    name = "eager"

    def __init__(self, step: TrainingStep) -> None:
        self.step = step

    def __call__(self) -> None:
        """Do one step. The first may take longer: it compiles or captures."""
        self.step.begin()
        self.run(self.step.kind())
        self.step.end()

    def run(self, kind: Hashable) -> None:
        """Queue a step's work on the device."""
        self.step.body(kind)


class CompileExecutor(Executor):
    """Runs the networks as torch.compile makes them; the penalty's second derivatives as they are.

    Gains where small ops are many and there is no GPU to capture them on; takes up to a minute to
    compile. The results differ from those of `Executor` in rounding.
    """

    name = "compile"

    def __init__(self, step: TrainingStep) -> None:
        super().__init__(step)
        for name, network in step.networks.items():
            step.objective.run[name] = torch.compile(network)


class GraphExecutor(Executor):
    """Captures a step as one CUDA graph, optimizers and moving average included, and replays it.

    There is a graph for each kind of step (with and without the R1 penalty, say), captured when
    it first comes. The runs before a capture change nothing: weights, optimizers, moving average,
    running statistics, counters and random numbers are put back as they were. With deterministic
    algorithms a replay gives the bits that `Executor` gives.

    What cannot be captured is run op by op, and stderr says so once.
    """

    name = "graph"

    def __init__(self, step: TrainingStep) -> None:
        super().__init__(step)
        self.graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._stream = torch.cuda.Stream(step.device)
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, kind: Hashable) -> None:
        """See :meth:`Executor.run`."""
        if self.name == "eager":  # it could not be captured
            self.step.body(kind)
            return
        if kind not in self.graphs:
            try:
                self.graphs[kind] = self._captured(kind)
            except RuntimeError as error:
                # Ending a capture that has failed fails as well, and says less.
                cause = _first_of(error)
                self._close_failed_capture()
                if isinstance(cause, torch.OutOfMemoryError) or not isinstance(cause, Exception):
                    raise cause from None  # to go on helps nobody who lacks memory, or hit Ctrl-C
                reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
                _say(f"this step cannot be captured as a CUDA graph ({reason}); it runs op by op")
                self.name = "eager"
                self.graphs.clear()
                self.step.body(kind)
                return
        self.graphs[kind].replay()

    def _close_failed_capture(self) -> None:
        """Undo what a capture that failed has left half open in PyTorch, for the whole process.

        The allocator takes it to be under way: memory that another stream has used, such as that of
        every `copy_to_host`, would never be free again. Before 2.13 so do the generators that it
        had registered, the step's and the device's default one (`CUDAGraph::capture_begin`): they
        refuse to draw, and every graph that was captured with them refuses to be replayed, until a
        capture with them ends well. Where none can, they get a state that no capture has seen.
        """
        index = self._stream.device_index
        with suppress(RuntimeError):  # it had ended
            _end_allocations(index, self._pool)
        step, default = self.step, torch.cuda.default_generators[index]
        try:
            self._capture(lambda: step.clock.add_(0), torch.cuda.graph_pool_handle())
        except RuntimeError:
            step.draws.random = _copy_of(step.draws.random)
            default.graphsafe_set_state(_copy_of(default))

    def _captured(self, kind: Hashable) -> torch.cuda.CUDAGraph:
        step = self.step
        current = torch.cuda.current_stream(step.device)
        with unchanged(step) as restore:
            self._stream.wait_stream(current)
            try:
                with torch.cuda.stream(self._stream):
                    for _ in range(_WARM_UP):
                        step.body(kind)
                        restore()
            finally:  # a body that fails has queued work, and what it writes is restored here
                current.wait_stream(self._stream)
            _drop_gradients(step)  # the graph's own are made, and stay, in its memory
            # The graphs share one pool: none needs what another has left in it.
            graph = self._capture(lambda: step.body(kind), self._pool)
        _drop_gradients(step)
        return graph

    def _capture(self, work: Callable[[], object], pool: Any) -> torch.cuda.CUDAGraph:
        """Capture work that draws from the step's generator; its graph takes memory from a pool."""
        current = torch.cuda.current_stream(self.step.device)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.step.draws.random)
        gc.collect()  # what ends during a capture, an event say, would break it
        try:
            with torch.cuda.graph(
                graph,
                pool=pool,
                stream=self._stream,
                # Other threads, which write and fetch images, go on with what they do.
                capture_error_mode="thread_local",
            ):
                work()
        finally:
            # Where the work fails, ending the capture fails too, before the stream is restored.
            torch.cuda.set_stream(current)
        return graph


@contextmanager
def unchanged(step: TrainingStep) -> Iterator[Callable[[], None]]:
    """Undo everything that steps change within the block.

    Costs a copy of all of the state for as long. What is yielded restores it at once: two bodies
    after one `TrainingStep.begin` would otherwise go on to images that are not there.
    """
    tensors = step.tensors()
    with torch.no_grad():
        before = [tensor.clone() for tensor in tensors]
    random = step.draws.random.get_state()

    def restore() -> None:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        step.draws.random.set_state(random)

    try:
        yield restore
    finally:
        restore()


def make_executor(name: ExecutorName, step: TrainingStep) -> Executor:
    """Make the executor of that name for a step.

    Args:
        name: "auto" is "graph" on a GPU and "eager" on a CPU, where compiling gains less than it
            costs (docs/benchmarks.md).
        step: what it runs.

    Returns:
        That executor, or the eager one where the other cannot work here; stderr then says why.
    """
    on_cuda = step.device.type == "cuda"
    if name == "auto":
        name = "graph" if on_cuda else "eager"
    if name == "graph":
        reason = _why_no_graph(step)
        if reason:
            _say(f"{reason}; the step runs op by op")
            name = "eager"
    kinds = {"eager": Executor, "compile": CompileExecutor, "graph": GraphExecutor}
    return kinds[name](step)


def _why_no_graph(step: TrainingStep) -> str:
    """Why a step cannot be captured, or ""."""
    if step.device.type != "cuda":
        return f"a CUDA graph needs an NVIDIA GPU, and this is a {step.device.type}"
    if step.config.precision == "fp16":
        optimization, lacks = step.config.optimization, ""
        if optimization.optimizer == "rmsprop":
            lacks = "rmsprop"
        elif isinstance(optimization.beta2, Schedule):
            lacks = "Adam with a schedule of --beta2"
        if lacks:
            return (
                f"{lacks} has no kernel that skips an overflowed fp16 step without asking the host"
            )
    return ""


def _end_allocations(device: int, pool: Any) -> None:
    """Have the allocator take no capture into a pool to be under way.

    Raises:
        RuntimeError: none is.
    """
    # As later versions of PyTorch call it, and as earlier ones do.
    names = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")
    end = next(getattr(torch._C, name) for name in names if hasattr(torch._C, name))
    end(device, pool)
    torch._C._cuda_releasePool(device, pool)


def _copy_of(generator: torch.Generator) -> torch.Generator:
    """Another generator, whose numbers go on as those of this one."""
    copy = torch.Generator(generator.device)
    copy.set_state(generator.get_state())
    return copy


def _drop_gradients(step: TrainingStep) -> None:
    for optimizer in step.optimizers.values():
        optimizer.zero_grad(set_to_none=True)


def _first_of(error: BaseException) -> BaseException:
    """What went wrong first, where one error came of another."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _say(line: str) -> None:
    print(f"executor: {line}", file=sys.stderr, flush=True)

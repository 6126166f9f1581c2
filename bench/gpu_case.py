"""One case on a GPU: every way to compute it, launched from Python and replayed as a CUDA graph.

Launched, a step takes as long as Python needs to queue its kernels, or as the kernels, whichever is
more. Replayed, it takes what the kernels do, which is what a training step captured as a whole
pays. A graph holds several steps, so that its own launch hardly counts: on the same tensors, which
L2 then keeps if they fit (warm), and on so many that it cannot (cold). What a step allocates it
allocates where the step before did, as in training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bench import cases, graphs
from bench.cases import Case, Step
from bench.gpu_measurements import gpu_measurements
from bench.timing import measure, peak_bytes, reason_of, wait
from cxrgan_fast.ops import available_backends, use_backend
from cxrgan_fast.ops import conditional_batch_norm_kernels as batch_norm_kernels
from cxrgan_fast.ops.backend import choose_backend
from cxrgan_fast.ops.conditional_batch_norm_kernels import _problem

MOST_STEPS = 32
INDISPENSABLE = ("eager", "fused")
COMPILING = ("compiled", "triton")
"""Ways that compile kernels for each case, which takes longer than to measure it."""
PATHS = ("two_pass", "slab", "cluster", "persistent")
"""The ways of the native backend through conditional_batch_norm_act, on these devices."""
DEVICES_OF_PATHS = ("cuda",)

Inputs = tuple[tuple[Tensor, ...], Tensor | None]
"""Arguments of a case's functions, and the gradient that comes back."""


@dataclass(frozen=True)
class Way:
    """A way to compute a case."""

    function: Callable[..., Tensor]
    force: Callable[[], AbstractContextManager[object]] = nullcontext
    """What is entered around its forward and backward pass."""

    def step(self, inputs: Inputs) -> Step:
        """Its forward and backward pass."""
        return cases.forward_backward(self.function, *inputs)


def ways(case: Case, beside: Sequence[str], device: torch.device) -> dict[str, Way]:
    """``fused`` as its users get it, native and its paths where forced, and what else is asked for.

    Args:
        case: the case.
        beside: which of eager, compiled and triton to have beside them.
        device: where the tensors are.
    """
    found = {name: Way(each) for name, each in cases.functions(case, beside, device).items()}
    fused = found["fused"].function
    backends = ("native", "triton") if "triton" in beside else ("native",)
    for backend in backends:
        if device.type in available_backends()[backend].runs_on:
            found[backend] = Way(fused, partial(use_backend, backend))
    if _has_paths(case, device) and "native" in found:
        for path in PATHS:
            found[f"native {path}"] = Way(fused, partial(_native_path, path))
    return found


def _has_paths(case: Case, device: torch.device) -> bool:
    return case.op == "conditional_batch_norm_act" and device.type in DEVICES_OF_PATHS


@contextmanager
def _native_path(path: str) -> Iterator[None]:
    with use_backend("native"), batch_norm_kernels.use_cuda_path(path):
        yield


def _paths(
    case: Case, found: dict[str, Way], inputs: Inputs, device: torch.device
) -> dict[str, tuple[str, str]]:
    """The paths that each way takes, forward and backward; of the fused op, what auto chooses."""
    if not _has_paths(case, device):
        return {}
    paths = {f"native {path}": (path, path) for path in PATHS}
    paths["triton"] = "two_pass", "two_pass"
    (x, labels, weight, bias, *_), _ = inputs
    if device.type in available_backends()["native"].runs_on:
        problem = _problem(x, labels, weight, bias, cases.SLOPE)
        paths["native"] = problem.paths(x.data_ptr())
    of_fused = paths.get(choose_backend(x, case.op))
    if of_fused:
        paths["fused"] = of_fused
    return {name: paths[name] for name in found if name in paths}


def measure_case(
    case: Case, beside: Sequence[str], device: torch.device, seconds: float
) -> dict[str, object]:
    """Measure a case in every way that works; the measurements say which do not, and why.

    Args:
        case: the case.
        beside: which of eager, compiled and triton to have beside the fused op.
        device: a GPU.
        seconds: about how long to time it, compilation and capture not counted.
    """
    first, left_out = cases.inputs(case, device), dict[str, str]()
    found = ways(case, beside, device)
    if "native" in found and choose_backend(first[0][0], case.op) == "native":
        del found["native"]
        left_out["native"] = "it is what auto takes here: see fused"
    start = time.perf_counter()
    for name in list(found):
        if not _works(name, found[name], first, left_out):
            del found[name]
        elif name == "compiled":
            wait(device)
            compile_seconds = round(time.perf_counter() - start, 2)
        start = time.perf_counter()
    forces = {name: way.force for name, way in found.items()}
    steps = {name: way.step(first) for name, way in found.items()}
    copy = _copies(case, [first])[0]
    launched = measure({**steps, **copy}, device, seconds / 3, within=forces)
    replayed, launches = {}, dict[str, tuple[int, int]]()
    for state, inputs in _inputs_of_graphs(case, first, device).items():
        captured = _capture(case, found, inputs, left_out)
        replays = {name: graph.replay for name, graph in captured.items()}
        samples = measure(replays, device, seconds / 3) if replays else {}
        replayed[state] = (
            len(inputs),
            {name: [sample / len(inputs) for sample in each] for name, each in samples.items()},
        )
        if not launches:
            launches = _launches(found, captured, inputs, left_out)
    peaks = {}
    for name, step in steps.items() if case.of_images else ():
        with forces[name]():
            peaks[name] = peak_bytes(step, device)
    paths = _paths(case, found, first, device)
    measurements = gpu_measurements(case, launched, replayed, peaks, launches, left_out, paths)
    return measurements | ({"compile_seconds": compile_seconds} if "compiled" in found else {})


def _works(name: str, way: Way, inputs: Inputs, left_out: dict[str, str]) -> bool:
    try:
        with way.force():
            way.step(inputs)()
            way.step(inputs)()  # autotuned, if the first was
    except Exception as error:
        if name in INDISPENSABLE:
            raise
        left_out[name] = reason_of(error)
        return False
    return True


def _inputs_of_graphs(case: Case, first: Inputs, device: torch.device) -> dict[str, list[Inputs]]:
    """The inputs of the steps of a graph whose inputs L2 keeps, and of one that it cannot keep."""
    if not case.of_images:
        return {"warm": [first] * MOST_STEPS}
    l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    count = min(MOST_STEPS, math.ceil(2 * l2_bytes / (2 * case.image_bytes)))  # x and dy
    if count == 1:
        return {"cold": [first]}
    return {"warm": [first] * count, "cold": [first, *(_clone(first) for _ in range(count - 1))]}


def _clone(inputs: Inputs) -> Inputs:
    arguments, grad = inputs
    copies = [each.detach().clone().requires_grad_(each.requires_grad) for each in arguments]
    return tuple(copies), None if grad is None else grad.clone()


def _copies(case: Case, inputs: Sequence[Inputs]) -> list[dict[str, Step]]:
    """For images ``copy``, of one image onto another, for each of some inputs.

    Onto the same one every time, as an op's output takes the memory of the step before.
    """
    images = [grad for _, grad in inputs if grad is not None]
    if not images:
        return [{} for _ in inputs]
    target = torch.empty_like(images[0])
    return [{"copy": partial(target.copy_, image)} for image in images]


def _capture(
    case: Case, found: dict[str, Way], inputs: Sequence[Inputs], left_out: dict[str, str]
) -> dict[str, torch.cuda.CUDAGraph]:
    """A graph of a step on each of the inputs, for every way that lets itself be captured."""
    capturer, captured = graphs.Capturer(), {}
    steps = {name: [way.step(each) for each in inputs] for name, way in found.items()}
    steps["copy"] = [step for each in _copies(case, inputs) for step in each.values()]
    for name, each in steps.items():
        if not each:
            continue
        force = found[name].force if name in found else nullcontext
        try:
            with force():
                captured[name] = capturer.capture(partial(_all, each))
        except Exception as error:
            left_out[f"{name}, replayed"] = reason_of(error)
            capturer = graphs.Capturer()  # what a failed capture leaves of a pool is not to be used
    return captured


def _all(steps: Sequence[Step]) -> None:
    for step in steps:
        step()


def _launches(
    found: dict[str, Way],
    captured: dict[str, torch.cuda.CUDAGraph],
    inputs: Sequence[Inputs],
    left_out: dict[str, str],
) -> dict[str, tuple[int, int]]:
    """How many launches the forward and the backward pass of each captured way are."""
    (arguments, _), capturer, counts = inputs[0], graphs.Capturer(), dict[str, tuple[int, int]]()
    for name in found:
        if name not in captured:
            continue
        try:
            with found[name].force():
                graph = capturer.capture(partial(found[name].function, *arguments))
            forward = graphs.launches(graph)
            counts[name] = forward, graphs.launches(captured[name]) // len(inputs) - forward
        except Exception as error:
            left_out[f"{name}, launches"] = reason_of(error)
            capturer = graphs.Capturer()
    return counts

"""The variants of ``bench.throughput``: how each is built, and what it costs beside its time.

Every variant is a function that does its next training step. The reference is the independent
program of ``bench.reference_gan``; the package's are one ``TrainingStep`` run by its executors.
"""

from __future__ import annotations

import contextlib
import gc
import io
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bench.convolution_floor import ConvolutionFloor, record_cycle
from bench.dispatched import Dispatched
from bench.reference_gan import ReferenceTraining
from bench.reference_settings import Settings
from bench.throughput_measurements import FAST, FLOOR, REFERENCES
from bench.timing import peak_bytes, seconds_of, wait
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.gan.penalties import resolve_gammas
from cxrgan_fast.settings.config import TrainConfig, flatten
from cxrgan_fast.training.executors import ExecutorName, make_executor
from cxrgan_fast.training.step import TrainingStep

OPTIONS: dict[str, dict[str, bool]] = {
    "reference": {},
    "reference_amp": {"amp": True, "channels_last": True},
    "reference_compiled": {"compile": True},
    "reference_amp_compiled": {"amp": True, "channels_last": True, "compile": True},
}
COMPILING = ("reference_compiled", "reference_amp_compiled", "compile")

WARM_UP = 3
RECOMPILATIONS = 64
"""Allowed for one function. Past PyTorch's 8 it would silently go on without compiling."""

Measurements = dict[str, Any]


def build(name: str, config: TrainConfig, dataset: ImageDataset, device: torch.device) -> Any:
    """A variant, ready for its first step: a function that does the next one.

    Args:
        name: of VARIANTS.
        config: settings, resolved, the same for all variants.
        dataset: what is trained on.
        device: where.
    """
    if name in REFERENCES:
        settings = flatten(resolve_gammas(config))
        return ReferenceTraining(Settings.of(settings), dataset, device, **OPTIONS[name])
    step = TrainingStep(config, dataset, device)
    if name == FLOOR:
        return ConvolutionFloor(record_cycle(step), device)
    return make_executor(cast(ExecutorName, name), step)


@dataclass
class Running:
    """A variant that has been built and has done its first steps."""

    name: str
    step: Any
    device: torch.device
    cycle: int
    """Steps from one with R1 or R2 to the next; it has one in any so many."""
    first_step_s: float
    """Seconds of construction and first step, compilation, autotuning and capture included."""
    step_s: float
    """Of one warm step, roughly."""
    resident_bytes: int
    """What it holds between steps."""
    done: int
    """Steps."""
    pools: frozenset[Any]
    """Of the memory of its CUDA graphs."""

    @classmethod
    def start(
        cls, name: str, config: TrainConfig, dataset: ImageDataset, device: torch.device
    ) -> Running:
        """Build a variant and do its first steps, in which it compiles, tunes and captures."""
        gc.collect()
        said = io.StringIO()
        bytes_before, pools_before = _resident_bytes(device), set(_idle_bytes_of_pools(device))
        with contextlib.ExitStack() as stack:
            if name in COMPILING:
                stack.enter_context(_fresh_caches())
            if name in FAST:  # on stderr an executor says why it does not do what it is asked to
                stack.enter_context(contextlib.redirect_stderr(said))
            start = time.perf_counter()
            step = build(name, config, dataset, device)
            step()
            wait(device)
            first = time.perf_counter() - start
            for _ in range(WARM_UP):
                step()
        if name in FAST and step.name != name:
            why = re.findall(r"^executor: (.*?)(?:; [^;]*)?$", said.getvalue(), re.MULTILINE)
            raise UserError(why[-1] if why else f"it runs as {step.name}")
        sys.stderr.write(said.getvalue())
        objective = config.objective
        return cls(
            name=name,
            step=step,
            device=device,
            cycle=objective.r1_interval if objective.penalized else 1,
            first_step_s=first,
            step_s=seconds_of(step, 1, device),
            resident_bytes=_resident_bytes(device) - bytes_before,
            done=2 + WARM_UP,
            pools=frozenset(set(_idle_bytes_of_pools(device)) - pools_before),
        )

    def run(self, steps: int) -> None:
        """Do some steps."""
        for _ in range(steps):
            self.step()
        self.done += steps

    def turn(self, steps: int) -> tuple[float, float]:
        """Do a step, then time some more.

        Returns:
            Seconds until the device has done them, and how many the host has worked for that.
        """
        self.run(1)  # finds the caches as the variant before left them
        wait(self.device)
        start, start_host = time.perf_counter(), time.process_time()
        self.run(steps)
        host = time.process_time() - start_host  # a host that waits for the device would spin
        wait(self.device)
        return time.perf_counter() - start, host

    def costs(self) -> Measurements:
        """Memory and launches. Does some steps."""
        measurements: Measurements = {}
        if self.name == FLOOR:
            measurements["how"] = self.step.how
        else:
            measurements["first_step_s"] = round(self.first_step_s, 3)
            measurements["resident_mb"] = round(self.resident_bytes / 1e6, 1)
            measurements["peak_mb"] = round((self.resident_bytes + self._peak_of_a_step()) / 1e6, 1)
        if self.done % self.cycle == 0:
            self.run(1)  # what is counted is a step without R1, where there is one
        self.done += 1
        return measurements | _launches(self.step, self.name, self.device)

    def stop(self) -> None:
        """Let go of all that it holds. It does no step any more."""
        # A DataLoader that is left to the garbage collector takes 5 s for each of its processes.
        vars(self.step).clear()

    def _peak_of_a_step(self) -> int:
        """The most memory that a step takes beyond what is resident: one with R1 takes most."""
        if self.device.type == "cuda":
            most = peak_bytes(lambda: self.run(self.cycle), self.device)
            idle = _idle_bytes_of_pools(self.device)
            # A replayed graph allocates nothing: what it uses lies in its pool all the time.
            return most + sum(idle.get(pool, 0) for pool in self.pools)
        self.run((-self.done - 1) % self.cycle)  # so that the second of two steps is one with R1
        return peak_bytes(lambda: self.run(1), self.device)


def forget() -> None:
    """Give back what variants that are gone have taken."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _fresh_caches() -> AbstractContextManager[object]:
    """Compile as the first time on a machine; rather fail than go on without compiling."""
    from torch._inductor.utils import fresh_cache  # takes seconds, which eager variants do not

    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    caches: AbstractContextManager[object] = fresh_cache()
    return caches


# --- Memory ---------------------------------------------------------------------------------------


def _resident_bytes(device: torch.device) -> int:
    """Bytes of tensors: on the CPU of those that Python holds, each storage once."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    # Not isinstance: it asks objects for their __class__, and some warn.
    tensors = [each for each in gc.get_objects() if issubclass(type(each), Tensor)]
    storages = {}
    for tensor in tensors:
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            if storage.device.type == "cpu":  # a compiler's fake tensors have none there
                storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())


def _idle_bytes_of_pools(device: torch.device) -> dict[Any, int]:
    """What CUDA graphs keep for themselves beside what is allocated there, of each pool."""
    idle: dict[Any, int] = {}
    if device.type == "cuda":
        for segment in torch.cuda.memory_snapshot():
            pool = tuple(segment["segment_pool_id"])
            if pool != (0, 0):  # PyTorch's own
                unused = segment["total_size"] - segment["allocated_size"]
                idle[pool] = idle.get(pool, 0) + unused
    return idle


# --- Launches -------------------------------------------------------------------------------------

_LAUNCH = re.compile(r"cu(da)?(Graph)?(Launch|Memcpy|Memset)")


def _launches(step: Callable[[], object], name: str, device: torch.device) -> Measurements:
    """What a step is made of.

    On a GPU how many kernels, copies and memory sets it has, and with how many calls the host
    launches them. On a CPU how many ops are dispatched, but for compiled code, which is not.
    """
    if device.type == "cuda":
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
            step()
            wait(device)
        assert recorded.profiler is not None
        return count_launches(recorded.profiler.kineto_results.events())
    if name in COMPILING:
        return {}
    ops: list[Any] = []
    with Dispatched(lambda op, *_: ops.append(op)):
        step()
    return {"dispatched_ops": len(ops)}


def count_launches(events: Any) -> Measurements:
    """Kernels (with copies and memory sets) and the host's launches among a profile's events."""
    of_device = [
        event.device_type() == torch.autograd.DeviceType.CUDA and not event.is_user_annotation()
        for event in events
    ]
    calls = [
        event.device_type() == torch.autograd.DeviceType.CPU and bool(_LAUNCH.match(event.name()))
        for event in events
    ]
    return {"launches": sum(of_device), "host_launches": sum(calls)}

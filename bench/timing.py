"""How variants are timed against each other, on the CPU and on a GPU, and their peak memory."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.profiler import ProfilerActivity, profile

from cxrgan_fast.errors import UserError

MIN_ROUNDS, MAX_ROUNDS = 5, 25
MIN_REPETITIONS, MAX_REPETITIONS = 3, 10
TURN_SECONDS = 0.02
WARM_UP = 3


def measure(
    variants: Mapping[str, Callable[[], object]],
    device: torch.device,
    seconds: float,
    *,
    before: Callable[[], object] | None = None,
    within: Mapping[str, Callable[[], AbstractContextManager[object]]] | None = None,
) -> dict[str, list[float]]:
    """Time some functions in turns, so that whatever else slows the machine slows all of them.

    Every round gives each variant a turn: one call that is not timed, which finds the caches as the
    variant before left them, then some that are. The order moves on by one from round to round.

    Args:
        variants: the functions by name; each is called a few times before, to compile and so on.
        device: where they run. On a GPU a sample is the time between two events.
        seconds: about how long to take; there are at least 5 rounds and at most 25.
        before: on the CPU, called before each call that is timed, and not timed itself: to leave
            the caches as other work would.
        within: what is entered around a variant's turns, and not timed: to choose a backend.

    Returns:
        Every sample of each variant, in microseconds, in the order taken.
    """
    around = within or {}

    def take(name: str, repetitions: int) -> list[float]:
        with around.get(name, nullcontext)():
            return turn(variants[name], device, repetitions, before)

    estimates = {}
    for name, function in variants.items():
        with around.get(name, nullcontext)():
            for _ in range(WARM_UP):
                function()
        estimates[name] = min(take(name, MIN_REPETITIONS)) / 1e6
    slowest = max(estimates.values())
    repetitions = clamp(TURN_SECONDS / slowest, MIN_REPETITIONS, MAX_REPETITIONS)
    one_round = sum(estimates.values()) * (1 + repetitions)
    rounds = clamp(seconds / one_round, MIN_ROUNDS, MAX_ROUNDS)
    samples: dict[str, list[float]] = {name: [] for name in variants}
    with _no_collection():
        for order in in_turns(variants, rounds):
            for name in order:
                samples[name] += take(name, repetitions)
    return samples


def in_turns(names: Iterable[str], rounds: int, first: int = 0) -> Iterator[list[str]]:
    """The order of each round: all of the names, from one further on than in the round before.

    So what comes before a variant is not always the same, and whatever else slows the machine for
    a while slows all of them.

    Args:
        names: of what takes turns.
        rounds: how many.
        first: the number of the first round.
    """
    listed = list(names)
    for number in range(first, first + rounds):
        start = number % max(len(listed), 1)
        yield listed[start:] + listed[:start]


def turn(
    function: Callable[[], object],
    device: torch.device,
    repetitions: int,
    before: Callable[[], object] | None = None,
) -> list[float]:
    """Call once, then time each of some calls, in microseconds."""
    function()
    if device.type == "cuda":
        # Events are queued like kernels: the GPU does not wait for the next call to be launched.
        events = [torch.cuda.Event(enable_timing=True) for _ in range(repetitions + 1)]
        events[0].record()
        for event in events[1:]:
            function()
            event.record()
        torch.cuda.synchronize(device)
        return [
            start.elapsed_time(end) * 1e3  # from milliseconds
            for start, end in itertools.pairwise(events)
        ]
    samples = []
    for _ in range(repetitions):
        if before is not None:
            before()
        start = time.perf_counter_ns()
        function()
        samples.append((time.perf_counter_ns() - start) / 1e3)
    return samples


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Do some steps, and give the seconds until the device has done them."""
    wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait(device)
    return time.perf_counter() - start


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """The most that PyTorch's tensors take during a call, beyond what they take before it."""
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    with (
        _quiet_stderr(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded,
    ):
        function()
    assert recorded.profiler is not None
    events = [
        event
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"  # an allocation, or with a minus a release
    ]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((event.nbytes() for event in events), initial=0))


def reason_of(error: Exception) -> str:
    """Why a variant is left out, in a line: what a user may mend is said without its type."""
    words = " ".join(str(error).split()) or "no reason given"
    return words[:300] if isinstance(error, UserError) else f"{type(error).__name__}: {words[:300]}"


def clamp(value: float, least: int, most: int) -> int:
    """The whole number below a value, within bounds."""
    return max(least, min(most, int(value)))


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    # The profiler's library writes lines to the file descriptor, whatever its log level.
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)

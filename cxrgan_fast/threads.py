"""How many threads a process may use, and how those beside the training share its cores."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

MOST_THREADS = 1024
_PROBE_SECONDS = 0.05
_PROBE_SIDE = 256  # a product of two such matrices takes about a millisecond of a core


def use_one_core() -> None:
    """Have the calling thread's PyTorch ops run on it alone.

    By default a thread that runs its first large op gets OpenMP workers of its own, one less than
    there are cores, and keeps them. With more threads than cores in all, libgomp's no longer wait
    busily for each other but sleep: from then on every op of the training thread wakes its own.

    PyTorch has the threads that are started after this begin the same way; those that have run an
    op before are not changed.
    """
    torch.set_num_threads(1)


def available_cores(root: Path = Path("/")) -> int:
    """Count the cores that this process may use: its affinity, and its control group's quota.

    A container that may use 1.5 cores counts as one: a second thread would be stopped half of the
    time, and the first would wait for it.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """
    # macOS and Windows have no affinity that Python knows of.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.floor(min(cores, _cpu_quota(root))))


def _cpu_quota(root: Path) -> float:
    """The smallest quota of the process's control groups (versions 1 and 2), in cores."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return math.inf  # no Linux
    smallest = math.inf
    for line in lines:
        _, _, controllers_and_path = line.partition(":")
        controllers, _, path = controllers_and_path.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        place = mount / path.lstrip("/")
        if controllers and not mount.is_dir():  # each controller may be mounted by itself
            mount = root / "sys/fs/cgroup/cpu"
            place = mount / path.lstrip("/")
        # A group is held to the quotas of those above it as well. Within a container the path may
        # be one of the host's; then only the mount itself is there.
        for folder in (place, *place.parents):
            smallest = min(smallest, _quota_of(folder))
            if folder == mount:
                break
    return smallest


def _quota_of(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        if quota in ("max", "-1"):
            return math.inf
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def default_threads() -> int:
    """Return how many threads PyTorch's ops should take in this process.

    PyTorch counts the cores of the affinity and knows no quota. A number that the user has chosen
    (``OMP_NUM_THREADS``, ``MKL_NUM_THREADS``, ``torch.set_num_threads``) is kept where it is
    smaller, and by the variables also where it is larger.
    """
    chosen = torch.get_num_threads()
    if os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS"):
        return chosen
    return min(chosen, available_cores())


def limit_threads() -> None:
    """Keep PyTorch's threads within what the process may use: see :func:`default_threads`."""
    if default_threads() < torch.get_num_threads():
        torch.set_num_threads(default_threads())


@contextmanager
def threads_kept() -> Iterator[None]:
    """Restore PyTorch's number of threads at the end of the block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def free_cores(threads: int) -> float:
    """Measure how many cores a number of threads gets at this moment, in about 0.05 s.

    The threads multiply small matrices, so that they meet often, as those of a training step do.
    Where other work takes a core, they get less processor time than they could use. The caller's
    number of threads is the same afterwards.

    Args:
        threads: how many to try; also the most that is returned.
    """
    with threads_kept():
        torch.set_num_threads(threads)
        a, b = torch.ones(2, _PROBE_SIDE, _PROBE_SIDE)
        torch.mm(a, b)  # the workers are started before the clock is
        wall, processor = time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < _PROBE_SECONDS:
            torch.mm(a, b)
        took = time.perf_counter() - wall
        return min(float(threads), (time.process_time() - processor) / took)

"""How long launches take on a GPU that is not here: a model, meant to be right within 40 %.

A launch takes what an empty one takes that depends on the launch before it, and then the largest of

- *chain*: one warp after the other on the same place: its instructions at the pace of a warp alone,
  and each wait for memory in full. With the warps that a multiprocessor holds at once this is also
  the limit that bytes in flight set: a trip asks for its packets and waits once.
- *issue*: all instructions of the busiest multiprocessor at the pace of its schedulers.
- *memory*: what a warp does around its units, and then all bytes at the rate of L2 or of memory.

Where blocks wait for each other, that is added. Bytes come from L2 as far as the tensors of a step
(four of the image's size) fit into it; what a launch has kept in shared memory it reads once, the
rest twice. Kernels, blocks, tilings and resident blocks come from the product's launchers
(``bench.predict_plans``), instructions and waits from the compiled code (``bench.predict_code``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeVar

from bench.predict_cost import WARP, Cost
from bench.predict_trips import Work

Number = TypeVar("Number", int, float)

TENSORS_OF_A_STEP = 4  # x, y, dy and dx
TENSORS_OF_A_COPY = 2


def _constant(default: Number, source: str) -> Number:
    value: Number = field(default=default, metadata={"help": source})
    return value


@dataclass(frozen=True)
class Hardware:
    """A GPU's constants: of an H100 SXM unless others are given."""

    multiprocessors: int = _constant(132, "NVIDIA's H100 data sheet")
    shared_kib: int = _constant(227, "shared memory of a block; CUDA C++ Programming Guide")
    threads: int = _constant(2048, "of a multiprocessor; CUDA C++ Programming Guide")
    blocks: int = _constant(32, "of a multiprocessor; CUDA C++ Programming Guide")
    clock_ghz: float = _constant(1.98, "67 TFLOP/s of float32 in the data sheet are 1.98 GHz")
    l2_mb: float = _constant(50.0, "NVIDIA's H100 data sheet")
    l2_share: float = _constant(0.7, "estimate: what a step finds again; L2 has two halves")
    memory_gb_per_s: float = _constant(3350.0, "NVIDIA's H100 data sheet")
    memory_share: float = _constant(0.9, "estimate: what a copy reaches of it")
    l2_gb_per_s: float = _constant(5000.0, "estimate; published microbenchmarks have 5 to 6 TB/s")
    fill_bytes_per_cycle: float = _constant(64.0, "of a multiprocessor, from L2; white paper")
    l2_cycles: float = _constant(400.0, "estimate: 260 alone (arXiv:2402.13499), loaded more")
    memory_cycles: float = _constant(800.0, "estimate: 480 alone (arXiv:2402.13499), loaded more")
    peer_cycles: float = _constant(
        200.0, "another block of a cluster: 180 alone (arXiv:2402.13499)"
    )
    near_cycles: float = _constant(30.0, "shared memory: 29 (arXiv:2402.13499); shuffles")
    warp_cycles: float = _constant(
        3.0, "estimate: an instruction of a warp alone; 4 if each depends"
    )
    issue_share: float = _constant(0.7, "estimate, of four instructions a cycle and multiprocessor")
    launch_us: float = _constant(1.6, "estimate: an empty kernel after another in a CUDA graph")
    overlapping_launch_us: float = _constant(0.8, "estimate: the same with programmatic launch")
    cluster_us: float = _constant(0.4, "estimate: what clusters add to a launch")
    grid_barrier_us: float = _constant(1.2, "estimate: all blocks wait for all others")


@dataclass(frozen=True, kw_only=True)
class Launch(Work):
    """One launch, and the work of its warps."""

    kernel: str
    direction: str
    """forward or backward."""
    blocks: int
    threads: int
    resident: int
    """Blocks that a multiprocessor holds at once."""
    bytes_read: int = 0
    bytes_written: int = 0
    cluster: int = 1
    overlapping: bool = False
    """Launched while the one before still runs (programmatic dependent launch)."""


@dataclass(frozen=True)
class Time:
    """Microseconds of a launch: its own, and each limit's."""

    launch: float
    chain: float
    issue: float
    memory: float

    @property
    def total(self) -> float:
        """The launch and the tightest limit."""
        return self.launch + max(self.chain, self.issue, self.memory)

    @property
    def limit(self) -> str:
        """What most of the time is spent on: launch, chain, issue or memory."""
        return max(vars(self), key=lambda name: float(vars(self)[name]))


def time_of(launch: Launch, hardware: Hardware, from_l2: float) -> Time:
    """The microseconds of a launch.

    Args:
        launch: what it does.
        hardware: on what.
        from_l2: the part of its bytes, 0 to 1, that L2 has.
    """
    of = hardware
    waves = math.ceil(launch.blocks / (launch.resident * of.multiprocessors))
    busiest = math.ceil(launch.blocks / of.multiprocessors)
    instructions = busiest * math.ceil(launch.threads / WARP) * launch.instructions
    at_work = min(launch.blocks, of.multiprocessors)
    moved = launch.bytes_read + launch.bytes_written
    base = of.overlapping_launch_us if launch.overlapping else of.launch_us
    around = _warp_us(launch.around, launch.cluster, of, from_l2)
    return Time(
        launch=base
        + (of.cluster_us if launch.cluster > 1 else 0)
        + of.grid_barrier_us * launch.spins,
        chain=waves * _warp_us(launch.warp, launch.cluster, of, from_l2),
        issue=instructions / (4 * of.issue_share * of.clock_ghz * 1e3),
        memory=around
        + max(
            _memory_us(moved, of, from_l2),
            moved / (at_work * of.fill_bytes_per_cycle * of.clock_ghz * 1e3),
        ),
    )


def copy_us(image_bytes: int, hardware: Hardware) -> float:
    """The microseconds of a copy of an image, in a graph of such copies."""
    latency = hardware.l2_cycles / (hardware.clock_ghz * 1e3)
    moved = TENSORS_OF_A_COPY * image_bytes
    return hardware.launch_us + latency + _memory_us(moved, hardware, share_in_l2(moved, hardware))


def share_in_l2(touched: int, hardware: Hardware) -> float:
    """The part of the bytes, 0 to 1, that a step replayed on the same tensors finds in L2.

    Args:
        touched: all bytes of its tensors.
        hardware: whose L2.
    """
    room = hardware.l2_mb * 1e6 * hardware.l2_share
    return min(1.0, room / touched) if touched else 1.0


def _warp_us(cost: Cost, cluster: int, of: Hardware, from_l2: float) -> float:
    far = from_l2 * of.l2_cycles + (1 - from_l2) * of.memory_cycles
    peer = of.peer_cycles if cluster > 1 else of.near_cycles  # its own shared memory
    cycles = cost.instructions * of.warp_cycles + cost.near * of.near_cycles
    cycles += cost.far * far + cost.peer * peer
    return cycles / (of.clock_ghz * 1e3)


def _memory_us(moved: int, of: Hardware, from_l2: float) -> float:
    from_memory = (1 - from_l2) / (of.memory_gb_per_s * of.memory_share)
    return moved * (from_l2 / of.l2_gb_per_s + from_memory) / 1e3

"""What the compiled code of a kernel costs: its loops, their instructions and how often it waits.

Nothing is typed in by hand. Of nvdisasm's listing of a kernel (``bench.predict_sass``):

- Loops are found from the branches that go back (natural loops). A *packet loop* is an innermost
  one with global accesses of 16 bytes and no double arithmetic, the *unit loop* is around it. A
  *table loop* is an innermost one that loads from global memory and adds in double. An *exchange*
  is an innermost loop of shuffles, a *merge* one of shared memory, a *spin* waits for other blocks.
- What a way through costs is the longest one, in instructions. Blocks that call a division's slow
  way or gather a diverged warp are never on it.
- A trip of a packet loop is the longest way without a division: a strip divides by the size of its
  first batch only. What the division's way has more is counted once a unit.
- A trip of a table loop takes several parts at once; fewer that are left over count as a trip, and
  the code for them, around the loop, is not on the way.
- A warp waits (``far``) where an instruction touches a register that a load from global memory is
  to fill; all that it has asked for before has then come. ``near`` is the same for shared memory,
  shuffles, constants and the special functions. Barriers are waits, those of a cluster far ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from bench.predict_sass import Block, Instruction, Loop, blocks_of, loops_of

_REGISTER = re.compile(r"\bR(\d+)(\.64)?")
_NEAR = frozenset({"LDS", "SHFL", "MUFU", "S2R", "LDC", "I2F", "F2I"})
_FAR = frozenset({"LDG", "LD", "ATOMG"})
_FAR_BARRIERS = frozenset({"UCGABAR_WAIT", "MEMBAR"})
_DOUBLE = frozenset({"DADD", "DFMA", "DMUL"})
_MUST = 10**6
"""The weight of a loop that the way through its surroundings has to go through."""


@dataclass(frozen=True)
class Cost:
    """What some code costs a warp: instructions, and waits for far and for near data."""

    instructions: float = 0
    far: float = 0
    near: float = 0

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other."""
        return Cost(
            self.instructions + other.instructions, self.far + other.far, self.near + other.near
        )

    def __mul__(self, times: float) -> Cost:
        """The same so many times."""
        return Cost(self.instructions * times, self.far * times, self.near * times)

    def less(self, other: Cost) -> Cost:
        """What this has more than another, at least nothing."""
        return Cost(
            max(self.instructions - other.instructions, 0),
            max(self.far - other.far, 0),
            max(self.near - other.near, 0),
        )


@dataclass(frozen=True)
class TableLoop:
    """A loop over partial sums: what a trip costs, and how many it loads."""

    trip: Cost
    loads: int


@dataclass
class Code:
    """The counts of one kernel; each is of one warp."""

    packets: Cost = Cost()
    """A trip of every packet loop, together."""
    loads: int = 0
    """Global loads of 16 bytes in those trips, for each lane; and stores."""
    stores: int = 0
    unit: Cost = Cost()
    """Each unit, around its packets."""
    unit_exchange: Cost = Cost()
    """A trip of the exchanges of a unit."""
    around: Cost = Cost()
    """Once, around everything else."""
    exchange: Cost = Cost()
    """A trip of the exchanges outside of units."""
    merge: Cost = Cost()
    """Taking in what one warp of a block has left in shared memory for another."""
    tables: list[TableLoop] = field(default_factory=list)
    sum: Cost = Cost()
    """Each sum over a table, around the loop: the mean of them."""
    spins: int = 0
    """Waits for all blocks of the grid."""

    def packets_of(self, in_flight: int) -> Cost:
        """What each packet costs, where a trip takes so many."""
        return self.packets * (1 / in_flight)


def code_of(listing: str) -> Code:
    """The counts of one kernel.

    Args:
        listing: its part of ``nvdisasm -c``, as ``kernels`` gives it.

    Raises:
        ValueError: its branches are not those of nested loops.
    """
    blocks, code, sums = blocks_of(listing), Code(), list[Cost]()
    _Reader(blocks, code, sums).around(loops_of(blocks))
    if sums:
        code.sum = sum(sums, Cost()) * (1 / len(sums))
    return code


@dataclass
class _Way:
    """A way through a loop, or through the kernel: its own blocks, and the loops that are on it."""

    blocks: list[list[Instruction]] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)

    @property
    def cost(self) -> Cost:
        return _cost_of(self.blocks)

    def count(self, name: str, *, wide: bool = False) -> int:
        found = [each for block in self.blocks for each in block]
        return sum(each.name == name and (each.wide or not wide) for each in found)


class _Reader:
    """Walks the loops of a kernel from the outside and adds up their costs."""

    def __init__(self, blocks: list[Block], code: Code, sums: list[Cost]) -> None:
        self.blocks, self.code, self.sums = blocks, code, sums

    def around(self, loop: Loop) -> None:
        """Take what is outside of units, which are in loops of it."""
        way = self._way(loop)
        self.code.around += way.cost
        for child in way.loops:
            kinds = {self.kind(each) for each in child.children}
            if "packets" in kinds:
                self._unit(child)
            elif "table" in kinds:
                sum_way = self._way(child, rather_not=self._left_over)
                self.sums.append(sum_way.cost)
                for each in sum_way.loops:
                    self._inner(each, in_unit=False)
            elif child.children:
                self.around(child)
            else:
                self._inner(child, in_unit=False)

    def kind(self, loop: Loop) -> str:
        """What an innermost loop is for; "" of others."""
        if loop.children:
            return ""
        found = [each for i in loop.body for each in self.blocks[i].instructions]
        names = {each.name for each in found}
        if any("STRONG.GPU" in each.suffix for each in found if each.name in ("LDG", "LD")):
            return "spin"
        if names & _DOUBLE:
            return "table" if "LDG" in names else "other"
        if any(each.wide for each in found):
            return "packets"
        if "SHFL" in names:
            return "exchange"
        return "merge" if "LDS" in names else "other"

    def _unit(self, loop: Loop) -> None:
        way = self._way(loop)
        self.code.unit += way.cost
        for child in way.loops:
            self._inner(child, in_unit=True)

    def _packets(self, loop: Loop) -> None:
        whole = self._way(loop)
        trip = self._way(loop, never=lambda block: block.has(("FCHK",)))
        if not trip.blocks:
            trip = whole
        self.code.packets += trip.cost
        self.code.unit += whole.cost.less(trip.cost)
        self.code.loads += trip.count("LDG", wide=True)
        self.code.stores += trip.count("STG", wide=True)

    def _inner(self, loop: Loop, *, in_unit: bool) -> None:
        """Take an innermost loop; one with loops in it as if it were once around."""
        kind, code, way = self.kind(loop), self.code, self._way(loop)
        if kind == "packets" and in_unit:
            self._packets(loop)
        elif kind == "table":
            code.tables.append(TableLoop(way.cost, way.count("LDG")))
        elif kind == "spin":
            code.spins += 1
        elif kind == "merge":
            code.merge += way.cost * (1 / max(way.count("LDS"), 1))
        elif kind == "exchange" and in_unit:
            code.unit_exchange += way.cost
        elif kind == "exchange":
            code.exchange += way.cost
        elif in_unit:
            code.unit += way.cost
        else:
            code.around += way.cost

    @staticmethod
    def _left_over(block: Block) -> bool:
        """Whether a block around a table loop takes what a trip of several parts has left over."""
        return block.has(("LDG",)) and not block.has(("STG",))

    def _way(
        self,
        loop: Loop,
        *,
        never: Callable[[Block], bool] = lambda block: False,
        rather_not: Callable[[Block], bool] = lambda block: False,
    ) -> _Way:
        """The longest way through a loop's own blocks; an empty one where there is none.

        Args:
            loop: the loop, or the whole kernel.
            never: whether a block is not to be on it.
            rather_not: whether a block is on it only where there is no other way.
        """
        inside = {i: child for child in loop.children for i in child.body}
        weights = {
            i: len(block.instructions) * (-1 if rather_not(block) else 1)
            for i, block in ((i, self.blocks[i]) for i in loop.body if i not in inside)
            if not block.cold and not never(block)
        }
        for child in loop.children:
            counts = child.children or self.kind(child) in ("packets", "table")
            weights[child.header] = _MUST if counts else 1

        def after(node: int) -> set[int]:
            own = inside[node].body if node in inside else {node}
            found = {s for each in own for s in self.blocks[each].successors}
            return found - own if node in inside else found

        way = _longest(
            loop.header,
            weights,
            lambda node: {n for n in after(node) if n in weights and n != loop.header},
            lambda node: loop.header in after(node) or not after(node),
        )
        return _Way(
            [[] if i in inside else self.blocks[i].instructions for i in way],
            [inside[i] for i in way if i in inside],
        )


def _longest(
    start: int,
    weights: Mapping[int, int],
    following: Callable[[int], set[int]],
    ends: Callable[[int], bool],
) -> list[int]:
    """The nodes of the heaviest way from a node to one that ends it; none if there is none."""
    best: dict[int, tuple[int, list[int]] | None] = {}
    order, state = list[int](), dict[int, bool]()
    waiting = [(start, False)] if start in weights else []
    while waiting:
        node, done = waiting.pop()
        if done:
            state[node] = True
            order.append(node)
        elif node not in state:
            state[node] = False
            waiting.append((node, True))
            for each in following(node):
                if state.get(each) is False:
                    raise ValueError("branches that are not those of nested loops")
                waiting.append((each, False))
    for node in order:
        ways = [way for each in following(node) if (way := best.get(each)) is not None]
        if ends(node):
            ways.append((0, []))
        if not ways:
            best[node] = None
            continue
        length, way = max(ways, key=lambda each: each[0])
        best[node] = length + weights[node], [node, *way]
    found = best.get(start)
    return found[1] if found else []


def _cost_of(way: list[list[Instruction]]) -> Cost:
    """What a way costs; an empty list on it is a loop: before it a warp waits for everything."""
    instructions = far = near = 0
    pending: dict[int, bool] = {}  # registers to be filled: whether from far

    def wait(registers: Iterable[int]) -> None:
        nonlocal far, near
        found = [pending[each] for each in registers if each in pending]
        if any(found):
            far += 1
            pending.clear()
        elif found:
            near += 1
            for each in [each for each, from_far in pending.items() if not from_far]:
                del pending[each]

    for block in way:
        if not block:
            wait(list(pending))
        for each in block:
            instructions += 1
            count = 4 if ".128" in each.suffix else 2 if ".64" in each.suffix else 1
            operands = [
                [int(n) + i for i in range(2 if pair else count)]
                for n, pair in _REGISTER.findall(each.operands)
            ]
            wait(r for registers in operands for r in registers)
            if each.name in _NEAR | _FAR and operands:
                pending |= dict.fromkeys(operands[0], each.name in _FAR)
            far += each.name in _FAR_BARRIERS
            near += each.name == "BAR"
    wait(list(pending))
    return Cost(instructions, far, near)

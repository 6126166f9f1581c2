"""What a way through compiled code costs a warp: its instructions, and how often it waits.

A warp waits (``far``) where an instruction touches a register that a load from global memory is to
fill; all that it has asked for before has then come. ``peer`` is the same for other blocks of a
cluster, ``near`` for shared memory, shuffles, constants and special functions. Barriers are waits.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.predict_sass import Instruction

WARP = 32
_REGISTER = re.compile(r"\bR(\d+)(\.64)?")
_NEAR, _PEER, _FAR = 1, 2, 3
_LEVELS = {
    **dict.fromkeys(("LDS", "SHFL", "MUFU", "S2R", "LDC", "I2F", "F2I"), _NEAR),
    **dict.fromkeys(("LDG", "ATOMG", "ATOM"), _FAR),
    "LD": _PEER,  # by a generic address: what the blocks of a cluster have left for each other
}
_BARRIERS = {"BAR": _NEAR, "UCGABAR_WAIT": _PEER, "MEMBAR": _FAR}


@dataclass(frozen=True)
class Cost:
    """What some code costs a warp: instructions, and waits for far, near and a cluster's data."""

    instructions: float = 0
    far: float = 0
    near: float = 0
    peer: float = 0

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other."""
        return self._with(other, operator.add)

    def times(self, instructions: float, waits: float) -> Cost:
        """The same several times, of which a warp waits so often."""
        return self._with(Cost(instructions, waits, waits, waits), operator.mul)

    def __mul__(self, times: float) -> Cost:
        """The same so many times."""
        return self.times(times, times)

    def less(self, other: Cost) -> Cost:
        """What this has more than another, at least nothing."""
        return self._with(other, lambda own, its: max(own - its, 0))

    def _with(self, other: Cost, combine: Callable[[float, float], float]) -> Cost:
        return Cost(*map(combine, vars(self).values(), vars(other).values()))


def cost_of(way: list[list[Instruction]], off: Callable[[Instruction], bool]) -> Cost:
    """What a way costs; an empty list on it is a loop: before it a warp waits for everything.

    Args:
        way: the instructions of its blocks.
        off: whether an instruction does nothing, as its predicate does not hold.
    """
    instructions, waits = 0, dict.fromkeys((_NEAR, _PEER, _FAR), 0)
    pending: dict[int, int] = {}  # registers to be filled: from how far

    def wait(registers: Iterable[int]) -> None:
        level = max((pending.get(each, 0) for each in registers), default=0)
        if level:
            waits[level] += 1
            for each in [each for each, of in pending.items() if of <= level]:
                del pending[each]

    for block in way:
        if not block:
            wait(list(pending))
        for each in block:
            instructions += 1
            if off(each):
                continue
            count = 4 if ".128" in each.suffix else 2 if ".64" in each.suffix else 1
            operands = [
                [int(n) + i for i in range(2 if pair else count)]
                for n, pair in _REGISTER.findall(each.operands)
            ]
            wait(r for registers in operands for r in registers)
            level = _FAR if "STRONG" in each.suffix else _LEVELS.get(each.name)
            if level and operands:
                pending |= dict.fromkeys(operands[0], level)
            if each.name in _BARRIERS:
                waits[_BARRIERS[each.name]] += 1
    wait(list(pending))
    return Cost(instructions, waits[_FAR], waits[_NEAR], waits[_PEER])

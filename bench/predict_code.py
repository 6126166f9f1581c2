"""What the compiled code of a kernel costs: its loops, their instructions and how often it waits.

Nothing is typed in by hand. Of nvdisasm's listing of a kernel (``bench.predict_sass``):

- Loops are found from the branches that go back (natural loops), and told apart by what they load,
  store and compute (``_kind``). How often each goes round is known to ``bench.predict_trips``.
- What a way through a loop costs is the longest one, in instructions. Blocks that call a division's
  slow way or gather a diverged warp are never on it. Blocks that take what a trip of several parts
  has left over are not on it either where there is another way: parts are counted by the loop.
- One kernel may be launched as a grid whose blocks wait for each other, or not: the way goes
  through the waiting and the hand-over of the launch at hand.
- A trip of a packet loop is the longest way without a division, a reciprocal or a label: those
  are of the first trip only, and counted once a unit. Where packets are kept in shared memory there
  are two costs of a trip, of kept packets and of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import networkx as nx

from bench.predict_cost import Cost, cost_of
from bench.predict_sass import Block, Instruction, Loop, blocks_of, flow_of, loops_of

_DOUBLE = frozenset({"DADD", "DFMA", "DMUL"})
_CLUSTER = ("UCGABAR_ARV", "UCGABAR_WAIT")
_MUST = 10**6
"""The weight of a loop that the way through its surroundings has to go through."""
_CLUSTERS = 10 * _MUST
"""The weight of what a cluster waits by: more than all that grids have in its place."""
_MANY = 4
"""So many scalar loads in a block are parameters that could not be loaded 16 bytes at a time."""


@dataclass(frozen=True)
class Trip:
    """A trip of a packet loop."""

    cost: Cost
    first: Cost
    """What the first trip of a unit has more."""
    loads: int
    """Global loads of 16 bytes, for each lane; and stores."""
    stores: int


@dataclass
class Part:
    """A loop, or the whole kernel, with the loops on the way through it."""

    kind: str
    cost: Cost = field(default_factory=Cost)
    """Of a trip, without the loops in it; of packets that are read again, or not to be kept."""
    items: int = 1
    """What a trip takes at once of what the loop goes over."""
    kept: Trip | None = None
    """Of packet loops: where packets are kept in shared memory, and where not."""
    again: Trip | None = None
    parts: list[Part] = field(default_factory=list)

    def walk(self) -> Iterable[Part]:
        """This and all loops in it."""
        yield self
        for each in self.parts:
            yield from each.walk()


def code_of(listing: str, grid: bool) -> Part:
    """A kernel by its loops.

    Args:
        listing: its part of ``nvdisasm -c``, as ``kernels`` gives it.
        grid: whether it is launched as a grid whose blocks wait for each other.

    Raises:
        ValueError: its branches are not those of nested loops.
    """
    blocks = blocks_of(listing)
    return _Reader(blocks, grid).part(loops_of(blocks), "kernel")


@dataclass
class _Way:
    """A way through a loop, or through the kernel: its own blocks, and the loops that are on it."""

    blocks: list[list[Instruction]] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)

    def cost(self, off: Callable[[Instruction], bool] = lambda each: False) -> Cost:
        return cost_of(self.blocks, off)

    def count(
        self, *names: str, wide: bool = False, off: Callable[[Instruction], bool] | None = None
    ) -> int:
        found = [each for block in self.blocks for each in block]
        return sum(
            each.name in names and (each.wide or not wide) and not (off and off(each))
            for each in found
        )


def _of_others(each: Instruction) -> bool:
    """Whether it reads what another block of the cluster has."""
    return each.name == "LD" and "STRONG" not in each.suffix


def _wide_load(each: Instruction) -> bool:
    return each.wide and each.name == "LDG"


def _in_shared(each: Instruction) -> bool:
    return each.name in ("LDS", "STS") and ".128" in each.suffix


def _left_over(block: Block) -> bool:
    """Whether a block takes what a trip of several parts has left over."""
    return block.has(("LDG", "LD", "LDS")) and not block.has(("STG", "STS"))


def _unaligned(block: Block) -> bool:
    loads = [each for each in block.instructions if each.name == "LDG"]
    return len(loads) >= _MANY and not any(each.wide or ".64" in each.suffix for each in loads)


class _Reader:
    """Walks the loops of a kernel from the outside."""

    def __init__(self, blocks: list[Block], grid: bool) -> None:
        self.blocks, self.grid, self.flow = blocks, grid, flow_of(blocks)
        # Of a kernel that a grid waits in, what combines for all blocks comes after the waiting.
        self.may_wait = any(
            each.name in ("LDG", "LD") and "STRONG.GPU" in each.suffix
            for block in blocks
            for each in block.instructions
        )

    def part(self, loop: Loop, kind: str) -> Part:
        """A loop with those in it."""
        if kind == "packets":
            return self._packets(loop)
        inner = kind not in ("kernel", "unit") and loop.children
        way = self._way(loop, rather_not=_left_over if inner else _unaligned)
        found = [self.part(each, self._kind(each)) for each in way.loops]
        parts: list[Part] = []
        for each in found:
            # One loop takes several parts at once, the next to it what that has left over.
            if parts and parts[-1].kind == each.kind and not (each.parts or each.kept):
                least = each.kind == "columns"
                parts[-1] = min((parts[-1], each), key=lambda e: e.items if least else -e.items)
            else:
                parts.append(each)
        return Part(kind, way.cost(), self._items(kind, way), parts=parts)

    @staticmethod
    def _items(kind: str, way: _Way) -> int:
        stores = way.count("STS", "STG")
        loads = way.count("LDG", "LD")
        of = {
            "moments": loads,
            "slots": loads,
            "blocks": loads,
            "classes": loads // 3,  # γ, dβ and dγ
            "add": way.count("LDS"),
            "merge": way.count("FCHK"),
            "columns": stores,
        }
        return max(of.get(kind, 1), 1)

    def _kind(self, loop: Loop) -> str:
        """What a loop goes over."""
        if loop.children:
            return self._kind_around({self._kind(each) for each in loop.children})
        found = [each for i in loop.body for each in self.blocks[i].instructions]
        names = {each.name for each in found}
        wide = {each.name for each in found if each.wide}
        if any("STRONG.GPU" in each.suffix for each in found if each.name in ("LDG", "LD")):
            return "spin"
        if names & _DOUBLE:
            return self._kind_of_sums(names, found)
        if "LDG" in wide:
            return "packets"
        if "STG" in wide:
            return "columns"  # of a block's sums, from shared memory into a table
        if "SHFL" in names:
            return "exchange"
        return "merge" if "LDS" in names else "other"

    @staticmethod
    def _kind_of_sums(names: set[str], found: list[Instruction]) -> str:
        if "SHFL" in names:
            return "fold"
        of_loads = [each.suffix for each in found if each.name in ("LDG", "LD")]
        whole = any(".128" in each for each in of_loads)
        if "DFMA" in names:
            return "moments" if whole else "columns" if "MUFU" in names else "classes"
        return "blocks" if whole else "slots" if of_loads else "add"

    @staticmethod
    def _kind_around(kinds: set[str]) -> str:
        around = {
            "packets": "unit",
            "slots": "samples",
            "samples": "pairs",
            "moments": "group",
            "classes": "group",
            "group": "channels",
            "pairs": "channels",
            "add": "round",
        }
        return next((name for kind, name in around.items() if kind in kinds), "once")

    def _packets(self, loop: Loop) -> Part:
        inside = [each for i in loop.body for each in self.blocks[i].instructions]
        again = kept = self._trip(loop, _in_shared)
        if any(map(_in_shared, inside)):
            # They are kept while they are measured, and not loaded again when they are written.
            writes = any(each.wide and each.name == "STG" for each in inside)
            kept = self._trip(loop, _wide_load if writes else None)
        return Part("packets", again.cost, kept=kept, again=again)

    def _trip(self, loop: Loop, not_done: Callable[[Instruction], bool] | None) -> Trip:
        """A trip without some loads and stores, or with all."""

        def first(block: Block) -> bool:
            label = any(each.name == "LDG" and ".64" in each.suffix for each in block.instructions)
            return label or block.has(("FCHK", "MUFU"))

        often = self._reached(loop, first)

        def rather_not(block: Block) -> bool:
            wide = [e for e in block.instructions if e.wide or _in_shared(e)]
            left_out = [each for each in wide if not_done and not_done(each)]
            return _unaligned(block) or (
                bool(left_out) and len(left_out) == len(wide) and id(block) in often
            )

        # Scalar loads with a predicate beside loads of 16 bytes are for what is not aligned.
        unaligned = {
            id(each)
            for i in loop.body
            if any(map(_wide_load, self.blocks[i].instructions))
            for each in self.blocks[i].instructions
            if each.name == "LDG" and each.guarded and "." not in each.suffix.replace(".E", "", 1)
        }

        whole = self._way(loop, rather_not=rather_not)
        trip = self._way(loop, never=first, rather_not=rather_not)
        if not trip.blocks:
            trip = whole
        own = {id(each) for block in trip.blocks for each in block}

        def off(each: Instruction) -> bool:
            # What is not done of packets is done of the parameters of the first trip.
            return id(each) in unaligned or bool(id(each) in own and not_done and not_done(each))

        cost = trip.cost(off)
        return Trip(
            cost,
            whole.cost(off).less(cost),
            trip.count("LDG", wide=True, off=off),
            trip.count("STG", wide=True, off=off),
        )

    def _reached(self, loop: Loop, never: Callable[[Block], bool]) -> set[int]:
        """The ids of the blocks of an innermost loop that some way leads to without others."""
        allowed = [i for i in loop.body if not never(self.blocks[i])]
        if loop.header not in allowed:
            return set()
        reached = nx.descendants(self.flow.subgraph(allowed), loop.header)
        return {id(self.blocks[i]) for i in (loop.header, *reached)}

    def _exits(self, node: int) -> bool:
        """Whether a launch whose blocks do not wait may end here."""
        return not self.grid and any(e.name == "EXIT" for e in self.blocks[node].instructions[-1:])

    def _weight(self, loop: Loop) -> int | None:
        """What a loop weighs on the way through its surroundings; None if it is not on it."""
        inside = [each for i in loop.body for each in self.blocks[i].instructions]
        if any(map(_of_others, inside)):
            return None if self.grid else 2 * _MUST
        if self._kind(loop) == "spin":
            return 2 * _MUST if self.grid else None
        if self._kind(loop) == "channels" and self.may_wait and not self.grid:
            return None
        return 1 if self._kind(loop) == "other" else _MUST

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
        weights = dict[int, int]()
        for i in loop.body:
            block = self.blocks[i]
            if i in inside or block.cold or never(block):
                continue
            weights[i] = len(block.instructions) * (-1 if rather_not(block) else 1)
            if block.has(_CLUSTER):
                weights[i] += _CLUSTERS
                if self.grid:
                    del weights[i]
        for child in loop.children:
            weight = self._weight(child)
            if weight is not None:
                weights[child.header] = weight

        def after(node: int) -> set[int]:
            own = inside[node].body if node in inside else {node}
            found = {s for each in own for s in self.blocks[each].successors}
            return found - own if node in inside else found

        way = _longest(
            loop.header,
            weights,
            lambda node: {n for n in after(node) if n in weights and n != loop.header},
            lambda node: loop.header in after(node) or not after(node) or self._exits(node),
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
    if start not in weights:
        return []
    graph = nx.DiGraph([(node, each) for node in weights for each in following(node)])
    graph.add_node(start)
    graph = graph.subgraph({start, *nx.descendants(graph, start)})
    if not nx.is_directed_acyclic_graph(graph):
        raise ValueError("branches that are not those of nested loops")
    best = dict[int, tuple[int, list[int]] | None]()
    for node in reversed(list(nx.topological_sort(graph))):
        ways = [way for each in following(node) if (way := best.get(each)) is not None]
        if ends(node):
            ways.append((0, []))
        if not ways:
            best[node] = None
            continue
        length, rest = max(ways, key=lambda each: each[0])
        best[node] = length + weights[node], [node, *rest]
    found = best[start]
    return found[1] if found else []

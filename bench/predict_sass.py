"""The listing of compiled kernels: what ptxas reports, basic blocks and the loops they form."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import networkx as nx

_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z]\w*)([.\w]*)\s*(.*?);")
_LABEL = re.compile(r"^(\.L_x_\d+):")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_PREDICATE = re.compile(r"!?U?P\d")


@dataclass
class Instruction:
    name: str
    suffix: str
    operands: str
    guarded: bool = False
    """Whether it has a predicate."""

    @property
    def wide(self) -> bool:
        return self.name in ("LDG", "STG") and ".128" in self.suffix


@dataclass
class Block:
    instructions: list[Instruction] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)

    def has(self, names: Iterable[str]) -> bool:
        return any(each.name in names for each in self.instructions)

    @property
    def cold(self) -> bool:
        return self.has(("CALL", "RET")) or any(
            each.name == "WARPSYNC" and "COLLECTIVE" in each.suffix for each in self.instructions
        )


@dataclass
class Loop:
    header: int
    body: set[int]
    children: list[Loop] = field(default_factory=list)


def kernels(listing: str) -> dict[str, str]:
    """The listing of each kernel of a cubin, by its mangled name.

    Args:
        listing: what ``nvdisasm -c`` prints.
    """
    parts = re.split(r"^\.text\.(\w+):$", listing, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def usage(printed: str) -> dict[str, tuple[int, int, int]]:
    """Registers, bytes of static shared memory and of spills of each kernel.

    Args:
        printed: what ``ptxas -v`` prints.
    """
    found = {}
    for text in printed.split("Compiling entry function '")[1:]:
        registers = re.search(r"Used (\d+) registers", text)
        assert registers is not None, text
        shared = re.search(r"(\d+) bytes smem", text)
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", text)))
        found[text.split("'")[0]] = int(registers[1]), int(shared[1]) if shared else 0, spilled
    return found


def blocks_of(listing: str) -> list[Block]:
    """The basic blocks of a kernel, and which follows which.

    Ways that a warp takes only where its lanes have diverged (``BRA.DIV``) are left out.

    Args:
        listing: of one kernel.
    """
    blocks, labels = [Block()], dict[str, int]()
    targets: list[tuple[int, str]] = []
    falls = True  # whether the block before goes on to the next
    for line in listing.splitlines():
        label = _LABEL.match(line.strip())
        if label:
            labels[label[1]] = len(blocks)
            if falls:
                blocks[-1].successors.append(len(blocks))
            blocks.append(Block())
            falls = True
            continue
        found = _INSTRUCTION.search(line)
        if found is None:
            continue
        guard, name, suffix, operands = found.groups()
        blocks[-1].instructions.append(Instruction(name, suffix, operands, guard is not None))
        if name not in ("BRA", "EXIT", "RET"):
            continue
        # A branch may have its predicate in front or among its operands.
        falls = guard is not None or _PREDICATE.match(operands) is not None
        if name == "BRA" and (".DIV" in suffix or ".CONV" in suffix):
            falls = True
        elif name == "BRA":
            target = _TARGET.search(operands)
            assert target is not None, line
            targets.append((len(blocks) - 1, target[1]))
        if falls:
            blocks[-1].successors.append(len(blocks))
        blocks.append(Block())
    for block, target_label in targets:
        blocks[block].successors.append(labels[target_label])
    for each in blocks:  # of what ends the listing
        each.successors = [s for s in each.successors if s < len(blocks)]
    return blocks


def flow_of(blocks: list[Block]) -> nx.DiGraph:
    """Give which block follows which, by their numbers."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(blocks)))
    graph.add_edges_from((i, s) for i, block in enumerate(blocks) for s in block.successors)
    return graph


def loops_of(blocks: list[Block]) -> Loop:
    """The whole kernel as a loop that goes round once, with its natural loops nested in it.

    Args:
        blocks: of ``blocks_of``; the first is where the kernel begins.
    """
    graph = flow_of(blocks)
    reachable = {0, *nx.descendants(graph, 0)}
    graph.remove_nodes_from([i for i in range(len(blocks)) if i not in reachable])
    dominators = nx.immediate_dominators(graph, 0)
    # Each block below the one that every way to it goes through last.
    tree = nx.DiGraph([(d, i) for i, d in dominators.items() if d not in (i, None)])
    bodies: dict[int, set[int]] = {}
    for i, header in list(graph.edges):
        if i == header:
            bodies.setdefault(header, {header})
        elif i in tree and header in nx.ancestors(tree, i):
            around = graph.copy()
            around.remove_node(header)
            bodies.setdefault(header, {header}).update({i}, nx.ancestors(around, i))
    whole = Loop(0, reachable)
    loops = [Loop(header, bodies[header]) for header in sorted(bodies)]
    for loop in loops:
        around = [each for each in loops if loop.body < each.body]
        min(around, key=lambda each: len(each.body), default=whole).children.append(loop)
    return whole

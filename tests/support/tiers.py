"""Which of the collected tests run, and in which tier.

A test that is parametrized over a target (a backend on a device) that cannot run here is left out,
and the header of the run says so. Of a product of parameters, the first tier runs as many
combinations as show every value once, the second (marked ``long``) as many more as show every pair
of values; the rest of the product runs with ``--products``. Where even every value once takes long,
``@pytest.mark.first_tier(count)`` leaves the first tier so many of these combinations.
"""

from __future__ import annotations

import functools
import heapq
import shutil
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import combinations

import pytest
import torch

from op_cases import TARGETS, Target

GPU_FIXTURE = "gpu"
"""The fixture by which a test says that it needs a GPU, whatever the backend."""


def cover(
    rows: Sequence[Sequence[Hashable]], strength: int, begun: Sequence[int] = ()
) -> list[int]:
    """Choose rows in which every combination of ``strength`` values that occurs at all occurs.

    The rows are those that exist, not a whole product: a combination that no row has is not
    missed. The choice is greedy (the row with the most combinations that are new, the first of
    equal ones): it is the same on every run and seldom the smallest.

    Args:
        rows: Values of the same parameters in the same order, at least one row.
        strength: How many parameters' values are combined; more than there are parameters means
            all of them.
        begun: Positions of rows that are chosen already.

    Returns:
        The positions of the chosen rows in the order of their choice, those of ``begun`` first.
    """
    columns = range(len(rows[0]))
    places = list(combinations(columns, min(strength, len(columns))))

    def news(row: int, seen: set[Hashable]) -> list[Hashable]:
        values = rows[row]
        parts = ((place, tuple(values[column] for column in place)) for place in places)
        return [part for part in parts if part not in seen]

    chosen = list(begun)
    seen: set[Hashable] = set()
    for row in begun:
        seen.update(news(row, seen))
    # What a row adds can only become less. So a row whose count is fresh and still the largest is
    # the best, and the counts of most rows need not be taken again.
    heap = [(-len(places), row) for row in range(len(rows))]
    while heap:
        _, row = heapq.heappop(heap)
        new = news(row, seen)
        if not new:
            continue
        entry = (-len(new), row)
        if heap and heap[0] < entry:
            heapq.heappush(heap, entry)
            continue
        chosen.append(row)
        seen.update(new)
    return chosen


def tables(
    rows: Sequence[Sequence[Hashable]], marks: Sequence[Iterable[pytest.Mark]]
) -> tuple[list[int], list[int]]:
    """Choose the combinations of both tiers, of a test that is not slow.

    Args:
        rows: Values of the test's parameters, combination by combination.
        marks: Of each combination, and of the test.

    Returns:
        Positions of the rows with every value that is not marked ``long``, and of those with every
        pair of values, which begin with the former.
    """
    short = [row for row, each in enumerate(marks) if not any(mark.name == "long" for mark in each)]
    first_tier = [short[row] for row in cover([rows[row] for row in short], 1)] if short else []
    return first_tier, cover(rows, 2, begun=first_tier)


def spread(rows: Sequence[int], count: int) -> list[int]:
    """Pick ``count`` of the rows, or all if there are fewer, from the first to the last."""
    count = min(count, len(rows))
    return [rows[place * (len(rows) - 1) // max(count - 1, 1)] for place in range(count)]


def runnable(params: Mapping[str, object], fixtures: Collection[str]) -> bool:
    """Tell whether every target and device that a test is parametrized over is here.

    Args:
        params: Values of the parameters.
        fixtures: Names of the fixtures that the test asks for.
    """
    if any(isinstance(value, Target) and _why_not(value) for value in params.values()):
        return False
    # A parameter may have the fixture's name: of a GPU that is described, say.
    asks = GPU_FIXTURE in fixtures and GPU_FIXTURE not in params
    return torch.cuda.is_available() or not asks


@functools.cache
def _why_not(target: Target) -> str:
    return target.why_not


def values(
    params: Mapping[str, object], marks: Iterable[pytest.Mark]
) -> tuple[tuple[Hashable, ...], ...]:
    """List the values of a test's parameters; those that are given together are one value.

    Args:
        params: Values of the parameters.
        marks: The test's marks of the name ``parametrize``, which say what is given together.
    """
    together = {}
    for mark in marks:
        names = mark.args[0] if mark.args else mark.kwargs["argnames"]
        names = names.replace(",", " ").split() if isinstance(names, str) else names
        together.update(dict.fromkeys(names, tuple(names)))
    groups = dict.fromkeys(together.get(name, (name,)) for name in params)
    return tuple(tuple(_key(params[name]) for name in names) for names in groups)


def _key(value: object) -> Hashable:
    """Tell 1 from True, and know an object that cannot be compared by its identity."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value


def thin_out(metafunc: pytest.Metafunc, products: bool) -> None:
    """Leave a test those combinations of its parameters that some tier runs.

    sort_into_tiers leaves out the same ones, but sees them as items, which take most of the time of
    a collection to make: two of three are never run. pytest has no public place for the
    combinations; where they are not in this one, nothing is thinned out here.
    """
    calls = getattr(metafunc, "_calls", None)
    if not calls:
        return
    here = [call for call in calls if runnable(call.params, metafunc.fixturenames)]
    of_test = list(metafunc.definition.iter_markers())
    slow = any(mark.name == "slow" for mark in of_test)
    product = [each for each in here if not any(mark.name == "slow" for mark in each.marks)]
    if product and not slow and not products:
        together = [mark for mark in of_test if mark.name == "parametrize"]
        rows = [values(call.params, together) for call in product]
        in_table = set(tables(rows, [[*call.marks, *of_test] for call in product])[1])
        gone = {id(call) for row, call in enumerate(product) if row not in in_table}
        here = [call for call in here if id(call) not in gone]
    calls[:] = here or calls[:1]  # of none pytest makes an item without any parameters


def sort_into_tiers(
    items: Sequence[pytest.Item], products: bool
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Mark what the first tier leaves to the second as ``long``.

    Args:
        items: The collected tests.
        products: Whether the whole product of a test's parameters is wanted, not only all pairs.

    Returns:
        The tests that are to run in some tier, and those that are left out, each in the order of
        ``items``.
    """
    gone = {
        item for item in items if not runnable(_params(item), getattr(item, "fixturenames", ()))
    }
    products_of: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item not in gone and hasattr(item, "callspec") and not item.get_closest_marker("slow"):
            products_of[item.nodeid.split("[")[0]].append(item)
    for product in products_of.values():
        marks = list(product[0].iter_markers("parametrize"))
        rows = [values(_params(item), marks) for item in product]
        first_tier, table = tables(rows, [list(item.iter_markers()) for item in product])
        if limit := product[0].get_closest_marker("first_tier"):
            first_tier = spread(first_tier, *limit.args)
        for row, item in enumerate(product):
            if row not in first_tier:
                item.add_marker(pytest.mark.long)
        if not products:
            in_table = set(table)
            gone.update(item for row, item in enumerate(product) if row not in in_table)
    return [item for item in items if item not in gone], [item for item in items if item in gone]


def _params(item: pytest.Item) -> Mapping[str, object]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def header(targets: Sequence[Target] = TARGETS) -> str:
    """Name the targets that tests run on here, and each of the others with the reason."""
    here = ", ".join(str(target) for target in targets if not target.why_not)
    missing = defaultdict(list)
    for target in targets:
        if target.why_not:
            missing[target.why_not].append(str(target))
    if shutil.which("nvcc") is None:
        missing["no nvcc here"].append("compilation of the CUDA sources")
    parts = [f"{', '.join(names)} ({reason})" for reason, names in missing.items()]
    return f"targets: {here or 'none'}; NOT TESTED: {'; '.join(parts) or 'none'}"

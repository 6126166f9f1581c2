"""Squared distances that several metrics of the same two sets take, computed once."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

from torch import Tensor

Block = tuple[int, int, Tensor, Tensor]
"""As `neighbors.squared_distance_blocks` yields them."""

_Compute = Callable[[Tensor, Tensor], Iterator[Block]]

_MOST_PAIRS = 1 << 21  # of two sets, whose distances and bounds are kept: 16 MB each


@contextlib.contextmanager
def shared_distances(*sets: Tensor) -> Iterator[None]:
    """Compute the squared distances of some sets of vectors once, as long as this lasts.

    Metrics of two sets take the same distances a dozen times. Those of every two of the sets are
    kept, where they are few enough (32 MB for each two of them); all others are computed as ever.

    Args:
        sets: (N, D) each, which nobody writes to meanwhile. They are told by identity.
    """
    before = _shared.set(_Shared(sets))
    try:
        yield
    finally:
        _shared.reset(before)


def shared_or_computed(queries: Tensor, candidates: Tensor, compute: _Compute) -> Iterator[Block]:
    """Give the blocks of two sets: kept ones where `shared_distances` names both sets.

    Args:
        queries: (Q, D).
        candidates: (R, D).
        compute: gives the blocks.

    Returns:
        Blocks, which are the caller's to write to.
    """
    shared = _shared.get()
    if shared is not None and shared.holds(queries, candidates):
        return shared.blocks(queries, candidates, compute)
    return compute(queries, candidates)


class _Shared:
    """Blocks of squared distances, (first, last, squared, error), of pairs of a few sets."""

    def __init__(self, sets: Sequence[Tensor]) -> None:
        self.sets = sets
        self.kept: dict[tuple[int, int], list[Block]] = {}

    def holds(self, queries: Tensor, candidates: Tensor) -> bool:
        known = {id(each) for each in self.sets}
        few = len(queries) * len(candidates) <= _MOST_PAIRS
        return few and id(queries) in known and id(candidates) in known

    def blocks(self, queries: Tensor, candidates: Tensor, compute: _Compute) -> Iterator[Block]:
        key = id(queries), id(candidates)
        if key not in self.kept:
            self.kept[key] = list(compute(queries, candidates))
        for first, last, squared, error in self.kept[key]:
            yield first, last, squared.clone(), error.clone()


# Of each thread its own: a training may evaluate while another thread does.
_shared: ContextVar[_Shared | None] = ContextVar("shared distances", default=None)

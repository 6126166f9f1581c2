"""Nearest neighbours in Euclidean distance: exact, and in bounded memory.

Squared distances come from a matrix product, |q|² + |r|² − 2 q·r, in float64 and about the
candidates' mean. That is fast, but of two vectors that are nearly equal it leaves only rounding
errors. So the product only narrows the choice: with a bound on its error, every pair that may be
among the nearest is kept, and the distances of those few are computed from the differences, always
in the same order of summation. Hence the distance of a pair has the same bits wherever it is
computed, copies are at exactly 0, and equal distances compare equal.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cxrgan_fast.metrics.shared_distances import shared_or_computed

# Pairs of a block: eight bytes each, several times over. With the vectors of a block below, about
# 50 MB for any number of vectors.
PAIRS_AT_ONCE = 1 << 19
NUMBERS_AT_ONCE = 1 << 20  # of vectors, in float64


class Neighbors(NamedTuple):
    """The k nearest candidates of each of Q queries, nearest first.

    Attributes:
        distances: (Q, k) float64.
        rows: (Q, k) int64, of the candidates. Of equally near ones the lower row comes first.
    """

    distances: Tensor
    rows: Tensor


class Pairs(NamedTuple):
    """P pairs of a query and a candidate, ordered by query, then by candidate.

    Attributes:
        queries: (P,) int64, rows of the queries.
        candidates: (P,) int64, rows of the candidates.
        distances: (P,) float64.
    """

    queries: Tensor
    candidates: Tensor
    distances: Tensor


def nearest_neighbors(
    queries: Tensor,
    candidates: Tensor,
    k: int = 1,
    *,
    leave_one_out: bool = False,
    query_groups: Tensor | None = None,
    candidate_groups: Tensor | None = None,
) -> Neighbors:
    """Find the k nearest candidates of each query.

    Args:
        queries: (Q, D), finite, of any floating dtype.
        candidates: (R, D), finite, on the queries' device.
        k: how many.
        leave_one_out: candidate i is no neighbour of query i. For the neighbours of a set in
            itself.
        query_groups: (Q,) int64, such as the patient of each image. A candidate of the query's
            own group is no neighbour of it.
        candidate_groups: (R,) int64; given if `query_groups` is.

    Raises:
        ValueError: the shapes do not fit, or a query has fewer than k candidates.
    """
    groups = _both_groups(queries, candidates, query_groups, candidate_groups)
    distances = queries.new_empty((len(queries), k), dtype=torch.float64)
    rows = torch.empty_like(distances, dtype=torch.int64)
    for first, last, pairs in _contenders(queries, candidates, k, leave_one_out, groups):
        # By query, then distance, then candidate: the two sorts are stable.
        order = pairs.distances.argsort(stable=True)
        order = order[pairs.queries[order].argsort(stable=True)]
        counts = torch.bincount(pairs.queries - first, minlength=last - first)
        starts = counts.cumsum(0) - counts
        chosen = order[starts[:, None] + torch.arange(k, device=starts.device)]  # (block, k)
        distances[first:last] = pairs.distances[chosen]
        rows[first:last] = pairs.candidates[chosen]
    return Neighbors(distances, rows)


def tied_nearest(queries: Tensor, candidates: Tensor, *, leave_one_out: bool = False) -> Pairs:
    """Pair each query with its nearest candidate and all others at exactly that distance.

    Args:
        queries: (Q, D), finite.
        candidates: (R, D), finite, on the queries' device.
        leave_one_out: candidate i is no neighbour of query i.

    Raises:
        ValueError: the shapes do not fit, or a query has no candidate.
    """
    no_rows = torch.empty(0, dtype=torch.int64, device=queries.device)
    found = [Pairs(no_rows, no_rows, no_rows.double())]
    for first, last, pairs in _contenders(queries, candidates, 1, leave_one_out, None):
        nearest = pairs.distances.new_full((last - first,), torch.inf)
        nearest.scatter_reduce_(0, pairs.queries - first, pairs.distances, "amin")
        tied = pairs.distances == nearest[pairs.queries - first]
        found.append(Pairs(*(each[tied] for each in pairs)))
    return Pairs(*(torch.cat(each) for each in zip(*found, strict=True)))


def within_any_ball(queries: Tensor, centers: Tensor, radii: Tensor) -> Tensor:
    """Tell which queries lie in at least one ball, its surface included.

    Args:
        queries: (Q, D), finite.
        centers: (R, D), finite, on the queries' device.
        radii: (R,) float64, of the balls; distances as this module computes them.

    Returns:
        (Q,) bool.

    Raises:
        ValueError: the shapes do not fit.
    """
    inside = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    squared_radii = radii.double().square()
    for first, last, squared, error in squared_distance_blocks(queries, centers):
        error.add_(squared_radii * 1e-15)  # the radii's own rounding
        inside[first:last] = (squared + error < squared_radii).any(1)
        unsure = (squared - error <= squared_radii) & ~inside[first:last, None]
        rows, columns = unsure.nonzero(as_tuple=True)
        exact = pair_distances(queries, centers, rows + first, columns)
        inside[first + rows[exact <= radii[columns]]] = True
    return inside


def count_balls(queries: Tensor, centers: Tensor, radii: Tensor) -> Tensor:
    """Count the balls that hold each query, their surfaces included.

    Args:
        queries: (Q, D), finite.
        centers: (R, D), finite, on the queries' device.
        radii: (R,) float64, of the balls; distances as this module computes them.

    Returns:
        (Q,) int64.

    Raises:
        ValueError: the shapes do not fit.
    """
    counts = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    squared_radii = radii.double().square()
    for first, last, squared, error in squared_distance_blocks(queries, centers):
        error.add_(squared_radii * 1e-15)  # the radii's own rounding
        inside = squared + error < squared_radii
        unsure = (squared - error <= squared_radii) & ~inside
        rows, columns = unsure.nonzero(as_tuple=True)
        inside[rows, columns] = (
            pair_distances(queries, centers, rows + first, columns) <= radii[columns]
        )
        counts[first:last] = inside.sum(1)
    return counts


def nearest_drawn(neighbors: Neighbors, k: int, drawn: Tensor) -> Tensor:
    """Return the distance to the k-th nearest of those candidates that a resample holds.

    Args:
        neighbors: the nearest candidates of Q queries, more than k of each.
        k: which of them.
        drawn: (R,) bool, which candidates the resample holds.

    Returns:
        (Q,) float64; where fewer than k of the neighbors listed were drawn, the distance to the
        last of them.
    """
    enough = drawn[neighbors.rows].cumsum(1) >= k  # (Q, listed)
    enough[:, -1] = True
    place = enough.to(torch.uint8).argmax(1, keepdim=True)  # the first that is 1
    return neighbors.distances.gather(1, place)[:, 0]


def squared_distances(queries: Tensor, candidates: Tensor, relative_error: float) -> Tensor:
    """Compute all squared distances, none off by more than a share of itself.

    Args:
        queries: (Q, D), finite.
        candidates: (R, D), finite, on the queries' device.
        relative_error: that share. Where the matrix product is worse, as of near-copies, the
            differences are taken.

    Returns:
        (Q, R) float64.

    Raises:
        ValueError: the shapes do not fit.
    """
    every = queries.new_empty((len(queries), len(candidates)), dtype=torch.float64)
    for first, last, squared, error in squared_distance_blocks(queries, candidates):
        rows, columns = (error > relative_error * squared).nonzero(as_tuple=True)
        distances = pair_distances(queries, candidates, rows + first, columns)
        squared[rows, columns] = distances.square_()
        every[first:last] = squared
    return every


def squared_distance_blocks(
    queries: Tensor, candidates: Tensor
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Compute all squared distances, by blocks of queries, with bounds on their errors.

    Args:
        queries: (Q, D), finite.
        candidates: (R, D), finite, on the queries' device.

    Yields:
        The block's first row and the row after its last; the squared distances of its queries to
        all candidates, (block, R) float64; how far each may be off, of the same shape. Both are the
        caller's to write to. A squared distance may come out below zero.

    Raises:
        ValueError: the shapes do not fit.
    """
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"queries, candidates: expected (Q, D) and (R, D), got {tuple(queries.shape)} and "
            f"{tuple(candidates.shape)}"
        )
    yield from shared_or_computed(queries, candidates, _computed_blocks)


def _computed_blocks(
    queries: Tensor, candidates: Tensor
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    n_candidates, dimension = candidates.shape
    center = _mean(candidates)
    rows = max(1, min(PAIRS_AT_ONCE // max(1, n_candidates), _rows_at_once(dimension)))
    # Of a product of D terms (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
    # section 3.1), with room for the norms, the centring and the final sum.
    relative_error = (dimension + 16) * torch.finfo(torch.float64).eps
    for first in range(0, len(queries), rows):
        last = min(first + rows, len(queries))
        block = queries[first:last].double() - center
        squared = block.new_empty((last - first, n_candidates))
        norms = block.square().sum(1, keepdim=True)  # (block, 1)
        candidate_norms = block.new_empty(n_candidates)
        for start in range(0, n_candidates, _rows_at_once(dimension)):
            part = slice(start, start + _rows_at_once(dimension))
            tile = candidates[part].double() - center
            candidate_norms[part] = tile.square().sum(1)
            squared[:, part] = block @ tile.T
        sums = norms + candidate_norms
        yield first, last, squared.mul_(-2).add_(sums), sums.mul_(relative_error)


def pair_distances(
    queries: Tensor, candidates: Tensor, query_rows: Tensor, candidate_rows: Tensor
) -> Tensor:
    """Compute the distances of P pairs from the differences.

    Args:
        queries: (Q, D).
        candidates: (R, D).
        query_rows: (P,) int64.
        candidate_rows: (P,) int64.

    Returns:
        (P,) float64. The same two vectors give the same bits, in either order and whatever else is
        computed beside them. (The squares do so on every device; of the roots, libraries round the
        last bit as they like.)
    """
    at_once = max(1, NUMBERS_AT_ONCE // max(1, queries.shape[1]))
    distances = queries.new_empty(len(query_rows), dtype=torch.float64)
    for first in range(0, len(query_rows), at_once):
        part = slice(first, first + at_once)
        terms = queries[query_rows[part]].double() - candidates[candidate_rows[part]].double()
        terms.square_()
        width = terms.shape[1]
        while width > 1:  # a library's sum may take another order for another shape
            half = (width + 1) // 2
            terms[:, : width - half] += terms[:, half:width]
            width = half
        distances[part] = terms[:, :1].sum(1).sqrt_()
    return distances


def _contenders(
    queries: Tensor,
    candidates: Tensor,
    k: int,
    leave_one_out: bool,
    groups: tuple[Tensor, Tensor] | None,
) -> Iterator[tuple[int, int, Pairs]]:
    """Blocks of queries, first to last, with all pairs that may be among the k nearest."""
    if not 1 <= k <= len(candidates):
        raise ValueError(f"k: expected 1 to {len(candidates)} candidates, got {k}")
    numbers: tuple[Tensor, Tensor] | None = None
    for first, last, squared, error in squared_distance_blocks(queries, candidates):
        if leave_one_out:
            end = max(first, min(last, len(candidates)))
            own = torch.arange(first, end, device=queries.device)
            squared[own - first, own] = torch.inf
        if groups is not None:
            squared.masked_fill_(groups[0][first:last, None] == groups[1], torch.inf)
        # The k-th nearest is no farther than this; whatever may be nearer is kept.
        bound = (squared + error).topk(k, dim=1, largest=False).values.amax(1)  # (block,)
        if bound.isinf().any():
            row = int(bound.isinf().nonzero()[0])
            left = int(squared[row].isfinite().sum())
            raise ValueError(f"k: expected at most {left} for query {first + row}, got {k}")
        rows, columns = (squared.sub_(error) <= bound[:, None]).nonzero(as_tuple=True)
        rows = rows + first
        exact = torch.zeros_like(rows, dtype=torch.float64)
        # A collapsed generator's images are all copies, every one a contender: one look at all
        # vectors is then cheaper than all those differences.
        if numbers is None and len(rows) > 4 * k * (last - first):
            numbers = _numbers_of_distinct(queries, candidates)
        differ = slice(None) if numbers is None else numbers[0][rows] != numbers[1][columns]
        exact[differ] = pair_distances(queries, candidates, rows[differ], columns[differ])
        yield first, last, Pairs(rows, columns, exact)


def _numbers_of_distinct(queries: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the queries and of the candidates that are equal where the vectors are."""
    both = torch.cat([queries, candidates])
    _, number = torch.unique(both, dim=0, return_inverse=True)
    return number[: len(queries)], number[len(queries) :]


def _mean(vectors: Tensor) -> Tensor:
    # In parts: a float64 copy of all vectors would be the largest thing here.
    total = vectors.new_zeros(vectors.shape[1], dtype=torch.float64)
    for part in vectors.split(_rows_at_once(vectors.shape[1])):
        total += part.double().sum(0)
    return total / max(1, len(vectors))


def _rows_at_once(dimension: int) -> int:
    return max(1, NUMBERS_AT_ONCE // max(1, dimension))


def _both_groups(
    queries: Tensor,
    candidates: Tensor,
    query_groups: Tensor | None,
    candidate_groups: Tensor | None,
) -> tuple[Tensor, Tensor] | None:
    if query_groups is None and candidate_groups is None:
        return None
    for name, groups, vectors in (
        ("query_groups", query_groups, queries),
        ("candidate_groups", candidate_groups, candidates),
    ):
        if groups is None or groups.shape != (len(vectors),):
            got = None if groups is None else tuple(groups.shape)
            raise ValueError(f"{name}: expected the shape ({len(vectors)},), got {got}")
    assert query_groups is not None
    assert candidate_groups is not None
    return query_groups, candidate_groups

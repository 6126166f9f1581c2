"""Nearest neighbours: exact whatever the blocks, the offset and the number of copies."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from cxrgan_fast.metrics import neighbors
from cxrgan_fast.metrics.neighbors import (
    nearest_neighbors,
    pair_distances,
    squared_distance_blocks,
    squared_distances,
    tied_nearest,
    within_any_ball,
)
from programs import run_program
from properties import at_most


def _integers(count: int, dimension: int, seed: int, top: int = 3) -> Tensor:
    """Vectors with many copies and equal distances, all of which are exact in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, top, (count, dimension), generator=generator).float()


def _by_loop(
    queries: Tensor,
    candidates: Tensor,
    k: int,
    excluded: Tensor,  # (Q, R) bool
) -> tuple[list[list[float]], list[list[int]]]:
    """The k nearest, by sorting all distances with Python."""
    found = []
    for q, query in enumerate(queries.double().numpy()):
        every = sorted(
            (float(np.sqrt(((query - candidate) ** 2).sum())), r)
            for r, candidate in enumerate(candidates.double().numpy())
            if not excluded[q, r]
        )
        found.append(every[:k])
    distances = [[distance for distance, _ in row] for row in found]
    return distances, [[r for _, r in row] for row in found]


def _nothing(queries: Tensor, candidates: Tensor) -> Tensor:
    return torch.zeros(len(queries), len(candidates), dtype=torch.bool)


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree"])
@pytest.mark.parametrize("dimension", [1, 3, 40])
def test_scikit_learn_finds_the_same(algorithm: str, dimension: int) -> None:
    queries, candidates = torch.randn(150, dimension), torch.randn(220, dimension)
    found = nearest_neighbors(queries, candidates, 5)
    other = NearestNeighbors(n_neighbors=5, algorithm=algorithm).fit(candidates.double())
    distances, rows = other.kneighbors(queries.double())
    assert found.distances.dtype == torch.float64
    np.testing.assert_array_equal(found.rows.numpy(), rows)
    # Of distances near 1, with one-dimensional neighbours down to 1e-5 apart.
    np.testing.assert_allclose(found.distances.numpy(), distances, rtol=1e-12, atol=1e-12)


def test_hand_made_neighbors() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [6.0, 8.0]])
    found = nearest_neighbors(points, points, 2, leave_one_out=True)
    assert found.rows.tolist() == [[2, 1], [2, 0], [0, 1], [1, 2]]
    expected = [[1, 5], [18**0.5, 5], [1, 18**0.5], [5, 85**0.5]]
    torch.testing.assert_close(
        found.distances, torch.tensor(expected, dtype=torch.float64), rtol=1e-15, atol=0
    )


def test_without_leaving_one_out_every_point_is_its_own_neighbor() -> None:
    points = torch.randn(50, 7)
    found = nearest_neighbors(points, points)
    assert found.rows.flatten().tolist() == list(range(50))
    assert (found.distances == 0).all()


@at_most(150)
@given(
    n_queries=st.integers(1, 12),
    n_candidates=st.integers(2, 12),
    dimension=st.integers(1, 5),
    pairs_at_once=st.integers(1, 200),
    numbers_at_once=st.integers(1, 60),
    seed=st.integers(0, 10_000),
    data=st.data(),
)
def test_any_block_gives_the_same_bits_and_ties_go_to_the_lower_row(
    n_queries: int,
    n_candidates: int,
    dimension: int,
    pairs_at_once: int,
    numbers_at_once: int,
    seed: int,
    data: st.DataObject,
) -> None:
    k = data.draw(st.integers(1, n_candidates - 1), "k")
    leave_one_out = data.draw(st.booleans(), "leave_one_out")
    queries = _integers(n_queries, dimension, seed)
    candidates = _integers(n_candidates, dimension, seed + 1)
    excluded = _nothing(queries, candidates)
    if leave_one_out:
        excluded.fill_diagonal_(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "PAIRS_AT_ONCE", pairs_at_once)
        patch.setattr(neighbors, "NUMBERS_AT_ONCE", numbers_at_once)
        found = nearest_neighbors(queries, candidates, k, leave_one_out=leave_one_out)
        tied = tied_nearest(queries, candidates, leave_one_out=leave_one_out)
    distances, rows = _by_loop(queries, candidates, k, excluded)
    assert found.rows.tolist() == rows
    # Sums of integers' squares are exact; torch's root may be off by the last bit.
    np.testing.assert_allclose(found.distances.numpy(), distances, rtol=3e-16)
    every, _ = _by_loop(queries, candidates, n_candidates, excluded)
    ties = sum(row.count(row[0]) for row in every)
    assert len(tied.distances) == ties
    nearest = [row[0] for row in every for _ in range(row.count(row[0]))]
    np.testing.assert_allclose(tied.distances.numpy(), nearest, rtol=3e-16)


@at_most(100)
@given(
    offset=st.sampled_from([0.0, 1.0, 1e3, 1e6]),
    pairs_at_once=st.integers(1, 300),
    numbers_at_once=st.integers(1, 300),
    seed=st.integers(0, 10_000),
)
def test_real_numbers_too_do_not_depend_on_the_blocks(
    offset: float, pairs_at_once: int, numbers_at_once: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(9, 13, generator=generator) + offset
    candidates = torch.randn(17, 13, generator=generator) + offset
    whole = nearest_neighbors(queries, candidates, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "PAIRS_AT_ONCE", pairs_at_once)
        patch.setattr(neighbors, "NUMBERS_AT_ONCE", numbers_at_once)
        blocks = nearest_neighbors(queries, candidates, 4)
    assert torch.equal(whole.rows, blocks.rows)
    assert torch.equal(whole.distances, blocks.distances)


def test_groups_are_excluded_like_a_naive_loop_does() -> None:
    queries, candidates = _integers(40, 4, 0), _integers(60, 4, 1)
    generator = torch.Generator().manual_seed(2)
    query_groups = torch.randint(0, 9, (40,), generator=generator)
    candidate_groups = torch.randint(0, 9, (60,), generator=generator)
    found = nearest_neighbors(
        queries, candidates, 3, query_groups=query_groups, candidate_groups=candidate_groups
    )
    excluded = query_groups[:, None] == candidate_groups
    distances, rows = _by_loop(queries, candidates, 3, excluded)
    assert found.rows.tolist() == rows
    np.testing.assert_allclose(found.distances.numpy(), distances, rtol=3e-16)
    # The exclusion is at work here: without it there are other neighbours.
    assert not torch.equal(found.rows, nearest_neighbors(queries, candidates, 3).rows)


def test_leaving_one_out_and_groups_together() -> None:
    points = torch.tensor([[0.0], [1.0], [2.0], [4.0]])
    groups = torch.tensor([0, 0, 1, 1])
    found = nearest_neighbors(
        points, points, leave_one_out=True, query_groups=groups, candidate_groups=groups
    )
    assert found.rows.flatten().tolist() == [2, 2, 1, 1]


def test_copies_are_at_exactly_zero_and_near_copies_at_their_distance_far_from_the_origin() -> None:
    # At 1e4 float32 has steps of 1e-3; |q|² + |r|² − 2 q·r in float32 would be off by thousands.
    candidates = torch.randn(300, 64) + 1e4
    queries = candidates[:10].clone()
    queries[5:, 0] += 0.0078125  # eight of those steps, exact
    found = nearest_neighbors(queries, candidates)
    assert found.rows.flatten().tolist() == list(range(10))
    assert found.distances[:5].flatten().tolist() == [0.0] * 5
    assert found.distances[5:].flatten().tolist() == [0.0078125] * 5


def test_a_distance_has_the_same_bits_in_any_company_and_order() -> None:
    a, b = torch.randn(30, 257), torch.randn(40, 257)
    rows, columns = torch.cartesian_prod(torch.arange(30), torch.arange(40)).T
    together = pair_distances(a, b, rows, columns).reshape(30, 40)
    swapped = pair_distances(b, a, columns, rows).reshape(30, 40)
    assert torch.equal(together, swapped)
    for row, column in [(0, 0), (7, 39), (29, 11)]:
        one = pair_distances(a, b, torch.tensor([row]), torch.tensor([column]))
        assert float(one) == float(together[row, column])
    expected = np.linalg.norm(a.double().numpy()[:, None] - b.double().numpy()[None], axis=2)
    np.testing.assert_allclose(together.numpy(), expected, rtol=1e-14)


def test_distances_of_pairs_that_do_not_fit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _integers(12, 6, 0), _integers(12, 6, 1)
    rows = torch.arange(12)
    expected = pair_distances(a, b, rows, rows)
    monkeypatch.setattr(neighbors, "NUMBERS_AT_ONCE", 13)
    assert torch.equal(pair_distances(a, b, rows, rows), expected)


def test_an_outlier_does_not_blur_the_others() -> None:
    # One vector of 1e12 moves the mean to 1e10: the products lose all digits of the others.
    candidates = torch.randn(100, 8)
    candidates[0] = 1e12
    found = nearest_neighbors(candidates, candidates, 3, leave_one_out=True)
    expected = nearest_neighbors(candidates[1:], candidates[1:], 3, leave_one_out=True)
    assert torch.equal(found.rows[1:], expected.rows + 1)
    assert torch.equal(found.distances[1:], expected.distances)


def test_all_vectors_equal() -> None:
    points = torch.full((30, 5), 0.1)
    found = nearest_neighbors(points, points, 2, leave_one_out=True)
    assert (found.distances == 0).all()
    assert found.rows[0].tolist() == [1, 2]
    assert found.rows[1].tolist() == [0, 2]
    assert found.rows[5].tolist() == [0, 1]
    tied = tied_nearest(points, points, leave_one_out=True)
    assert len(tied.distances) == 30 * 29


def test_tied_nearest_lists_every_tie() -> None:
    queries = torch.tensor([[0.0], [10.0]])
    candidates = torch.tensor([[1.0], [-1.0], [2.0], [9.5], [1.0]])
    tied = tied_nearest(queries, candidates)
    assert tied.queries.tolist() == [0, 0, 0, 1]
    assert tied.candidates.tolist() == [0, 1, 4, 3]
    assert tied.distances.tolist() == [1.0, 1.0, 1.0, 0.5]


def test_a_ball_holds_its_surface_and_nothing_beyond() -> None:
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    radii = torch.tensor([5.0, 0.0], dtype=torch.float64)
    above = float(np.nextafter(np.float32(4), np.float32(5)))
    queries = torch.tensor([[3.0, 4.0], [3.0, above], [10.0, 0.0], [10.0, 1e-6], [0.0, 0.0]])
    assert within_any_ball(queries, centers, radii).tolist() == [True, False, True, False, True]


@at_most(100)
@given(
    seed=st.integers(0, 10_000), pairs_at_once=st.integers(1, 300), offset=st.sampled_from([0, 1e3])
)
def test_balls_through_other_points(seed: int, pairs_at_once: int, offset: float) -> None:
    # Every other radius is the distance to some query, which therefore lies on the surface.
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(11, 6, generator=generator) + offset
    centers = torch.randn(7, 6, generator=generator) + offset
    on_surface = torch.randint(0, 11, (7,), generator=generator)
    radii = pair_distances(queries, centers, on_surface, torch.arange(7))
    radii[1::2] *= 0.6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "PAIRS_AT_ONCE", pairs_at_once)
        inside = within_any_ball(queries, centers, radii)
    rows, columns = torch.cartesian_prod(torch.arange(11), torch.arange(7)).T
    every = pair_distances(queries, centers, rows, columns).reshape(11, 7)
    assert torch.equal(inside, (every <= radii).any(1))
    assert inside[on_surface[::2]].all()


@pytest.mark.long
def test_memory_is_bounded() -> None:
    # In a process of its own: the peak of this one is that of whatever ran before.
    program = """
import resource, torch
from cxrgan_fast.metrics.neighbors import nearest_neighbors
points = torch.randn(4000, 16)
nearest_neighbors(points[:500], points[:500])  # the libraries' own buffers
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest_neighbors(points, points, 3, leave_one_out=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(run_program(program)) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 64e6  # all distances would be 128 MB, each time over


def test_more_neighbors_than_there_are() -> None:
    points = torch.randn(4, 3)
    assert nearest_neighbors(points, points, 4).rows.shape == (4, 4)
    with pytest.raises(ValueError, match=r"^k: expected 1 to 4 candidates, got 5$"):
        nearest_neighbors(points, points, 5)
    with pytest.raises(ValueError, match=r"^k: expected 1 to 4 candidates, got 0$"):
        nearest_neighbors(points, points, 0)
    with pytest.raises(ValueError, match=r"^k: expected at most 3 for query 0, got 4$"):
        nearest_neighbors(points, points, 4, leave_one_out=True)
    with pytest.raises(ValueError, match=r"^k: expected 1 to 0 candidates, got 1$"):
        nearest_neighbors(points, points[:0])
    with pytest.raises(ValueError, match=r"^k: expected at most 0 for query 0, got 1$"):
        tied_nearest(points[:1], points[:1], leave_one_out=True)


def test_a_group_that_leaves_too_few() -> None:
    points = torch.randn(4, 3)
    groups = torch.tensor([7, 7, 7, 8])
    with pytest.raises(ValueError, match=r"^k: expected at most 1 for query 0, got 2$"):
        nearest_neighbors(points, points, 2, query_groups=groups, candidate_groups=groups)


def test_no_queries() -> None:
    found = nearest_neighbors(torch.randn(0, 3), torch.randn(5, 3), 2)
    assert found.distances.shape == (0, 2)
    assert found.rows.shape == (0, 2)
    assert len(within_any_ball(torch.randn(0, 3), torch.randn(5, 3), torch.ones(5))) == 0
    assert len(tied_nearest(torch.randn(0, 3), torch.randn(5, 3)).distances) == 0


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 2\)"):
        nearest_neighbors(torch.randn(4, 3), torch.randn(4, 2))
    with pytest.raises(ValueError, match=r"\(3,\) and \(4, 3\)"):
        within_any_ball(torch.randn(3), torch.randn(4, 3), torch.ones(4))
    groups = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"^candidate_groups: expected the shape \(5,\), got None"):
        nearest_neighbors(torch.randn(4, 3), torch.randn(5, 3), query_groups=groups)
    with pytest.raises(ValueError, match=r"^query_groups: expected the shape \(4,\), got \(3,\)"):
        nearest_neighbors(
            torch.randn(4, 3),
            torch.randn(5, 3),
            query_groups=groups[:3],
            candidate_groups=torch.zeros(5, dtype=torch.int64),
        )


def test_squared_distances_are_as_exact_as_asked() -> None:
    # Near-copies and an offset: the products alone are off by more than the distances.
    queries = torch.randn(40, 30) + 1000
    candidates = torch.cat([queries[:20] + torch.randn(20, 30) * 1e-3, torch.randn(30, 30)])
    found = squared_distances(queries, candidates, 1e-11)
    differences = queries.double()[:, None] - candidates.double()[None]
    expected = differences.square().sum(2)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1.1e-11)
    blocks = list(squared_distance_blocks(queries, candidates))
    for first, last, squared, error in blocks:
        assert ((squared - expected[first:last]).abs() <= error).all()
    # The products were not good enough for this: it is the differences that are at work above.
    assert any((error > 1e-11 * squared).any() for _, _, squared, error in blocks)


def test_many_copies_are_not_subtracted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.randn(5, 4)[torch.arange(200) % 5]
    subtracted = []

    def count(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        subtracted.append(len(rows))
        return pair_distances(a, b, rows, columns)

    monkeypatch.setattr(neighbors, "pair_distances", count)
    found = nearest_neighbors(points, points, 2, leave_one_out=True)
    assert (found.distances == 0).all()
    assert found.rows[7].tolist() == [2, 12]
    assert sum(subtracted) == 0

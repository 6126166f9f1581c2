"""Distances that metrics have in common are computed once, and nothing else changes."""

from unittest.mock import create_autospec

import pytest
import torch
from torch import Tensor

from cxrgan_fast.metrics import Features, neighbors
from cxrgan_fast.metrics import shared_distances as module
from cxrgan_fast.metrics.comparison import compare
from cxrgan_fast.metrics.neighbors import nearest_neighbors, squared_distance_blocks
from cxrgan_fast.metrics.shared_distances import shared_distances

OF_DISTANCES = ("mmd", "precision", "recall", "density", "coverage", "authenticity", "likeness")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch):
    """The real computation of blocks, counted."""
    real = neighbors._computed_blocks
    double = create_autospec(real, side_effect=real)
    monkeypatch.setattr(neighbors, "_computed_blocks", double)
    return double


def _sets() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(40, 6, generator=generator) for _ in range(2))


def test_metrics_are_the_same_and_distances_of_two_sets_are_computed_once(computed) -> None:
    real, fake = _sets()
    each = {
        name: compare(Features(real), Features(fake), metrics=[name]).estimates[name]
        for name in OF_DISTANCES
    }
    computed.reset_mock()
    together = compare(Features(real), Features(fake), metrics=OF_DISTANCES)
    assert together.estimates == each
    pairs = [(id(call.args[0]), id(call.args[1])) for call in computed.call_args_list]
    of_both = [pair for pair in pairs if set(pair) <= {id(real), id(fake)}]
    assert len(of_both) == 4  # of the two sets, each with each
    assert len(set(of_both)) == 4


def test_the_caller_may_write_to_what_it_gets(computed) -> None:
    real, fake = _sets()
    with shared_distances(real, fake):
        for _, _, squared, error in squared_distance_blocks(real, fake):
            squared.neg_()
            error.zero_()
        shared = nearest_neighbors(real, fake, 3)
    assert computed.call_count == 1
    expected = nearest_neighbors(real, fake, 3)
    assert torch.equal(shared.rows, expected.rows)
    assert torch.equal(shared.distances, expected.distances)


def test_only_the_sets_that_are_named_and_only_meanwhile(computed) -> None:
    real, fake = _sets()
    with shared_distances(real):
        for _ in range(2):
            list(squared_distance_blocks(real, real))
            list(squared_distance_blocks(real.clone(), real))
            list(squared_distance_blocks(real, fake))
    assert computed.call_count == 1 + 2 + 2
    for _ in range(2):
        list(squared_distance_blocks(real, real))
    assert computed.call_count == 7


def test_of_large_sets_nothing_is_kept(computed, monkeypatch: pytest.MonkeyPatch) -> None:
    real, _ = _sets()
    monkeypatch.setattr(module, "_MOST_PAIRS", 40 * 40 - 1)
    with shared_distances(real):
        for _ in range(2):
            list(squared_distance_blocks(real, real))
    assert computed.call_count == 2

"""The name that `cxrgan_fast.metrics.neighbors` had before, for scripts that import it."""

from cxrgan_fast.metrics import neighbors
from cxrgan_fast.metrics.neighbors import (
    Pairs,
    pair_distances,
    squared_distance_blocks,
    squared_distances,
    tied_nearest,
    within_any_ball,
)

Neighbours = neighbors.Neighbors
nearest_neighbours = neighbors.nearest_neighbors

__all__ = [
    "Neighbours",
    "Pairs",
    "nearest_neighbours",
    "pair_distances",
    "squared_distance_blocks",
    "squared_distances",
    "tied_nearest",
    "within_any_ball",
]

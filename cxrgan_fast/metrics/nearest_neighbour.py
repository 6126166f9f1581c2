"""The name that `cxrgan_fast.metrics.nearest_neighbor` had before, for scripts that import it."""

from cxrgan_fast.metrics import nearest_neighbor

nearest_neighbour_accuracy = nearest_neighbor.nearest_neighbor_accuracy

__all__ = [
    "nearest_neighbour_accuracy",
]

"""Labels in the two forms that the networks take: class indices, or mixtures of classes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def class_rows(table: Tensor, labels: Tensor) -> Tensor:
    """Return the row of each sample's class, or the mixture of rows by its class weights.

    Args:
        table: (K, C), a row a class.
        labels: (N,) int64 in [0, K), or class weights (N, K), floating, rows summing to 1.

    Returns:
        (N, C) in the dtype of ``table``.

    Raises:
        IndexError: a class index out of range (CPU).
        ValueError: class weights for another number of classes.
    """
    if not labels.is_floating_point():
        return F.embedding(labels, table)
    if labels.dim() != 2 or labels.shape[1] != len(table):
        raise ValueError(
            f"labels as class weights must have shape (N, {len(table)}), got {tuple(labels.shape)}"
        )
    # A sum rather than a matmul: under autocast a matmul would round to the low precision.
    return (labels.to(table.dtype).unsqueeze(2) * table).sum(1)

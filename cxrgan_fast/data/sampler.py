"""The order in which training sees the images: a pure function of a seed and a position.

Position p is the p-th image shown since training began, so that a resumed run, whatever its batch
size or device, needs to know nothing but how many images it has shown.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError


class Order(ABC):
    """Rows of a data set in the order in which they are shown."""

    @abstractmethod
    def rows(self, start: int, count: int) -> Tensor:
        """Return the rows at positions start to start + count − 1: (count,) int64 on the CPU."""


class EpochOrder(Order):
    """Every image once an epoch; each epoch is a permutation of its own.

    Epochs follow each other without a gap: a batch may straddle two of them, no image is dropped.

    The permutation is the argsort of raw Philox output, not `Generator.permutation`, whose
    stream NumPy may change between versions: a resumed run sees the same order anywhere.

    Args:
        n: number of images.
        seed: non-negative integers; different ones give different orders.

    Raises:
        UserError: an empty set or a negative seed.
    """

    def __init__(self, n: int, *seed: int) -> None:
        if n < 1:
            raise UserError(f"the data set holds {n} images; at least 1 is needed to draw batches")
        if min(seed) < 0:
            raise UserError(f"seed {min(seed)}: expected 0 or more")
        self.n = n
        self.seed = seed
        self._epoch = -1

    def rows(self, start: int, count: int) -> Tensor:
        """See :meth:`Order.rows`."""
        parts: list[Tensor] = []
        while count:
            epoch, position = divmod(start, self.n)
            if epoch != self._epoch:
                self._epoch, self._order = epoch, self._permutation(epoch)
            parts.append(self._order[position : position + count])
            start += len(parts[-1])
            count -= len(parts[-1])
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def _permutation(self, epoch: int) -> Tensor:
        bits = np.random.Philox(np.random.SeedSequence([*self.seed, epoch]))
        return torch.from_numpy(np.argsort(bits.random_raw(self.n), kind="stable")).long()


class BalancedOrder(Order):
    """Every class equally often; within each, every image once before any is seen again.

    Each K positions hold the K classes, in a random order of their own, so that any stretch is
    balanced to within one image a class. A small class comes round more often than a large one.

    Args:
        labels: (N,) int64 in [0, K).
        n_classes: K.
        seed: non-negative.

    Raises:
        UserError: a class without images, or a negative seed.
    """

    def __init__(self, labels: Tensor, n_classes: int, seed: int) -> None:
        self.members = [torch.nonzero(labels == k).flatten().cpu() for k in range(n_classes)]
        for k, members in enumerate(self.members):
            if not len(members):
                raise UserError(f"class {k} has no images: classes cannot be balanced")
        # Streams of their own: the seed alone is that of the plain order.
        self.within = [EpochOrder(len(m), seed, 1 + k) for k, m in enumerate(self.members)]
        self.seed = seed

    def rows(self, start: int, count: int) -> Tensor:
        """See :meth:`Order.rows`."""
        n_classes = len(self.members)
        first, last = start // n_classes, -(-(start + count) // n_classes)
        # (turns, K): the row that each class shows in each turn.
        columns = [
            members[order.rows(first, last - first)]
            for members, order in zip(self.members, self.within, strict=True)
        ]
        turns = torch.stack(columns, 1)
        rows = turns.gather(1, self._shuffles(first, last)).flatten()
        skipped = start - first * n_classes
        return rows[skipped : skipped + count]

    def _shuffles(self, first: int, last: int) -> Tensor:
        """The order of the classes in each of some turns: (last − first, K)."""
        n_classes = len(self.members)
        bits = np.random.Philox(np.random.SeedSequence([self.seed, 0, n_classes]))
        bits.advance(first * n_classes // 4)  # four 64-bit numbers a tick of the counter
        ahead = first * n_classes % 4
        drawn = bits.random_raw(ahead + (last - first) * n_classes)[ahead:]
        order = np.argsort(drawn.reshape(last - first, n_classes), axis=1, kind="stable")
        return torch.from_numpy(order).long()

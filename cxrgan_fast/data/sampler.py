"""The order in which training sees the images."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError


class EpochSampler:
    """Draws batches of indices so that every image is seen once an epoch.

    Each epoch is a fresh permutation that depends on `seed` and the epoch alone. A batch may
    straddle two epochs (every batch is full, no image is dropped), and a batch larger than the
    set holds some images more than once.

    The permutation is the argsort of raw Philox output, not `Generator.permutation`, whose
    stream NumPy may change between versions: a resumed run sees the same order anywhere.

    Args:
        n: number of images.
        batch_size: indices a call of `next` returns.
        seed: non-negative.

    Raises:
        UserError: an empty set, a batch size below 1 or a negative seed.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        if n < 1:
            raise UserError(f"the data set holds {n} images; at least 1 is needed to draw batches")
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: expected 1 or more")
        if seed < 0:
            raise UserError(f"seed {seed}: expected 0 or more")
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.position = 0  # how many images of this epoch have been drawn
        self._order = self._permutation()

    def next(self) -> Tensor:
        """Return the next batch: int64 indices, (batch_size,), on the CPU."""
        parts: list[Tensor] = []
        wanted = self.batch_size
        while wanted:
            if self.position == self.n:
                self.epoch += 1
                self.position = 0
                self._order = self._permutation()
            part = self._order[self.position : self.position + wanted]
            parts.append(part)
            self.position += len(part)
            wanted -= len(part)
        return torch.cat(parts)

    def state_dict(self) -> dict[str, int]:
        """Return what `load_state_dict` needs to continue with exactly the next batch."""
        return {"n": self.n, "seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            UserError: the state was taken with another number of images or another seed.
        """
        for key, mine in (("n", self.n), ("seed", self.seed)):
            if state[key] != mine:
                what = "number of images" if key == "n" else "seed"
                raise UserError(
                    f"the saved data order has {what} {state[key]} but this run has {mine}: "
                    "resume with the data and seed it was started with"
                )
        self.epoch = int(state["epoch"])
        self.position = int(state["position"])
        self._order = self._permutation()

    def _permutation(self) -> Tensor:
        bits = np.random.Philox(np.random.SeedSequence([self.seed, self.epoch]))
        return torch.from_numpy(np.argsort(bits.random_raw(self.n), kind="stable")).long()

"""The control of adaptive discriminator augmentation (Karras et al. 2020, ADA)."""

import torch
from torch import Tensor

INTERVAL = 4
"""Updates of the discriminator between two moves of the probability, as in the paper."""


class AdaptiveProbability:
    """Steers the probability of augmentation by how sure the discriminator is.

    The more augmentation there is, the harder it is to know training images by heart: where r_t,
    averaged over `INTERVAL` updates, is above its target, the probability rises by a fixed amount,
    else it falls by it, between 0 and 1. All of it happens on the device, without waiting.

    Args:
        probability: 0-dimensional float32, moved in place.
        target: r_t that is kept to; 0.6 in the paper.
        amount: how far one move goes.
    """

    def __init__(self, probability: Tensor, target: float, amount: float) -> None:
        self.probability, self.target, self.amount = probability, target, amount
        self.total = torch.zeros_like(probability)  # of r_t since the last move
        self.updates = torch.zeros_like(probability)  # since then

    def observe(self, r_t: Tensor) -> None:
        """Take r_t of one update, 0-dimensional float32; every `INTERVAL` of them move the rest."""
        self.total += r_t
        self.updates += 1
        is_due = self.updates >= INTERVAL
        excess = self.total / self.updates - self.target
        # What is no number moves nothing: the run ends by it, and says so.
        self.probability += (is_due * self.amount) * excess.sign().nan_to_num(0.0)
        self.probability.clamp_(0.0, 1.0)
        for sum_since in (self.total, self.updates):
            sum_since.masked_fill_(is_due, 0.0)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that :meth:`observe` changes in place, by name."""
        return {
            "augment_p": self.probability,
            "r_t_total": self.total,
            "r_t_updates": self.updates,
        }


def amount_of_a_move(ramp: float, updates: int) -> float:
    """Return how far a move goes, so that ``ramp`` of a run takes the probability from 0 to 1.

    Args:
        ramp: share of the run; the paper's 500,000 images of 25 million are 0.02.
        updates: of the discriminator in the whole run.
    """
    return INTERVAL / (ramp * updates)

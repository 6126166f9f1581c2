"""The control of adaptive discriminator augmentation (Karras et al. 2020, ADA)."""

import torch
from torch import Tensor

INTERVAL = 4
"""Steps between two moves of the probability, as in the paper."""

FARTHEST = 0.1
"""How far a move goes at most: a very short run is not tossed between 0 and 1."""


class AdaptiveProbability:
    """Steers the probability of augmentation by how sure the discriminator is.

    The more augmentation there is, the harder it is to know training images by heart: where r_t,
    averaged over `INTERVAL` steps, is above its target, the probability rises, else it falls, by
    the share of the run that has passed since the last move, out of ``ramp``. All of it happens on
    the device, without waiting.

    Args:
        probability: 0-dimensional float32, moved in place.
        target: r_t that is kept to; 0.6 in the paper.
        ramp: share of the run that takes the probability from 0 to 1; the paper's 500,000 images
            of 25 million are 0.02.
    """

    def __init__(self, probability: Tensor, target: float, ramp: float) -> None:
        self.probability, self.target, self.ramp = probability, target, ramp
        self.total = torch.zeros_like(probability)  # of r_t since the last move
        self.steps = torch.zeros_like(probability)  # since then
        self.moved_at = torch.zeros_like(probability, dtype=torch.float64)

    def observe(self, r_t: Tensor, share: Tensor) -> None:
        """Take r_t of a step; every `INTERVAL` of them move the probability.

        Args:
            r_t: 0-dimensional float32.
            share: share of the planned run that is done, 0-dimensional float64.
        """
        self.total += r_t
        self.steps += 1
        is_due = self.steps >= INTERVAL
        excess = self.total / self.steps - self.target
        # A resumed run may be planned anew, and then be less far than it was.
        amount = ((share - self.moved_at) / self.ramp).clamp(0.0, FARTHEST).float()
        # What is no number moves nothing: the run ends by it, and says so.
        self.probability += is_due * amount * excess.sign().nan_to_num(0.0)
        self.probability.clamp_(0.0, 1.0)
        self.moved_at.copy_(torch.where(is_due, share, self.moved_at))
        for since_then in (self.total, self.steps):
            since_then.masked_fill_(is_due, 0.0)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that :meth:`observe` changes in place, by name."""
        return {
            "augment_p": self.probability,
            "r_t_total": self.total,
            "r_t_steps": self.steps,
            "augment_p_moved_at": self.moved_at,
        }

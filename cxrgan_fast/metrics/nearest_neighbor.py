"""1-nearest-neighbour accuracy: can real and generated images be told apart by their neighbours?

D. Lopez-Paz and M. Oquab, "Revisiting classifier two-sample tests", ICLR 2017; Q. Xu, G. Huang,
Y. Yuan, C. Guo, Y. Sun, F. Wu and K. Weinberger, "An empirical study on evaluation metrics of
generative adversarial networks", arXiv:1806.07755, 2018. Two sets of n images are put together,
and each image is given the label of its nearest neighbour among the other 2n − 1. The value is the
share of labels that are right:

- near 1/2 where the sets are of one distribution: each image is as likely to be beside either;
- near 1 where they are apart;
- below 1/2 where generated images are copies: the nearest neighbour of each real image is then its
  own copy, and the other way round. All copied: 0.

The accuracies of the two sets say more than their mean. A generator whose images are a little too
alike, nearer to the middle than real ones, is nearest to both: its own accuracy is high, that of
the real images is low, and the mean of the two may be 1/2.

Images at the same distance share the vote: the value is the accuracy to be expected if one of them
were chosen at random. Two identical images of each set, far from all others, give each image one of
its own and two of the other: 1/3.

The p-values are of permutation tests (of such a statistic: N. Henze, "A multivariate two-sample
test based on the number of nearest neighbor type coincidences", Annals of Statistics 1988). Under
the null hypothesis the labels are exchangeable: permuted on the fixed graph of neighbours, their
mean accuracy is exactly (n − 1)/(2n − 1), whatever the graph, and so is that of either set. The
tests are two-sided, since copying lowers the accuracy and most other faults raise it.

Images of one patient are alike, and no labels of single images are exchangeable then: several
images a patient in the real set raise its accuracy, and make the p-values too small, even where the
generator is perfect. How much of that there is in the data shows at the floor, real images against
other patients'.
"""

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Detail, Metric, register
from cxrgan_fast.metrics.neighbors import nearest_neighbors, tied_nearest

MIN_IMAGES = 2
_LISTED = 13  # neighbours of which at least one is in almost every resample: 0.37^13 is 2e-6
_AT_ONCE = 1 << 21  # labels of permutations: 16 MB
_EQUAL = 1e-9  # accuracies that differ by less are the same but for rounding


def nearest_neighbor_accuracy(
    real: Tensor,
    fake: Tensor,
    *,
    permutations: int = 1000,
    seed: int = 0,
    resamples: Resamples | None = None,
) -> Estimate:
    """Leave-one-out 1-nearest-neighbour accuracy of two sets of equal size.

    In a resample each image drawn votes as its nearest neighbour drawn does, its own copies left
    out. (With every image's neighbour as it is, the standard error misses that images share
    neighbours: mostly 0.75 to 0.85 of what fresh sets of Gaussians give. This one was found to be
    1.05 to 1.25 of it.)

    Args:
        real: (N, D) features of real images, float32.
        fake: (N, D) features of generated images, float32.
        permutations: of the labels, for the p-value.
        seed: of the permutations; the same on every device.
        resamples: for the standard error.

    Returns:
        The accuracy. `details`: `real_accuracy` and `fake_accuracy`, of which it is the mean;
        `chance`, (n − 1)/(2n − 1); `p_value`, of so large a difference of the accuracy from
        chance; `p_value_by_set`, of so large a difference of `real_accuracy` or `fake_accuracy`,
        whichever is the larger; `permutations`, of which p-values are at least 1/(1 + them).

    Raises:
        UserError: there are fewer than 2 images in a set, or features that are not finite.
        ValueError: the sets are not of the same size, the shapes do not go together, or
            `permutations` is below 1.
    """
    count = len(real)
    if count != len(fake):
        raise ValueError(f"real, fake: expected sets of the same size, got {count} and {len(fake)}")
    require_vectors("1-NN accuracy", real, fake, least=MIN_IMAGES)
    if permutations < 1:
        raise ValueError(f"permutations: expected at least 1, got {permutations}")
    vectors = torch.cat([real, fake])  # (2n, D)
    votes = _Votes(vectors)
    is_real = torch.arange(2 * count, device=vectors.device) < count
    right_real, right_fake = votes.right(is_real[None])
    accuracy = float(right_real + right_fake) / (2 * count)
    p_value, p_value_by_set = _p_values(votes, is_real, permutations, seed)
    return Estimate(
        accuracy,
        count,
        count,
        None if resamples is None else _standard_error(vectors, is_real, resamples),
        {
            "real_accuracy": float(right_real) / count,
            "fake_accuracy": float(right_fake) / count,
            "chance": (count - 1) / (2 * count - 1),
            "p_value": p_value,
            "p_value_by_set": p_value_by_set,
            "permutations": permutations,
        },
    )


class _Votes:
    """Who votes on whom, of images of which some are copies of one another.

    Copies are kept as one vector and a number: c copies vote on each other in c(c − 1) pairs, but
    the labels of the c say all about them. So a set of nothing but copies costs no more.
    """

    def __init__(self, vectors: Tensor) -> None:
        distinct, self.vector_of, self.copies = torch.unique(
            vectors, dim=0, return_inverse=True, return_counts=True
        )
        self.single = self.copies == 1  # (U,)
        none = torch.empty(0, dtype=torch.int64, device=vectors.device)
        self.voted, self.voters = none, none
        if len(distinct) > 1:
            pairs = tied_nearest(distinct, distinct, leave_one_out=True)
            kept = self.single[pairs.queries]  # a copy's nearest are its copies
            self.voted, self.voters = pairs.queries[kept], pairs.references[kept]
        self.electorate = self._add_votes(self.copies.double()[None])[0].clamp_min(1)  # (U,)

    def right(self, is_real: Tensor) -> tuple[Tensor, Tensor]:
        """How many real and how many fake images are told rightly, each (B,) float64.

        Args:
            is_real: (B, 2n) bool, labels.
        """
        real = is_real.new_zeros((len(is_real), len(self.copies)), dtype=torch.float64)
        real.index_add_(1, self.vector_of, is_real.double())
        fake = self.copies - real  # (B, U)
        for_real = self._add_votes(real) / self.electorate
        others = (self.copies - 1).clamp_min(1)
        right_real = torch.where(self.single, real * for_real, real * (real - 1) / others)
        right_fake = torch.where(self.single, fake * (1 - for_real), fake * (fake - 1) / others)
        return right_real.sum(1), right_fake.sum(1)

    def _add_votes(self, of_vectors: Tensor) -> Tensor:
        votes = torch.zeros_like(of_vectors)
        return votes.index_add_(1, self.voted, of_vectors[:, self.voters])


def _p_values(votes: _Votes, is_real: Tensor, permutations: int, seed: int) -> tuple[float, float]:
    """Of the accuracy, and of the accuracy in the set where it is farther from chance."""
    images = len(is_real)
    rng = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // max(images, len(votes.voted)))
    as_far = torch.zeros(2, dtype=torch.int64, device=is_real.device)
    observed = _from_chance(*votes.right(is_real[None]), images)  # (2, 1)
    for done in range(0, permutations, at_once):
        labels = np.tile(is_real.cpu().numpy(), (min(at_once, permutations - done), 1))
        rng.permuted(labels, axis=1, out=labels)
        permuted = torch.from_numpy(labels).to(is_real.device)
        differences = _from_chance(*votes.right(permuted), images)  # (2, permutations at once)
        as_far += (differences >= observed - _EQUAL).sum(1)
    p_value, p_value_by_set = ((1 + as_far.double()) / (1 + permutations)).tolist()
    return p_value, p_value_by_set


def _from_chance(right_real: Tensor, right_fake: Tensor, images: int) -> Tensor:
    """How far from chance are the accuracy, and that of the set where it is farther: (2, B)."""
    chance = (images / 2 - 1) / (images - 1)
    real, fake = right_real / (images / 2), right_fake / (images / 2)
    overall = ((real + fake) / 2 - chance).abs()
    return torch.stack([overall, torch.maximum((real - chance).abs(), (fake - chance).abs())])


def _standard_error(vectors: Tensor, is_real: Tensor, resamples: Resamples) -> float | None:
    listed = min(_LISTED, len(vectors) - 1)
    neighbors = nearest_neighbors(vectors, vectors, listed, leave_one_out=True)
    same = (is_real[neighbors.rows] == is_real[:, None]).double()  # (2n, listed)
    accuracies = []
    for weights in torch.cat([resamples.real, resamples.fake], 1):  # (2n,)
        drawn = weights[neighbors.rows] > 0
        drawn[:, -1] = True  # where none was drawn: the farthest known
        first = drawn.to(torch.uint8).argmax(1, keepdim=True)
        nearest = neighbors.distances.gather(1, first)
        tied = (drawn & (neighbors.distances == nearest)).double()
        right = (tied * same).sum(1) / tied.sum(1)
        accuracies.append((weights * right).sum() / weights.sum())
    return standard_error(torch.stack(accuracies))


register(
    Metric(
        name="nearest_neighbour",
        title="1-NN accuracy",
        better=0.5,
        takes="features",
        function=lambda sets: nearest_neighbor_accuracy(
            *sets.vectors, seed=sets.seed, resamples=sets.resamples
        ),
        fewest=(MIN_IMAGES, MIN_IMAGES),
        needs_equal_sizes=True,
        details=(
            Detail("real_accuracy", "of real images", better=0.5),
            Detail("fake_accuracy", "of generated images", better=0.5),
            Detail("p_value", "p, by permutation"),
            Detail("p_value_by_set", "p of the farther of the two"),
        ),
        place=70,
    )
)

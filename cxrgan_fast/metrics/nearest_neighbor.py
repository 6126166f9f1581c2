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

Images of one patient are alike. They would be each other's neighbours, and a test that takes them
for independent refuses a perfect generator too. So where patients are known, each is there with one
image, at random, and of the other set as many images of the class are taken: the own patient is no
neighbour then, and whole patients are permuted, within their class, whose numbers are fixed. To
leave the own patient out among all images, and to permute patients of several images against
generated images that are single, is no valid test: a patient's images are one place in the space,
and each image has fewer real neighbours than generated ones, which both accuracies show.
"""

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Detail, Metric, register
from cxrgan_fast.metrics.neighbors import nearest_neighbors, tied_nearest
from cxrgan_fast.metrics.strata import Strata

MIN_IMAGES = 2
PERMUTATIONS = 1000
_LISTED = 13  # neighbours of which at least one is in almost every resample: 0.37^13 is 2e-6
_AT_ONCE = 1 << 21  # labels of permutations: 16 MB
_EQUAL = 1e-9  # accuracies that differ by less are the same but for rounding


def nearest_neighbor_accuracy(
    real: Tensor,
    fake: Tensor,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    resamples: Resamples | None = None,
    strata: Strata | None = None,
) -> Estimate:
    """Compute the leave-one-out 1-nearest-neighbor accuracy of two sets of equal size.

    In a resample each image drawn votes as its nearest neighbour drawn does, its own copies left
    out. (With every image's neighbour as it is, the standard error misses that images share
    neighbours: mostly 0.75 to 0.85 of what fresh sets of Gaussians give. This one was found to be
    1.05 to 1.25 of it.)

    Args:
        real: (N, D) features of real images, float32.
        fake: (N, D) features of generated images, float32.
        permutations: number of permutations of the labels, for the p-values; 0 leaves these out.
        seed: random seed of the permutations; the same on every device.
        resamples: for the standard error.
        strata: classes and patients of these images. With them the sets may be of any size: one
            image of each patient in each class is taken, and as many of the class on both sides;
            `n_real` of the estimate says how many. Labels are permuted within classes.

    Returns:
        The accuracy. `details`: `real_accuracy` and `fake_accuracy`, of which it is the mean;
        `chance`, (n − 1)/(2n − 1); `p_value`, of so large a difference of the accuracy from
        chance; `p_value_by_set`, of so large a difference of `real_accuracy` or `fake_accuracy`,
        whichever is the larger; `permutations`, of which p-values are at least 1/(1 + them).

    Raises:
        UserError: there are fewer than 2 images in a set, or of 2 patients, or features that are
            not finite.
        ValueError: the sets are not of the same size, the shapes do not go together, or
            `permutations` is below 0.
    """
    require_vectors("1-NN accuracy", real, fake, least=MIN_IMAGES)
    labels = torch.zeros(2 * len(real), dtype=torch.int64)
    if strata is not None:
        rows_real, rows_fake = _one_a_patient(strata.to(real.device), seed)
        if len(rows_real) < MIN_IMAGES:
            raise UserError(
                f"1-NN accuracy: expected {MIN_IMAGES} patients or more with images of the same "
                f"classes in both sets, got {len(rows_real)}; give images of others"
            )
        real, fake = real[rows_real], fake[rows_fake]
        resamples = resamples and resamples.take(rows_real, rows_fake)
        strata = strata.take(rows_real, rows_fake)
        labels = torch.cat([strata.real.labels, strata.fake.labels]).cpu()
    count = len(real)
    if count != len(fake):
        raise ValueError(f"real, fake: expected sets of the same size, got {count} and {len(fake)}")
    if permutations < 0:
        raise ValueError(f"permutations: expected at least 0, got {permutations}")
    vectors = torch.cat([real, fake])  # (2n, D)
    votes = _Votes(vectors)
    is_real = torch.arange(2 * count, device=vectors.device) < count
    right_real, right_fake = votes.right(is_real[None])
    accuracy = float(right_real + right_fake) / (2 * count)
    details: dict[str, float | int] = {
        "real_accuracy": float(right_real) / count,
        "fake_accuracy": float(right_fake) / count,
        "chance": (count - 1) / (2 * count - 1),
    }
    if permutations:
        p_value, p_value_by_set = _p_values(votes, is_real, labels, permutations, seed)
        details |= {
            "p_value": p_value,
            "p_value_by_set": p_value_by_set,
            "permutations": permutations,
        }
    return Estimate(
        accuracy,
        count,
        count,
        None if resamples is None else _standard_error(vectors, is_real, resamples),
        details,
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
            self.voted, self.voters = pairs.queries[kept], pairs.candidates[kept]
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


def _one_a_patient(strata: Strata, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of both sets with one image a patient, as many of each class in both."""
    sides = strata.real, strata.fake
    rows = [groups.one_a_patient(seed + side) for side, groups in enumerate(sides)]
    rng = np.random.default_rng(seed)
    chosen: list[list[Tensor]] = [[], []]
    for k in torch.cat([groups.labels for groups in sides]).unique().tolist():
        of_class = [row[groups.labels[row] == k] for row, groups in zip(rows, sides, strict=True)]
        count = min(map(len, of_class))
        for kept, there in zip(chosen, of_class, strict=True):
            order = torch.from_numpy(rng.permutation(len(there))[:count])
            kept.append(there[order.to(there.device)])
    first, second = (torch.cat(kept).sort().values for kept in chosen)
    return first, second


def _p_values(
    votes: _Votes, is_real: Tensor, labels: Tensor, permutations: int, seed: int
) -> tuple[float, float]:
    """Of the accuracy, and of the accuracy in the set where it is farther from its mean."""
    images = len(is_real)
    classes = [(labels == k).numpy() for k in labels.unique()]
    # A generator for each class, so that it does not matter how many fit at once.
    rngs = [np.random.default_rng([seed, place]) for place in range(len(classes))]
    at_once = max(1, _AT_ONCE // max(images, len(votes.voted)))
    accuracies = [votes.right(is_real[None])]
    for done in range(0, permutations, at_once):
        permuted = np.tile(is_real.cpu().numpy(), (min(at_once, permutations - done), 1))
        for rng, of_class in zip(rngs, classes, strict=True):
            permuted[:, of_class] = rng.permuted(permuted[:, of_class], axis=1)
        accuracies.append(votes.right(torch.from_numpy(permuted).to(is_real.device)))
    real, fake = (torch.cat(part) / (images / 2) for part in zip(*accuracies, strict=True))
    overall = _from_mean((real + fake) / 2)
    by_set = torch.maximum(_from_mean(real), _from_mean(fake))
    p_value, p_value_by_set = (
        float((each >= each[0] - _EQUAL).double().mean()) for each in (overall, by_set)
    )
    return p_value, p_value_by_set


def _from_mean(accuracies: Tensor) -> Tensor:
    """How far each is from the mean of them all, the observed one among them."""
    return (accuracies - accuracies.mean()).abs()


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
            *sets.vectors,
            permutations=0 if sets.values_only else PERMUTATIONS,
            seed=sets.seed,
            resamples=sets.resamples,
            strata=sets.strata,
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

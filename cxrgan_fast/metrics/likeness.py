"""Likeness Score: are distances between the sets distributed like distances within them?

S. Guan and M. Loew, "A novel measure to evaluate generative adversarial networks based on direct
analysis of generated images", Neural Computing and Applications 2021 (arXiv:2002.12345), built on
the distance-based separability index (DSI) of their "A novel intrinsic measure of data
separability", Applied Intelligence 2022 (arXiv:2109.05180). Of Euclidean distances, over all pairs:

    ICD_real, ICD_fake: of two images of one set (each unordered pair once)
    BCD: of a real and a generated image
    s_real = KS(ICD_real, BCD)        s_fake = KS(ICD_fake, BCD)
    LS = 1 − DSI        DSI = max(s_real, s_fake)

KS is the two-sample Kolmogorov-Smirnov statistic, the largest difference of the two distribution
functions. LS is 1 where the sets cannot be told apart and 0 where every distance between them is
longer than every distance within.

The DSI of the second paper is the mean of the two statistics; the program that the authors publish
with the first takes the larger one. The larger one is what LS is here, so that numbers are theirs;
with the mean a generator that always gives one image would keep half of its score. `details` has
both statistics and the score with the mean.

Two sets of one distribution score a little less than 1, by the chance differences of their
distances; a set and its own copy 1 − 1/n, since their n distances of 0 are no distances within.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Metric, register
from cxrgan_fast.metrics.neighbors import squared_distances

MIN_IMAGES = 2  # for a distance within a set
# Images of a set that are compared, for 8 million distances; of more, as many are chosen.
MAX_IMAGES = 2000

# Squared distances are within this share of the truth. So those that differ by four times as much
# or less are taken for equal: a few of a thousand pairs with many equal distances would otherwise
# be ordered by rounding. Among 8 million distances two neighbours differ by 1e-7.
_RELATIVE_ERROR = 1e-11

_BINS = 1024  # of the distances in resamples; a statistic is off by 1/1024 at most
_RESAMPLED_PAIRS = 10**8  # in all resamples together: half a second


def likeness_score(real: Tensor, fake: Tensor, *, resamples: Resamples | None = None) -> Estimate:
    """Compute the Likeness Score, 0 to 1, higher is better (Guan and Loew 2021).

    A pair is in a resample as often as the product of its images' counts says, an image with itself
    never. The standard error was found to be 1.1 to 1.2 of what fresh sets of Gaussians give.

    Args:
        real: (N, D) features of real images, float32.
        fake: (M, D) features of generated images, float32.
        resamples: for the standard error; the first 50 of them at 1,000 images a set, fewer of more
            images.

    Returns:
        The score. `details`: `ks_real`, `ks_fake`, the two statistics; `score_by_mean`, 1 minus
        their mean; `images_real`, `images_fake`, how many images were compared (all, or 2,000 of a
        larger set, chosen at random but always the same); `pairs_real`, `pairs_fake`,
        `pairs_between`, the distances; with resamples, `resamples`, how many were used.

    Raises:
        UserError: a set has fewer than 2 images, or features that are not finite.
        ValueError: the shapes do not go together.
    """
    require_vectors("Likeness Score", real, fake, least=MIN_IMAGES)
    chosen_real, chosen_fake = _chosen(real), _chosen(fake)
    pairs = _Pairs(real[chosen_real], fake[chosen_fake])
    ks_real, ks_fake = pairs.statistics()
    details: dict[str, float | int] = {
        "ks_real": ks_real,
        "ks_fake": ks_fake,
        "score_by_mean": 1 - (ks_real + ks_fake) / 2,
        "images_real": len(chosen_real),
        "images_fake": len(chosen_fake),
        "pairs_real": pairs.sizes[0],
        "pairs_fake": pairs.sizes[1],
        "pairs_between": pairs.sizes[2],
    }
    error = None
    if resamples is not None:
        used = min(len(resamples.real), max(10, _RESAMPLED_PAIRS // len(pairs.values)))
        scores = pairs.resampled(
            resamples.real[:used, chosen_real], resamples.fake[:used, chosen_fake]
        )
        error = standard_error(scores)
        details["resamples"] = len(scores)
    return Estimate(1 - max(ks_real, ks_fake), len(real), len(fake), error, details)


class _Pairs:
    """The squared distances of all pairs, and which kinds of pairs they are in ascending order.

    Squares serve as well: the statistics see the order only.
    """

    def __init__(self, real: Tensor, fake: Tensor) -> None:
        self.within_real = _unordered_pairs(len(real), real.device)  # (2, P)
        self.within_fake = _unordered_pairs(len(fake), fake.device)
        parts = [
            squared_distances(real, real, _RELATIVE_ERROR)[tuple(self.within_real)],
            squared_distances(fake, fake, _RELATIVE_ERROR)[tuple(self.within_fake)],
            squared_distances(real, fake, _RELATIVE_ERROR).flatten(),
        ]
        self.sizes = [len(part) for part in parts]
        self.values = torch.cat(parts)
        ascending, self.kinds = _sorted_with_kinds(self.values, self.sizes)
        # Where a group of equal distances ends: the distribution functions are compared there.
        self.group_ends = torch.ones_like(self.kinds, dtype=torch.bool)
        beyond = ascending[:-1] * (1 + 4 * _RELATIVE_ERROR)
        torch.gt(ascending[1:], beyond, out=self.group_ends[:-1])

    def statistics(self) -> tuple[float, float]:
        """The two Kolmogorov-Smirnov statistics, of real and of generated images."""
        below_real, below_fake, below_between = (
            (self.kinds == kind).cumsum(0, dtype=torch.int32).double().div_(size)
            for kind, size in enumerate(self.sizes)
        )
        return (
            float(below_real.sub_(below_between).abs_().mul_(self.group_ends).max()),
            float(below_fake.sub_(below_between).abs_().mul_(self.group_ends).max()),
        )

    def resampled(self, real_weights: Tensor, fake_weights: Tensor) -> Tensor:
        """The scores of resamples, (B,); NaN where a resample has one image of a set only."""
        bins = self._bins().split(self.sizes)
        scores = []
        for real, fake in zip(real_weights, fake_weights, strict=True):  # (N,), (M,)
            weights = (
                real[self.within_real[0]] * real[self.within_real[1]],
                fake[self.within_fake[0]] * fake[self.within_fake[1]],
                torch.outer(real, fake).flatten(),
            )
            below_real, below_fake, below_between = (
                _distribution(bin_of_pair, weight)
                for bin_of_pair, weight in zip(bins, weights, strict=True)
            )
            ks_real = (below_real - below_between).abs().max()
            ks_fake = (below_fake - below_between).abs().max()
            scores.append(1 - torch.maximum(ks_real, ks_fake))
        return torch.stack(scores)

    def _bins(self) -> Tensor:
        """Of each pair, which of about equally full bins of distances it is in.

        Equal distances share a bin.
        """
        total, order = len(self.values), _order(self.values)
        starts = torch.arange(total, device=self.values.device)
        starts[1:][~self.group_ends[:-1]] = 0
        starts = starts.cummax(0).values  # of each place, where its group begins
        bins = torch.empty_like(order)
        bins[order] = starts * _BINS // total
        return bins


def _sorted_with_kinds(values: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values in ascending order, (P,), and the kind of each, (P,) int8, its part of these sizes.

    The kind lies in the last two bits of a value while it is sorted, which changes it by less than
    the distances are exact to: to sort numbers is four times as fast as to sort places by them.
    """
    tagged = values.view(torch.int64) & ~3  # of numbers not below 0 the bits have their order
    for kind, part in enumerate(tagged.split(list(sizes))):
        part |= kind
    if tagged.device.type == "cpu":
        tagged.numpy().sort()  # ten times as fast as PyTorch's
    else:
        tagged = tagged.sort().values
    kinds = (tagged & 3).to(torch.int8)
    return tagged.bitwise_and_(~3).view(torch.float64), kinds


def _order(values: Tensor) -> Tensor:
    """Where each of the values in ascending order is; equal ones in any order."""
    if values.device.type != "cpu":
        return values.argsort()
    return torch.from_numpy(np.argsort(values.numpy()))  # up to four times as fast as PyTorch's


def _distribution(bins: Tensor, weights: Tensor) -> Tensor:
    below = torch.bincount(bins, weights, minlength=_BINS).cumsum(0)
    return below / below[-1]


def _unordered_pairs(count: int, device: torch.device) -> Tensor:
    return torch.triu_indices(count, count, 1, device=device)  # (2, P)


def _chosen(vectors: Tensor) -> Tensor:
    if len(vectors) <= MAX_IMAGES:
        return torch.arange(len(vectors), device=vectors.device)
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    return order[:MAX_IMAGES].sort().values.to(vectors.device)


register(
    Metric(
        name="likeness",
        title="likeness score",
        better="higher",
        takes="features",
        function=lambda sets: likeness_score(*sets.vectors, resamples=sets.resamples),
        fewest=(MIN_IMAGES, MIN_IMAGES),
        place=80,
    )
)

"""Memorisation: whether generated images are nearer to the training images than new ones are.

The yardstick is real: how far real images that were not trained on are from their nearest training
image. A generator that has learnt the distribution gives images just as far; one that copies gives
images that are nearer (Meehan, Chaudhuri and Dasgupta 2020, "A Non-Parametric Test to Detect
Data-Copying in Generative Models", compare the same two samples of distances by the same rank
statistic, there also cell by cell; here once for all). Given are

- the medians of both samples and their ratio, 1 where nothing is memorised;
- the share of generated images that are no farther than the 1 % quantile of the held-out
  distances, about 0.01 where nothing is memorised (of fewer than 100 held-out images, about one
  divided by them: the quantile is then the smallest). A few copies among many good images show;
- a one-sided p-value of "nearer than held-out images" by Mann and Whitney 1947, "On a Test of
  Whether one of Two Random Variables is Stochastically Larger than the Other": a general shift.
  Its variance is that of whole patients: two images of one say less than two of different ones;
- near copies, one by one: generated images nearer than half that quantile. Where nearness is by
  chance, the share of images within a distance r grows like r to the power of the features'
  local dimension d, so that half the distance leaves 0.01·2⁻ᵈ: of 1,000 images fewer than one
  for d ≥ 4. Images at distance 0 are always among them.

Two things to bear in mind. Images that are far from everything real, such as noise, pass: that
nothing is copied does not make anything good. And images that are blurred or of low contrast are
nearer to everything than sharp ones, by pixels above all: they have small p-values and a share of
a few percent without being copies of anything. What convicts is near copies. The distances are
Euclidean, between any features; an extractor that sees little calls different images near.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.metric import Metric, register
from cxrgan_fast.metrics.neighbors import nearest_neighbors

QUANTILE = 0.01
NEAR_COPY = 0.5  # of the distance at the quantile
MOST_LISTED = 50
_FEWEST = 2  # distances in either sample


class NearCopy(NamedTuple):
    """A generated image that is too near to a training image.

    Attributes:
        fake: row of the generated image.
        train: row of the training image that it is nearest to.
        distance: between their features.
    """

    fake: int
    train: int
    distance: float


@dataclass(frozen=True)
class Memorization:
    """How near generated images are to the training images.

    Attributes:
        share: share of generated images no farther from a training image than `quantile_distance`.
        fake_distances: (M,) float64, of each generated image to its nearest training image.
        fake_nearest: (M,) int64, the rows of these training images.
        yardstick: what nearness is measured by, such as "held-out images" or "other patients".
        yardstick_distances: (H,) float64, of each of these to its nearest training image.
        quantile_distance: the 1 % quantile of the yardstick's distances.
        yardstick_share: share of the yardstick's images at most that far: more than 0.01 where
            there are fewer than 100, or many equally near. What `share` is to be held against.
        p_value: one-sided, of no memorisation.
        near_copy_distance: below it an image is a near copy.
        n_near_copies: how many are.
        near_copies: the nearest of them, at most 50, nearest first.
    """

    share: Estimate
    fake_distances: Tensor
    fake_nearest: Tensor
    yardstick: str
    yardstick_distances: Tensor
    quantile_distance: float
    yardstick_share: float
    p_value: float
    near_copy_distance: float
    n_near_copies: int
    near_copies: list[NearCopy]

    @property
    def fake_median(self) -> float:
        """Return the median distance of generated images."""
        return float(self.fake_distances.quantile(0.5))

    @property
    def yardstick_median(self) -> float:
        """Return the median distance of held-out images, or of those of other patients."""
        return float(self.yardstick_distances.quantile(0.5))

    @property
    def median_ratio(self) -> float | None:
        """Divide the medians; below 1 generated images are nearer. None for a yardstick of 0."""
        return self.fake_median / self.yardstick_median if self.yardstick_median else None


def memorization(
    train: Tensor,
    fake: Tensor,
    held_out: Tensor | None = None,
    *,
    patients: Tensor | None = None,
    held_out_patients: Tensor | None = None,
    yardstick: str = "held-out images",
    resamples: Resamples | None = None,
) -> Memorization:
    """Compare the distances of generated and of held-out images to the training images.

    Without held-out images, the training images take their place, each with its nearest one of
    another patient. Give the held-out images where there are any: the others had a hand in what
    is compared, and each lacks its own patient among its neighbours.

    Args:
        train: (N, D), features of all images that were trained on.
        fake: (M, D), of generated images.
        held_out: (H, D), of real images that were not trained on, of other patients.
        patients: (N,) int64, whose each training image is; needed without `held_out`.
        held_out_patients: (H,) int64, whose each held-out image is; None where each has its own.
        yardstick: what the held-out images are called in the result.
        resamples: resamples whose `fake` gives the standard error of the share. Its `real` is not
            used: the training images are what they are.

    Raises:
        ValueError: neither `held_out` nor `patients`.
        UserError: too few images, or all training images of one patient.
    """
    new_images = held_out if held_out is not None else train
    if len(train) < 1 or len(fake) < _FEWEST or len(new_images) < _FEWEST:
        raise UserError(
            f"memorisation: {len(train)} training, {len(fake)} generated and {len(new_images)} "
            f"held-out images came, at least 1, {_FEWEST} and {_FEWEST} are needed"
        )
    found = nearest_neighbors(fake, train)
    distances, rows = found.distances[:, 0], found.rows[:, 0]
    if held_out is not None:
        expected, units = nearest_neighbors(held_out, train).distances[:, 0], held_out_patients
    else:
        yardstick = "other patients"
        expected, units = _to_other_patients(train, patients), patients
    # One of the distances themselves: of new images the share within the k-th of H distances is
    # k / (H + 1) on average, and this k makes it about 1 %.
    limit = float(expected.quantile(QUANTILE, interpolation="lower"))
    near = distances <= limit
    copies = (distances < NEAR_COPY * limit) | (distances == 0)
    order = distances.masked_fill(~copies, torch.inf).argsort(stable=True)[:MOST_LISTED]
    listed = [
        NearCopy(*each)
        for each in zip(
            order.tolist(), rows[order].tolist(), distances[order].tolist(), strict=True
        )
    ]
    n_copies = int(copies.sum())
    error = None
    if resamples is not None:
        error = standard_error(resamples.fake @ near.double() / resamples.fake.sum(1))
    return Memorization(
        share=Estimate(
            float(near.double().mean()),
            len(train),
            len(fake),
            error,
            {"n_reference": len(expected), "reference": yardstick, "quantile": QUANTILE},
        ),
        fake_distances=distances,
        fake_nearest=rows,
        yardstick=yardstick,
        yardstick_distances=expected,
        quantile_distance=limit,
        yardstick_share=float((expected <= limit).double().mean()),
        p_value=smaller_p_value(distances, expected, second_groups=units),
        near_copy_distance=NEAR_COPY * limit,
        n_near_copies=n_copies,
        near_copies=listed[:n_copies],
    )


def _to_other_patients(train: Tensor, patients: Tensor | None) -> Tensor:
    if patients is None:
        raise ValueError("patients: expected the patients of the training images, or held_out")
    if len(patients.unique()) < 2:
        raise UserError(
            "memorisation: all training images are of one patient, so that no distance to "
            "another patient's can be taken; give held-out images"
        )
    others = nearest_neighbors(train, train, query_groups=patients, candidate_groups=patients)
    return others.distances[:, 0]


def smaller_p_value(
    first: Tensor,
    second: Tensor,
    *,
    first_groups: Tensor | None = None,
    second_groups: Tensor | None = None,
) -> float:
    """Compute Mann and Whitney's one-sided p-value that `first` tends to be the smaller.

    By the normal approximation with the corrections for ties and for continuity, good from
    about eight values in each. Values of one group, such as the images of one patient, may depend
    on each other: where there are such, the variance of each mean rank is that of the groups' sums
    (as in Datta and Satten 2005, "Rank-Sum Tests for Clustered Data", with every value of the same
    weight), good from some twenty groups in each.

    Args:
        first: (N,) float64, at least one value.
        second: (M,) float64, at least one value.
        first_groups: (N,) int64; None where each value is a group of its own.
        second_groups: (M,) int64, the same for `second`.

    Returns:
        Near 0 where `first` is smaller; 1 where all values of both are equal, or where all of
        one side are of one group, so that nothing is known of how groups differ.
    """
    n, m = len(first), len(second)
    ordered = second.sort().values
    below = torch.searchsorted(ordered, first)
    not_above = torch.searchsorted(ordered, first, right=True)
    u = float((below + not_above).sum()) / 2  # pairs with the first larger; ties count one half
    if _repeat(first_groups) or _repeat(second_groups):
        values = torch.cat([first, second])
        _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
        ranks = (counts.cumsum(0) - (counts - 1) / 2)[inverse]  # (N + M,), those of ties the mean
        # Of the difference of the mean ranks, which is (N + M)(U / NM - 1/2), to that of U.
        variance = _variance_of_mean(ranks[:n], first_groups)
        variance += _variance_of_mean(ranks[n:], second_groups)
        variance *= (n * m / (n + m)) ** 2
    else:
        ties = torch.cat([first, second]).unique(return_counts=True)[1].double()
        total = n + m
        tied = float((ties**3 - ties).sum()) / (total * (total - 1))
        variance = n * m / 12 * (total + 1 - tied)
    if not 0 < variance < math.inf:
        return 1.0
    z = (u - n * m / 2 + 0.5) / math.sqrt(variance)
    return min(1.0, 0.5 * math.erfc(-z / math.sqrt(2)))


def _repeat(groups: Tensor | None) -> bool:
    return groups is not None and len(groups.unique()) < len(groups)


def _variance_of_mean(values: Tensor, groups: Tensor | None) -> float:
    """The variance of the mean of values in groups that are independent of each other."""
    of_each = values - values.mean()
    if groups is not None:
        _, inverse = groups.unique(return_inverse=True)
        sums = of_each.new_zeros(int(inverse.max()) + 1).index_add_(0, inverse, of_each)
        of_each = sums
    count = len(of_each)
    if count < 2:
        return math.inf
    return float(of_each.square().sum()) * count / (count - 1) / len(values) ** 2


def exact_duplicates(images: Tensor) -> list[list[int]]:
    """Find groups of images that are equal in every byte.

    Args:
        images: (N, C, H, W) uint8.

    Returns:
        The rows of each group of two or more, ascending; groups by their first row.
    """
    groups: dict[bytes, list[int]] = {}
    for row, digest in enumerate(_digests(images)):
        groups.setdefault(digest, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def exact_copies(fake_images: Tensor, train_images: Tensor) -> list[tuple[int, int]]:
    """Find generated images that equal a training image in every byte.

    Args:
        fake_images: (M, C, H, W) uint8.
        train_images: (N, C, H, W) uint8.

    Returns:
        (row of the generated image, first row of the training image), in the order of the former.
    """
    if fake_images.shape[1:] != train_images.shape[1:]:
        return []
    first: dict[bytes, int] = {}
    for row, digest in enumerate(_digests(train_images)):
        first.setdefault(digest, row)
    digests = enumerate(_digests(fake_images))
    return [(row, first[digest]) for row, digest in digests if digest in first]


def _digests(images: Tensor) -> list[bytes]:
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected torch.uint8, got {images.dtype}")
    # Bytes, one image after the other: a gigabyte a second, and nothing that a GPU is needed for.
    return [hashlib.sha256(image.data).digest() for image in images.cpu().contiguous().numpy()]


register(
    Metric(
        name="memorisation",
        title="memorisation",
        better=QUANTILE,
        takes="features",
        function=None,  # of all training images and held-out ones, and it tells which are copies
        place=120,
    )
)

"""Real X-rays spoilt in nine ways by a known amount, in place of a generator's images.

Everything is of real images that share no patient with those they are compared with. So the
undisturbed set is what a perfect generator would give, and its metrics are the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cxrgan_fast.data import ImageDataset, to_float, to_uint8
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import choose_rows, class_shares
from research.damage import KINDS, damage

MODES = 10
DRAWS = 10
"""Sets of each strength where chance decides which images are disturbed. They take turns about one
random order, so that each image is in nearly as many: what one choice adds cancels in the mean."""
MOST_MISSING = 0.5  # share of the images whose modes are missing at strength 1
MOST_REPEATED = 0.9  # share of the images that repeat others at strength 1
HELD_OUT = 0.5  # times as many images as are compared
SOURCE = 1 / (1 - MOST_MISSING)  # the same, so that with the most modes missing enough are left


@dataclass(frozen=True)
class Parts:
    """Rows of a data set, in three parts that share no patient.

    Attributes:
        real: (n,) int64, the images that stand for the training set, in the data's frequencies.
        base: (n,) int64, the undisturbed images that stand for generated ones; some of `source`.
        source: (S,) int64, all images that may stand for generated ones.
        held_out: (H,) int64, the yardstick of memorisation.
    """

    real: Tensor
    base: Tensor
    source: Tensor
    held_out: Tensor


@dataclass(frozen=True)
class DisturbedSet:
    """What is given to the metrics in place of generated images.

    Attributes:
        images: (n, C, R, R) uint8.
        labels: (n,) int64.
        rows: (n,) int64, the rows of the data set that the images are, where they are unchanged.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor | None


Disturbance = Callable[[float], list[DisturbedSet]]
"""Of a strength the disturbed sets, of whose metrics the mean is meant."""


def divide(dataset: ImageDataset, samples: int, seed: int, *, held_out: float = HELD_OUT) -> Parts:
    """Deal the patients out until each part has the images that it needs of every class.

    Args:
        dataset: the images.
        samples: how many are compared with as many, n.
        seed: of all choices.
        held_out: images of that part, times n.

    Raises:
        UserError: the data set is too small.
    """
    frequencies = list(dataset.class_counts().values())
    counts = class_shares(frequencies, samples)
    wanted = [counts, class_shares(frequencies, int(held_out * samples))]
    labels = dataset.labels.tolist()
    rows_of: dict[str, list[int]] = {}
    for row, patient in enumerate(dataset.patients):
        rows_of.setdefault(patient, []).append(row)
    patients = list(rows_of)
    order = torch.randperm(len(patients), generator=torch.Generator().manual_seed(seed)).tolist()
    lacking = [list(each) for each in wanted]
    dealt: list[list[int]] = [[], [], []]
    for place in order:
        rows = rows_of[patients[place]]
        part = next(
            (k for k in (0, 1) if any(lacking[k][labels[row]] > 0 for row in rows)),
            2,
        )
        dealt[part] += rows
        if part < 2:
            for row in rows:
                lacking[part][labels[row]] -= 1
    real, kept, source = (torch.tensor(sorted(rows), dtype=torch.int64) for rows in dealt)
    if len(source) < SOURCE * samples:
        raise UserError(
            f"{dataset.name}: {len(dataset)} images in parts that share no patient leave "
            f"{len(source)} to disturb, {SOURCE * samples:.0f} are needed: lower --samples"
        )
    try:
        base = _stratified(dataset.labels, source, counts, seed)
        real = _stratified(dataset.labels, real, counts, seed)
        kept = _stratified(dataset.labels, kept, wanted[1], seed)
    except ValueError as error:
        raise UserError(f"{dataset.name}: {error}; lower --samples") from None
    return Parts(real=real, base=base, source=source, held_out=kept)


def _stratified(labels: Tensor, rows: Tensor, counts: Sequence[int], seed: int) -> Tensor:
    return rows[choose_rows(labels[rows], counts, seed)]


def disturbances(
    dataset: ImageDataset, parts: Parts, vectors: Tensor, seed: int
) -> dict[str, Disturbance]:
    """The nine disturbances by name, each a function of the strength, 0 (none) to 1.

    - the five of `damage`: blur, noise, occlusion, contrast, warping;
    - missing_modes: of ten clusters of `vectors` some are missing, strength x 50 % of the images;
      others take their place. The first is the one farthest from the mean of all, then those
      nearest to it: were they far from each other, the second would bring the mean back that the
      first had moved;
    - duplicates: strength x 90 % of the images repeat others;
    - copies: strength x 100 % of the images are training images;
    - swapped_labels: strength x 100 % of the images have the labels of others among them.

    Each draws the same again for every strength, so that a greater strength disturbs what a
    smaller one has disturbed, and more. A damage gives one set, the others `DRAWS` of them.

    Args:
        dataset: all images.
        parts: which of them are what.
        vectors: (N, D), features of all images, in which modes are looked for.
        seed: of all choices.
    """
    found: dict[str, Disturbance] = {
        kind: _damaged(dataset, parts.base, kind, seed) for kind in KINDS
    }
    found["missing_modes"] = _missing_modes(dataset, parts, vectors, seed)
    found["duplicates"] = _duplicates(dataset, parts.base, seed)
    found["copies"] = _copies(dataset, parts, seed)
    found["swapped_labels"] = _swapped_labels(dataset, parts.base, seed)
    return found


def unchanged(dataset: ImageDataset, rows: Tensor) -> DisturbedSet:
    """Images as they are, with their labels."""
    return DisturbedSet(dataset.images[rows], dataset.labels[rows], rows)


def _damaged(dataset: ImageDataset, base: Tensor, kind: str, seed: int) -> Disturbance:
    def disturb(strength: float) -> list[DisturbedSet]:
        generator = torch.Generator().manual_seed(seed)
        images = to_float(dataset.images[base], (0, 1))
        images = damage(images, kind, strength, generator)  # type: ignore[arg-type]
        return [DisturbedSet(to_uint8(images, (0, 1)), dataset.labels[base], None)]

    return disturb


def _turns(order: Tensor) -> list[Tensor]:
    """An order of images, begun at `DRAWS` evenly spaced places."""
    return [order.roll(-(draw * len(order) // DRAWS)) for draw in range(DRAWS)]


def _missing_modes(dataset: ImageDataset, parts: Parts, vectors: Tensor, seed: int) -> Disturbance:
    source = parts.source
    of_source = vectors[source].cpu()
    modes = clusters(of_source, MODES, seed).unique(return_inverse=True)[1]
    means = torch.stack([of_source[modes == mode].mean(0) for mode in range(int(modes.max()) + 1)])
    first = (means - of_source.mean(0)).norm(dim=1).argmax()
    turn = (means - means[first]).norm(dim=1).argsort().argsort()
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(source), generator=generator)
    missing = shuffled[turn[modes][shuffled].argsort(stable=True)]
    is_base = torch.isin(source, parts.base)
    orders = _turns(torch.randperm(len(source), generator=generator))

    def disturb(strength: float) -> list[DisturbedSet]:
        kept = torch.ones(len(source), dtype=torch.bool)
        kept[missing[: round(strength * MOST_MISSING * len(source))]] = False
        sets = []
        for order in orders:
            # Those that are compared without any missing come first.
            filled = order[(~is_base[order]).int().argsort(stable=True)]
            sets.append(unchanged(dataset, source[filled[kept[filled]][: len(parts.base)]]))
        return sets

    return disturb


def _duplicates(dataset: ImageDataset, base: Tensor, seed: int) -> Disturbance:
    n = len(base)
    generator = torch.Generator().manual_seed(seed)
    orders = _turns(base[torch.randperm(n, generator=generator)])
    # Shares of the distinct ones, so that the draw does not depend on how many these are.
    shares = torch.rand(DRAWS, n, generator=generator, dtype=torch.float64)

    def disturb(strength: float) -> list[DisturbedSet]:
        repeats = round(strength * MOST_REPEATED * n)
        sets = []
        for order, share in zip(orders, shares, strict=True):
            again = order[(share[:repeats] * (n - repeats)).long()]
            sets.append(unchanged(dataset, torch.cat([order[: n - repeats], again])))
        return sets

    return disturb


def _copies(dataset: ImageDataset, parts: Parts, seed: int) -> Disturbance:
    n = len(parts.base)
    generator = torch.Generator().manual_seed(seed)
    orders, originals = (
        _turns(rows[torch.randperm(n, generator=generator)]) for rows in (parts.base, parts.real)
    )

    def disturb(strength: float) -> list[DisturbedSet]:
        copied = round(strength * n)
        return [
            unchanged(dataset, torch.cat([original[:copied], order[copied:]]))
            for order, original in zip(orders, originals, strict=True)
        ]

    return disturb


def _swapped_labels(dataset: ImageDataset, base: Tensor, seed: int) -> Disturbance:
    n = len(base)
    generator = torch.Generator().manual_seed(seed)
    orders = _turns(torch.randperm(n, generator=generator))
    others = torch.rand(DRAWS, n, generator=generator)

    def disturb(strength: float) -> list[DisturbedSet]:
        sets = []
        for order, other in zip(orders, others, strict=True):
            chosen = order[: round(strength * n)]
            labels = dataset.labels[base]
            labels[chosen] = labels[chosen[other[: len(chosen)].argsort()]]
            sets.append(DisturbedSet(dataset.images[base], labels, base))
        return sets

    return disturb


def clusters(vectors: Tensor, count: int, seed: int, rounds: int = 30) -> Tensor:
    """The cluster of each vector by Lloyd's algorithm, k-means from random vectors.

    Args:
        vectors: (N, D).
        count: clusters, at most N.
        seed: of the first centres.
        rounds: at most; fewer if nothing changes any more.

    Returns:
        (N,) int64, 0 to `count` - 1.
    """
    generator = torch.Generator().manual_seed(seed)
    centers = vectors[torch.randperm(len(vectors), generator=generator)[:count]]
    assigned = torch.cdist(vectors, centers).argmin(1)
    for _ in range(rounds):
        members = torch.nn.functional.one_hot(assigned, count).to(vectors.dtype)  # (N, K)
        sizes = members.sum(0)[:, None]
        # A centre that has lost all its vectors stays where it is.
        centers = torch.where(sizes > 0, members.T @ vectors / sizes.clamp(min=1), centers)
        before, assigned = assigned, torch.cdist(vectors, centers).argmin(1)
        if torch.equal(before, assigned):
            break
    return assigned

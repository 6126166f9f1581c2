"""The images that an arm's classifier draws from, and the order in which it sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from cxrgan_fast.data import EpochOrder, ImageDataset, Order
from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.arms import TrainingImages


class PoolOrder(Order):
    """Classes in an order that the subset gives, and of each class the pool's images in turn.

    The class at each position is that of the subset's images in epochs of random order. So every
    arm of a subset and seed sees the same classes at the same steps, whatever its pool has. Within
    a class every image of the pool is shown once before any is shown again.

    Args:
        balance: (n,) int64, the classes of the subset's images.
        pool: (M,) int64, the classes of the pool's images.
        seed: random seed, 0 or more.

    Raises:
        UserError: a class of the subset has no image in the pool.
    """

    def __init__(self, balance: Tensor, pool: Tensor, seed: int) -> None:
        self.balance = balance
        self.classes = EpochOrder(len(balance), seed, 0)
        self.members: dict[int, Tensor] = {}
        self.within: dict[int, EpochOrder] = {}
        for label in sorted(set(balance.tolist())):
            members = torch.nonzero(pool == label).flatten()
            if not len(members):
                raise UserError(f"class {label} has no image in the pool; add some of it")
            self.members[label] = members
            self.within[label] = EpochOrder(len(members), seed, 1 + label)

    def rows(self, start: int, count: int) -> Tensor:
        """See `Order.rows`."""
        shown = self.balance[self.classes.rows(start, count)]
        epochs, rest = divmod(start, len(self.balance))
        begun = self.balance[self.classes.rows(epochs * len(self.balance), rest)]
        rows = torch.empty(count, dtype=torch.int64)
        for label, members in self.members.items():
            here = shown == label
            # How many images of the class were shown before.
            before = epochs * int((self.balance == label).sum()) + int((begun == label).sum())
            rows[here] = members[self.within[label].rows(before, int(here.sum()))]
        return rows


def make_pool(
    dataset: ImageDataset, images: TrainingImages, synthetic: ImageDataset | None
) -> ImageDataset:
    """Put an arm's real and synthetic images together.

    Args:
        dataset: the whole set.
        images: what the arm takes of it.
        synthetic: as many synthetic images of each class as the arm takes; None where it takes
            none.

    Returns:
        The real images, as often as the arm has them, then the synthetic ones.

    Raises:
        UserError: there are others than the arm takes, or of another size or classes.
    """
    there = (0,) * len(dataset.class_names)
    if synthetic is not None:
        if synthetic.class_names != dataset.class_names:
            raise UserError(
                f"synthetic images of {', '.join(synthetic.class_names)}: expected the set's "
                f"classes {', '.join(dataset.class_names)}; generate those"
            )
        if synthetic.images.shape[1:] != dataset.images.shape[1:]:
            raise UserError(
                f"synthetic images of shape {tuple(synthetic.images.shape[1:])}: expected that of "
                f"the set's, {tuple(dataset.images.shape[1:])}; generate those"
            )
        there = tuple(synthetic.class_counts().values())
    if there != images.synthetic:
        raise UserError(
            f"arm {images.arm}: {there} synthetic images of the classes, expected "
            f"{images.synthetic}; generate as many"
        )
    rows = torch.tensor(images.real * images.copies, dtype=torch.int64)
    parts = [dataset.images[rows], *([] if synthetic is None else [synthetic.images])]
    labels = [dataset.labels[rows], *([] if synthetic is None else [synthetic.labels])]
    return ImageDataset(
        images=torch.cat(parts),
        labels=torch.cat(labels),
        class_names=dataset.class_names,
        patients=[dataset.patients[row] for row in rows.tolist()]
        + ([] if synthetic is None else synthetic.patients),
        files=[dataset.files[row] for row in rows.tolist()]
        + ([] if synthetic is None else synthetic.files),
        name=dataset.name,
    )

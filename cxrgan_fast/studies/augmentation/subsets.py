"""Nested subsets of a fold's training images, at the class shares of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.folds import Fold, Rows

Size = int | Literal["all"]
ALL: Literal["all"] = "all"


def parse_sizes(text: str) -> list[Size]:
    """Read sizes such as "50,100,all", in which a size is given once.

    Returns:
        The sizes, ascending; "all" last.

    Raises:
        UserError: a word is neither "all" nor a whole number over 0, or is given twice.
    """
    sizes: list[Size] = []
    for word in (part.strip() for part in text.split(",")):
        size: Size
        if word == ALL:
            size = ALL
        elif word.isascii() and word.isdecimal() and 0 < int(word) < 2**31:
            size = int(word)
        else:
            raise UserError(
                f"sizes {text!r}: {word!r} is no size; expected whole numbers over 0, or {ALL}, "
                "with commas between them"
            )
        if size in sizes:
            raise UserError(f"sizes {text!r}: {word} is given twice; give it once")
        sizes.append(size)
    return sorted(sizes, key=lambda size: (size == ALL, size if isinstance(size, int) else 0))


def nested_order(
    fold: Fold, patients: Sequence[str], labels: Sequence[int], *, seed: int = 0
) -> Rows:
    """Order a fold's training images so that the subset of each size is the first so many.

    Patients come in a random order, and all images of one before those of the next; the classes
    take turns, so that after n images each class has its share of n to within one image.

    Args:
        fold: the fold.
        patients: the patient of each image of the set.
        labels: the class of each.
        seed: random seed of the order, 0 or more. Each seed of a study has subsets of its own, so
            that the spread over seeds has that of the draw of the images in it.

    Returns:
        The rows of ``fold.train`` in another order.
    """
    names = sorted({patients[row] for row in fold.train})
    places = np.random.default_rng([seed, fold.number]).permutation(len(names)).tolist()
    rank = dict(zip(names, places, strict=True))
    of_class: dict[int, list[int]] = {}
    for row in sorted(fold.train, key=lambda row: (rank[patients[row]], row)):
        of_class.setdefault(labels[row], []).append(row)
    total = len(fold.train)
    ordered: list[int] = []
    taken = dict.fromkeys(sorted(of_class), 0)
    while len(ordered) < total:
        # In whole numbers; the class that lacks most of its share is next, the first of equals.
        label = max(taken, key=lambda k: len(of_class[k]) * (len(ordered) + 1) - taken[k] * total)
        ordered.append(of_class[label][taken[label]])
        taken[label] += 1
    return tuple(ordered)


def nested_subsets(
    fold: Fold,
    patients: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    sizes: Sequence[Size],
    *,
    seed: int = 0,
) -> Mapping[Size, Rows]:
    """Choose a subset of a fold's training images for each size, the smaller in the larger.

    Args:
        fold: the fold.
        patients: the patient of each image of the set.
        labels: the class of each.
        class_names: the classes.
        sizes: numbers of images, or "all".
        seed: see :func:`nested_order`.

    Returns:
        The rows of each size, ascending.

    Raises:
        UserError: a size is above the number of training images, or so small that a class would
            be missing.
    """
    order = nested_order(fold, patients, labels, seed=seed)
    subsets: dict[Size, Rows] = {}
    for size in sizes:
        count = len(order) if size == ALL else size
        if count > len(order):
            raise UserError(
                f"size {size}: fold {fold.number} has {len(order)} training images; give a smaller "
                f"size, or {ALL}"
            )
        rows = order[:count]
        there = {labels[row] for row in rows}
        missing = [name for label, name in enumerate(class_names) if label not in there]
        if missing:
            raise UserError(
                f"size {size}: at the set's class shares it has no image of {', '.join(missing)}; "
                f"give a larger size, {_fewest(order, labels, len(class_names))} or more"
            )
        subsets[size] = tuple(sorted(rows))
    return subsets


def _fewest(order: Rows, labels: Sequence[int], classes: int) -> int:
    """The smallest size that has all classes."""
    there: set[int] = set()
    for count, row in enumerate(order, 1):
        there.add(labels[row])
        if len(there) == classes:
            return count
    return len(order)

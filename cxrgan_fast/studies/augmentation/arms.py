"""Arms of the study: what each trains its classifier on, as plain data.

All arms of a fold, size and seed begin with the same weights, take the same number of optimizer
steps, and see the same classes in the same order (`cxrgan_fast.studies.augmentation.pool`). They
differ only in which images of a class are shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.studies.augmentation.folds import Rows

MOST_RATIO = 100.0


@dataclass(frozen=True)
class Arm:
    """What a classifier is trained on.

    Attributes:
        name: its name in tables.
        title: what it is, for a reader.
        real: whether the subset's real images are shown.
        copies: how often each real image stands in the pool.
        synthetic: whether ``ratio`` synthetic images for each real one are shown.
        more_real: whether ``ratio`` further real images for each one of the subset are shown.
        augmented: whether images are augmented classically.
    """

    name: str
    title: str
    real: bool = True
    copies: int = 1
    synthetic: bool = False
    more_real: bool = False
    augmented: bool = False

    @property
    def takes_ratio(self) -> bool:
        """Tell whether the arm is one of several, by its ratio."""
        return self.synthetic or self.more_real

    def label(self, ratio: float | None) -> str:
        """Return the arm's name with its ratio, such as RAS_2."""
        return self.name if ratio is None else f"{self.name}_{ratio:g}"


ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("R", "real images"),
        Arm("RA", "real images, classically augmented", augmented=True),
        # Within as many steps this is R in another order: what it gains is chance.
        Arm("RR", "real images, each twice in the pool (control)", copies=2),
        Arm("RS", "real and synthetic images", synthetic=True),
        Arm("RAS", "real and synthetic images, classically augmented", synthetic=True,
            augmented=True),
        Arm("S", "synthetic images alone", real=False, synthetic=True),
        Arm("N", "more real images, classically augmented (N' of the protocol)", more_real=True,
            augmented=True),
    )
}  # fmt: skip
"""The arms by name."""


def find_arm(name: str) -> Arm:
    """Return the arm of a name.

    Raises:
        UserError: there is none.
    """
    if name not in ARMS:
        raise UserError(f"arm {name!r}: expected {', '.join(ARMS)}{did_you_mean(name, ARMS)}")
    return ARMS[name]


@dataclass(frozen=True)
class TrainingImages:
    """What a classifier's training images are made of.

    Attributes:
        arm: name of the arm.
        ratio: synthetic, or further real, images for each real one of the subset; None where the
            arm has no such number.
        subset: rows of the set, whose classes give the balance of every arm.
        real: rows that are shown, ascending.
        copies: how often each of them stands in the pool.
        synthetic: number of synthetic images of each class.
        augmented: whether images are augmented classically.
    """

    arm: str
    ratio: float | None
    subset: Rows
    real: Rows
    copies: int
    synthetic: tuple[int, ...]
    augmented: bool

    @property
    def allowed(self) -> Rows:
        """Return the rows that the generator of the synthetic images has to have seen, exactly."""
        return self.subset

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in asdict(self).items()}  # fmt: skip


def training_images(
    arm: Arm,
    ratio: float | None,
    order: Rows,
    size: int,
    labels: Sequence[int],
    class_names: Sequence[str],
) -> TrainingImages:
    """Say what an arm's classifier is trained on.

    Args:
        arm: the arm.
        ratio: see `TrainingImages`.
        order: a fold's training images as `nested_order` has ordered them.
        size: number of images in the subset.
        labels: the class of each image of the set.
        class_names: the classes.

    Raises:
        UserError: the ratio is missing, out of range, or given to an arm without one; there are
            fewer real images than the subset, or the arm N, takes.
    """
    label = arm.label(ratio)
    if not arm.takes_ratio:
        if ratio is not None:
            raise UserError(f"arm {label}: {arm.name} has no ratio, got {ratio:g}; leave it out")
        ratio = None
    elif ratio is None:
        raise UserError(f"arm {arm.name}: it needs a ratio over 0, such as 1")
    elif not (math.isfinite(ratio) and 0 < ratio <= MOST_RATIO):
        raise UserError(f"arm {arm.name}: ratio {ratio:g}, expected over 0, {MOST_RATIO:g} or less")
    if not 0 < size <= len(order):
        raise UserError(
            f"arm {label}: size {size}, there are {len(order)} training images; give a smaller size"
        )
    subset = order[:size]
    real = subset if arm.real else ()
    if arm.more_real:
        assert ratio is not None
        wanted = round_half_up((1 + ratio) * size)
        if wanted > len(order):
            raise UserError(
                f"arm {label}: size {size} and {ratio:g} further real images for each take "
                f"{wanted}, there are {len(order)}; give a smaller size or ratio"
            )
        real = order[:wanted]
    synthetic = [0] * len(class_names)
    if arm.synthetic:
        assert ratio is not None
        for number in range(len(class_names)):
            of_class = sum(labels[row] == number for row in subset)
            synthetic[number] = max(1, round_half_up(ratio * of_class))
    return TrainingImages(
        arm.name, ratio, tuple(sorted(subset)), tuple(sorted(real)), arm.copies,
        tuple(synthetic), arm.augmented,
    )  # fmt: skip


def round_half_up(value: float) -> int:
    """Round to the nearest whole number, halves up, so that 0.5 and 1.5 are rounded alike."""
    return math.floor(value + 0.5)


def parse_ratios(text: str) -> list[float]:
    """Read ratios such as "0.5,1,2", in which a ratio is given once.

    Returns:
        The ratios, ascending.

    Raises:
        UserError: a word is no number over 0, or is given twice.
    """
    ratios: list[float] = []
    for word in (part.strip() for part in text.split(",")):
        try:
            ratio = float(word) if word.isascii() and "_" not in word else math.nan
        except ValueError:
            ratio = math.nan
        if not 0 < ratio <= MOST_RATIO:
            raise UserError(
                f"ratios {text!r}: {word!r} is no ratio; expected numbers over 0, {MOST_RATIO:g} "
                "or less, with commas between them"
            )
        if ratio in ratios:
            raise UserError(f"ratios {text!r}: {word} is given twice; give it once")
        ratios.append(ratio)
    return sorted(ratios)

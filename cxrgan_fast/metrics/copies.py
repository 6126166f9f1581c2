"""Copies: which images are near copies of training images, by pixels.

Pixels are compared, whatever features the metrics take: a network that was trained to tell diseases
apart sees neither a mirror image nor a shift, and calls a copy with a little noise a new image.
`copy_search` finds the training image that an image is most like, and how alike the two are.

What is a copy follows from the data: `calibrate` takes one real image of each of up to 1,000
patients, and looks for the nearest training image of another patient. Half a percent of them are
above the threshold, so that this is about how often a new image is called a copy.
`research/copies.py` measures what is found of disturbed copies.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.copy_search import Nearest, find_nearest

FALSE_RATE = 0.005
"""Share of real images of other patients that `calibrate` leaves above the threshold."""

MOST_CALIBRATED = 1000
"""Patients at most whose images give the threshold."""


@dataclass(frozen=True)
class Threshold:
    """Above which likeness an image is called a copy, and by what.

    Attributes:
        likeness: the threshold itself is no copy.
        false_rate: the share of new images of other patients expected above it.
        n: real images that it comes from, each of another patient.
    """

    likeness: float
    false_rate: float
    n: int


@dataclass(frozen=True)
class Copies:
    """Which generated images are near copies of training images.

    Attributes:
        nearest: nearest training image of each generated image.
        threshold: likeness above which it is a copy.
        held_out_share: share of the real images of patients kept out of the training that are
            above the threshold: how often it is wrong. None where there are none.
        n_held_out: how many these are.
    """

    nearest: Nearest
    threshold: Threshold
    held_out_share: float | None = None
    n_held_out: int = 0

    @property
    def found(self) -> Tensor:
        """Return the rows of generated images that are copies, (F,) int64, most alike first."""
        likeness = self.nearest.likeness
        order = likeness.argsort(descending=True, stable=True)
        return order[likeness[order] > self.threshold.likeness]


def find_copies(
    images: Tensor,
    train: Tensor,
    threshold: Threshold,
    held_out: Tensor | None = None,
    *,
    progress: bool = False,
) -> Copies:
    """Find the images that are near copies of training images.

    Args:
        images: (Q, 1 or 3, H, W) uint8, generated.
        train: (N, 1 or 3, H, W) uint8, all that was trained on, on the same device.
        threshold: what `calibrate` gives for these training images.
        held_out: (H, 1 or 3, H, W) uint8, of patients who were left out of the training.
        progress: show bars on standard error, if that is a terminal.

    Raises:
        UserError: there are no training images.
    """
    nearest = find_nearest(images, train, progress="copies" if progress else None)
    if held_out is None or not len(held_out):
        return Copies(nearest, threshold)
    title = "likeness of held-out patients" if progress else None
    others = find_nearest(held_out, train, progress=title)
    above = (others.likeness > threshold.likeness).double().mean()
    return Copies(nearest, threshold, float(above), len(held_out))


def calibrate(
    train: Tensor, patients: Tensor, *, seed: int = 0, progress: str | None = None
) -> Threshold:
    """Find above which likeness an image is a copy, from training images of different patients.

    Args:
        train: (N, 1 or 3, H, W) uint8.
        patients: (N,) int64, number of each image's patient.
        seed: random seed of the choice of at most 1,000 patients, and of one image of each.
        progress: title of a progress bar on standard error; None for none.

    Raises:
        UserError: all images are of one patient.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)
    first: dict[int, int] = {}
    for row, patient in zip(order.tolist(), patients.cpu()[order].tolist(), strict=True):
        first.setdefault(patient, row)
    if len(first) < 2:
        raise UserError(
            "copies: the training images are of one patient, so that nothing tells how alike "
            "those of different patients are; tell the patients apart in the data"
        )
    chosen = torch.tensor(list(first.values())[:MOST_CALIBRATED], device=train.device)
    found = find_nearest(
        train[chosen],
        train,
        image_patients=patients[chosen],
        train_patients=patients,
        progress=progress,
    )
    n = len(chosen)
    # One of the values themselves: of new images the share above the k-th largest of n is
    # k / (n + 1) on average. Not the largest of many: some sets have an image under two names.
    k = max(1, math.floor(FALSE_RATE * (n + 1)))
    value = float(found.likeness.sort(descending=True).values[k - 1])
    return Threshold(value, k / (n + 1), n)

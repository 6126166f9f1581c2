"""Whether generated images are copies, or nearer to the training images than new ones are.

What new images are, the yardstick of memorization, are those of patients who were left out of the
training (`train --hold-out-patients`), else training images of other patients. The data's own test
split may be of another distribution, as that of the published pediatric set is: real images of new
patients are then far nearer to the training images than it, and so is every good generator's. It is
a second opinion, and no more.
"""

import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import Described, numbered_patients
from cxrgan_fast.metrics.cache import threshold_of
from cxrgan_fast.metrics.copies import Copies, find_copies
from cxrgan_fast.metrics.estimate import Resamples
from cxrgan_fast.metrics.memorization import Memorization, memorization

HELD_OUT = "held-out patients"
TEST_SPLIT = "the test split (another distribution)"

_FEWEST = 20  # held-out images of which a quantile or a p-value says anything


def memorized(
    train: Described,
    generated: Described,
    held_out: Described | None,
    resamples: Resamples | None = None,
) -> Memorization:
    """Compare distances to the training images with those of new images, by the best yardstick.

    Args:
        train: all images that were trained on.
        generated: the images to judge.
        held_out: images of patients who were left out; fewer than 20 images are not taken.
        resamples: as `memorization` takes them.

    Raises:
        UserError: too few images, or all of one patient.
    """
    if held_out is None or len(held_out.dataset) < _FEWEST:
        held_out = None
    return _by(train, generated, held_out, HELD_OUT, resamples)


def second_opinion(train: Described, generated: Described, test: Described) -> Memorization | None:
    """Compare by the data's test split; None where it has too few images."""
    try:
        return _by(train, generated, test, TEST_SPLIT, None)
    except UserError:
        return None


def _by(
    train: Described,
    generated: Described,
    held_out: Described | None,
    yardstick: str,
    resamples: Resamples | None,
) -> Memorization:
    vectors = train.features.vectors
    return memorization(
        vectors,
        generated.features.vectors,
        None if held_out is None else held_out.features.vectors,
        patients=numbered_patients(train.dataset).to(vectors.device),
        held_out_patients=(
            None if held_out is None else numbered_patients(held_out.dataset).to(vectors.device)
        ),
        yardstick=yardstick,
        resamples=resamples,
    )


def near_copies_of(
    train: ImageDataset,
    generated: ImageDataset,
    held_out: ImageDataset | None,
    device: torch.device,
    progress: bool,
    cache: bool = True,
) -> Copies | None:
    """Find near copies of training images by pixels; None where all are of one patient.

    Args:
        train: all images that were trained on.
        generated: the images to judge.
        held_out: images of patients who were left out: how often the search is wrong is told by
            them.
        device: where to search.
        progress: show bars on standard error, if that is a terminal.
        cache: keep the threshold, which the training images alone decide, in a file.
    """
    if len(set(train.patients)) < 2:
        return None
    threshold = threshold_of(
        train,
        numbered_patients(train),
        device,
        cache=cache,
        progress="likeness of other patients" if progress else None,
    )
    return find_copies(
        generated.images.to(device),
        train.images.to(device),
        threshold,
        None if held_out is None else held_out.images.to(device),
        progress=progress,
    )

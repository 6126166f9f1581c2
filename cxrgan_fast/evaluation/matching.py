"""Which images are compared: as many of each kind, with the classes as often as in the data.

FID and its kin depend on how many images they are given and on how often each class is among
them. So generated images are taken in the frequencies of the real ones, and real images in the
same numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.metrics.extractor import Features
from cxrgan_fast.metrics.strata import Grouping, Strata


def class_shares(frequencies: Sequence[int], total: int) -> list[int]:
    """Divide a number of images among classes by their frequencies (largest remainder).

    Args:
        frequencies: images of each class in the data.
        total: images to divide.

    Returns:
        One count a class; they sum to `total` and differ from the exact share by less than 1.

    Raises:
        ValueError: `total` is negative, or there are no images in the data.
    """
    n = sum(frequencies)
    if total < 0 or n <= 0 or min(frequencies) < 0:
        raise ValueError(f"expected images to divide by frequencies, got {total}, {frequencies}")
    counts = [total * frequency // n for frequency in frequencies]
    # In whole numbers; ties go to the first class.
    by_remainder = sorted(range(len(counts)), key=lambda k: -(total * frequencies[k] % n))
    for k in by_remainder[: total - sum(counts)]:
        counts[k] += 1
    return counts


def largest_match(available: Sequence[int], frequencies: Sequence[int], most: int) -> list[int]:
    """Find the largest counts, `most` in all, that are there at the data's frequencies.

    Args:
        available: images of each class that can be taken.
        frequencies: images of each class in the data.
        most: images wanted.

    Returns:
        One count a class, as `class_shares` divides their sum.
    """
    pairs = list(zip(available, frequencies, strict=True))
    n = sum(frequencies)
    # A share rounded up may be one more than is there, so the exact bound is only where to begin.
    bound = min(
        (n * (count + 1) // frequency for count, frequency in pairs if frequency), default=0
    )
    for total in range(min(most, bound), 0, -1):
        counts = class_shares(frequencies, total)
        if all(count <= there for count, there in zip(counts, available, strict=True)):
            return counts
    return [0] * len(pairs)


def counts_in_all(dataset: ImageDataset, sets: Iterable[Tensor], most: int) -> list[int]:
    """Find the largest counts, `most` in all, that each of some sets of images has.

    Args:
        dataset: the images, whose frequencies the counts have.
        sets: rows of the data set, as numbers or as bool.
        most: images in all.

    Returns:
        One count for each class.
    """
    classes = len(dataset.class_names)
    there = [dataset.labels[rows].bincount(minlength=classes).tolist() for rows in sets]
    available = [min(of_class) for of_class in zip(*there, strict=True)]
    return largest_match(available, list(dataset.class_counts().values()), most)


def choose_rows(
    labels: Tensor, counts: Sequence[int], seed: int, among: Tensor | None = None
) -> Tensor:
    """Choose images by class, at random by the seed.

    Args:
        labels: (N,) int64.
        counts: how many of each class.
        seed: the same seed gives the same images on every device.
        among: (N,) bool, the images that may be taken; None for all.

    Returns:
        (sum of counts,) int64 rows, ascending, on the device of `labels`.

    Raises:
        ValueError: a class has fewer.
    """
    rng = torch.Generator().manual_seed(seed)
    on_cpu = labels.cpu()
    chosen = []
    for k, count in enumerate(counts):
        of_class = on_cpu == k if among is None else (on_cpu == k) & among.cpu()
        rows = of_class.nonzero().flatten()
        if len(rows) < count:
            raise ValueError(f"class {k}: {count} images wanted, there are {len(rows)}")
        chosen.append(rows[torch.randperm(len(rows), generator=rng)[:count]])
    return torch.cat(chosen).sort().values.to(labels.device)


def check_classes(fake: Mapping[str, int], real: Mapping[str, int], where: object) -> None:
    """Hold that generated images have the classes of the data, all of them and no others.

    Args:
        fake: generated images of each class.
        real: real images of each class.
        where: the generated images, for messages.

    Raises:
        UserError: a class is missing, or unknown to the data.
    """
    for name in fake:
        if name not in real:
            raise UserError(
                f"{where}: class {name!r} is not among the data's classes {', '.join(real)}"
                f"{did_you_mean(name, real)}"
            )
    missing = [name for name in real if not fake.get(name)]
    if missing:
        raise UserError(
            f"{where}: there are no images of {', '.join(missing)}, which the data have: generate "
            "them too, or name the classes to compare: --classes"
        )


def patient_halves(dataset: ImageDataset, seed: int) -> tuple[Tensor, Tensor]:
    """Divide a data set into two halves that share no patient, class by class.

    Args:
        dataset: the images.
        seed: random seed of the division.

    Returns:
        Two masks (N,) bool that exclude each other and leave no image out. Each has half of the
        patients of every class, a patient being of the class of its first image.
    """
    class_of: dict[str, int] = {}
    for patient, label in zip(dataset.patients, dataset.labels.tolist(), strict=True):
        class_of.setdefault(patient, label)
    rng = torch.Generator().manual_seed(seed)
    patients = sorted(class_of)
    order = [patients[place] for place in torch.randperm(len(patients), generator=rng).tolist()]
    # All patients of one class after all of another, in random order; every second one of these.
    order.sort(key=class_of.__getitem__)
    first = set(order[1::2])
    mask = torch.tensor([patient in first for patient in dataset.patients], dtype=torch.bool)
    return mask, ~mask


def numbered_patients(dataset: ImageDataset) -> Tensor:
    """Number the patients from 0 in the order of their first images: (N,) int64."""
    numbers = {patient: n for n, patient in enumerate(dict.fromkeys(dataset.patients))}
    return torch.tensor([numbers[patient] for patient in dataset.patients], dtype=torch.int64)


def subset(dataset: ImageDataset, rows: Tensor) -> ImageDataset:
    """Take some of the images of a data set, with its classes."""
    rows = rows.cpu()
    return ImageDataset(
        images=dataset.images[rows],
        labels=dataset.labels[rows],
        class_names=dataset.class_names,
        patients=[dataset.patients[row] for row in rows.tolist()],
        files=[dataset.files[row] for row in rows.tolist()],
        name=dataset.name,
    )


def strata_of(real: ImageDataset, fake: ImageDataset) -> Strata:
    """Return the classes and patients of two sets.

    Those that a generator draws are of a patient each; a floor's are real images on both sides.
    """
    return Strata(
        *(
            Grouping.of(len(side), labels=side.labels, patients=side.patients)
            for side in (real, fake)
        )
    )


@dataclass(frozen=True)
class Described:
    """Images with their features."""

    dataset: ImageDataset
    features: Features

    def take(self, rows: Tensor) -> "Described":
        """Take some of the images."""
        there = rows.to(self.features.vectors.device)
        return Described(subset(self.dataset, rows), self.features[there])

    def of_label(self, label: int) -> "Described":
        """Take the images of one class."""
        return self.take((self.dataset.labels == label).nonzero().flatten())


@dataclass(frozen=True)
class Pair:
    """Two sets to compare.

    Attributes:
        real: training images.
        fake: what is compared with them, generated or real.
        originals: (T, C, R, R) uint8, all images among which copies are looked for.
    """

    real: Described
    fake: Described
    originals: Tensor

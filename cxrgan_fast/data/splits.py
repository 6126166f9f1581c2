"""Dividing a set into training, validation and test images so that no patient is in two."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch

from cxrgan_fast.data.dataset import ImageDataset
from cxrgan_fast.errors import UserError

_FEW_IMAGES = 100  # of a validation split: its figures say next to nothing


def check_shares(val_share: float, test_share: float, seed: int) -> None:
    """Refuse shares and seeds that cannot be.

    Raises:
        UserError: naming the setting.
    """
    for name, share in (("val share", val_share), ("test share", test_share)):
        if not 0 <= share < 1:
            raise UserError(f"{name} {share}: expected 0 or more, and less than 1")
    if val_share + test_share >= 1:
        raise UserError(
            f"val share {val_share} and test share {test_share}: nothing is left to train on; "
            "expected less than 1 together"
        )
    if not 0 <= seed < 2**63:
        raise UserError(f"seed {seed}: expected 0 or more, below 2^63")


def assign_splits(
    patients: Sequence[str],
    labels: Sequence[int | str],
    *,
    val_share: float = 0.1,
    test_share: float = 0.2,
    seed: int = 0,
) -> list[str]:
    """Assign every image to a split, patient by patient, stratified by class.

    Patients come in a random order; each goes to the split that lacks most of what its classes
    should have there, relative to what they should have. With patients of one class a split
    exceeds its share by less than one patient's images. The order of the images does not matter.

    Args:
        patients: the patient of each of N images.
        labels: the class of each, as a number or by name.
        val_share: share of each class's images that goes to val.
        test_share: share of each class's images that goes to test; the rest goes to train.
        seed: random seed of the order of patients.

    Returns:
        "train", "val" or "test" for each image.

    Raises:
        UserError: shares that cannot be, or too few patients to have a class in every split.
    """
    check_shares(val_share, test_share, seed)
    shares = {"train": 1 - val_share - test_share, "val": val_share, "test": test_share}
    shares = {split: share for split, share in shares.items() if share > 0}
    counts: dict[str, Counter[int | str]] = {}
    for patient, label in zip(patients, labels, strict=True):
        counts.setdefault(patient, Counter())[label] += 1
    in_class = Counter(label for of_patient in counts.values() for label in of_patient)
    for label, number in sorted(in_class.items(), key=str):
        if number < len(shares):
            raise UserError(
                f"class {label!r} has {number} patients, too few for the splits "
                f"{', '.join(shares)}: give --val-share 0 or --test-share 0, or add patients"
            )
    totals: Counter[int | str] = Counter(labels)
    # What each split still lacks of each class, relative to what it should have.
    lacking = {split: dict.fromkeys(totals, 1.0) for split in shares}
    chosen: dict[str, str] = {}
    names = sorted(counts)
    for place in np.random.default_rng(seed).permutation(len(names)).tolist():
        of_patient = counts[names[place]]
        need = {
            split: sum(n * lacks[label] / totals[label] for label, n in of_patient.items())
            for split, lacks in lacking.items()
        }
        split = max(need, key=lambda each: need[each])
        chosen[names[place]] = split
        for label, n in of_patient.items():
            lacking[split][label] -= n / (shares[split] * totals[label])
    return [chosen[patient] for patient in patients]


def held_out_patients(
    patients: Sequence[str], labels: Sequence[int], amount: float, seed: int = 0
) -> set[str]:
    """Choose patients of each class who are left out of a training, to judge it by.

    The order of the images does not matter. A patient with images of several classes counts in the
    first of these, and is left out of every class.

    Args:
        patients: the patient of each of N images.
        labels: the class of each.
        amount: share of each class's patients below 1, or their number from 1 on.
        seed: random seed of the choice.

    Returns:
        Their names: of each class the whole number nearest to the share, but at least one.

    Raises:
        UserError: an amount that cannot be, or one that leaves a class without patients.
    """
    if not (0 < amount < 1 or (amount >= 1 and float(amount).is_integer())):
        raise UserError(
            f"--hold-out-patients {amount:g}: expected a share of the patients below 1, or a whole "
            "number of patients of each class"
        )
    class_of: dict[str, int] = {}
    for patient, label in sorted(zip(patients, labels, strict=True)):
        class_of.setdefault(patient, label)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for label in sorted(set(labels)):
        of_class = [patient for patient, of in class_of.items() if of == label]
        count = max(1, round(amount * len(of_class))) if amount < 1 else int(amount)
        order = rng.permutation(len(of_class)).tolist()
        chosen |= {of_class[place] for place in order[:count]}
    left = {label for patient, label in zip(patients, labels, strict=True) if patient not in chosen}
    for label in sorted(set(labels) - left):
        n = len({patient for patient, of in zip(patients, labels, strict=True) if of == label})
        raise UserError(
            f"--hold-out-patients {amount:g}: class {label} has {n} patients, and none is left to "
            "train on; hold out fewer"
        )
    return chosen


def hold_out(dataset: ImageDataset, patients: Collection[str]) -> tuple[ImageDataset, ImageDataset]:
    """Divide a set into the images of all other patients and those of the patients named.

    Both have all of its classes, and their images in its order.
    """
    out = torch.tensor([patient in patients for patient in dataset.patients], dtype=torch.bool)
    return _part(dataset, ~out), _part(dataset, out)


def _part(dataset: ImageDataset, mask: torch.Tensor) -> ImageDataset:
    rows = mask.nonzero().flatten()
    return replace(
        dataset,
        images=dataset.images[rows],
        labels=dataset.labels[rows],
        patients=[dataset.patients[row] for row in rows.tolist()],
        files=[dataset.files[row] for row in rows.tolist()],
    )


def split_warnings(patients: Sequence[str], splits: Sequence[str]) -> list[str]:
    """List what speaks against the splits that a set comes with, a line each.

    Args:
        patients: the patient of each of N images.
        splits: "train", "val" or "test" of each.
    """
    whose: dict[str, set[str]] = {}
    for patient, split in zip(patients, splits, strict=True):
        whose.setdefault(split, set()).add(patient)
    warnings = []
    for first, second in (("train", "test"), ("train", "val"), ("val", "test")):
        shared = whose.get(first, set()) & whose.get(second, set())
        if shared:
            warnings.append(
                f"{first} and {second} share {len(shared)} of {len(whose[second])} patients of "
                f"{second} by their names (such as {min(shared)}): figures on {second} are too good"
            )
    images = Counter(splits)["val"]
    if 0 < images < _FEW_IMAGES:
        warnings.append(f"val has {images} images: too few to choose or to compare anything by")
    return warnings

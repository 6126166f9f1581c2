"""Whose and of which class each image is: what is drawn, left out and permuted together.

The sets that are compared have fixed numbers of images of each class. What chance decides is which
patients these are of, within each class: so patients are redrawn within classes, and the classes
keep their shares. Images of one patient are alike, those that a generator draws are independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Grouping:
    """The class and the patient of each of N images.

    Attributes:
        labels: (N,) int64, the class.
        patients: (N,) int64, equal where the patient is.
    """

    labels: Tensor
    patients: Tensor

    def __post_init__(self) -> None:
        """Refuse labels and patients of different numbers of images."""
        if self.labels.ndim != 1 or self.labels.shape != self.patients.shape:
            raise ValueError(
                "labels, patients: expected (N,) and (N,), got "
                f"{tuple(self.labels.shape)} and {tuple(self.patients.shape)}"
            )

    @classmethod
    def of(
        cls,
        n: int,
        *,
        labels: Tensor | None = None,
        patients: Sequence[str] | Tensor | None = None,
    ) -> "Grouping":
        """Make the grouping of n images of which something may be unknown.

        Args:
            n: images, N.
            labels: (N,), their classes; None where they are unknown, or all of one.
            patients: (N,), whose they are, as names or numbers; None where every image is
                independent of the others, as those that a generator draws are.

        Raises:
            ValueError: there are more or fewer labels or patients than images.
        """
        if labels is None:
            labels = torch.zeros(n, dtype=torch.int64)
        if patients is None:
            patients = torch.arange(n)
        elif not isinstance(patients, Tensor):
            numbers: dict[str, int] = {}
            patients = torch.tensor(
                [numbers.setdefault(patient, len(numbers)) for patient in patients],
                dtype=torch.int64,
            )
        if len(labels) != n or len(patients) != n:
            raise ValueError(
                f"labels, patients: expected {n} each, got {len(labels)} and {len(patients)}"
            )
        return cls(labels.long(), patients.long().to(labels.device))

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> "Grouping":
        """Return some of the images."""
        rows = rows.to(self.labels.device)
        return Grouping(self.labels[rows], self.patients[rows])

    def to(self, device: str | torch.device) -> "Grouping":
        """Return the same on a device."""
        return Grouping(self.labels.to(device), self.patients.to(device))

    def units(self) -> tuple[Tensor, Tensor]:
        """Return what is drawn as one: the images of one patient in one class.

        Returns:
            The unit of each image (N,) int64, 0 to U - 1, and the class of each unit (U,) int64.
        """
        _, patient = torch.unique(self.patients, return_inverse=True)
        key = self.labels * (len(patient) + 1) + patient
        distinct, of_image = torch.unique(key, return_inverse=True)
        return of_image, torch.div(distinct, len(patient) + 1, rounding_mode="floor")

    def centered(self, values: Tensor) -> Tensor:
        """Return values less the mean of their class.

        Args:
            values: (..., N) floating point.
        """
        _, of_image = torch.unique(self.labels, return_inverse=True)
        sizes = torch.bincount(of_image).to(values)  # (K,)
        sums = values.new_zeros((*values.shape[:-1], len(sizes)))
        sums.index_add_(-1, of_image, values)
        return values - (sums / sizes)[..., of_image]

    def variance(self, influence: Tensor) -> float:
        """Return the variance of a sum over the images, patients being drawn within classes.

        Args:
            influence: (N,) float64, what each image adds to the sum. What a class adds as a whole
                does not count, since its share is fixed.

        Returns:
            The sum over the classes of P/(P - 1) times the squares that P patients add; a class
            of one patient adds nothing, since nothing is known of it.
        """
        unit, label = self.units()
        added = influence.new_zeros(len(label)).index_add_(0, unit, self.centered(influence))
        _, of_unit = torch.unique(label, return_inverse=True)
        patients = torch.bincount(of_unit).to(influence)
        factor = torch.where(patients > 1, patients / (patients - 1).clamp(min=1), 0)
        return float((added.square() * factor[of_unit]).sum())

    def one_a_patient(self, seed: int) -> Tensor:
        """Return the rows of one image of each patient in each class, at random, ascending."""
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))
        unit = self.units()[0].cpu()[order]
        place = torch.full((int(unit.max()) + 1 if len(unit) else 0,), len(unit))
        place.scatter_reduce_(0, unit, torch.arange(len(unit)), "amin")
        return order[place].sort().values.to(self.labels.device)


@dataclass(frozen=True)
class Strata:
    """The classes and patients of two sets of images.

    Attributes:
        real: strata of the N real images.
        fake: strata of the M generated images; of a floor, where these are real ones, theirs.
    """

    real: Grouping
    fake: Grouping

    @classmethod
    def unknown(cls, n_real: int, n_fake: int) -> "Strata":
        """Make those of sets of one class, every image of a patient of its own."""
        return cls(Grouping.of(n_real), Grouping.of(n_fake))

    def to(self, device: str | torch.device) -> "Strata":
        """Return the same on a device."""
        return Strata(self.real.to(device), self.fake.to(device))

    def take(self, real: Tensor, fake: Tensor) -> "Strata":
        """Return those of some of the images, by rows."""
        return Strata(self.real[real], self.fake[fake])

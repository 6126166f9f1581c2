"""A labelled set of square images held in memory."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cxrgan_fast.data.sources import check_class_names, match_class
from cxrgan_fast.errors import UserError


@dataclass
class ImageDataset:
    """Images of one size with their classes and patients, in memory.

    Attributes:
        images: uint8, (N, C, R, R).
        labels: int64, (N,), indices into `class_names`.
        class_names: names of the classes, in the order of the labels.
        patients: the patient of each image, by name; splits must not divide a patient.
        files: where each came from: the name in its source.
        name: name of the set: "phantom" or the data folder's name.
        skipped: files that could not be read, each with the reason (only with `skip_bad`).
        prepared: what was done to have it, for a user to read.
        notes: what of the source is not used, and what is doubtful, a line each.
        fingerprint: SHA-256 of pixels, labels and class names.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    patients: list[str]
    files: list[str]
    name: str
    skipped: list[tuple[str, str]] = field(default_factory=list)
    prepared: str = ""
    notes: list[str] = field(default_factory=list)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise UserError(
                f"images: expected torch.uint8 of shape (N, C, H, W), got {self.images.dtype} "
                f"of shape {tuple(self.images.shape)}"
            )
        check_class_names(self.class_names, self.name)
        n = len(self.images)
        if self.labels.dtype != torch.int64 or self.labels.shape != (n,):
            raise UserError(
                f"labels: expected torch.int64 of shape ({n},), got {self.labels.dtype} "
                f"of shape {tuple(self.labels.shape)}"
            )
        if len(self.patients) != n or len(self.files) != n:
            raise UserError(
                f"patients and files: expected {n} of each, one an image, got "
                f"{len(self.patients)} and {len(self.files)}"
            )
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.class_names):
            raise UserError(
                f"labels: {int(self.labels.min())} to {int(self.labels.max())} go beyond the "
                f"{len(self.class_names)} classes {', '.join(self.class_names)}: number the "
                "classes from 0"
            )
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self.images)

    def class_counts(self) -> dict[str, int]:
        """Return how many images each class has."""
        counts = torch.bincount(self.labels, minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    def of_class(self, name: str) -> "ImageDataset":
        """Return the images of one class as a set of one class, all labelled 0.

        Raises:
            UserError: there is no such class.
        """
        name = match_class(name, self.class_names, self.name)
        chosen = torch.nonzero(self.labels == self.class_names.index(name)).flatten()
        rows = chosen.tolist()
        return ImageDataset(
            images=self.images[chosen],
            labels=torch.zeros(len(rows), dtype=torch.int64),
            class_names=(name,),
            patients=[self.patients[row] for row in rows],
            files=[self.files[row] for row in rows],
            name=self.name,
        )

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        digest.update(repr((tuple(self.images.shape), self.class_names)).encode())
        digest.update(self.images.contiguous().cpu().numpy().data)
        digest.update(self.labels.contiguous().cpu().numpy().astype("<i8").data)
        return digest.hexdigest()

"""A labelled set of square images held in memory, and how to load one."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cxrgan_fast.data.depth import shown_notes
from cxrgan_fast.data.kept import kept_set
from cxrgan_fast.data.packed import PackedSet, is_packed, open_packed
from cxrgan_fast.data.patients import patient_warnings
from cxrgan_fast.data.phantom import CLASS_NAMES as PHANTOM_CLASSES
from cxrgan_fast.data.phantom import phantom_image
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import prepare
from cxrgan_fast.data.reading import in_threads
from cxrgan_fast.data.sources import (
    SPLITS,
    Columns,
    Source,
    check_class_names,
    match_class,
    open_source,
    read_classes,
    refuse_columns,
)
from cxrgan_fast.errors import UserError

Split = Literal["train", "test", "val"]


@dataclass
class ImageDataset:
    """Images of one size with their classes and patients, in memory.

    Attributes:
        images: uint8, (N, C, R, R).
        labels: int64, (N,), indices into `class_names`.
        class_names: in the order of the labels.
        patients: whose image it is, one name an image; splits must not divide a patient.
        files: where each came from: the name in its source.
        name: of the set: "phantom" or the data folder's name.
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


def load_dataset(
    source: str | Path,
    *,
    resolution: int,
    image_channels: int = 1,
    classes: Sequence[str] | None = None,
    columns: Columns | None = None,
    split: Split = "train",
    skip_bad: bool = False,
    phantom_images: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> ImageDataset:
    """Load the phantom set or a folder of images, prepared and in memory.

    Folders may be in the published layout of the paediatric chest X-ray set or hold one folder
    a class (`layout`). Images of any size and mode are stretched to the square (`readers` says
    why). The result does not depend on how many threads did the work.

    Args:
        source: "phantom", or the data folder (write ./phantom for a folder of that name).
        resolution: height and width of every image, R.
        image_channels: 1 (grayscale) or 3 (RGB), C.
        classes: which classes, in the order of their labels; default normal and bacterial for
            the phantom set and the published layout, every class folder otherwise. NAME=A+B joins
            the classes A and B of a source or a packed set.
        columns: which columns of a table say what; None for the usual names.
        split: "train", "test" or "val". The phantom set's splits are disjoint.
        skip_bad: go on without unreadable images and list them in `skipped`.
        phantom_images: size of the phantom set, its classes in equal parts.
        seed: of the phantom set.
        progress: show a progress bar on standard error.

    Returns:
        The set: images in the order of class, then file.

    Raises:
        UserError: anything that cannot work, in one line: a missing or empty folder, an unknown
            or empty class, an unreadable image, a setting out of range.
    """
    preparation = Preparation(resolution, image_channels)
    preparation.validate()
    if split not in SPLITS:
        raise UserError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    if source == "phantom":
        return _load_phantom(preparation, classes, split, phantom_images, seed, progress)
    path = Path(source)
    if is_packed(path):
        refuse_columns(columns, str(path))
        return _from_packed(path, preparation, classes, split)
    opened = open_source(path, columns)
    return _from_source(opened, preparation, classes, split, skip_bad, progress)


def _from_packed(
    path: Path, preparation: Preparation, classes: Sequence[str] | None, split: Split
) -> ImageDataset:
    made = open_packed(path)
    shape = preparation.empty(0).shape[1:]
    if made.images.shape[1:] != shape:
        channels, resolution, _ = made.images.shape[1:]
        raise UserError(
            f"{path}: holds images of {resolution} pixels and {channels} channels, and "
            f"{preparation.resolution} and {preparation.image_channels} are asked for: "
            f"train at --resolution {resolution} --image-channels {channels}, or prepare another "
            "set from the images"
        )
    return _of_packed(made, split, classes)


def _of_packed(
    made: PackedSet, split: Split | None = None, classes: Sequence[str] | None = None
) -> ImageDataset:
    names, places = made.choose(split, classes)
    members = made.parts(classes).values()
    labels = {member: label for label, joined in enumerate(members) for member in joined}
    rows = [made.rows[place] for place in places]
    return ImageDataset(
        images=torch.from_numpy(np.asarray(made.images[places])),
        labels=torch.tensor([labels[row.class_name] for row in rows], dtype=torch.int64),
        class_names=names,
        patients=[row.patient for row in rows],
        files=[row.file for row in rows],
        name=made.name,
        skipped=made.left_out,
        prepared=f"read from the packed set {made.path}",
        notes=[*made.unused, *_doubts([row.patient for row in rows])],
    )


def _doubts(patients: Sequence[str]) -> list[str]:
    return [f"warning: {warning}" for warning in patient_warnings(patients)]


def _from_source(
    opened: Source,
    preparation: Preparation,
    classes: Sequence[str] | None,
    split: Split,
    skip_bad: bool,
    progress: bool,
) -> ImageDataset:
    start = time.perf_counter()
    made, note = kept_set(
        opened,
        preparation,
        classes=classes,
        split=split,
        skip_bad=skip_bad,
        progress=progress,
    )
    dataset = _of_packed(made)
    size = f"{preparation.resolution} x {preparation.resolution}"
    took = time.perf_counter() - start
    prepared = f"made {size} by --fit {preparation.fit}, {note}, {took:.1f} s"
    return replace(
        dataset,
        prepared="; ".join([prepared, *shown_notes(made.notes)]),
        notes=[*opened.notes(classes, split), *_doubts(dataset.patients)],
    )


def _load_phantom(
    preparation: Preparation,
    classes: Sequence[str] | None,
    split: Split,
    count: int,
    seed: int,
    progress: bool,
) -> ImageDataset:
    wanted = PHANTOM_CLASSES if classes is None else classes
    parts = read_classes(wanted, PHANTOM_CLASSES, "the phantom set")
    names = tuple(member for members in parts.values() for member in members)
    if names != tuple(parts):
        raise UserError(f"classes: the phantom set has {', '.join(PHANTOM_CLASSES)}, none to join")
    if count < len(names):
        raise UserError(
            f"phantom images {count}: expected at least {len(names)}, one for each class"
        )
    if seed < 0:
        raise UserError(f"seed {seed}: expected 0 or more")
    # Splits take disjoint ranges of the infinite sequence of phantoms.
    first = SPLITS.index(split) << 40
    images = preparation.empty(count)
    # Classes in equal parts, in blocks, as a folder of class folders would give them.
    labels = [row * len(names) // count for row in range(count)]

    def draw(row: int) -> None:
        label = PHANTOM_CLASSES.index(names[labels[row]])
        phantom = phantom_image(seed, first + row, label)
        images[row] = prepare(Image.fromarray(phantom.image), preparation)

    for _ in in_threads(draw, count, "drawing phantoms", workers=None, progress=progress):
        pass
    return ImageDataset(
        images=torch.from_numpy(images),
        labels=torch.tensor(labels, dtype=torch.int64),
        class_names=names,
        patients=[f"phantom-{split}-{row:06d}" for row in range(count)],
        files=[f"{names[labels[row]]}/phantom{row:06d}.png" for row in range(count)],
        name="phantom",
    )

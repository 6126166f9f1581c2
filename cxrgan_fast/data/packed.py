"""The packed set: prepared images in one file that is mapped into memory, and what they are.

A folder with four files, in version 1 of the format:

- `images.npy`: uint8, (N, C, R, R), NumPy's own format; the images in the order of class, then
  name;
- `labels.npy`: int64, (N,), indices into the class names;
- `images.csv`: a row an image, in UTF-8, with the columns file (the name in its source), class,
  patient, split, width, height (of the original, upright) and sha256 (of the original file);
- `set.json`: the name, class names, shape, settings (with a hash of the list of files, their sizes
  and times), files that were left out with the reason, what was decided where files leave a
  choice with the number of images, the path of the source, what of it was not used, and the
  SHA-256 of the other three files.
  It is written last: without it there is no set.

Bytes of names that are not UTF-8 are kept as surrogate escapes (PEP 383).
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cxrgan_fast.data.dataset import ImageDataset
from cxrgan_fast.data.patients import warning_lines
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.sources import (
    ImageFile,
    check_class_names,
    folder_names,
    read_classes,
    select,
)
from cxrgan_fast.data.sources.layout import lay_out
from cxrgan_fast.data.sources.store import NamesOnly
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_error, read_small

FORMAT = "cxrgan_fast packed set"
VERSION = 1
DESCRIPTION = "set.json"
CONTENT = ("images.npy", "labels.npy", "images.csv")
COLUMNS = ("file", "class", "patient", "split", "width", "height", "sha256")

_MOST_BYTES = 1 << 30  # of set.json and of images.csv, each: those of some million images

_DAMAGED = "prepare the set anew, or copy it again"


@dataclass(frozen=True)
class Row:
    """What is known of an image: a line of images.csv."""

    file: str
    class_name: str
    patient: str
    split: str
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class PackedSet:
    """A packed set, opened.

    Attributes:
        path: the folder.
        name: name of the set.
        class_names: names of the classes, in the order of the labels.
        images: uint8, (N, C, R, R), mapped, read-only.
        labels: int64, (N,).
        rows: what is known of each image.
        settings: how it was prepared.
        left_out: files that could not be used, each with the reason.
        notes: what was decided where files leave a choice, and for how many images.
        unused: what of the source was not used, a line each.
    """

    path: Path
    name: str
    class_names: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    rows: list[Row]
    settings: dict[str, Any]
    left_out: list[tuple[str, str]]
    notes: dict[str, int] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        """Return the folder's path, for messages."""
        return str(self.path)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names, which all have images."""
        return self.class_names

    @property
    def default_classes(self) -> tuple[str, ...]:
        """Return the classes that are used when none are named: all."""
        return self.class_names

    @property
    def has_splits(self) -> bool:
        """Say whether some images are for testing or validation."""
        return any(row.split != "train" for row in self.rows)

    def parts(
        self, classes: Sequence[str] | None, split: str | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Return, in the order of labels, the classes of the set that make up each class.

        Args:
            classes: as `select` takes them.
            split: members of joined classes that have no images in this split are left out: a
                division may have put all patients of one into another split.

        Raises:
            UserError: there is no such class.
        """
        wanted = self.class_names if classes is None else classes
        parts = read_classes(wanted, self.class_names, self.path)
        there = {row.class_name for row in self.rows if split in (None, row.split)}
        return {
            name: tuple(member for member in members if member in there) or members
            for name, members in parts.items()
        }

    def listed(self, parts: Mapping[str, tuple[str, ...]]) -> list[ImageFile]:
        """Return the images in the order of `order`, whatever the parts.

        By their names, so that joined classes have them in the order in which a source has them.
        """
        rows = (self.rows[place] for place in self.order())
        return [ImageFile(row.file, row.class_name, row.patient, row.split) for row in rows]

    def load(
        self,
        preparation: Preparation,
        *,
        split: str | None = None,
        classes: Sequence[str] | None = None,
        progress: bool = False,
    ) -> ImageDataset:
        """Copy the images of some classes and one split into memory.

        Args:
            preparation: what is asked for: resolution and channels must be the set's.
            split: as `select` takes it.
            classes: as `select` takes them.
            progress: nothing is rendered or prepared here, so there is no bar to show.

        Raises:
            UserError: the set has other resolution or channels, no such class or no such split.
        """
        shape = self.images.shape[1:]
        if shape != preparation.empty(0).shape[1:]:
            channels, resolution, _ = shape
            raise UserError(
                f"{self.path}: holds images of {resolution} pixels and {channels} channels, and "
                f"{preparation.resolution} and {preparation.image_channels} are asked for: train "
                f"at --resolution {resolution} --image-channels {channels}, or prepare another "
                "set from the images"
            )
        chosen = select(self, split, classes)
        order = self.order()
        patients = [file.patient for file in chosen.files]
        images = self.images[[order[place] for place in chosen.places]]
        return ImageDataset(
            images=torch.from_numpy(np.asarray(images)),
            labels=torch.tensor(chosen.labels, dtype=torch.int64),
            class_names=chosen.class_names,
            patients=patients,
            files=[file.name for file in chosen.files],
            name=self.name,
            skipped=self.left_out,
            prepared=f"read from the packed set {self.path}",
            notes=[*self.unused, *warning_lines(patients)],
        )

    def class_folders(self) -> dict[str, list[str]]:
        """Return the names of the folders in which the images of each class lay, sorted.

        They are told by the names of the files; where those tell no classes, as of a table, the
        folders are those that the classes' names give.
        """
        by_name = {name: [folder] for name, folder in folder_names(self.class_names).items()}
        return self._folders_of_files() or by_name

    def _folders_of_files(self) -> dict[str, list[str]] | None:
        """The folders by the names of the files, if the classes go by folders at all."""
        names = {row.file for row in self.rows}
        try:
            source = lay_out(NamesOnly(names), names, {}, self.where, self.name)
        except UserError:  # no class folders
            return None
        read_as = {file.name: file for file in (*source.files, *source.unnamed)}
        classes_of: dict[str, set[str]] = {}
        folders: dict[str, set[str]] = {}
        for row in self.rows:
            file = read_as.get(row.file)
            if file is None:
                return None
            classes_of.setdefault(file.class_name, set()).add(row.class_name)
            folders.setdefault(row.class_name, set()).add(file.folder)
        if any(len(classes) > 1 for classes in classes_of.values()):
            return None
        return {name: sorted(found) for name, found in folders.items()}

    def order(self) -> list[int]:
        """Return the places of all images, sorted by the names of their files."""
        return sorted(range(len(self.rows)), key=lambda place: self.rows[place].file)


def is_packed(path: Path) -> bool:
    """Tell whether a folder is meant to be a packed set."""
    return (path / DESCRIPTION).is_file() and (path / CONTENT[0]).is_file()


def open_packed(path: str | Path, *, verify: bool = True) -> PackedSet:
    """Open a packed set.

    Args:
        path: its folder.
        verify: read all of it once and compare the checksums. Without, damage inside the images
            goes unnoticed.

    Raises:
        UserError: what is missing or damaged, or that a newer version wrote it.
    """
    path = Path(path)
    try:
        return _open(path, verify)
    except OSError as error:
        raise read_error(error.filename or path, error) from None
    except (ValueError, KeyError, TypeError, EOFError, RecursionError, csv.Error) as error:
        detail = " ".join(str(error).split())
    raise UserError(f"{path}: damaged packed set ({printable(detail)[:300]}): {_DAMAGED}")


def _open(path: Path, verify: bool) -> PackedSet:
    document = json.loads(read_small(path / DESCRIPTION, _MOST_BYTES))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(f"{path / DESCRIPTION}: does not describe a packed set")
    if document.get("version") != VERSION:
        raise UserError(
            f"{path}: in version {document.get('version')!r:.20} of the format, where {VERSION} is "
            "known: use the version of cxrgan_fast that wrote it, or prepare the set anew"
        )
    # Here, so that images can be trained on where pydantic is not installed.
    from cxrgan_fast.data.set_description import read_description

    described = read_description(document)
    for name in CONTENT:
        if not (path / name).is_file():  # opening a pipe would wait for ever
            raise ValueError(f"there is no file {name}")
        if verify and file_digest(path / name) != described.sha256[name]:
            raise UserError(f"{path / name}: damaged (its checksum differs): {_DAMAGED}")
    # Both mapped: what a header says of a shape is compared with the size of the file.
    images, labels = _mapped(path / CONTENT[0]), _mapped(path / CONTENT[1])
    names = check_class_names(described.class_names, f"{path}: damaged packed set")
    shape = tuple(described.shape)
    rows = _read_rows(read_small(path / CONTENT[2], _MOST_BYTES))
    if images.dtype != np.uint8 or images.shape != shape:
        raise ValueError(f"images of {images.dtype} {images.shape}, expected uint8 {shape}")
    if shape[1] not in (1, 3) or shape[2] != shape[3]:
        raise ValueError(f"images of shape {shape}, expected (N, 1 or 3, R, R)")
    if labels.dtype != np.int64 or labels.shape != shape[:1] or len(rows) != shape[0]:
        raise ValueError(f"{labels.size} labels and {len(rows)} rows for {shape[0]} images")
    labels = np.array(labels)
    if len(set(names)) < len(names) or (labels < 0).any() or (labels >= len(names)).any():
        raise ValueError("class names that are not distinct, or labels that go beyond them")
    if [names[label] for label in labels.tolist()] != [row.class_name for row in rows]:
        raise ValueError("labels and classes differ")
    return PackedSet(
        path=path,
        name=described.name,
        class_names=names,
        images=images,
        labels=labels,
        rows=rows,
        settings=described.settings,
        left_out=[(name, reason) for name, reason in described.left_out],
        # Older sets have neither.
        notes=described.notes,
        unused=described.unused,
    )


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # NumPy reads headers as Python, with all the errors of that
        raise ValueError(f"{path.name}: {error}") from None


def rows_as_csv(rows: Sequence[Row]) -> bytes:
    """Format rows as the content of images.csv."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # its lines end in CR LF, so that it quotes names that hold either
    writer.writerow(COLUMNS)
    for row in rows:
        size = (row.width, row.height)
        writer.writerow((row.file, row.class_name, row.patient, row.split, *size, row.sha256))
    return text.getvalue().encode("utf-8", "surrogateescape")


def _read_rows(content: bytes) -> list[Row]:
    text = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
    reader = csv.reader(text, strict=True)
    if tuple(next(reader, ())) != COLUMNS:
        raise ValueError(f"images.csv has other columns than {', '.join(COLUMNS)}")
    return [
        Row(file, class_name, patient, split, int(width), int(height), sha256)
        for file, class_name, patient, split, width, height, sha256 in reader
    ]


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

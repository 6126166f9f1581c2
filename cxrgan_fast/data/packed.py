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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrgan_fast.data.sources import SPLITS, check_class_names, read_classes
from cxrgan_fast.errors import UserError

FORMAT = "cxrgan_fast packed set"
VERSION = 1
DESCRIPTION = "set.json"
CONTENT = ("images.npy", "labels.npy", "images.csv")
COLUMNS = ("file", "class", "patient", "split", "width", "height", "sha256")

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
        name: of the set.
        class_names: in the order of the labels.
        images: uint8, (N, C, R, R), mapped, read-only.
        labels: int64, (N,).
        rows: of each image.
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

    def choose(
        self, split: str | None = None, classes: Sequence[str] | None = None
    ) -> tuple[tuple[str, ...], list[int]]:
        """The classes and images to use, as `Source.choose` gives them.

        Args:
            split: "train", "test" or "val"; None for all.
            classes: names in the order of their labels, in any case; None for all.

        Returns:
            The class names in the order of labels, and the places of their images, class by
            class.

        Raises:
            UserError: there is no such class or split, or it has no images.
        """
        parts = self.parts(classes)
        places: list[int] = []
        for name, members in parts.items():
            of_class = [
                place
                for place, row in enumerate(self.rows)
                if row.class_name in members and split in (None, row.split)
            ]
            if not of_class:
                present = {row.split for row in self.rows if row.class_name in members}
                has = ", ".join(each for each in SPLITS if each in present)
                raise UserError(
                    f"{self.path}: class {name!r} has no {split!r} images; it has {has or 'none'}"
                )
            # In the order in which a source gives the images of joined classes.
            places += sorted(of_class, key=lambda place: self.rows[place].file)
        return tuple(parts), places

    def parts(self, classes: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
        """Return, in the order of labels, the classes of the set that make up each class.

        Args:
            classes: as in `choose`.

        Raises:
            UserError: there is no such class.
        """
        wanted = self.class_names if classes is None else classes
        return read_classes(wanted, self.class_names, self.path)


def is_packed(path: Path) -> bool:
    """Whether a folder is meant as a packed set."""
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
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, csv.Error) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"{path}: damaged packed set ({detail}): {_DAMAGED}") from None


def _open(path: Path, verify: bool) -> PackedSet:
    described = json.loads((path / DESCRIPTION).read_bytes())
    if described["format"] != FORMAT:
        raise UserError(f"{path / DESCRIPTION}: does not describe a packed set")
    if described["version"] != VERSION:
        raise UserError(
            f"{path}: in version {described['version']} of the format, where {VERSION} is known: "
            "use the version of cxrgan_fast that wrote it, or prepare the set anew"
        )
    if verify:
        for name in CONTENT:
            if file_digest(path / name) != described["sha256"][name]:
                raise UserError(f"{path / name}: damaged (its checksum differs): {_DAMAGED}")
    images = np.load(path / CONTENT[0], mmap_mode="r", allow_pickle=False)
    labels = np.load(path / CONTENT[1], allow_pickle=False)
    names = check_class_names(described["class_names"], f"{path}: damaged packed set")
    rows = _read_rows((path / CONTENT[2]).read_bytes())
    shape = tuple(described["shape"])
    if images.dtype != np.uint8 or images.shape != shape or len(shape) != 4:
        raise ValueError(f"images of {images.dtype} {images.shape}, expected uint8 {shape}")
    if labels.dtype != np.int64 or labels.shape != shape[:1] or len(rows) != shape[0]:
        raise ValueError(f"{len(labels)} labels and {len(rows)} rows for {shape[0]} images")
    if [names[label] for label in labels.tolist()] != [row.class_name for row in rows]:
        raise ValueError("labels and classes differ")
    return PackedSet(
        path=path,
        name=described["name"],
        class_names=names,
        images=images,
        labels=labels,
        rows=rows,
        settings=described["settings"],
        left_out=[(name, reason) for name, reason in described["left_out"]],
        # Older sets have neither.
        notes={str(note): int(n) for note, n in described.get("notes", {}).items()},
        unused=[str(line) for line in described.get("unused", [])],
    )


def rows_as_csv(rows: Sequence[Row]) -> bytes:
    """The content of images.csv."""
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
    if tuple(next(reader)) != COLUMNS:
        raise ValueError(f"images.csv has other columns than {', '.join(COLUMNS)}")
    return [
        Row(file, class_name, patient, split, int(width), int(height), sha256)
        for file, class_name, patient, split, width, height, sha256 in reader
    ]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

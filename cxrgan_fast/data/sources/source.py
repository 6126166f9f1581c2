"""Opening what a user names as data."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

from cxrgan_fast.data.memory import CONTENT
from cxrgan_fast.data.sources.class_names import check_class_names
from cxrgan_fast.data.sources.content import find_images, has_image_name
from cxrgan_fast.data.sources.layout import UNNAMED_KIND, lay_out
from cxrgan_fast.data.sources.listed import ListedFiles
from cxrgan_fast.data.sources.listing import (
    ImageFile,
    Listing,
    as_unused,
    enumerate_names,
    read_classes,
    unused_lines,
)
from cxrgan_fast.data.sources.names import SPLITS, parent, split_of, suffix
from cxrgan_fast.data.sources.outputs import SUBSET_MARK, left_out_folders
from cxrgan_fast.data.sources.store import (
    MAX_FILE_BYTES,
    FolderStore,
    Store,
    Tree,
    ZipStore,
    read_file,
    stamp_of,
)
from cxrgan_fast.data.sources.table import Columns, is_table, read_table
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small

MAX_TABLE_BYTES = 64 << 20
_MOST_DESCRIPTION = 1 << 30  # bytes of a packed set's set.json, which lists what was left out
"""Larger tables are not read: a line of 60 bytes for each of a million images."""


class Source:
    """Images with their classes, patients and splits, listed and not read yet.

    Attributes:
        where: as the user named it, for messages.
        name: of the set: the folder's or file's name.
        classes: all class names; a class may have no images.
        default_classes: those that are used when none are named.
        has_splits: whether the source tells train, test and val apart.
        files: the images, sorted by name.
        unnamed: images of the published layout of which the name does not tell the class.
        problems: (name, reason) of what cannot be used.
        unused: all other files that were listed.
    """

    def __init__(
        self, where: str, name: str, store: Store, listing: Listing, problems: list[tuple[str, str]]
    ) -> None:
        """Use `open_source`."""
        self.where = where
        self.name = name
        self._store = store
        self._notes = listing.notes
        self.classes = listing.classes
        self.default_classes = listing.default_classes
        self.has_splits = listing.has_splits
        self.files = listing.files
        self.unnamed = listing.unnamed
        of_images = [each for each in store.tree.problems if _may_be_image(each[0])]
        self.problems = sorted([*of_images, *problems])
        self.unused = listing.unused

    def read(self, file: ImageFile) -> bytes:
        """The bytes of one image; several threads may read.

        Raises:
            UserError: with the file's name: it cannot be read, or changed since it was listed.
        """
        return self._store.read(file.name)

    @contextlib.contextmanager
    def held(self, file: ImageFile) -> Iterator[bytes]:
        """The bytes of one image for a block, within the memory that all threads share.

        Raises:
            UserError: as `read`.
        """
        size = min(_size(self._store.tree, file.name), MAX_FILE_BYTES)
        with CONTENT.hold(size, "the file"):
            yield self.read(file)

    def stamp(self, file: ImageFile) -> str:
        """What changes when the file changes: size and time, or size and checksum."""
        return self._store.tree.stamps[file.name]

    def choose(
        self, split: str | None = None, classes: Sequence[str] | None = None
    ) -> tuple[tuple[str, ...], list[ImageFile]]:
        """The classes and images to use.

        Args:
            split: "train", "test" or "val"; None for all.
            classes: names in the order of their labels, in any case; None for the default.

        Returns:
            The class names in the order of labels, and their images in the order of class, then
            name.

        Raises:
            UserError: there is no such split or class, or it has no images.
        """
        files = [file for file in self.files if split in (None, file.split)]
        if split is not None:
            self._check_split(split, files)
        where = f"{self.where} ({split})" if split is not None and self.has_splits else self.where
        parts = self._parts(classes, where)
        if self._kinds_are_joined(parts):
            files += [file for file in self.unnamed if split in (None, file.split)]
        present = {file.class_name for file in files}
        for name in (member for members in parts.values() for member in members):
            if name not in present:
                others = [other for other in self.classes if other in present]
                raise UserError(
                    f"{where}: class {name!r} has no images: add some, or name only the "
                    f"classes to use (with images: {enumerate_names(others)})"
                )
        class_of = {member: name for name, members in parts.items() for member in members}
        order = {name: label for label, name in enumerate(parts)}
        chosen = [
            replace(file, class_name=class_of[file.class_name])
            for file in files
            if file.class_name in class_of
        ]
        return tuple(parts), sorted(chosen, key=lambda file: (order[file.class_name], file.name))

    def without_kind(
        self, classes: Sequence[str] | None, split: str | None
    ) -> list[tuple[str, str]]:
        """(name, reason) of the images whose kind of pneumonia is unknown, if the kind matters.

        Args:
            classes: as in `choose`.
            split: likewise.
        """
        parts = self._parts(classes, self.where)
        members = {member for of_class in parts.values() for member in of_class}
        if not {"bacterial", "viral"} & members or self._kinds_are_joined(parts):
            return []
        return [(file.name, UNNAMED_KIND) for file in self.unnamed if split in (None, file.split)]

    def notes(self, classes: Sequence[str] | None = None, split: str | None = None) -> list[str]:
        """Say what a user should know of what is used and what is not, a line each.

        Args:
            classes: as in `choose`.
            split: likewise.
        """
        parts = self._parts(classes, self.where)
        members = {member for of_class in parts.values() for member in of_class}
        left = Counter(file.class_name for file in self.files if file.class_name not in members)
        lines = [*self._notes, *unused_lines(self.unused)]
        if left:
            shown = ", ".join(
                f"{left[name]} {printable(name)}" for name in self.classes if left[name]
            )
            if classes is None and set(left) == {"viral"}:
                lines.append(
                    f"not used, left out unless named: {shown} images; --classes "
                    "normal,bacterial,viral takes them, --classes normal,pneumonia=bacterial+virus "
                    "joins them"
                )
            else:
                lines.append(f"not used, of classes that are not named: {shown} images")
        others = Counter(file.split for file in self.files if split not in (None, file.split))
        if others:
            shown = ", ".join(f"{others[name]} {name}" for name in SPLITS if others[name])
            lines.append(f"not used, of other splits than {split}: {shown} images")
        return lines

    def class_folders(self, classes: Sequence[str] | None = None) -> dict[str, list[str]]:
        """Return the names of the folders in which the images of each class lie, sorted.

        Args:
            classes: as in `choose`.
        """
        names, files = self.choose(None, classes)
        folders: dict[str, set[str]] = {name: set() for name in names}
        for file in files:
            folders[file.class_name].add(file.folder)
        return {name: sorted(found) for name, found in folders.items()}

    def _parts(self, classes: Sequence[str] | None, where: str) -> dict[str, tuple[str, ...]]:
        if classes is not None:
            return read_classes(classes, self.classes, where)
        check_class_names(self.default_classes, where)
        return {name: (name,) for name in self.default_classes}

    @staticmethod
    def _kinds_are_joined(parts: dict[str, tuple[str, ...]]) -> bool:
        return any({"bacterial", "viral"} <= set(members) for members in parts.values())

    def _check_split(self, split: str, files: Sequence[ImageFile]) -> None:
        if split not in SPLITS:
            raise UserError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
        if files or any(file.split == split for file in self.unnamed):
            return
        if not self.has_splits:
            raise UserError(
                f"{self.where}: no {split!r} split; without train, test and val folders (or a "
                "column split) all images count as 'train'"
            )
        present = [name for name in SPLITS if any(file.split == name for file in self.files)]
        raise UserError(f"{self.where}: no {split!r} images; it has {', '.join(present)}")


def open_source(path: str | Path, columns: Columns | None = None) -> Source:
    """Find the images of a source.

    Args:
        path: a folder of class folders, the published set's folder, a CSV file with the columns
            path and label (and patient and split), or a zip archive of one of these, which is
            read in place. In an archive a table at the top goes before folders. The images.csv of
            a packed set names the images that the set was made of, where they still lie.
        columns: which columns of a table say what; None for the usual names.

    Raises:
        UserError: there is no such thing, or no image in it; columns are named and there is no
            table.
    """
    path = Path(path)
    where = str(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        return _open_table(path, columns)
    if path.suffix.lower() == ".zip" and path.is_file():
        return _open_archive(path, columns)
    if not path.exists():
        raise UserError(
            f"{path}: no such folder or file; name a folder of class folders, a CSV file or a zip "
            "archive, or 'phantom' for the embedded synthetic set"
        )
    if not path.is_dir():
        raise UserError(
            f"{path}: neither a folder nor a .csv or .zip file; name the folder that holds the "
            "class folders, a table of images or a zip archive"
        )
    refuse_columns(columns, where)
    if (path / SUBSET_MARK).is_file() and (path / "manifest.csv").is_file():
        # The copies' names tell no patients; the manifest that `subset` wrote does.
        return _open_table(path / "manifest.csv", None, _set_name(path))
    store = FolderStore(path)
    listing = _lay_out(store, where, path.resolve().name)
    for name in sorted(store.tree.stamps):
        if _may_be_table(name) and is_table(_head_of_table(store, name)):
            listing.notes.append(
                f"{printable(name)} is a table of images and not read: name it itself to use it"
            )
    return Source(where, _set_name(path), store, listing, [])


def _open_table(path: Path, columns: Columns | None, name: str = "") -> Source:
    try:
        stamp = stamp_of(path)
        if (size := int(stamp.partition(":")[0])) > MAX_TABLE_BYTES:
            raise UserError(
                f"{path}: has {size:,} bytes, more than the {MAX_TABLE_BYTES:,} of a table that "
                "are read: divide it"
            )
        content = read_file(path, str(path), stamp)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    origin = _origin_of_packed(path)
    if origin is not None and origin.suffix.lower() == ".zip":
        archive = ZipStore(origin)
        listing, problems = _read_table_in(archive, content, str(path), columns)
        return Source(str(path), origin.stem, archive, listing, problems)
    store = ListedFiles(path.parent if origin is None else origin)
    listing, problems = read_table(content, str(path), store.problem_of, columns)
    store.add_unnamed(path.name, listing)
    return Source(str(path), name or path.stem or "data", store, listing, problems)


def _origin_of_packed(table: Path) -> Path | None:
    """Where the images lie of which a packed set was made, if the table is such a set's."""
    if table.name != "images.csv":
        return None
    try:
        described = json.loads(read_small(table.parent / "set.json", _MOST_DESCRIPTION))
        origin = Path(described["source"])
    except (UserError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not origin.exists():
        raise UserError(
            f"{table}: the images that the set was made of are no longer in {origin}; name the "
            f"packed set itself ({table.parent}), or copy the table to where they are now"
        )
    return origin.parent if origin.suffix.lower() == ".csv" else origin


def _open_archive(path: Path, columns: Columns | None) -> Source:
    store = ZipStore(path)
    where = str(path)
    tables: dict[str, bytes] = {}
    for name in filter(_may_be_table, store.tree.stamps):
        if _size(store.tree, name) <= MAX_TABLE_BYTES:
            content = _entry(store, name, where)
            if columns is not None or is_table(content):
                tables[name] = content
        if len(tables) > 1:  # which of them is meant is unknown
            break
    if len(tables) != 1:
        refuse_columns(columns, where)
        return Source(where, path.stem, store, _lay_out(store, where, path.stem), [])
    ((name, content),) = tables.items()
    listing, problems = _read_table_in(store, content, f"{where}/{name}", columns)
    return Source(where, path.stem, store, listing, problems)


def _lay_out(store: Store, where: str, name: str) -> Listing:
    return lay_out(store.tree, find_images(store), left_out_folders(store), where, name)


def _read_table_in(
    store: ZipStore, content: bytes, where: str, columns: Columns | None
) -> tuple[Listing, list[tuple[str, str]]]:
    """Read a table whose images lie in an archive, and count those that it does not name."""
    named: set[str] = set()

    def problem_of(name: str) -> str | None:
        named.add(name)
        return None if name in store.tree.stamps else "is not in the archive"

    listing, problems = read_table(content, where, problem_of, columns)
    reason = f"not named in {where.rpartition('/')[2]}"
    others = find_images(store) - named
    listing.unused += as_unused(Counter((reason, parent(name), suffix(name)) for name in others))
    return listing, problems


def refuse_columns(columns: Columns | None, where: str) -> None:
    """Refuse columns that a user names for what is no table.

    Raises:
        UserError: naming it.
    """
    if columns is not None and columns != Columns():
        named = ", ".join(
            f"--{name.replace('_', '-')}" for name, value in asdict(columns).items() if value
        )
        raise UserError(
            f"{where}: is no table, and {named} names a column of one: leave that out, or name a "
            "CSV file"
        )


def _size(tree: Tree, name: str) -> int:
    """Bytes of a file, with which its stamp begins."""
    return int(tree.stamps[name].partition(":")[0])


def _may_be_table(name: str) -> bool:
    return name.lower().endswith(".csv") and "/" not in name


def _head_of_table(store: Store, name: str) -> bytes:
    try:
        return store.head(name, 4096)
    except UserError:  # it is counted among what is not used
        return b""


def _entry(store: ZipStore, name: str, where: str) -> bytes:
    try:
        return store.read(name)
    except UserError as error:
        raise UserError(f"{where}/{error}") from None


def _may_be_image(name: str) -> bool:
    """Whether images are lost with it: not with a link to notes.txt that leads nowhere."""
    return has_image_name(name) or not PurePosixPath(name).suffix


def _set_name(source: Path) -> str:
    """Name the set after its folder, or after the folder above when that is a split."""
    folder = source.resolve()
    if split_of(folder.name) is not None:
        folder = folder.parent
    return folder.name or "data"

"""Opening what a user names as data."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from cxrgan_fast.data.memory import CONTENT
from cxrgan_fast.data.sources.layout import (
    SPLITS,
    UNNAMED_KIND,
    ImageFile,
    Listing,
    choose_classes,
    is_image,
    lay_out,
)
from cxrgan_fast.data.sources.store import (
    MAX_FILE_BYTES,
    FolderStore,
    Store,
    Tree,
    ZipStore,
    read_file,
    stamp_of,
)
from cxrgan_fast.data.sources.table import is_table, read_table
from cxrgan_fast.errors import UserError, printable

MAX_TABLE_BYTES = 64 << 20
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
        passed_over: how many files of which suffix are no images by their name.
    """

    def __init__(
        self, where: str, name: str, store: Store, listing: Listing, problems: list[tuple[str, str]]
    ) -> None:
        """Use `open_source`."""
        self.where = where
        self.name = name
        self._store = store
        self._listing = listing
        self.classes = listing.classes
        self.default_classes = listing.default_classes
        self.has_splits = listing.has_splits
        self.files = listing.files
        self.unnamed = listing.unnamed
        of_images = [each for each in store.tree.problems if _may_be_image(each[0])]
        self.problems = sorted([*of_images, *problems])
        used = {file.name for file in (*listing.files, *listing.unnamed)}
        self.passed_over = Counter(
            PurePosixPath(name).suffix.lower() or "no suffix"
            for name in store.tree.stamps
            if name not in used and not is_image(name)
        )

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
        listing = Listing(self.classes, self.default_classes, self.has_splits, files)
        where = f"{self.where} ({split})" if split is not None and self.has_splits else self.where
        names = choose_classes(listing, classes, where)
        for name in names:
            if not name.isprintable():
                raise UserError(
                    f"{where}: class {printable(name)!r}: a name that cannot be printed, and not "
                    "be stored with a generator; rename it"
                )
        order = {name: label for label, name in enumerate(names)}
        chosen = [file for file in files if file.class_name in order]
        return names, sorted(chosen, key=lambda file: (order[file.class_name], file.name))

    def without_kind(self, classes: Sequence[str], split: str | None) -> list[tuple[str, str]]:
        """(name, reason) of the images whose kind of pneumonia is unknown, if the kind matters."""
        if not {"bacterial", "viral"} & set(classes):
            return []
        return [(file.name, UNNAMED_KIND) for file in self.unnamed if split in (None, file.split)]

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


def open_source(path: str | Path) -> Source:
    """Find the images of a source.

    Args:
        path: a folder of class folders, the published set's folder, a CSV file with the columns
            path and label (and patient and split), or a zip archive of one of these, which is
            read in place. In an archive a table at the top goes before folders.

    Raises:
        UserError: there is no such thing, or no image in it.
    """
    path = Path(path)
    where = str(path)
    if path.is_dir():
        store: Store = FolderStore(path)
        return Source(
            where, _set_name(path), store, lay_out(store.tree, where, path.resolve().name), []
        )
    if not path.exists():
        raise UserError(
            f"{path}: no such folder or file; name a folder of class folders, a CSV file or a zip "
            "archive, or 'phantom' for the embedded synthetic set"
        )
    if path.suffix.lower() == ".csv":
        return _open_table(path)
    if path.suffix.lower() == ".zip":
        return _open_archive(path)
    raise UserError(
        f"{path}: neither a folder nor a .csv or .zip file; name the folder that holds the class "
        "folders, a table of images or a zip archive"
    )


class _ListedFiles:
    """The store behind a CSV file: only what it names, wherever that lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = Tree()

    def problem_of(self, name: str) -> str | None:
        try:
            self.tree.stamps[name] = stamp_of(self.folder / name)
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            return getattr(error, "strerror", None) or "no name of a file"
        return None

    def read(self, name: str) -> bytes:
        return read_file(self.folder / name, name, self.tree.stamps[name])


def _open_table(path: Path) -> Source:
    store = _ListedFiles(path.parent)
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
    listing, problems = read_table(content, str(path), store.problem_of)
    return Source(str(path), path.stem or "data", store, listing, problems)


def _open_archive(path: Path) -> Source:
    store = ZipStore(path)
    where = str(path)
    tables: dict[str, bytes] = {}
    for name in filter(_may_be_table, store.tree.stamps):
        if _size(store.tree, name) <= MAX_TABLE_BYTES and is_table(
            content := _entry(store, name, where)
        ):
            tables[name] = content
        if len(tables) > 1:  # which of them is meant is unknown
            break
    if len(tables) != 1:
        return Source(where, path.stem, store, lay_out(store.tree, where, path.stem), [])
    ((name, content),) = tables.items()

    def problem_of(name: str) -> str | None:
        return None if name in store.tree.stamps else "is not in the archive"

    listing, problems = read_table(content, f"{where}/{name}", problem_of)
    return Source(where, path.stem, store, listing, problems)


def _size(tree: Tree, name: str) -> int:
    """Bytes of a file, with which its stamp begins."""
    return int(tree.stamps[name].partition(":")[0])


def _may_be_table(name: str) -> bool:
    return name.lower().endswith(".csv") and "/" not in name


def _entry(store: ZipStore, name: str, where: str) -> bytes:
    try:
        return store.read(name)
    except UserError as error:
        raise UserError(f"{where}/{error}") from None


def _may_be_image(name: str) -> bool:
    """Whether images are lost with it: not with a link to notes.txt that leads nowhere."""
    return is_image(name) or not PurePosixPath(name).suffix


def _set_name(source: Path) -> str:
    """Name the set after its folder, or after the folder above when that is a split."""
    folder = source.resolve()
    if folder.name.lower() in SPLITS:
        folder = folder.parent
    return folder.name or "data"

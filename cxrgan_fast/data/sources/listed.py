"""The files that a table names, wherever they lie, and the images beside them that it does not."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cxrgan_fast.data.sources.content import find_images
from cxrgan_fast.data.sources.listing import as_unused
from cxrgan_fast.data.sources.names import parent, suffix
from cxrgan_fast.data.sources.outputs import left_out_folders
from cxrgan_fast.data.sources.source import Source
from cxrgan_fast.data.sources.store import FolderStore, Tree, read_file, stamp_of
from cxrgan_fast.errors import UserError

_NOT_COUNTED = "images that the table does not name are not counted"


class ListedFiles:
    """The store behind a CSV file: only what it names, wherever that lies."""

    def __init__(self, folder: Path) -> None:
        """Count names from a folder."""
        self.folder = folder
        self.tree = Tree()
        self._folders: dict[str, str] = {}

    def problem_of(self, name: str) -> str | None:
        """List the file of a name. Return why it cannot be used; None if it can."""
        try:
            self.tree.stamps[name] = stamp_of(self.folder / name)
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            return getattr(error, "strerror", None) or "no name of a file"
        return None

    def read(self, name: str) -> bytes:
        """Read the bytes of one file; a UserError names the file if that fails."""
        return read_file(self.folder / name, name, self.tree.stamps[name])

    def head(self, name: str, size: int) -> bytes:
        """Read the first bytes of one file; a UserError names the file if that fails."""
        return self.read(name)[:size]

    def add_unnamed(self, table: str, source: Source) -> None:
        """Count the images that are present but not named by the table.

        They are looked for below the table's folder, and in folders elsewhere that hold files
        which it names.

        Args:
            table: its name, for the reason.
            source: what was read of the table; it gets the counts, and a remark where a folder
                cannot be looked into.
        """
        named = {self._place(name) for name in self.tree.stamps}
        below = os.path.realpath(self.folder)
        counts: Counter[tuple[str, str, str]] = Counter()
        for name, reason in self._images(below, source):
            if self._place(name) not in named:
                counts[reason or f"not named in {table}", parent(name), suffix(name)] += 1
        elsewhere = {
            folder
            for folder, _ in named
            if folder != below and not folder.startswith(f"{below.rstrip(os.sep)}{os.sep}")
        }
        for folder in sorted(elsewhere):
            try:
                store = FolderStore(Path(folder), deep=False)
            except UserError as error:
                source.remarks.append(
                    f"images that the table does not name are not counted: {error}"
                )
                continue
            shown = os.path.relpath(folder, below).replace(os.sep, "/")
            for name in find_images(store):
                if (folder, name) not in named:
                    counts[f"not named in {table}", shown, suffix(name)] += 1
        source.unused += as_unused(counts)

    def _images(self, below: str, source: Source) -> Iterator[tuple[str, str]]:
        """The images below the table's folder, each with what it is of if that is no data."""
        try:
            store = FolderStore(Path(below))
        except UserError as error:
            source.remarks.append(f"{_NOT_COUNTED}: {error}")
            return
        left_out = left_out_folders(store)
        left_out.pop("", None)
        for name in find_images(store):
            outer = next((each for each in left_out if name.startswith(f"{each}/")), "")
            yield name, left_out.get(outer, "")

    def _place(self, name: str) -> tuple[str, str]:
        """The folder of a file, links resolved, and its name in it."""
        folder, base = os.path.split(os.path.join(self.folder, name))
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return self._folders[folder], base

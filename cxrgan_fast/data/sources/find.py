"""Finding the images of what a user names: a folder, a table, or an archive of either."""

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from cxrgan_fast.data.sources.content import find_images
from cxrgan_fast.data.sources.layout import lay_out
from cxrgan_fast.data.sources.listed import ListedFiles
from cxrgan_fast.data.sources.listing import as_unused
from cxrgan_fast.data.sources.names import parent, split_of, suffix
from cxrgan_fast.data.sources.outputs import SUBSET_MARK, left_out_folders
from cxrgan_fast.data.sources.source import Source
from cxrgan_fast.data.sources.store import (
    FolderStore,
    Store,
    ZipStore,
    bytes_of,
    read_file,
    stamp_of,
)
from cxrgan_fast.data.sources.table import Columns, is_table, read_table
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small

MAX_TABLE_BYTES = 64 << 20
"""Larger tables are not read: a line of 60 bytes for each of a million images."""

_MOST_DESCRIPTION = 1 << 30  # bytes of a packed set's set.json, which lists what was left out


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
    source = replace(_lay_out(store, where, path.resolve().name), name=_set_name(path))
    for name in sorted(store.tree.stamps):
        if _may_be_table(name) and is_table(_head_of_table(store, name)):
            source.remarks.append(
                f"{printable(name)} is a table of images and not read: name it itself to use it"
            )
    return source


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
        source = _read_table_in(archive, content, str(path), columns)
        return replace(source, name=origin.stem)
    store = ListedFiles(path.parent if origin is None else origin)
    source = read_table(content, str(path), store, store.problem_of, columns)
    store.add_unnamed(path.name, source)
    return replace(source, name=name or path.stem or "data")


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
        if bytes_of(store.tree, name) <= MAX_TABLE_BYTES:
            content = _entry(store, name, where)
            if columns is not None or is_table(content):
                tables[name] = content
        if len(tables) > 1:  # which of them is meant is unknown
            break
    if len(tables) != 1:
        refuse_columns(columns, where)
        return _lay_out(store, where, path.stem)
    ((name, content),) = tables.items()
    source = _read_table_in(store, content, f"{where}/{name}", columns)
    return replace(source, where=where, name=path.stem)


def _lay_out(store: Store, where: str, name: str) -> Source:
    return lay_out(store, find_images(store), left_out_folders(store), where, name)


def _read_table_in(store: ZipStore, content: bytes, where: str, columns: Columns | None) -> Source:
    """Read a table whose images lie in an archive, and count those that it does not name."""
    named: set[str] = set()

    def problem_of(name: str) -> str | None:
        named.add(name)
        return None if name in store.tree.stamps else "is not in the archive"

    source = read_table(content, where, store, problem_of, columns)
    reason = f"not named in {where.rpartition('/')[2]}"
    others = find_images(store) - named
    source.unused += as_unused(Counter((reason, parent(name), suffix(name)) for name in others))
    return source


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


def _set_name(source: Path) -> str:
    """Name the set after its folder, or after the folder above when that is a split."""
    folder = source.resolve()
    if split_of(folder.name) is not None:
        folder = folder.parent
    return folder.name or "data"

"""Where the files of a source lie: in a folder, or in a zip archive that is read in place.

Both give the names of all their files, "/"-separated, and the bytes of one. What cannot be read
safely (links in a circle, devices, names that lead out of an archive) is named as a problem and
never touched.
"""

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from cxrgan_fast.errors import UserError, printable

MAX_FILE_BYTES = 512 << 20
"""Larger files are refused: the largest image that is read has 384 MiB uncompressed."""

MAX_ENTRIES = 1_000_000
"""Archives with more entries are refused."""

_DEEPEST = 64  # folders in a name of an archive; file systems take about as many

# Not blocking: a pipe that has taken a file's place would be waited for. Windows has neither of the
# first two, and needs the last.
_READ = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

_ENCRYPTED = 0x1
_BLOCK = 1 << 20
_CHANGED = "changed while it was read: run again when it is complete"


@dataclass
class Tree:
    """The names in a source, hidden ones (`.x`, `__MACOSX`) left out.

    Attributes:
        folders: all folders below the root.
        stamps: for each file, by its name, what changes when the file changes.
        problems: (name, reason) of what cannot be used.
    """

    folders: set[str] = field(default_factory=set)
    stamps: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


class SourceChangedError(UserError):
    """A file is not what it was when it was listed: nothing that follows could be trusted."""


class Store(Protocol):
    """A folder or an archive."""

    tree: Tree

    def read(self, name: str) -> bytes:
        """Read the bytes of one file of the tree; a UserError names the file if that fails."""

    def head(self, name: str, size: int) -> bytes:
        """Read the first bytes of one file of the tree; a UserError names it if that fails."""


class FolderStore:
    """The files below a folder. Links are followed; a folder that was seen is not entered again."""

    def __init__(self, root: Path, *, deep: bool = True) -> None:
        """List the folder.

        Args:
            root: it.
            deep: enter the folders in it.

        Raises:
            UserError: it cannot be listed.
        """
        self.root = root
        self.tree = Tree()
        try:
            info = root.stat()
            self._walk(root, {(info.st_dev, info.st_ino): "the folder itself"}, deep)
        except OSError as error:
            where = printable(str(error.filename or root))
            raise UserError(f"{where}: cannot be listed ({error.strerror})") from None

    def _walk(self, root: Path, seen: dict[tuple[int, int], str], deep: bool) -> None:
        waiting = [""]
        while waiting:
            parent = waiting.pop()
            with os.scandir(root / parent) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
            # The folder itself before links to it, so that its images keep their own names.
            for entry in sorted(found, key=lambda entry: entry.is_symlink()):
                if is_hidden(entry.name) or not (deep or entry.is_file()):
                    continue
                name = f"{parent}/{entry.name}" if parent else entry.name
                try:
                    info = entry.stat()
                    if not info.st_ino:  # on Windows an entry knows too little of its file
                        info = os.stat(entry.path)
                except OSError as error:
                    self.tree.problems.append((name, f"cannot be opened ({error.strerror})"))
                    continue
                if stat.S_ISDIR(info.st_mode):
                    first = seen.setdefault((info.st_dev, info.st_ino), name)
                    if first != name:
                        reason = f"leads to {printable(first)} again: its files count once"
                        self.tree.problems.append((name, reason))
                        continue
                    self.tree.folders.add(name)
                    waiting.append(name)
                elif stat.S_ISREG(info.st_mode):
                    self.tree.stamps[name] = _stamp(info)
                else:
                    self.tree.problems.append((name, "is a device or a pipe, not a file"))

    def read(self, name: str) -> bytes:
        """Read the bytes of one file.

        Raises:
            UserError: the file, which is named, is gone, changed, too large or cannot be read.
        """
        return read_file(self.root / name, name, self.tree.stamps[name])

    def head(self, name: str, size: int) -> bytes:
        """Read the first bytes of one file, or all of a shorter one.

        Raises:
            UserError: the file, which is named, cannot be read, or is no file any more.
        """
        try:
            # Not blocking: a pipe that has taken the file's place would be waited for.
            with open(_opened(self.root / name), "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise SourceChangedError(f"{printable(name)}: {_CHANGED}")
                return file.read(size)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{printable(name)}: cannot be read ({reason})") from None


class ZipStore:
    """The files in a zip archive. Nothing is unpacked; several threads may read."""

    def __init__(self, path: Path) -> None:
        """Read the archive's directory.

        Raises:
            UserError: it is no zip archive, or one that was made to overwhelm its reader.
        """
        self.path = path
        self.tree = Tree()
        self._entries: dict[str, zipfile.ZipInfo] = {}
        try:
            self._archive = zipfile.ZipFile(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
        except Exception as error:  # struct.error, ValueError, ...: a damaged directory
            raise UserError(f"{path}: not a zip archive that can be read ({error})") from None
        self._stamp = _stamp(os.fstat(self._file.fileno()))
        entries = self._archive.infolist()
        self._refuse_bombs(entries)
        for entry in entries:
            self._list(entry)

    @property
    def _file(self) -> IO[bytes]:
        file = self._archive.fp
        assert file is not None  # closed with this object only
        return file

    def _refuse_bombs(self, entries: list[zipfile.ZipInfo]) -> None:
        if len(entries) > MAX_ENTRIES:
            raise UserError(
                f"{self.path}: has {len(entries):,} entries, more than the {MAX_ENTRIES:,} read"
            )
        end = 0
        for entry in sorted(entries, key=lambda entry: entry.header_offset):
            # Entries that share their bytes are how a small archive holds a huge one.
            if entry.header_offset < end:
                raise UserError(
                    f"{self.path}: its entry {printable(entry.filename)!r} overlaps another: "
                    "damaged, or made to do harm"
                )
            end = entry.header_offset + entry.compress_size

    def _list(self, entry: zipfile.ZipInfo) -> None:
        name = entry.filename.replace("\\", "/")  # some archives of Windows have those
        parts = name.rstrip("/").split("/")
        if any(is_hidden(part) for part in parts if part not in (".", "..")):
            return
        if (
            name.startswith("/")
            or ":" in parts[0]
            or not all(p not in ("", ".", "..") for p in parts)
        ):
            self.tree.problems.append((name, "a name that leads out of the archive"))
            return
        if len(parts) > _DEEPEST:
            self.tree.problems.append((name, f"lies in {len(parts) - 1} folders: pack it anew"))
            return
        self.tree.folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if name.endswith("/"):
            self.tree.folders.add("/".join(parts))
        elif stat.S_ISLNK(entry.external_attr >> 16):
            self.tree.problems.append((name, "is a link, not a file"))
        elif name in self._entries:
            self.tree.problems.append((name, "is in the archive more than once"))
        else:
            self._entries[name] = entry
            self.tree.stamps[name] = f"{entry.file_size}:{entry.CRC:08x}"

    def read(self, name: str) -> bytes:
        """Read the bytes of one entry and compare its checksum.

        Raises:
            UserError: the entry, which is named, is damaged, encrypted or too large, or the
                archive has changed.
        """
        entry = self._entries[name]
        if entry.flag_bits & _ENCRYPTED:
            raise UserError(
                f"{printable(name)}: is encrypted: unpack the archive and name the folder"
            )
        _refuse_large(name, entry.file_size)
        try:
            # Block by block: to read it at once takes what it unpacks to several times.
            unpacked = io.BytesIO()
            with self._archive.open(entry) as file:
                while unpacked.tell() <= entry.file_size and (block := file.read(_BLOCK)):
                    unpacked.write(block)
            content = unpacked.getvalue()
            changed = _stamp(os.fstat(self._file.fileno())) != self._stamp
        except NotImplementedError:
            reason = "is compressed in a way that Python cannot read: pack it anew"
            raise UserError(f"{printable(name)}: {reason}") from None
        except (
            OSError,
            ValueError,
            EOFError,
            RuntimeError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            detail = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{printable(name)}: damaged in the archive ({printable(detail)})"
            ) from None
        except Exception as error:  # lzma's and bz2's own
            raise UserError(f"{printable(name)}: damaged in the archive ({error})") from None
        if changed:
            raise SourceChangedError(f"{printable(self.path.name)}: {_CHANGED}")
        return content

    def head(self, name: str, size: int) -> bytes:
        """Read the first bytes of one entry, or all of a shorter one; no checksum is compared.

        Raises:
            UserError: the entry, which is named, cannot be read.
        """
        entry = self._entries[name]
        try:
            if entry.flag_bits & _ENCRYPTED:
                raise UserError(f"{printable(name)}: is encrypted")
            with self._archive.open(entry) as file:
                return file.read(size)
        except UserError:
            raise
        except Exception as error:  # of any decompressor, fed with damaged bytes
            raise UserError(f"{printable(name)}: damaged in the archive ({error})") from None


class NamesOnly:
    """Names of files that lie nowhere that is known, such as those that a packed set keeps."""

    def __init__(self, names: Iterable[str]) -> None:
        """List the names and the folders in them."""
        self.tree = Tree(stamps=dict.fromkeys(names, ""))
        for name in self.tree.stamps:
            parts = name.split("/")[:-1]
            self.tree.folders.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))

    def read(self, name: str) -> bytes:
        """Raise UserError: there is no file behind a name."""
        raise UserError(f"{printable(name)}: only its name is known, not where the file lies")

    def head(self, name: str, size: int) -> bytes:
        """Raise UserError: there is no file behind a name."""
        return self.read(name)[:size]


def read_file(path: Path, name: str, stamp: str) -> bytes:
    """Read a regular file that is still what it was when it was listed.

    Args:
        path: the file.
        name: the file's name, for the message.
        stamp: what `stamp_of` said when it was listed.

    Raises:
        UserError: naming the file.
    """
    try:
        # Not blocking: a pipe that has taken the file's place would be waited for.
        with open(_opened(path), "rb") as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode) or _stamp(before) != stamp:
                raise SourceChangedError(f"{printable(name)}: {_CHANGED}")
            _refuse_large(name, before.st_size)
            content = file.read(before.st_size + 1)
            after = os.fstat(file.fileno())
    except FileNotFoundError:
        raise UserError(f"{printable(name)}: no such file") from None
    except PermissionError:
        raise UserError(f"{printable(name)}: permission denied: make it readable") from None
    except OSError as error:
        raise UserError(f"{printable(name)}: cannot be read ({error.strerror or error})") from None
    if _stamp(after) != stamp or len(content) != before.st_size:
        raise SourceChangedError(f"{printable(name)}: {_CHANGED}")
    return content


def _opened(path: Path) -> int:
    return os.open(path, _READ)


def stamp_of(path: Path) -> str:
    """Return what changes when a file changes.

    Raises:
        OSError: it is not there, or is no regular file.
    """
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise OSError(0, "is a device, a pipe or a folder, not a file")
    return _stamp(info)


def bytes_of(tree: Tree, name: str) -> int:
    """Return how many bytes a file has, with which its stamp begins."""
    return int(tree.stamps[name].partition(":")[0])


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is passed over because of its name."""
    return name.startswith(".") or name == "__MACOSX"


def _stamp(info: os.stat_result) -> str:
    return f"{info.st_size}:{info.st_mtime_ns}"


def _refuse_large(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"{printable(name)}: has {size:,} bytes, more than the {MAX_FILE_BYTES:,} that are "
            "read: make it smaller or remove it"
        )

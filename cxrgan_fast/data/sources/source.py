"""A source: images in a folder, a table or an archive, listed and not read yet."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cxrgan_fast.data.memory import CONTENT
from cxrgan_fast.data.sources.class_names import check_class_names, folder_names
from cxrgan_fast.data.sources.content import has_image_name
from cxrgan_fast.data.sources.listing import ImageFile, Unused, unused_lines
from cxrgan_fast.data.sources.names import SPLITS
from cxrgan_fast.data.sources.selection import read_classes
from cxrgan_fast.data.sources.store import MAX_FILE_BYTES, Store, bytes_of
from cxrgan_fast.errors import printable

_UNNAMED_KIND = "its name says neither 'bacteria' nor 'virus'"


@dataclass
class Source:
    """Images with their classes, patients and splits; `open_source` finds them.

    Attributes:
        where: as the user named it, for messages.
        name: name of the set: that of the folder or file.
        store: where the files lie.
        classes: all class names, in the order of class folders; a class may have no images.
        default_classes: those that are used when none are named.
        has_splits: whether the source tells train, test and val apart.
        files: the images, sorted by name.
        unnamed: images of the published layout of which the name does not tell the class.
        unused: all other files that were listed.
        remarks: what was decided about folders and columns, a line each.
        refused: (name, reason) of what a table names and what cannot be used.
    """

    where: str
    name: str
    store: Store
    classes: tuple[str, ...]
    default_classes: tuple[str, ...]
    has_splits: bool
    files: list[ImageFile]
    unnamed: list[ImageFile] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Return (name, reason) of what cannot be used, sorted by name."""
        of_images = [each for each in self.store.tree.problems if _may_be_image(each[0])]
        return sorted([*of_images, *self.refused])

    def read(self, file: ImageFile) -> bytes:
        """Read the bytes of one image; several threads may do so at once.

        Raises:
            UserError: the file, which is named, cannot be read or has changed since it was listed.
        """
        return self.store.read(file.name)

    @contextlib.contextmanager
    def held(self, file: ImageFile) -> Iterator[bytes]:
        """Read the bytes of one image for a block, within the memory that all threads share.

        Raises:
            UserError: as `read`.
        """
        size = min(bytes_of(self.store.tree, file.name), MAX_FILE_BYTES)
        with CONTENT.hold(size, "the file"):
            yield self.read(file)

    def stamp(self, file: ImageFile) -> str:
        """Return what changes when the file changes: size and time, or size and checksum."""
        return self.store.tree.stamps[file.name]

    def parts(
        self, classes: Sequence[str] | None, split: str | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Return, in the order of labels, the classes of the source that make up each class.

        Args:
            classes: as `select` takes them.
            split: changes nothing here: a class of a source without images in a split is refused.

        Raises:
            UserError: there is no such class.
        """
        if classes is not None:
            return read_classes(classes, self.classes, self.where)
        check_class_names(self.default_classes, self.where)
        return {name: (name,) for name in self.default_classes}

    def listed(self, parts: Mapping[str, tuple[str, ...]]) -> list[ImageFile]:
        """Return the images sorted by name, with those of unknown kind where kinds are joined.

        Args:
            parts: as the method `parts` gives them.
        """
        if not _joins_kinds(parts):
            return self.files
        return sorted([*self.files, *self.unnamed], key=lambda file: file.name)

    def without_kind(
        self, classes: Sequence[str] | None, split: str | None
    ) -> list[tuple[str, str]]:
        """List the images whose kind of pneumonia is unknown, if the kind matters: (name, reason).

        Args:
            classes: as `select` takes them.
            split: as `select` takes it.
        """
        parts = self.parts(classes)
        members = {member for of_class in parts.values() for member in of_class}
        if not {"bacterial", "viral"} & members or _joins_kinds(parts):
            return []
        return [(file.name, _UNNAMED_KIND) for file in self.unnamed if split in (None, file.split)]

    def notes(self, classes: Sequence[str] | None = None, split: str | None = None) -> list[str]:
        """Say what a user should know of what is used and what is not, a line each.

        Args:
            classes: as `select` takes them.
            split: as `select` takes it.
        """
        parts = self.parts(classes)
        members = {member for of_class in parts.values() for member in of_class}
        left = Counter(file.class_name for file in self.files if file.class_name not in members)
        lines = [*self.remarks, *unused_lines(self.unused)]
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

    def class_folders(self) -> dict[str, list[str]]:
        """Return the names of the folders in which the images of each class lie, sorted.

        Of classes that go by a table, those that their names give.
        """
        there: dict[str, set[str]] = {}
        for file in self.files:
            there.setdefault(file.class_name, set()).add(file.folder)
        if any("" in folders for folders in there.values()):
            return {name: [folder] for name, folder in folder_names(self.classes).items()}
        return {name: sorted(there[name]) for name in self.classes if name in there}


def _joins_kinds(parts: Mapping[str, tuple[str, ...]]) -> bool:
    return any({"bacterial", "viral"} <= set(members) for members in parts.values())


def _may_be_image(name: str) -> bool:
    """Whether images are lost with it: not with a link to notes.txt that leads nowhere."""
    return has_image_name(name) or not PurePosixPath(name).suffix

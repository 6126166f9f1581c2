"""Which images are used: those of some classes and one split, of whatever source."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cxrgan_fast.data.sources.class_names import check_class_names
from cxrgan_fast.data.sources.listing import ImageFile, enumerate_names
from cxrgan_fast.data.sources.names import SPLITS
from cxrgan_fast.errors import UserError, did_you_mean, printable

# What file names of the published set call its classes; parts of a joined class may go by them.
_KINDS = {"bacteria": "bacterial", "virus": "viral"}


class Selectable(Protocol):
    """What lists images by class and split: a source, a packed set, the phantom set."""

    @property
    def where(self) -> str:
        """Say for messages what lists the images, as the user named it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of all classes; a class may have no images."""

    @property
    def has_splits(self) -> bool:
        """Say whether train, test and val are told apart."""

    def parts(
        self, classes: Sequence[str] | None, split: str | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Return, in the order of labels, the classes listed that make up each class asked for."""

    def listed(self, parts: Mapping[str, tuple[str, ...]]) -> Sequence[ImageFile]:
        """Return the images of all splits, in an order that holds within a class."""


@dataclass(frozen=True)
class Selection:
    """Classes and their images.

    Attributes:
        class_names: names of the classes, in the order of the labels.
        files: the images in the order of class, then as listed; `class_name` is one of
            `class_names`, also where that joins several classes.
        places: place of each image in the order in which the source lists them.
    """

    class_names: tuple[str, ...]
    files: list[ImageFile]
    places: list[int]

    @property
    def labels(self) -> list[int]:
        """Return the label of each image."""
        of = {name: label for label, name in enumerate(self.class_names)}
        return [of[file.class_name] for file in self.files]


def select(
    source: Selectable, split: str | None = None, classes: Sequence[str] | None = None
) -> Selection:
    """Select the images of some classes and one split.

    Args:
        source: what lists images.
        split: "train", "test" or "val"; None for all.
        classes: names in the order of their labels, in any case; None for the default.
            NAME=A+B joins the classes A and B.

    Raises:
        UserError: there is no such split or class, or it has no images.
    """
    check_split(split)
    parts = source.parts(classes, split)
    everything = source.listed(parts)
    chosen = [(place, file) for place, file in enumerate(everything) if _is_of(file, split)]
    if not chosen and split is not None:
        raise _no_images(source, split, everything)
    present = {file.class_name for _, file in chosen}
    for name in (member for members in parts.values() for member in members):
        if name not in present:
            where = f"{source.where} ({split})" if split and source.has_splits else source.where
            others = [other for other in source.classes if other in present]
            raise UserError(
                f"{where}: class {printable(name)!r} has no images: add some, or name only the "
                f"classes to use (with images: {enumerate_names(others)})"
            )
    class_of = {member: name for name, members in parts.items() for member in members}
    order = {name: label for label, name in enumerate(parts)}
    wanted = [
        (place, replace(file, class_name=class_of[file.class_name]))
        for place, file in chosen
        if file.class_name in class_of
    ]
    wanted.sort(key=lambda each: order[each[1].class_name])  # stable: as listed within a class
    return Selection(tuple(parts), [file for _, file in wanted], [place for place, _ in wanted])


def classes_with_images(source: Selectable, split: str) -> set[str]:
    """Return the names of the classes listed that have images in a split."""
    files = source.listed({name: (name,) for name in source.classes})
    return {file.class_name for file in files if file.split == split}


def check_split(split: str | None) -> None:
    """Raise UserError unless a split is "train", "test", "val", or None for all."""
    if split not in (None, *SPLITS):
        raise UserError(f"split {split!r}: expected one of {', '.join(SPLITS)}")


def _is_of(file: ImageFile, split: str | None) -> bool:
    return split in (None, file.split)


def _no_images(source: Selectable, split: str, files: Sequence[ImageFile]) -> UserError:
    if not source.has_splits:
        return UserError(
            f"{source.where}: no {split!r} split; without train, test and val folders (or a "
            "column split) all images count as 'train'"
        )
    there = {file.split for file in files}
    present = ", ".join(name for name in SPLITS if name in there)
    return UserError(f"{source.where}: no {split!r} images; it has {present}")


def read_classes(
    wanted: Sequence[str], known: Sequence[str], where: object
) -> dict[str, tuple[str, ...]]:
    """Read what a user asks for: names, lists of names with commas, and NAME=CLASS+CLASS.

    Args:
        wanted: as a user gives them; case does not matter. A class whose own name holds a comma,
            "=" or "+" goes before any other reading of it.
        known: the class names there are.
        where: what has them, for messages.

    Returns:
        In the order of the labels, the classes that make up each class.

    Raises:
        UserError: an unknown class, a name or a class that is given twice, or none at all.
    """
    folded = {name.casefold() for name in known}
    pieces = split_names(wanted, known)
    if not pieces:
        raise UserError(f"classes: none named; {where} has {enumerate_names(known)}")
    found: list[tuple[str, tuple[str, ...]]] = []
    for piece in pieces:
        name, joins, parts = piece.partition("=")
        if not joins or piece.strip().casefold() in folded:
            only = match_class(piece, known, where)
            found.append((only, (only,)))
            continue
        members = tuple(match_class(_kind(part, folded), known, where) for part in parts.split("+"))
        found.append((name.strip(), members))
    for what, names in (
        ("is named", [name for name, _ in found]),
        ("is taken", [member for _, members in found for member in members]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                raise UserError(f"classes: {name!r} {what} {count} times; name each class once")
    check_class_names([name for name, _ in found], where)
    return dict(found)


def split_names(wanted: Sequence[str], known: Collection[str]) -> list[str]:
    """Divide lists with commas into their names, but for a known name that holds a comma.

    Args:
        wanted: as a user gives them.
        known: the class names there are; case does not matter.
    """
    folded = {name.casefold() for name in known}
    pieces: list[str] = []
    for text in wanted:
        whole = text.strip().casefold() in folded or text in known
        pieces += [text] if whole else [piece for piece in text.split(",") if piece.strip()]
    return pieces


def _kind(part: str, known: Collection[str]) -> str:
    word = part.strip().casefold()
    return _KINDS[word] if word not in known and _KINDS.get(word) in known else part


def match_class(name: str, known: Sequence[str], where: object) -> str:
    """Return the known class that `name` means; case does not matter.

    Args:
        name: as a user gives it.
        known: the class names there are.
        where: what has them, for the message.

    Raises:
        UserError: there is no such class; the nearest is named.
    """
    if name in known:
        return name
    folded = {other.casefold(): other for other in known}
    if name.strip().casefold() in folded:
        return folded[name.strip().casefold()]
    hint = did_you_mean(name, known)
    shown = enumerate_names(known)
    raise UserError(f"classes: no class {printable(name)!r} in {where} (it has {shown}){hint}")

"""Which files of a source are images of which class, patient and split, by folders and names.

Two layouts are understood:

- the published paediatric set (Kermany et al., Cell 2018): `train|test|val` with `NORMAL` and
  `PNEUMONIA`, where the file name tells bacterial from viral pneumonia. Its classes are called
  normal, bacterial and viral;
- any other folder of class folders, named as the folders are, with or without
  `train|test|val` above them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cxrgan_fast.data.readers import IMAGE_SUFFIXES
from cxrgan_fast.data.sources.store import Tree
from cxrgan_fast.errors import UserError, did_you_mean

SPLITS = ("train", "test", "val")
PUBLISHED_CLASSES = ("normal", "bacterial", "viral")
PUBLISHED_DEFAULT = ("normal", "bacterial")
UNNAMED_KIND = "its name says neither 'bacteria' nor 'virus'"

_KIND = re.compile(r"_(bacteria|virus)(?:[_.]|$)", re.IGNORECASE)
_PATIENT = re.compile(r"(person\d+)_|((?:NORMAL\d*-)?IM-\d+)-", re.IGNORECASE)


@dataclass(frozen=True)
class ImageFile:
    """An image in a source.

    Attributes:
        name: path in the source, "/"-separated; no two are the same.
        class_name: its class.
        patient: whose it is, as far as names tell; else the file's own name.
        split: "train", "test" or "val"; "train" where the source has no splits.
    """

    name: str
    class_name: str
    patient: str
    split: str


@dataclass
class Listing:
    """What a source holds.

    Attributes:
        classes: in the order of class folders; a class may have no images.
        default_classes: those to use when none are named.
        has_splits: whether the source tells train, test and val apart.
        files: the images, sorted by name.
        unnamed: images of pneumonia of which the name does not tell the kind.
    """

    classes: tuple[str, ...]
    default_classes: tuple[str, ...]
    has_splits: bool
    files: list[ImageFile]
    unnamed: list[ImageFile] = field(default_factory=list)


def lay_out(tree: Tree, where: str, name: str) -> Listing:
    """Find the class folders and the images in them.

    Files that are not images by their name are passed over; suffixes count in any case. A folder
    that only repeats itself (`chest_xray/chest_xray`, as the published archive unpacks) is
    entered.

    Args:
        tree: the names in the source.
        where: the source, for messages.
        name: of the folder or archive itself.

    Raises:
        UserError: there is no class folder or no image.
    """
    root = _root(tree, name)
    splits = _split_folders(tree, root)
    # (split, class folder) -> its images
    found = _by_class_folder(tree, splits or {"train": root})
    if not any(found.values()):
        raise UserError(f"{where}: {_why_empty(tree, root, splits)}")
    names = dict.fromkeys(
        _base(folder) for _, folder in sorted(found, key=lambda key: _base(key[1]))
    )
    if _is_published(found):
        return _published(found, bool(splits))
    files = [
        ImageFile(name, _base(folder), _patient(name, folder), split)
        for (split, folder), images in found.items()
        for name in images
    ]
    files.sort(key=lambda file: file.name)
    return Listing(tuple(names), tuple(names), bool(splits), files)


def choose_classes(listing: Listing, wanted: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Return the classes to load, in the order of their labels.

    Args:
        listing: what the source, or a split of it, holds.
        wanted: names as a user gives them (case does not matter), or None for the default.
        where: the source, for messages.

    Raises:
        UserError: an unknown or repeated class name, or a class without images.
    """
    if wanted is None:
        names = listing.default_classes
    else:
        names = tuple(match_class(name, listing.classes, where) for name in wanted)
        if not names:
            raise UserError(f"classes: none named; {where} has {_enumerate(listing.classes)}")
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"classes: {name!r} is named {count} times; name each class once")
    present = {file.class_name for file in listing.files}
    for name in names:
        if name not in present:
            others = [other for other in listing.classes if other in present]
            raise UserError(
                f"{where}: class {name!r} has no images: add some, or name only the "
                f"classes to use (with images: {_enumerate(others)})"
            )
    return names


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
    if name.casefold() in folded:
        return folded[name.casefold()]
    hint = did_you_mean(name, known)
    raise UserError(f"classes: no class {name!r} in {where} (it has {_enumerate(known)}){hint}")


def _root(tree: Tree, name: str) -> str:
    """The folder that holds the split folders, or the class folders."""
    folder = ""
    inside = _subfolders(tree, folder)
    # A lone folder may be a mere wrapper, or the only class with a folder for each patient.
    while (
        len(inside) == 1
        and not _split_folders(tree, folder)
        and _is_wrapper(tree, inside[0], _base(folder) or name)
    ):
        folder = inside[0]
        inside = _subfolders(tree, folder)
    return folder


def _is_wrapper(tree: Tree, inner: str, outer_name: str) -> bool:
    if any(_parent(name) == inner for name in _images(tree)):
        return False
    names = {_base(folder).casefold() for folder in _subfolders(tree, inner)}
    same = _base(inner).casefold() == outer_name.casefold()
    return (same and bool(names)) or bool(names & {*SPLITS, "normal", "pneumonia"})


def _split_folders(tree: Tree, root: str) -> dict[str, str]:
    by_name = {_base(folder).casefold(): folder for folder in _subfolders(tree, root)}
    return {split: by_name[split] for split in SPLITS if split in by_name}


def _is_published(found: dict[tuple[str, str], list[str]]) -> bool:
    by_split: dict[str, set[str]] = {}
    for split, folder in found:
        by_split.setdefault(split, set()).add(_base(folder).casefold())
    if any(names != {"normal", "pneumonia"} for names in by_split.values()):
        return False
    return any(
        _KIND.search(_base(name))
        for (_, folder), images in found.items()
        if _base(folder).casefold() == "pneumonia"
        for name in images
    )


def _published(found: dict[tuple[str, str], list[str]], has_splits: bool) -> Listing:
    files: list[ImageFile] = []
    unnamed: list[ImageFile] = []
    for (split, folder), images in found.items():
        ill = _base(folder).casefold() == "pneumonia"
        for name in images:
            kind = _KIND.search(_base(name))
            class_name = "normal"
            if ill:
                class_name = "viral" if kind and kind[1].lower() == "virus" else "bacterial"
            file = ImageFile(name, class_name, _patient(name, folder), split)
            (unnamed if ill and kind is None else files).append(file)
    files.sort(key=lambda file: file.name)
    return Listing(PUBLISHED_CLASSES, PUBLISHED_DEFAULT, has_splits, files, unnamed)


def _patient(name: str, class_folder: str) -> str:
    """Name the patient: by the published file names, else by folder, else the file itself."""
    match = _PATIENT.match(_base(name))
    if match:
        return match[1] or match[2]
    inside = _parent(name[len(class_folder) + 1 :])
    return inside or str(PurePosixPath(name).with_suffix(""))


def _images(tree: Tree) -> Iterable[str]:
    return (name for name in tree.stamps if is_image(name))


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _by_class_folder(tree: Tree, parents: dict[str, str]) -> dict[tuple[str, str], list[str]]:
    """The images in each class folder of each split, in one pass over all of them."""
    found: dict[tuple[str, str], list[str]] = {
        (split, folder): []
        for split, parent in parents.items()
        for folder in _subfolders(tree, parent)
    }
    starts = {f"{parent}/" if parent else "": split for split, parent in parents.items()}
    for name in sorted(_images(tree)):
        for start, split in starts.items():
            if name.startswith(start):
                folder, below, _ = name[len(start) :].partition("/")
                if below:
                    found[split, start + folder].append(name)
                break
    return found


def _subfolders(tree: Tree, folder: str) -> list[str]:
    return sorted(name for name in tree.folders if _parent(name) == folder)


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _why_empty(tree: Tree, root: str, splits: dict[str, str]) -> str:
    parents = list(splits.values()) or [root]
    folders = [folder for parent in parents for folder in _subfolders(tree, parent)]
    if any(_parent(name) in parents for name in _images(tree)):
        return (
            "holds images but no class folders: put each class's images in its own folder, or "
            "name a CSV file with the columns path and label"
        )
    if not folders:
        return "holds no class folders; expected one folder of images a class"
    below = tuple(f"{folder}/" for folder in folders)
    suffixes = Counter(
        PurePosixPath(name).suffix.lower() for name in tree.stamps if name.startswith(below)
    )
    readable = ", ".join(sorted(IMAGE_SUFFIXES))
    if suffixes:
        kind = suffixes.most_common(1)[0][0] or "unnamed"
        return f"holds no images, only files such as {kind!r}: convert them to one of {readable}"
    return f"holds no images in {_enumerate([_base(f) for f in folders])}; expected {readable}"


def _enumerate(names: Sequence[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more

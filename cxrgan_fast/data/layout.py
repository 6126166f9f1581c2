"""Which files of a folder are images of which class and which patient.

Two layouts are understood:

- the published paediatric set (Kermany et al., Cell 2018): `train|test|val` with `NORMAL` and
  `PNEUMONIA`, where the file name tells bacterial from viral pneumonia. Its classes are called
  normal, bacterial and viral;
- any other folder of class folders, named as the folders are, with or without
  `train|test|val` above them.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrgan_fast.data.readers import IMAGE_SUFFIXES
from cxrgan_fast.errors import UserError, did_you_mean

SPLITS = ("train", "test", "val")
PUBLISHED_CLASSES = ("normal", "bacterial", "viral")
PUBLISHED_DEFAULT = ("normal", "bacterial")

_KIND = re.compile(r"_(bacteria|virus)(?:[_.]|$)", re.IGNORECASE)
_PATIENT = re.compile(r"(person\d+)_|((?:NORMAL\d*-)?IM-\d+)-", re.IGNORECASE)


@dataclass(frozen=True)
class ImageFile:
    """An image on disk: where it is, its class and whose it is."""

    path: Path
    class_name: str
    patient: str


@dataclass(frozen=True)
class FolderListing:
    """The images of one split of a data folder.

    Attributes:
        root: the folder that holds the class folders.
        classes: image files by class name, in the order of class folders; may hold empty lists.
        default_classes: the classes to use when none are named.
        unnamed: files of the published layout whose name tells neither bacteria nor virus.
    """

    root: Path
    classes: dict[str, list[ImageFile]]
    default_classes: tuple[str, ...]
    unnamed: list[Path]


def list_folder(source: Path, split: str) -> FolderListing:
    """Find the class folders under `source` and the image files in them.

    Hidden files, `__MACOSX` folders and files that are not images by their name are passed
    over; suffixes count in any case. A folder that only repeats itself
    (`chest_xray/chest_xray`, as the published archive unpacks) is entered.

    Args:
        source: the folder that a user named.
        split: "train", "test" or "val". A folder without split folders is all "train".

    Raises:
        UserError: there is no such folder, split or class folder, or no image.
    """
    if not source.exists():
        raise UserError(
            f"{source}: no such folder; name a folder of class folders, or 'phantom' for the "
            "embedded synthetic set"
        )
    if not source.is_dir():
        raise UserError(f"{source}: is a file; name the folder that holds the class folders")
    try:
        return _list(_enter(source, split))
    except OSError as error:
        raise UserError(
            f"{error.filename or source}: cannot be listed ({error.strerror})"
        ) from None


def choose_classes(listing: FolderListing, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the classes to load, in the order of their labels.

    Args:
        listing: what the folder holds.
        wanted: names as a user gives them (case does not matter), or None for the default.

    Raises:
        UserError: an unknown or repeated class name, or a class without images.
    """
    if wanted is None:
        names = listing.default_classes
    else:
        names = tuple(match_class(name, tuple(listing.classes), listing.root) for name in wanted)
        if not names:
            raise UserError(f"classes: none named; {listing.root} has {_names(listing.classes)}")
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"classes: {name!r} is named {count} times; name each class once")
    for name in names:
        if not listing.classes[name]:
            others = [other for other in listing.classes if listing.classes[other]]
            raise UserError(
                f"{listing.root}: class {name!r} has no images: add some, or name only the "
                f"classes to use (with images: {_names(others)})"
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
    raise UserError(f"classes: no class {name!r} in {where} (it has {_names(known)}){hint}")


def _enter(source: Path, split: str) -> Path:
    """Return the folder that holds the class folders of `split`."""
    folders = _subfolders(source)
    by_name = {folder.name.casefold(): folder for folder in folders}
    if split in by_name:
        return by_name[split]
    present = [name for name in SPLITS if name in by_name]
    if present:
        raise UserError(f"{source}: no {split!r} folder; it has {_names(present)}")
    # A lone folder may be a mere wrapper, or the only class with a folder for each patient.
    if len(folders) == 1 and _is_wrapper(folders[0], source):
        return _enter(folders[0], split)
    if split != "train":
        raise UserError(
            f"{source}: no {split!r} folder; without train, test and val folders all images "
            "count as 'train'"
        )
    return source


def _is_wrapper(inner: Path, outer: Path) -> bool:
    if _images_in(inner):
        return False
    names = {folder.name.casefold() for folder in _subfolders(inner)}
    same = inner.name.casefold() == outer.resolve().name.casefold()
    return (same and bool(names)) or bool(names & {*SPLITS, "normal", "pneumonia"})


def _list(root: Path) -> FolderListing:
    folders = _subfolders(root)
    found = {folder: _walk(folder) for folder in folders}
    if not any(found.values()):
        raise UserError(f"{root}: {_why_empty(root, folders)}")
    by_name = {folder.name.casefold(): folder for folder in folders}
    if set(by_name) == {"normal", "pneumonia"} and len(folders) == 2:
        pneumonia = found[by_name["pneumonia"]]
        if any(_KIND.search(path.name) for path in pneumonia):
            return _published(root, by_name, found)
    classes = {
        folder.name: [ImageFile(path, folder.name, _patient(path, folder)) for path in files]
        for folder, files in found.items()
    }
    return FolderListing(root, classes, tuple(classes), [])


def _published(
    root: Path, by_name: dict[str, Path], found: dict[Path, list[Path]]
) -> FolderListing:
    classes: dict[str, list[ImageFile]] = {name: [] for name in PUBLISHED_CLASSES}
    unnamed: list[Path] = []
    for path in found[by_name["normal"]]:
        classes["normal"].append(ImageFile(path, "normal", _patient(path, by_name["normal"])))
    for path in found[by_name["pneumonia"]]:
        kind = _KIND.search(path.name)
        if kind is None:
            unnamed.append(path)
            continue
        name = "bacterial" if kind.group(1).lower() == "bacteria" else "viral"
        classes[name].append(ImageFile(path, name, _patient(path, by_name["pneumonia"])))
    return FolderListing(root, classes, PUBLISHED_DEFAULT, unnamed)


def _patient(path: Path, class_folder: Path) -> str:
    """Name the patient: by the published file names, else by folder, else the file itself."""
    match = _PATIENT.match(path.name)
    if match:
        return match.group(1) or match.group(2)
    inside = path.relative_to(class_folder).parent
    return inside.as_posix() if inside.parts else path.stem


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        (entry for entry in folder.iterdir() if entry.is_dir() and not _passed_over(entry.name)),
        key=lambda entry: entry.name,
    )


def _walk(folder: Path) -> list[Path]:
    """Return the image files at any depth, sorted by their path."""

    def fail(error: OSError) -> None:
        raise error  # os.walk would pass over what it may not list

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not _passed_over(name)]
        files += [Path(parent, name) for name in names if _is_image(name)]
    return sorted(files)


def _images_in(folder: Path) -> bool:
    return any(entry.is_file() and _is_image(entry.name) for entry in folder.iterdir())


def _is_image(name: str) -> bool:
    return not _passed_over(name) and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _why_empty(root: Path, folders: list[Path]) -> str:
    if _images_in(root):
        return "holds images but no class folders: put each class's images in its own folder"
    if not folders:
        return "holds no class folders; expected one folder of images a class"
    suffixes = Counter(
        path.suffix.lower()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not _passed_over(path.name)
    )
    readable = ", ".join(sorted(IMAGE_SUFFIXES))
    if suffixes:
        kind = suffixes.most_common(1)[0][0] or "unnamed"
        return f"holds no images, only files such as {kind!r}: convert them to one of {readable}"
    return f"holds no images in {_names([f.name for f in folders])}; expected {readable}"


def _names(names: Sequence[str] | dict[str, list[ImageFile]]) -> str:
    shown = list(names)
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return ", ".join(shown[:12]) + more

"""Which files of a source are images of which class, patient and split, by folders and names.

Two layouts are understood:

- the published paediatric set (Kermany et al., Cell 2018): `train|test|val` with `NORMAL` and
  `PNEUMONIA`, where the file name tells bacterial from viral pneumonia. Its classes are called
  normal, bacterial and viral;
- any other folder of class folders, named as the folders are, with or without folders of splits
  above them or right below them.

Every file that is listed is either an image of a class or counted, with the reason, as not used.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cxrgan_fast.data.readers import IMAGE_SUFFIXES
from cxrgan_fast.data.sources.content import has_image_name
from cxrgan_fast.data.sources.folders import Folders, above
from cxrgan_fast.data.sources.listing import (
    ImageFile,
    as_unused,
    enumerate_names,
    merge_spellings,
)
from cxrgan_fast.data.sources.masks import find_masks
from cxrgan_fast.data.sources.names import (
    base,
    is_container,
    is_mask_folder,
    is_part,
    parent,
    patient_of_file,
    split_of,
    suffix,
)
from cxrgan_fast.data.sources.source import Source
from cxrgan_fast.data.sources.store import Store
from cxrgan_fast.errors import UserError, printable

PUBLISHED_CLASSES = ("normal", "bacterial", "viral")
PUBLISHED_DEFAULT = ("normal", "bacterial")
_MOST_KINDS = 4  # folders of words that recur below every class: more of them are patients

NO_IMAGE = "no image by name or content"
MASK = "a mask and not an X-ray"
BESIDE_CLASSES = "beside the class folders"
BESIDE_SPLITS = "beside the folders of splits"

_KIND = re.compile(r"_(bacteria|virus)(?:[_.]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class _Found:
    """An image in a class folder: the folders below the latter are not interpreted yet."""

    name: str
    class_folder: str
    split: str
    below: tuple[str, ...]


def lay_out(
    store: Store, images: Collection[str], left_out: Mapping[str, str], where: str, name: str
) -> Source:
    """Find the class folders and the images in them.

    A folder that only wraps the class folders (`chest_xray/chest_xray`, as the published archive
    unpacks, `dataset/images/CLASS`) is entered.

    Args:
        store: the files, of which only the names are looked at here.
        images: those that are images by name or content.
        left_out: folders that hold no data, each with what they are.
        where: as the user named it, for messages.
        name: name of the folder or archive itself.

    Raises:
        UserError: there is no class folder or no image.
    """
    if left_out.get("") in ("a run's folder", "a packed set"):
        raise UserError(f"{where}: is {left_out['']} and no folder of class folders of X-rays")
    tree = store.tree
    unused: Counter[tuple[str, str, str]] = Counter()

    def pass_over(file: str, reason: str) -> None:
        unused[reason, parent(file), suffix(file)] += 1

    candidates = []
    for file in sorted(tree.stamps):
        outer = next((each for each in above(file) if each in left_out and each), None)
        if outer is not None:
            pass_over(file, left_out[outer])
        elif file not in images:
            pass_over(file, NO_IMAGE)
        else:
            candidates.append(file)
    masks = find_masks(candidates, tree.folders)
    for file in masks:
        pass_over(file, MASK)
    candidates = [file for file in candidates if file not in masks]

    folders = Folders(tree, candidates, left_out)
    root = folders.root(name)
    splits = folders.splits(root)
    found = []
    parts = [] if splits else folders.parts(root, where)
    tops = {folders.entered(folder): split for folder, split in splits.items()}
    tops = tops or dict.fromkeys(parts or [root], "train")
    starts = {(f"{folder}/" if folder else ""): split for folder, split in tops.items()}
    for file in candidates:
        start = next((start for start in starts if file.startswith(start)), None)
        if start is None:
            pass_over(file, BESIDE_SPLITS if splits or parts else BESIDE_CLASSES)
            continue
        folder, *below = file[len(start) :].split("/")[:-1] or [""]
        if not folder:
            pass_over(file, BESIDE_CLASSES)
        else:
            found.append(_Found(file, start + folder, starts[start], tuple(below)))
    if not found:
        why = "holds only masks" if masks else _why_empty(folders, list(tops))
        raise UserError(f"{where}: {why}")
    class_folders = [each for top in tops for each in folders.classes(top)]
    found, has_splits = _splits_below(found, bool(splits))
    for each in found:
        if any(is_mask_folder(part) for part in each.below):
            pass_over(each.name, MASK)
    found = [each for each in found if not any(is_mask_folder(part) for part in each.below)]
    if not found:
        raise UserError(f"{where}: holds only masks")

    source = Source(where, name, store, (), (), has_splits, [], unused=as_unused(unused))
    if _is_published(found):
        _add_published(source, found)
    else:
        _add_plain(source, found, class_folders)
    below = [top for top in tops if top not in splits and top]
    if below:
        source.remarks.insert(0, f"the class folders are those in {enumerate_names(below)}")
    elif root:
        source.remarks.insert(0, f"the class folders are those in {printable(root)}")
    return source


def _splits_below(found: list[_Found], has_splits: bool) -> tuple[list[_Found], bool]:
    """Read `CLASS/train/…`: the folders right below every class folder are those of splits."""
    first = [split_of(each.below[0]) if each.below else None for each in found]
    if has_splits or None in first or "train" not in first:
        return found, has_splits
    moved = [
        _Found(each.name, each.class_folder, split, each.below[1:])
        for each, split in zip(found, first, strict=True)
        if split is not None
    ]
    return moved, True


def _is_published(found: Sequence[_Found]) -> bool:
    folders = {base(each.class_folder).casefold() for each in found}
    return folders == {"normal", "pneumonia"} and any(
        _KIND.search(base(each.name))
        for each in found
        if base(each.class_folder).casefold() == "pneumonia"
    )


def _add_published(source: Source, found: Sequence[_Found]) -> None:
    source.classes, source.default_classes = PUBLISHED_CLASSES, PUBLISHED_DEFAULT
    shared = _shared_folders(found)
    for each in found:
        ill = base(each.class_folder).casefold() == "pneumonia"
        kind = _KIND.search(base(each.name))
        class_name = "normal"
        if ill:
            class_name = "viral" if kind and kind[1].lower() == "virus" else "bacterial"
        file = _image(each, class_name, shared)
        (source.unnamed if ill and kind is None else source.files).append(file)


def _add_plain(source: Source, found: Sequence[_Found], class_folders: Sequence[str]) -> None:
    counts = Counter({base(folder): 0 for folder in class_folders})
    counts.update(base(each.class_folder) for each in found)
    names, notes = merge_spellings(counts)
    shared = _shared_folders(found)
    source.files += [_image(each, names[base(each.class_folder)], shared) for each in found]
    classes = tuple(dict.fromkeys(names[name] for name in sorted(counts)))
    kinds = {each.below[0] for each in found if each.below and each.below[0] in shared}
    kinds = {kind for kind in kinds if not is_container(kind)}
    if kinds:
        notes.append(
            f"below every class folder lie {enumerate_names(sorted(kinds))}, which count as "
            "neither classes nor patients; if they are the classes, put them above the others, or "
            "name a table of the images"
        )
    if len(classes) == 1 and any(each.below and each.below[0] not in shared for each in found):
        inner = {each.below[0] for each in found if each.below}
        notes.append(
            f"one class, {printable(classes[0])}; its {len(inner)} folders, such as "
            f"{printable(min(inner))}, count as patients: if they are the classes, name the "
            "folder that holds them"
        )
    source.classes = source.default_classes = classes
    source.remarks += notes


def _image(each: _Found, class_name: str, shared: Collection[str]) -> ImageFile:
    """Name the patient: by the first folder that can be one, else by the file, else the file."""
    below = (part for part in each.below if part not in shared and not is_container(part))
    patient = next(below, None) or patient_of_file(each.name) or _own_name(each, shared)
    return ImageFile(each.name, class_name, patient, each.split, folder=base(each.class_folder))


def _own_name(each: _Found, shared: Collection[str]) -> str:
    """Name a file for itself, and alike in folders of kinds: PA/7.png and lateral/7.png are one."""
    name = each.name[: -len(suffix(each.name))] if has_image_name(each.name) else each.name
    kept = [part for part in each.below if part not in shared and not is_container(part)]
    outer = name.split("/")[: -1 - len(each.below)]
    return "/".join([*outer, *kept, base(name)])


def _shared_folders(found: Sequence[_Found]) -> set[str]:
    """The names of folders that recur below every class and are no patients (PA, hospital_2).

    A patient may have images of every class too. To take a kind for a patient makes a split
    coarser; to take a patient for a kind would divide that patient. So what looks like a patient is
    one: a number, a small share of a class, or one of many such folders.
    """
    in_class: dict[str, Counter[str]] = {}
    sizes: Counter[str] = Counter()
    for each in found:
        class_name = base(each.class_folder).casefold()
        sizes[class_name] += 1
        if each.below:
            in_class.setdefault(class_name, Counter())[each.below[0]] += 1
    if len(sizes) < 2 or len(in_class) < len(sizes):
        return set()
    everywhere = set.intersection(*(set(counts) for counts in in_class.values()))
    shared = {folder for folder in everywhere if is_part(folder)}
    words = {
        folder
        for folder in everywhere
        if not any(char.isdigit() for char in folder)
        and all(10 * counts[folder] >= sizes[name] for name, counts in in_class.items())
    }
    return shared | words if len(words) <= _MOST_KINDS else shared


def _why_empty(folders: Folders, tops: Sequence[str]) -> str:
    inside = [folder for top in tops for folder in folders.classes(top)]
    if folders.images:
        return (
            "holds images but no class folders: put each class's images in its own folder, or "
            "name a CSV file with the columns path and label"
        )
    if not inside:
        return "holds no class folders; expected one folder of images a class"
    below = tuple(f"{folder}/" for folder in inside)
    suffixes: Counter[str] = Counter()
    for folder, counts in folders.suffixes.items():
        if f"{folder}/".startswith(below):
            suffixes += counts
    readable = ", ".join(sorted(IMAGE_SUFFIXES))
    if suffixes:
        kind = suffixes.most_common(1)[0][0]
        return f"holds no images, only files such as {kind!r}: convert them to one of {readable}"
    names = enumerate_names([base(folder) for folder in inside])
    return f"holds no images in {names}; expected {readable}"

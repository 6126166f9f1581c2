"""Which images of a source are masks of others, and no X-rays: by names, and by what recurs."""

from collections.abc import Collection, Sequence

from cxrgan_fast.data.sources.names import (
    base,
    is_container,
    is_mask_folder,
    parent,
    split_suffix,
    without_mask_word,
)


def find_masks(images: Sequence[str], folders: Collection[str]) -> set[str]:
    """Find the images that are masks.

    A folder named masks, labels or the like holds masks if it lies beside a folder of images, or
    if half of its files or more are named as images elsewhere. (Otherwise it may be a class, such
    as a device that is called a mask.) A file IM1_mask.png beside IM1.png is one too.

    Args:
        images: the names of all images.
        folders: the names of all folders.
    """
    named = {folder for folder in folders if is_mask_folder(base(folder))}
    masks = _in_folders(images, folders, named) if named else set()
    masks |= _beside_images(images)
    endings = [name for name in images if without_mask_word(_stem(name)) != _stem(name)]
    if endings:
        there = {(parent(name), _stem(name)) for name in images if name not in masks}
        masks |= {
            name for name in endings if (parent(name), without_mask_word(_stem(name))) in there
        }
    return masks


def _in_folders(
    images: Sequence[str], folders: Collection[str], named: Collection[str]
) -> set[str]:
    beside_images = {parent(folder) for folder in folders if is_container(base(folder))}
    inside: dict[str, list[str]] = {}
    outside: set[str] = set()
    for name in images:
        outer = _outermost(name, named)
        if outer is None:
            outside.add(_stem(name).casefold())
        else:
            inside.setdefault(outer, []).append(name)
    masks: set[str] = set()
    for folder, names in inside.items():
        recurring = sum(without_mask_word(_stem(name)).casefold() in outside for name in names)
        if parent(folder) in beside_images or 2 * recurring >= len(names):
            masks.update(names)
    return masks


def _beside_images(images: Sequence[str]) -> set[str]:
    """Find pictures made of the images beside them, whatever their folders are called.

    COVID/images/7.png and COVID/lungs/7.png, Normal/images and Normal/lungs: such a folder lies
    beside a folder of images in two places or more, and has the same files. A patient's folder has
    a number in its name, or does not recur.
    """
    stems: dict[str, set[str]] = {}
    files: dict[str, list[str]] = {}
    for name in images:
        folder = parent(name)
        stems.setdefault(folder, set()).add(without_mask_word(_stem(name)).casefold())
        files.setdefault(folder, []).append(name)
    containers: dict[str, set[str]] = {}
    for folder in stems:
        if is_container(base(folder)):
            containers.setdefault(parent(folder), set()).update(stems[folder])
    alike: dict[str, list[str]] = {}
    for folder, of_folder in stems.items():
        kind = base(folder).casefold()
        originals = containers.get(parent(folder))
        if originals is None or is_container(kind) or any(char.isdigit() for char in kind):
            continue
        if 2 * len(of_folder & originals) >= len(of_folder):
            alike.setdefault(kind, []).append(folder)
    made = [folder for group in alike.values() if len(group) > 1 for folder in group]
    return {name for folder in made for name in files[folder]}


def _outermost(name: str, named: Collection[str]) -> str | None:
    at = name.find("/")
    while at >= 0:
        if name[:at] in named:
            return name[:at]
        at = name.find("/", at + 1)
    return None


def _stem(name: str) -> str:
    return split_suffix(base(name))[0]

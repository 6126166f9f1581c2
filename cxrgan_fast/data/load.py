"""From what a user names as data to images in memory."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from cxrgan_fast.data.cache import cached_set
from cxrgan_fast.data.dataset import ImageDataset
from cxrgan_fast.data.depth import shown_notes
from cxrgan_fast.data.packed import PackedSet, is_packed, open_packed
from cxrgan_fast.data.patients import warning_lines
from cxrgan_fast.data.phantom.source import PhantomSource
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.sources import Columns, Source, check_split, open_source, refuse_columns

Split = Literal["train", "test", "val"]


def data_place(data: str | Path) -> Path | None:
    """Return where data lie on the disk; None for the phantom set, which lies nowhere.

    Args:
        data: "phantom", or a path (write ./phantom for a folder of that name).
    """
    return None if data == PhantomSource.name else Path(data)


def open_data(
    data: str | Path,
    columns: Columns | None = None,
    *,
    phantom_images: int = 1000,
    seed: int = 0,
    verify: bool = False,
) -> PhantomSource | PackedSet | Source:
    """Open what a user names as data, so that `select` says what is in it.

    Args:
        data: "phantom", a packed set, or what `open_source` takes (write ./phantom for a folder
            of that name).
        columns: which columns of a table say what; None for the usual names.
        phantom_images: size of the phantom set.
        seed: random seed of the phantom set.
        verify: read all of a packed set once and compare its checksums.

    Raises:
        UserError: there is no such data, they are damaged, or columns are named of what is no
            table.
    """
    place = data_place(data)
    if place is None:
        refuse_columns(columns, str(data))
        return PhantomSource(phantom_images, seed)
    if is_packed(place):
        refuse_columns(columns, str(place))
        return open_packed(place, verify=verify)
    return open_source(place, columns)


def packed_shape(data: str | Path) -> tuple[int, int] | None:
    """Return the channels and resolution of a packed set; None for other data.

    Raises:
        UserError: the set is damaged.
    """
    place = data_place(data)
    if place is None or not is_packed(place):
        return None
    channels, resolution = open_packed(place, verify=False).images.shape[1:3]
    return channels, resolution


def load_dataset(
    source: str | Path,
    *,
    resolution: int,
    image_channels: int = 1,
    classes: Sequence[str] | None = None,
    columns: Columns | None = None,
    split: Split = "train",
    skip_bad: bool = False,
    phantom_images: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> ImageDataset:
    """Load the phantom set, a packed set or images from files, prepared and in memory.

    Folders may be in the published layout of the paediatric chest X-ray set or hold one folder
    a class (`layout`). Images of any size and mode are stretched to the square (`readers` says
    why). The result does not depend on how many threads did the work.

    Args:
        source: as `open_data` takes it.
        resolution: height and width of every image, R.
        image_channels: 1 (grayscale) or 3 (RGB), C.
        classes: which classes, in the order of their labels; default normal and bacterial for
            the phantom set and the published layout, every class folder otherwise. NAME=A+B joins
            the classes A and B of a source or a packed set.
        columns: which columns of a table say what; None for the usual names.
        split: "train", "test" or "val". The phantom set's splits are disjoint.
        skip_bad: go on without unreadable images and list them in `skipped`.
        phantom_images: size of the phantom set, its classes in equal parts.
        seed: random seed of the phantom set.
        progress: show a progress bar on standard error.

    Returns:
        The set: images in the order of class, then file.

    Raises:
        UserError: anything that cannot work, in one line: a missing or empty folder, an unknown
            or empty class, an unreadable image, a setting out of range.
    """
    preparation = Preparation(resolution, image_channels)
    preparation.validate()
    check_split(split)
    opened = open_data(source, columns, phantom_images=phantom_images, seed=seed, verify=True)
    if isinstance(opened, Source):
        return _prepared(opened, preparation, classes, split, skip_bad, progress)
    return opened.load(preparation, split=split, classes=classes, progress=progress)


def _prepared(
    source: Source,
    preparation: Preparation,
    classes: Sequence[str] | None,
    split: Split,
    skip_bad: bool,
    progress: bool,
) -> ImageDataset:
    """Prepare the images of a source through the cache."""
    start = time.perf_counter()
    made, note = cached_set(
        source,
        preparation,
        classes=classes,
        split=split,
        skip_bad=skip_bad,
        progress=progress,
    )
    dataset = made.load(preparation)
    size = f"{preparation.resolution} x {preparation.resolution}"
    took = time.perf_counter() - start
    prepared = f"made {size} by --fit {preparation.fit}, {note}, {took:.1f} s"
    return replace(
        dataset,
        prepared="; ".join([prepared, *shown_notes(made.notes)]),
        notes=[*source.notes(classes, split), *warning_lines(dataset.patients)],
    )

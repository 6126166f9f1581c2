"""A folder of anyone's generated images: its classes, by the data's names, and their size."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.data.readers import image_size as image_size_of
from cxrgan_fast.data.sources import (
    ImageFile,
    Source,
    classes_with_images,
    folder_names,
    open_source,
    select,
)
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import check_classes


@dataclass(frozen=True)
class ImageFolder:
    """A folder of generated images, looked at and not read yet.

    Attributes:
        path: it.
        classes: its name of each class that is compared, by the data's name, in label order.
        resolution: at which all are read.
    """

    path: Path
    classes: dict[str, str]
    resolution: int

    @classmethod
    def look(
        cls,
        path: Path,
        known_classes: tuple[Sequence[str], Sequence[str]],
        wanted: Sequence[str],
        resolution: int | None,
    ) -> "ImageFolder":
        """Find the classes and the size of the images.

        Args:
            path: folder of class folders.
            known_classes: as `classes_of` gives them of what the images will be compared with.
            wanted: the classes to compare; none for all.
            resolution: to which they are made smaller; None if all are of one size.

        Raises:
            UserError: classes that are missing or unknown to the data, or an empty one; images of
                several sizes, or smaller than `resolution`.
        """
        source = open_source(path)
        filled = classes_with_images(source, "train")
        usual = source.default_classes
        selected = select(
            source,
            "train",
            wanted or [name for name in source.classes if name in filled or name in usual],
        )
        own, chosen = selected.class_names, selected.files
        folded = {name.casefold(): name for name in own}
        there, expected = known_classes
        # By a class's name, or by the folder that it gets where its name is none of a folder.
        known = {folder.casefold(): name for name, folder in folder_names(there).items()}
        known |= {name.casefold(): name for name in there}
        compared = [known.get(fold, name) for fold, name in folded.items()]
        if not wanted:
            # A class that the data have and nobody drew is missed, unless it was left out by hand.
            compared += [name for name in expected if name not in compared]
        order = [name for name in there if name in compared]
        images = Counter(file.class_name for file in chosen)
        counts = {known.get(name.casefold(), name): images[name] for name in own}
        check_classes(counts, dict.fromkeys(order, 1), path)
        size = _common_size(path, [_size_of(source, file) for file in chosen], resolution)
        found = {known[fold]: name for fold, name in folded.items() if fold in known}
        return cls(path, {name: found[name] for name in order}, size)

    def read(self, skip_bad: bool, progress: bool) -> ImageDataset:
        """Read the images, with the data's names of the classes.

        Raises:
            UserError: as `load_dataset`.
        """
        dataset = load_dataset(
            self.path,
            resolution=self.resolution,
            classes=tuple(self.classes.values()),
            skip_bad=skip_bad,
            progress=progress,
        )
        return replace(dataset, class_names=tuple(self.classes))


def _common_size(
    folder: Path, found: Sequence[tuple[int, int] | None], resolution: int | None
) -> int:
    sizes = Counter(size for size in found if size is not None)
    if not sizes:
        raise UserError(f"{folder}: none of its {len(found)} images can be read")
    shown = ", ".join(f"{n} of {w} x {h}" for (w, h), n in sizes.most_common(5))
    if resolution is None:
        (width, height), _ = sizes.most_common(1)[0]
        if len(sizes) > 1 or width != height:
            raise UserError(
                f"{folder}: expected square images of one size, got {shown}; give the size at "
                "which all, real and generated, are compared: --resolution"
            )
        return width
    least = min(min(size) for size in sizes)
    if least < resolution:
        # Enlarged images have no detail, which features would hold against the generator.
        raise UserError(
            f"--resolution {resolution}: {folder} has smaller images ({shown}); images are made "
            f"smaller, never larger: at most {least}"
        )
    return resolution


def _size_of(source: Source, file: ImageFile) -> tuple[int, int] | None:
    try:
        with source.held(file) as content:
            return image_size_of(content)
    except UserError:  # reading will say it, or pass over the file
        return None

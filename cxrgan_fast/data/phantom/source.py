"""The phantom set as a source of images: rendered when asked for, on no disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image

from cxrgan_fast.data.dataset import ImageDataset
from cxrgan_fast.data.phantom import CLASS_NAMES, phantom_image
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import prepare_image
from cxrgan_fast.data.reading import in_threads
from cxrgan_fast.data.sources import SPLITS, ImageFile, folder_names, read_classes, select
from cxrgan_fast.errors import UserError


@dataclass(frozen=True)
class PhantomSource:
    """The phantom set of one seed, with as many images in each split.

    Attributes:
        count: images in each split, the chosen classes in equal parts.
        seed: 0 or more; another seed is another set.
    """

    count: int = 1000
    seed: int = 0

    name: ClassVar[str] = "phantom"
    """What a user calls it, and the name of the set."""
    where: ClassVar[str] = "the phantom set"
    classes: ClassVar[tuple[str, ...]] = CLASS_NAMES
    default_classes: ClassVar[tuple[str, ...]] = CLASS_NAMES
    has_splits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raise UserError if the seed is negative."""
        if self.seed < 0:
            raise UserError(f"seed {self.seed}: expected 0 or more")

    def parts(
        self, classes: Sequence[str] | None, split: str | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Return, in the order of labels, each class asked for with itself as its only part.

        Args:
            classes: as `select` takes them.
            split: changes nothing: every split has images of every class.

        Raises:
            UserError: there is no such class, or classes are to be joined.
        """
        parts = read_classes(CLASS_NAMES if classes is None else classes, CLASS_NAMES, self.where)
        if any(members != (name,) for name, members in parts.items()):
            raise UserError(f"classes: the phantom set has {', '.join(CLASS_NAMES)}, none to join")
        return parts

    def listed(self, parts: Mapping[str, tuple[str, ...]]) -> list[ImageFile]:
        """Return the images of all splits: in each the classes in equal parts, in blocks.

        Args:
            parts: as the method `parts` gives them; the images depend on which classes there are.

        Raises:
            UserError: there are fewer images than classes.
        """
        names = tuple(parts)
        if self.count < len(names):
            raise UserError(
                f"phantom images {self.count}: expected at least {len(names)}, one for each class"
            )
        labeled = [(row, names[row * len(names) // self.count]) for row in range(self.count)]
        return [
            ImageFile(
                name=f"{class_name}/phantom{row:06d}.png",
                class_name=class_name,
                patient=f"phantom-{split}-{row:06d}",
                split=split,
                folder=class_name,
            )
            for split in SPLITS
            for row, class_name in labeled
        ]

    def class_folders(self) -> dict[str, list[str]]:
        """Return the names of the folders of each class: those that the classes' names give."""
        return {name: [folder] for name, folder in folder_names(CLASS_NAMES).items()}

    def load(
        self,
        preparation: Preparation,
        *,
        split: str | None = None,
        classes: Sequence[str] | None = None,
        progress: bool = False,
    ) -> ImageDataset:
        """Render the images of some classes and one split; how many threads do it changes nothing.

        Args:
            preparation: what is done to each image.
            split: as `select` takes it.
            classes: as `select` takes them.
            progress: show a bar on standard error, if that is a terminal.

        Raises:
            UserError: as `select`.
        """
        chosen = select(self, split, classes)
        images = preparation.empty(len(chosen.files))

        def render(at: int) -> None:
            block, row = divmod(chosen.places[at], self.count)
            # Splits take disjoint ranges of the infinite sequence of phantoms.
            label = CLASS_NAMES.index(chosen.files[at].class_name)
            phantom = phantom_image(self.seed, (block << 40) + row, label)
            images[at] = prepare_image(Image.fromarray(phantom.image), preparation)

        rendered = in_threads(
            render, len(images), "rendering phantoms", workers=None, progress=progress
        )
        for _ in rendered:
            pass
        return ImageDataset(
            images=torch.from_numpy(images),
            labels=torch.tensor(chosen.labels, dtype=torch.int64),
            class_names=chosen.class_names,
            patients=[file.patient for file in chosen.files],
            files=[file.name for file in chosen.files],
            name=self.name,
        )

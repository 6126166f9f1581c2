"""From what a user names to the two sets that are compared: real images and generated ones."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from cxrgan_fast.data import ImageDataset, load_dataset, open_data
from cxrgan_fast.data.load import data_place
from cxrgan_fast.data.sources import (
    Columns,
    classes_with_images,
    folder_names,
    select,
)
from cxrgan_fast.data.splits import hold_out
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import subset
from cxrgan_fast.runs.data_record import find_dataset, read_record
from cxrgan_fast.sampling.class_sources import ClassSource
from cxrgan_fast.sampling.generation import GROUP, generate_images
from cxrgan_fast.settings.config import DatasetConfig, TrainConfig, override
from cxrgan_fast.settings.config_file import read_config_file

_BATCH = 4 * GROUP  # images between two steps of the bar, in whole groups


@dataclass(frozen=True)
class RealImages:
    """The data of a run.

    Attributes:
        train: the images that it was trained on, of the classes compared.
        held_out: images of the patients that were left out of the training; None where there are
            none.
        test: the same classes of the data's test split; None where there is none.
    """

    train: ImageDataset
    test: ImageDataset | None
    held_out: ImageDataset | None = None


def is_run(path: Path) -> bool:
    """Tell whether a path is meant as a run (or as one of its files) and not as a folder of images.

    What is not there at all counts as a run: the complaint is then about the run. A table of
    images, or an archive of them, is a folder of images.
    """
    if not path.is_dir():
        return not path.is_file() or path.suffix.lower() not in (".csv", ".zip")
    marks = ("config.yaml", "generator.safetensors", "*/generator.safetensors")
    return any(next(path.glob(mark), None) is not None for mark in marks)


def choose_data(
    data: str | None, subject: Path, skip_bad: bool, columns: Columns | None = None
) -> DatasetConfig:
    """Choose the real images to compare with: those named, or those the run was trained on.

    Args:
        data: folder or "phantom", as `load_dataset` takes it; None for the run's own.
        subject: run folder, one of its generator files, or a folder of images.
        skip_bad: go on without unreadable images.
        columns: which columns of a table say what; None or none named for the usual ones, or for
            those that the run was trained by, if it is the run's own table.

    Raises:
        UserError: nothing is named and nothing known, or it is not there any more.
    """
    run, stored = _stored_settings(subject) if is_run(subject) else (subject, None)
    own = DatasetConfig() if stored is None else stored.dataset
    if data is not None:
        # Of the run's own data only what describes them too: the phantom set's size.
        if columns in (None, Columns()) and not _same_place(data, own.data):
            own = replace(own, columns=Columns())
        return replace(_with_columns(own, columns), data=data, skip_bad=skip_bad)
    if stored is None:
        raise UserError(
            f"--data is missing, and {subject} does not tell what it was trained on: name the "
            "folder of the real images, or phantom"
        )
    own = replace(_with_columns(own, columns), skip_bad=skip_bad or own.skip_bad)
    # Runs of earlier versions have stored the path as it was typed, in whatever folder.
    place = data_place(own.data)
    if place is None or (place.is_absolute() and place.exists()):
        return own
    try:
        return replace(own, data=_found(run, stored, own))
    except UserError as error:
        raise UserError(
            f"--data is missing, and {own.data}, on which {subject} was trained, is not there any "
            "more: name the folder of the real images"
        ) from error


def _with_columns(own: DatasetConfig, columns: Columns | None) -> DatasetConfig:
    return own if columns in (None, Columns()) else replace(own, columns=columns)


def _same_place(one: str, other: str) -> bool:
    places = [data_place(data) for data in (one, other)]
    return len({None if place is None else place.absolute() for place in places}) == 1


def _found(run: Path, stored: TrainConfig, own: DatasetConfig) -> str:
    """Where the data of a run are now."""
    record = read_record(run)
    if record is None:
        if Path(own.data).exists():
            return own.data
        raise UserError("the run has no record of them by which to know them")

    def load(data: str) -> ImageDataset:
        dataset = load_dataset(
            data,
            resolution=stored.network.resolution,
            image_channels=stored.network.image_channels,
            classes=own.classes or None,
            columns=own.columns,
            skip_bad=own.skip_bad,
        )
        return hold_out(dataset, record.held_out)[0]

    return find_dataset(run, own.data, load)[0]


def load_real(
    data: DatasetConfig,
    classes: Sequence[str],
    resolution: int,
    image_channels: int,
    progress: bool,
    held_out: Collection[str] = (),
) -> RealImages:
    """Load the training images, those of patients left out, and those of the data's test split.

    Args:
        data: where they are.
        classes: in the order of their labels.
        resolution: R.
        image_channels: C.
        progress: show bars on standard error, if that is a terminal.
        held_out: patients who were left out of the training; the data may lack some of them.

    Raises:
        UserError: as `load_dataset`.
    """

    def load(split: str) -> ImageDataset:
        return load_dataset(
            data.data,
            resolution=resolution,
            image_channels=image_channels,
            classes=asked,
            columns=data.columns,
            split=split,  # type: ignore[arg-type]  # "train" or "test"
            skip_bad=data.skip_bad,
            phantom_images=data.phantom_images,
            seed=0,
            progress=progress,
        )

    asked = _as_asked(classes, data)
    train, others = hold_out(load("train"), held_out)
    test = load("test") if _has_test_split(data, asked) else None
    return RealImages(train, test, others if len(others) else None)


def held_out_of(subject: Path) -> list[str]:
    """Return the patients that were left out of a run's training; none where nothing is known.

    Raises:
        UserError: the run's record of its data is damaged.
    """
    run, stored = _stored_settings(subject) if is_run(subject) else (subject, None)
    record = None if stored is None else read_record(run)
    return [] if record is None else record.held_out


def generate_set(
    sources: Sequence[ClassSource],
    counts: Sequence[int],
    class_names: Sequence[str],
    seed: int,
    progress: bool,
) -> ImageDataset:
    """Generate images of each class, those that ``generate --seed`` writes.

    Args:
        sources: the generator of each class.
        counts: images of each.
        class_names: what the data call the classes; latents go by the sources' own names.
        seed: random seed of the latents.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        The images, class by class, under the names that their files would have.

    Raises:
        UserError: a generator produces values that are not numbers.
    """
    parts: list[Tensor] = []
    folders = folder_names(source.class_name for source in sources)
    files: list[str] = []
    hidden = None if progress else True  # None: shown on a terminal only
    with tqdm(total=sum(counts), desc="generating", unit="img", disable=hidden, leave=False) as bar:
        for source, count in zip(sources, counts, strict=True):
            folder = folders[source.class_name]
            files += [f"{folder}/{folder}_seed{seed}_{index:05d}.png" for index in range(count)]
            for start in range(0, count, _BATCH):
                indices = range(start, min(start + _BATCH, count))
                latents = source.latents(seed, indices)
                labels = torch.full((len(indices),), source.label)
                parts.append(generate_images(source, latents, labels))
                bar.update(len(indices))
    return ImageDataset(
        images=torch.cat(parts),
        labels=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        class_names=tuple(class_names),
        patients=list(files),
        files=files,
        name="generated",
    )


def in_order_of(sources: Sequence[ClassSource], names: Sequence[str]) -> list[ClassSource]:
    """Return what draws each class in the order of these names; other classes come last."""
    places = {name.casefold(): place for place, name in enumerate(names)}
    return sorted(sources, key=lambda source: places.get(source.class_name.casefold(), len(names)))


def with_classes(dataset: ImageDataset, names: Sequence[str]) -> ImageDataset:
    """Select images of some classes as `load_dataset` gives them for these names in order."""
    rows = [
        (dataset.labels == dataset.class_names.index(name)).nonzero().flatten() for name in names
    ]
    labels = [torch.full((len(of_class),), label) for label, of_class in enumerate(rows)]
    chosen = subset(dataset, torch.cat(rows))
    return replace(chosen, labels=torch.cat(labels), class_names=tuple(names))


def image_size(sources: Sequence[ClassSource], resolution: int | None) -> tuple[int, int]:
    """Return the resolution and channels of the images of all generators.

    Raises:
        UserError: they differ, or the resolution is not the one asked for.
    """
    networks = {source.class_name: source.snapshot.network for source in sources}
    sizes = {name: (n.resolution, n.image_channels) for name, n in networks.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} {r} pixels, {c} channels" for name, (r, c) in sizes.items())
        raise UserError(f"the generators make images of several kinds ({shown}): evaluate each")
    made, channels = next(iter(sizes.values()))
    if resolution not in (None, made):
        raise UserError(
            f"--resolution {resolution}: the generated images have {made} pixels and are compared "
            "at that size; leave --resolution out"
        )
    return made, channels


def _stored_settings(subject: Path) -> tuple[Path, TrainConfig | None]:
    """The run that a path is, or lies in, and its settings."""
    for folder in (subject, *subject.absolute().parents[:2]):
        if (folder / "config.yaml").is_file():
            return folder, override(TrainConfig(), read_config_file(folder / "config.yaml"))
    return subject, None


def _has_test_split(data: DatasetConfig, classes: Sequence[str]) -> bool:
    try:
        opened = open_data(data.data, data.columns, phantom_images=data.phantom_images)
        select(opened, "test", classes)
    except UserError:  # no such folder, or not these classes: there is nothing to report
        return False
    return True


def classes_of(data: DatasetConfig) -> tuple[Sequence[str], Sequence[str]]:
    """Return the classes of the data that have images, and those used unless others are named.

    Raises:
        UserError: there are no such data.
    """
    opened = open_data(data.data, data.columns, phantom_images=data.phantom_images)
    there = classes_with_images(opened, "train")
    return [name for name in opened.classes if name in there], opened.default_classes


def _as_asked(names: Sequence[str], data: DatasetConfig) -> list[str]:
    """The classes as the run asked for them: those that it joined with their parts."""
    there = {name.casefold() for name in classes_of(data)[0]}
    pieces = [piece for text in data.classes for piece in text.split(",") if "=" in piece]
    joined = {piece.partition("=")[0].strip().casefold(): piece for piece in pieces}
    return [
        name if name.casefold() in there else joined.get(name.casefold(), name) for name in names
    ]

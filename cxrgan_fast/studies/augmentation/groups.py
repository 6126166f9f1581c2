"""The work of a group: one generator on exactly its images, and a classifier for each arm.

All that is done is kept at once, so that whoever takes a group up after Ctrl-C or a kill does what
is left of it: the generator goes on from its checkpoint, and a classifier that was not done begins
anew. In the folder of a group are ``images/`` (a packed set of the allowed images), ``gan/`` (the
run), ``train.log``, and a table of one row for each classifier.
"""

from __future__ import annotations

import contextlib
import csv
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cxrgan_fast.data import (
    Division,
    ImageDataset,
    Preparation,
    load_dataset,
    open_source,
    prepare_set,
)
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import subset
from cxrgan_fast.files import make_folder
from cxrgan_fast.runs.folder import newest_run
from cxrgan_fast.setting import settings_of
from cxrgan_fast.settings.config import TrainConfig, flatten, override
from cxrgan_fast.settings.config_file import read_config_file
from cxrgan_fast.studies.augmentation.arms import ARMS, TrainingImages, training_images
from cxrgan_fast.studies.augmentation.classifier import train_classifier
from cxrgan_fast.studies.augmentation.folds import Rows
from cxrgan_fast.studies.augmentation.plan import Group, Plan
from cxrgan_fast.studies.augmentation.pool import make_pool
from cxrgan_fast.studies.augmentation.predictions import Predictions
from cxrgan_fast.studies.augmentation.subsets import nested_order
from cxrgan_fast.studies.augmentation.synthetic import (
    allowed_images,
    draw_synthetic,
    load_generators,
)
from cxrgan_fast.studies.augmentation.trainings import (
    Training,
    keep_training,
    read_trainings,
    write_trainings,
)
from cxrgan_fast.training.loop import train

GROUPS = "groups"
_DONE = "gan-done"


@dataclass(frozen=True)
class Work:
    """With what groups are worked on.

    Attributes:
        folder: folder of the study.
        plan: its plan.
        dataset: the whole set.
        generator: settings of the GANs; data, seed and folder are given by the group.
        device: where to train.
        precision: precision of the classifiers; see `train_classifier`.
        say: called with what is being done.
    """

    folder: Path
    plan: Plan
    dataset: ImageDataset
    generator: TrainConfig
    device: torch.device
    precision: str = "auto"
    say: Callable[[str], None] = print

    def place(self, group: Group) -> Path:
        """Return the folder of a group."""
        return self.folder / GROUPS / group.name

    def missing(self, group: Group) -> list[tuple[str, float | None]]:
        """Return the arms of a group whose classifier is not trained yet."""
        return [
            (arm, ratio)
            for arm, ratio in self.plan.trainings(group)
            if not _row(self.place(group), arm, ratio).exists()
        ]


def collect_trainings(folder: Path) -> list[Training]:
    """Return all trainings of a study that are done.

    Raises:
        UserError: the table of one is damaged.
    """
    tables = sorted((folder / GROUPS).glob("*/*.csv"))
    return [training for path in tables for training in read_trainings(path)]


def run_group(work: Work, group: Group) -> None:
    """Train what is missing of a group.

    Args:
        work: with what.
        group: the group, which nobody else works on.

    Raises:
        UserError: a training fails, or a file cannot be written.
        KeyboardInterrupt: what was done is kept.
    """
    missing = work.missing(group)
    if not missing:
        return
    for folder in (work.folder / GROUPS, work.place(group)):
        make_folder(folder)
    dataset, plan = work.dataset, work.plan
    fold, labels = plan.folds[group.fold], dataset.labels.tolist()
    order = nested_order(fold, dataset.patients, labels, seed=group.seed)
    made = {
        (arm, ratio): training_images(
            ARMS[arm], ratio, order, plan.images(group), labels, plan.class_names
        )
        for arm, ratio in missing
    }
    run = None
    if any(any(images.synthetic) for images in made.values()):
        run = _generator(work, group, next(iter(made.values())).allowed)
    for (arm, ratio), images in made.items():
        work.say(f"{group.name}, classifier {ARMS[arm].label(ratio)}")
        training = _classifier(work, group, images, run)
        write_trainings(_row(work.place(group), arm, ratio), [training])


def _row(place: Path, arm: str, ratio: float | None) -> Path:
    return place / f"{ARMS[arm].label(ratio)}.csv"


def _generator(work: Work, group: Group, rows: Rows) -> Path:
    """Train the group's GAN, or go on with it, on the allowed images and no others; its run."""
    place = work.place(group)
    runs = place / "gan"
    run = newest_run(runs, "") if runs.is_dir() else None
    if (place / _DONE).exists() and run is not None:
        return run
    allowed = allowed_images(work.dataset, rows)
    packed = _packed(place, allowed)
    begun = newest_run(runs, "", begun=True) if runs.is_dir() else None
    settings: dict[str, Any] = {
        "data": str(packed), "out": runs, "seed": group.seed, "classes": allowed.class_names,
        "name": "",
    }  # fmt: skip
    config = override(_without_source(work.generator), settings)
    if begun is not None:
        # What "auto" has become stays.
        config = override(TrainConfig(), read_config_file(begun / "config.yaml"))
        config = override(config, {"data": str(packed)})
    work.say(f"{group.name}, GAN on {len(allowed)} images")
    with _said(place / "train.log"):
        run, _ = train(config, work.device, resume=begun)
    load_generators(run, allowed)  # before a mark says that it is right
    (place / _DONE).touch()
    shutil.rmtree(packed, ignore_errors=True)
    # Only the newest generator is used, and a study has hundreds of runs.
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    return run


def _without_source(config: TrainConfig) -> TrainConfig:
    """The settings without those of how the whole set was read: a group's images are packed."""
    default = flatten(TrainConfig())
    of_source = [
        *flatten(config.dataset.columns),
        *(known.name for known in settings_of(config).values()
          if known.setting.needs is not None and "data" in known.setting.needs.settings),
    ]  # fmt: skip
    return override(config, {name: default[name] for name in of_source})


def _packed(place: Path, allowed: ImageDataset) -> Path:
    """A packed set of the allowed images, from which `train` has them to the pixel."""
    packed, files = place / "images", place / "files"
    if not packed.exists():
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir(parents=True)
        with (files / "images.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "patient"])
            for row, label in enumerate(allowed.labels.tolist()):
                # Sorted by name they are in the set's order; a patient needs no name here.
                name = f"{row:06d}.png"
                pixels = allowed.images[row].permute(1, 2, 0).numpy()
                Image.fromarray(pixels.squeeze()).save(files / name)
                writer.writerow([name, allowed.class_names[label], f"{row}"])
        channels, resolution = allowed.images.shape[1:3]
        prepare_set(
            open_source(files / "images.csv"), packed, Preparation(resolution, channels),
            division=Division(val_share=0, test_share=0), classes=allowed.class_names,
            progress=False,
        )  # fmt: skip
    shutil.rmtree(files, ignore_errors=True)
    loaded = load_dataset(packed, resolution=allowed.images.shape[2],
                          image_channels=allowed.images.shape[1], progress=False)  # fmt: skip
    if loaded.fingerprint != allowed.fingerprint:
        raise UserError(f"{packed} holds other images than its group may see; remove the folder")
    return packed


@contextlib.contextmanager
def _said(log: Path) -> Any:
    """Let what a training says go to a file: a study has hundreds of them."""
    with (
        log.open("a", encoding="utf-8", errors="backslashreplace") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield


def _classifier(work: Work, group: Group, images: TrainingImages, run: Path | None) -> Training:
    """Train one classifier, and keep what it tells of validation and test images."""
    dataset, plan = work.dataset, work.plan
    fold = plan.folds[group.fold]
    synthetic = None
    if any(images.synthetic):
        assert run is not None
        allowed = allowed_images(dataset, images.allowed)
        sources = load_generators(run, allowed, work.device)
        synthetic = draw_synthetic(sources, plan.class_names, images.synthetic, group.seed)
    parts: Mapping[str, ImageDataset] = {
        part: subset(dataset, torch.tensor(rows, dtype=torch.int64))
        for part, rows in (("validation", fold.validation), ("test", fold.test))
    }
    balance = dataset.labels[torch.tensor(images.subset, dtype=torch.int64)]
    trained = train_classifier(
        plan.recipe, make_pool(dataset, images, synthetic), balance, parts["validation"],
        {"test": parts["test"]}, augmented=images.augmented, negative=plan.negative,
        seed=group.seed, device=work.device, precision=work.precision,
    )  # fmt: skip
    told = {part: Predictions.of(each, trained.logits[part]) for part, each in parts.items()}
    return keep_training(
        work.folder, fold=group.fold, size=group.size, images=len(images.subset), arm=images.arm,
        ratio=images.ratio, seed=group.seed, curve=trained.curve, validation=told["validation"],
        test=told["test"], negative=plan.negative,
    )  # fmt: skip

"""Synthetic images for a classifier, of a generator that is held to have seen no other images.

Nothing is taken on trust: a run's record and its generator files name the images that they were
trained on by fingerprint, and this is compared with that of the images that are allowed. The newest
generator is taken, never the best of a run's evaluations: the extractors in the package have seen
the whole training folder of the published set, so that a choice by them would carry what they know
of the test patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.evaluation.matching import subset
from cxrgan_fast.runs.data_record import read_record, record_path
from cxrgan_fast.runs.generator_file import GeneratorSnapshot
from cxrgan_fast.sampling.class_sources import ClassSource, load_sources
from cxrgan_fast.sampling.generation import generate_images
from cxrgan_fast.studies.augmentation.folds import Rows

_GROUP = 512  # images at a time


def allowed_images(dataset: ImageDataset, rows: Rows) -> ImageDataset:
    """Return the images that a generator is to be trained on, by class and then in the set's order.

    A set that is read from files has this order, whatever order the whole set had.

    Args:
        dataset: the whole set.
        rows: rows of the subset.
    """
    ordered = sorted(rows, key=lambda row: (int(dataset.labels[row]), row))
    return subset(dataset, torch.tensor(ordered, dtype=torch.int64))


def load_generators(
    run: Path, allowed: ImageDataset, device: str | torch.device = "cpu"
) -> list[ClassSource]:
    """Load the newest generators of a run that has seen the allowed images and no others.

    Args:
        run: run folder.
        allowed: what :func:`allowed_images` gives.
        device: where the generators work.

    Returns:
        A generator of each class, in the order of the classes.

    Raises:
        UserError: the run has no record of its images, or has seen others; it began with the
            weights of another run, which had seen others; a class has no generator.
    """
    record = read_record(run)
    where = printable(str(run))
    if record is None:
        raise UserError(
            f"{where} has no {record_path(run).name}, so that it is not known what its generator "
            "has seen; train it anew on the images of its fold and size"
        )
    if record.fingerprint != allowed.fingerprint:
        raise UserError(
            f"{where} was trained on other images ({sum(record.images.values())}) than its "
            f"classifier may see ({len(allowed)}): its synthetic images could carry those of test "
            "patients; train it anew on the images of its fold and size"
        )
    sources = load_sources(run, classes=allowed.class_names, device=device)
    for source in sources:
        _require_seen(source, allowed)
    return sources


def _require_seen(source: ClassSource, allowed: ImageDataset) -> None:
    """Refuse a generator that was put into a run's folder, or that has learnt elsewhere."""
    extra = source.snapshot.extra
    if "init_from" in extra:
        raise UserError(
            f"{printable(source.checkpoint)} began with the weights of "
            f"{printable(extra['init_from'])} (--init-from), which may have seen other images; "
            "train it anew from random weights"
        )
    if extra.get("networks_seen"):
        raise UserError(
            f"{printable(source.checkpoint)} has learnt from pretrained networks "
            f"({printable(extra['networks_seen'])}), which may have seen other images; train it "
            "anew without them"
        )
    if extra.get("data_fingerprint") != _seen_by(source.snapshot, allowed).fingerprint:
        raise UserError(
            f"{printable(source.checkpoint)} was trained on other images than its run's record "
            "says; train it anew on the images of its fold and size"
        )


def _seen_by(snapshot: GeneratorSnapshot, allowed: ImageDataset) -> ImageDataset:
    """The images of the classes that a generator makes: a run may have one for each class."""
    names = snapshot.class_names
    return allowed if len(names) == len(allowed.class_names) else allowed.of_class(names[0])


def draw_synthetic(
    sources: Sequence[ClassSource], class_names: Sequence[str], counts: Sequence[int], seed: int
) -> ImageDataset:
    """Draw synthetic images, of which fewer are the first of more.

    Args:
        sources: what :func:`load_generators` gives.
        class_names: the classes, in the order of the labels.
        counts: number of images of each class; one of them at least 1.
        seed: random seed of the latents.

    Returns:
        The images on the CPU, each of a patient of its own.

    Raises:
        UserError: a generator produces values that are not numbers.
    """
    of_class = {source.class_name: source for source in sources}
    parts, labels, names = [], [], []
    for label, (name, count) in enumerate(zip(class_names, counts, strict=True)):
        source = of_class[name]
        for start in range(0, count, _GROUP):
            indices = range(start, min(start + _GROUP, count))
            latents = source.latents(seed, indices)
            own = torch.full((len(indices),), source.label, dtype=torch.int64)
            parts.append(generate_images(source, latents, own))
            labels += [label] * len(indices)
            names += [f"synthetic {name} {index}" for index in indices]
    return ImageDataset(
        images=torch.cat(parts),
        labels=torch.tensor(labels, dtype=torch.int64),
        class_names=tuple(class_names),
        patients=names,
        files=list(names),
        name="synthetic",
    )

"""A run, or a folder of images, against the data: the whole comparison of one generator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.evaluation.chosen import chosen_and_judged
from cxrgan_fast.evaluation.image_sets import (
    ImageFolder,
    RealImages,
    choose_data,
    image_size,
    is_run,
    load_real,
    with_classes,
)
from cxrgan_fast.evaluation.pictures import write_nearest, write_samples
from cxrgan_fast.evaluation.report import to_record, to_table
from cxrgan_fast.evaluation.request import Request, make_output
from cxrgan_fast.evaluation.sides import (
    draw_compared,
    header,
    make_reference,
    reference_of,
    sources_of,
    write_json,
)
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.sampling.class_sources import ClassSource


def evaluate(
    request: Request, extractor: FeatureExtractor, device: torch.device, out: Path
) -> tuple[str, list[Path]]:
    """Evaluate, and write `evaluation.json`, `samples.png` and `nearest.png`.

    Args:
        request: what, and how.
        extractor: on `device`.
        device: where images are drawn and metrics computed.
        out: folder for the files, made when missing; those of these names are replaced.

    Returns:
        The table for the terminal, and the files.

    Raises:
        UserError: anything that cannot work, in one line.
    """
    request.check()
    data = choose_data(request.data, request.subject, request.skip_bad, request.columns)
    if is_run(request.subject):
        sources = sources_of(request, request.checkpoint, data, device)
        image_size(sources, request.resolution)
        make_output(out)  # before the long work, and not beside a run that is not there
        real, reference = reference_of(request, data, sources, extractor, device)
        fake = draw_compared(request, sources, reference)
        origin = _origin(sources, real, extractor)
    else:
        folder = ImageFolder.look(request.subject, data, request.classes, request.resolution)
        make_output(out)
        fake = folder.read(data.skip_bad, request.progress)
        real = load_real(data, fake.class_names, folder.resolution, 1, request.progress)
        reference = make_reference(request, real, extractor, device)
        origin = {"folder": str(request.subject), "notes": _skipped(fake)}
    evaluation = reference.evaluate(
        fake, metrics=request.metrics, samples=request.samples, where=request.subject
    )
    evaluation.notes[:0] = [*origin.pop("notes"), *_skipped(real.train)]
    record = {**header(request, real, origin, device), **to_record(evaluation)}
    files = [out / "evaluation.json", out / "samples.png"]
    write_json(files[0], record)
    write_samples(files[1], evaluation.fake)
    nearest = out / "nearest.png"
    if evaluation.near_copies is not None:
        files.append(nearest)
        write_nearest(nearest, evaluation, real.train)
    else:
        nearest.unlink(missing_ok=True)  # of an evaluation before, it would be taken for this one's
    return f"{_title(request, origin, real)}\n{to_table(evaluation)}", files


def _origin(
    sources: Sequence[ClassSource], real: RealImages, extractor: FeatureExtractor
) -> dict[str, Any]:
    """Say which generators draw, by what they were chosen, and whether the data are theirs."""
    names = real.train.class_names
    snapshots = {id(source.snapshot): source.snapshot for source in sources}.values()
    chosen, notes = chosen_and_judged([snapshot.extra for snapshot in snapshots], extractor)
    for snapshot in snapshots:
        trained_on = snapshot.extra.get("data_fingerprint")
        if trained_on is None or not set(snapshot.class_names) <= set(names):
            continue  # unknown, or only some of its classes are compared
        if trained_on != with_classes(real.train, snapshot.class_names).fingerprint:
            notes.append(
                "the data are not the images that the generator was trained on: its training "
                "images are unknown here, so memorisation of them would not be seen"
            )
            break
    origin = {source.class_name: source.checkpoint for source in sources}
    return {"generators": origin, **chosen, "notes": notes}


def _skipped(dataset: ImageDataset) -> list[str]:
    if not dataset.skipped:
        return []
    file, reason = dataset.skipped[0]
    return [
        f"{len(dataset.skipped)} unreadable images of {dataset.name} are left out, such as {file} "
        f"({reason})"
    ]


def _title(request: Request, origin: dict[str, Any], real: RealImages) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in real.train.class_counts().items())
    side = real.train.images.shape[-1]
    drawn_by = ", ".join(dict.fromkeys(origin.get("generators", {}).values()))
    return (
        f"{drawn_by or request.subject} against the training images of {real.train.name} "
        f"({counts}), {side} x {side} pixels"
    )

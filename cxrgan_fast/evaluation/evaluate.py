"""A run, or a folder of images, against the data: the whole comparison of one generator."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import printable
from cxrgan_fast.evaluation.chosen import chosen_and_judged
from cxrgan_fast.evaluation.findings import Evaluation
from cxrgan_fast.evaluation.image_sets import (
    RealImages,
    image_size,
    is_run,
    with_classes,
)
from cxrgan_fast.evaluation.opponents import find_opponent
from cxrgan_fast.evaluation.pictures import write_nearest, write_samples
from cxrgan_fast.evaluation.report import to_record
from cxrgan_fast.evaluation.request import Request, make_output
from cxrgan_fast.evaluation.rows import write_csv
from cxrgan_fast.evaluation.sides import (
    evaluator_of,
    folder_of,
    generate_compared,
    header,
    make_evaluator,
    sources_of,
    write_json,
)
from cxrgan_fast.evaluation.table import to_table
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.metrics.metric import all_metrics
from cxrgan_fast.sampling.class_sources import ClassSource


@dataclass(frozen=True)
class Outcome:
    """What `evaluate` gives.

    Attributes:
        table: for the terminal.
        files: that were written.
        evaluation: the numbers.
        others: those of the same images by other features.
    """

    table: str
    files: list[Path]
    evaluation: Evaluation
    others: list[Evaluation] = field(default_factory=list)


def evaluate(
    request: Request, extractors: Sequence[FeatureExtractor], device: torch.device, out: Path
) -> Outcome:
    """Evaluate; write `evaluation.json`, `evaluation.csv`, `samples.png` and `nearest.png`.

    Args:
        request: what, and how.
        extractors: on `device`; the first decides, the others give second opinions.
        device: where images are generated and metrics computed.
        out: folder for the files, made when missing; those of these names are replaced.

    Raises:
        UserError: anything that cannot work, in one line.
    """
    request.check()
    opponent = find_opponent(request, device)
    if is_run(request.subject):
        sources = sources_of(request, request.checkpoint, opponent, device)
        image_size(sources, request.resolution)
        make_output(out)  # before the long work, and not beside a run that is not there
        real, evaluator = evaluator_of(request, opponent, sources, extractors[0], device)
        fake = generate_compared(request, sources, evaluator)
        origin = _origin(sources, real, extractors)
    else:
        folder = folder_of(request, opponent)
        make_output(out)
        fake = folder.read(opponent.skip_bad, request.progress)
        real = opponent.load(fake.class_names, folder.resolution, 1)
        evaluator = make_evaluator(request, real, extractors[0], device)
        origin = {"folder": str(request.subject), "notes": _skipped(fake)}
    evaluation = evaluator.evaluate(
        fake, metrics=request.metrics, samples=request.samples, where=request.subject
    )
    evaluation.notes[:0] = [*origin.pop("notes"), *_skipped(real.train)]
    others = _second_opinions(request, real, fake, extractors[1:], device)
    record = {**header(request, real, origin, device), **to_record(evaluation, others)}
    files = [out / "evaluation.json", out / "evaluation.csv", out / "samples.png"]
    write_json(files[0], record)
    write_csv(files[1], [evaluation, *others])
    write_samples(files[2], evaluation.fake)
    nearest = out / "nearest.png"
    if evaluation.near_copies is not None:
        files.append(nearest)
        write_nearest(nearest, evaluation, real.train)
    else:
        nearest.unlink(missing_ok=True)  # of an evaluation before, it would be taken for this one's
    table = f"{_title(request, origin, real)}\n{to_table(evaluation, others)}"
    return Outcome(table, files, evaluation, others)


def _second_opinions(
    request: Request,
    real: RealImages,
    fake: ImageDataset,
    extractors: Sequence[FeatureExtractor],
    device: torch.device,
) -> list[Evaluation]:
    """Compute, of the same images by other features, the metrics that depend on these."""
    known = all_metrics()
    metrics = [
        name
        for name in request.metrics
        if known[name].function is not None and known[name].takes != "images"
    ]
    if not metrics:
        return []
    evaluators = (make_evaluator(request, real, each, device) for each in extractors)
    return [
        evaluator.evaluate(fake, metrics=metrics, samples=request.samples, where=request.subject)
        for evaluator in evaluators
    ]


def _origin(
    sources: Sequence[ClassSource], real: RealImages, extractors: Sequence[FeatureExtractor]
) -> dict[str, Any]:
    """Say which generators there are, by what they were chosen, and whether the data are theirs."""
    names = real.train.class_names
    snapshots = {id(source.snapshot): source.snapshot for source in sources}.values()
    chosen, notes = chosen_and_judged([snapshot.extra for snapshot in snapshots], extractors)
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
    before = {s.extra["init_from"] for s in snapshots if s.extra.get("init_from")}
    notes += [
        f"the generator began with the weights of {printable(name)}: memorisation of what those "
        "were trained on would be seen only if it is among these training images"
        for name in sorted(before)
    ]
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
    made_by = ", ".join(dict.fromkeys(origin.get("generators", {}).values()))
    images = "images" if request.against is not None else "training images"
    return (
        f"{made_by or request.subject} against the {images} of {real.train.name} "
        f"({counts}), {side} x {side} pixels"
    )

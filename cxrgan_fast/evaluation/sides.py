"""Both sides of a comparison, and what its record says of them."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.evaluation.evaluator import Evaluator
from cxrgan_fast.evaluation.image_folder import ImageFolder
from cxrgan_fast.evaluation.image_sets import (
    RealImages,
    generate_set,
    image_size,
    in_order_of,
    is_run,
)
from cxrgan_fast.evaluation.opponents import Opponent
from cxrgan_fast.evaluation.request import Request
from cxrgan_fast.files import write_atomic
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.provenance import provenance
from cxrgan_fast.runs.calls import last_calls
from cxrgan_fast.sampling.class_sources import ClassSource, load_sources

FORMAT = "cxrgan_fast.evaluation/1"


def sources_of(
    request: Request, checkpoint: str | None, opponent: Opponent, device: torch.device
) -> list[ClassSource]:
    """Return what draws each class, in the order of the classes of what it is compared with.

    Raises:
        UserError: as `load_sources`.
    """
    # As a folder of the same images is read: it is to have the same numbers, and what is chosen
    # at random is chosen class by class.
    sources = load_sources(request.subject, checkpoint, request.classes, device)
    return in_order_of(sources, opponent.classes)


def evaluator_of(
    request: Request,
    opponent: Opponent,
    sources: Sequence[ClassSource],
    extractor: FeatureExtractor,
    device: torch.device,
) -> tuple[RealImages, Evaluator]:
    """Load the images of the classes that are drawn, at the size at which they are drawn.

    Raises:
        UserError: they cannot be loaded.
    """
    resolution, channels = image_size(sources, request.resolution)
    classes = [source.class_name for source in sources]
    real = opponent.load(classes, resolution, channels)
    return real, make_evaluator(request, real, extractor, device)


def folder_of(request: Request, opponent: Opponent) -> ImageFolder:
    """Look at the subject of a request, a folder of images, without reading them.

    Raises:
        UserError: as `ImageFolder.look`.
    """
    return ImageFolder.look(
        request.subject,
        (opponent.classes, opponent.usual_classes),
        request.classes,
        request.resolution or opponent.resolution,
    )


def make_evaluator(
    request: Request, real: RealImages, extractor: FeatureExtractor, device: torch.device
) -> Evaluator:
    """Make what generated images are compared with, by the seed of the request."""
    return Evaluator(
        real.train,
        real.test,
        extractor,
        device,
        held_out=real.held_out,
        seed=request.seed,
        progress=request.progress,
    )


def counts_of(request: Request, sources: Sequence[ClassSource], evaluator: Evaluator) -> list[int]:
    """Decide how many to generate of each class: as many as real images allow."""
    names = evaluator.train.dataset.class_names
    return evaluator.match(dict.fromkeys(names, request.samples), request.samples, request.subject)


def generate_compared(
    request: Request, sources: Sequence[ClassSource], evaluator: Evaluator
) -> ImageDataset:
    """Generate as many images of each class as are compared."""
    names = evaluator.train.dataset.class_names
    counts = counts_of(request, sources, evaluator)
    return generate_set(sources, counts, names, request.seed, request.progress)


def header(
    request: Request, real: RealImages, origin: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    """Say what was compared, with what and how: the head of every record of an evaluation."""
    test = None if real.test is None else real.test.class_counts()
    held_out = None if real.held_out is None else real.held_out.class_counts()
    return {
        "format": FORMAT,
        "generated_by": origin,
        "data": {
            "name": real.train.name,
            "fingerprint": real.train.fingerprint,
            "resolution": real.train.images.shape[-1],
            "image_channels": real.train.images.shape[1],
            "train": real.train.class_counts(),
            "test": test,
            "held_out": held_out,
        },
        "samples": request.samples,
        "seed": request.seed,
        "evaluated_with": {**provenance(device), "settings": _settings(request)},
        "trained_with": last_calls(request.subject) if is_run(request.subject) else {},
    }


def _settings(request: Request) -> dict[str, Any]:
    paths = {"subject": request.subject, "against": request.against}
    shown = {name: None if path is None else str(path) for name, path in paths.items()}
    return {**asdict(request), **shown}


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record whole.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(_finite(record), indent=1, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def _finite(value: Any) -> Any:
    """JSON has no infinity: what is one, among a metric's details, becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""What images are compared with: the real images of a data set, or those of ``--against``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.image_sets import (
    RealImages,
    choose_data,
    classes_of,
    generate_set,
    held_out_of,
    image_size,
    in_order_of,
    is_run,
    load_real,
)
from cxrgan_fast.evaluation.matching import class_shares
from cxrgan_fast.evaluation.request import Request
from cxrgan_fast.runs.data_record import read_record
from cxrgan_fast.sampling.class_sources import ClassSource, load_sources

Load = Callable[[Sequence[str], int, int], RealImages]


@dataclass(frozen=True)
class Opponent:
    """What a subject is compared with, not loaded yet.

    Attributes:
        classes: names of the classes that it has images of, in the order of their labels.
        usual_classes: those that are compared unless others are named.
        skip_bad: go on without unreadable images.
        resolution: its images have this height and width; None where they can have any.
        load: takes the classes, the resolution and the number of channels; gives the images.
    """

    classes: Sequence[str]
    usual_classes: Sequence[str]
    skip_bad: bool
    resolution: int | None
    load: Load


def find_opponent(request: Request, device: torch.device) -> Opponent:
    """Find what the subject of a request is compared with.

    Args:
        request: its ``against`` where that is given, else its data.
        device: where the generators of a run that is compared with draw.

    Raises:
        UserError: it is not there, or cannot be read.
    """
    if request.against is not None and is_run(request.against):
        return _a_run(request, request.against, device)
    named = request.data if request.against is None else str(request.against)
    data = choose_data(named, request.subject, request.skip_bad, request.columns)
    classes, usual = classes_of(data)

    # Of a data set that the run was not trained on, nobody was left out.
    left_out = held_out_of(request.subject) if request.against is None else ()

    def load(names: Sequence[str], resolution: int, channels: int) -> RealImages:
        real = load_real(data, names, resolution, channels, request.progress, left_out)
        # A folder of anyone's images is compared with whole, whatever its own splits are for.
        return real if request.against is None else RealImages(real.train, None)

    return Opponent(classes, usual, data.skip_bad, None, load)


def _a_run(request: Request, run: Path, device: torch.device) -> Opponent:
    """Images that a run draws, by another seed than those of the subject."""
    sources = load_sources(run, None, (), device)
    drawn, drawn_channels = image_size(sources, request.resolution)
    names = [source.class_name for source in sources]

    def load(wanted: Sequence[str], resolution: int, channels: int) -> RealImages:
        if (resolution, channels) != (drawn, drawn_channels):
            raise UserError(
                f"--against {run}: expected images of {resolution} pixels and {channels} "
                f"channel(s), as {request.subject} has, got {drawn} and {drawn_channels}; name a "
                "run of that size"
            )
        folded = {name.casefold() for name in wanted}
        chosen = in_order_of([s for s in sources if s.class_name.casefold() in folded], wanted)
        if len(chosen) < len(wanted):
            raise UserError(
                f"--against {run}: it draws {', '.join(names)}, and not all of "
                f"{', '.join(wanted)}; name what both have with --classes"
            )
        # Twice as many as are compared: the floor is of two halves of them.
        counts = class_shares(_frequencies(run, chosen), 2 * request.samples)
        images = generate_set(chosen, counts, wanted, request.seed + 1, request.progress)
        images.name = str(run)
        return RealImages(images, None)

    return Opponent(names, names, request.skip_bad, drawn, load)


def _frequencies(run: Path, sources: Sequence[ClassSource]) -> list[int]:
    """How often a run saw each class, where it has a record of that; else equally often."""
    record = read_record(run) if run.is_dir() else None
    counts = {} if record is None else {n.casefold(): c for n, c in record.images.items()}
    found = [counts.get(source.class_name.casefold(), 0) for source in sources]
    return found if all(found) else [1] * len(sources)

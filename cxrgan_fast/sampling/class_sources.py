"""Which generator generates which class: from what a user names to loaded networks."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cxrgan_fast.data.sources import split_names
from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.runs.generator_file import GeneratorSnapshot, load_generator
from cxrgan_fast.runs.generators import find_generators
from cxrgan_fast.runs.power_averages import averages_folder, make_average
from cxrgan_fast.sampling.latents import LEAST_TRUNCATION, latents_for
from cxrgan_fast.sampling.standing_statistics import measure_statistics

_MEASURED = 512  # latents for each class, of which batch norm's statistics are


@dataclass(frozen=True)
class ClassSource:
    """A class and the generator that makes it."""

    class_name: str
    label: int
    snapshot: GeneratorSnapshot
    """Shared by the classes that one conditional generator makes."""
    checkpoint: str
    """Where the generator is from, with its step: 00003-phantom-64-resnet/generator…@4000."""
    truncation: float | None = None
    """Farthest that a number of a latent is from 0, for which the generator's statistics are."""

    def latents(self, seed: int, indices: range) -> Tensor:
        """Draw the latents of some images of the class, as `latents_for`."""
        size = self.snapshot.network.latent_size
        return latents_for(seed, self.class_name, indices, size, self.truncation)


def load_sources(
    run: Path,
    checkpoint: str | None = None,
    classes: Sequence[str] = (),
    device: str | torch.device = "cpu",
    ema: float | None = None,
    truncation: float | None = None,
) -> list[ClassSource]:
    """Load the generators of the classes asked for.

    Args:
        run: see `find_generators`.
        checkpoint: see `find_generators`.
        classes: names of the classes, or lists of names with commas, in the order wanted; none
            for all. Case does not matter.
        device: where the generators work.
        ema: relative width of the power-function average that the generators are made of, with
            statistics of batch norm measured anew: those kept are of one step. None for the
            generators that the run has kept.
        truncation: the sources' latents are truncated there (see `latents_for`), and their
            generators' statistics of batch norm measured anew, which are others for such latents.
            None for latents of the whole distribution.

    Raises:
        UserError: as `find_generators`; a damaged file; a class that no generator makes; a
            truncation below `LEAST_TRUNCATION`.
    """
    if truncation is not None and not LEAST_TRUNCATION <= truncation < math.inf:
        raise UserError(
            f"generate --truncation {truncation:g}: expected standard deviations from "
            f"{LEAST_TRUNCATION}; leave it out to draw from the whole distribution"
        )
    sources: dict[str, ClassSource] = {}
    if ema is not None and checkpoint is not None:
        raise UserError(f"generate --ema {ema:g} takes the newest step: leave --checkpoint out")
    if ema is not None and run.is_file():
        raise UserError(f"generate --ema {ema:g}: {run} is a file; name its run folder")
    for path in find_generators(run, checkpoint):
        if ema is None:
            snapshot = load_generator(path, device)
        else:
            snapshot = make_average(path.parent, ema, device)
            path = averages_folder(path.parent) / f"ema-{ema:g}"
        for label, name in enumerate(snapshot.class_names):
            if name in sources:
                raise UserError(
                    f"{run} holds several runs that generate {name}: name one of them, "
                    f"such as {path.parent}"
                )
            origin = _origin(run, path, snapshot.step)
            sources[name] = ClassSource(name, label, snapshot, origin, truncation)
    wanted = [_class_meant(name, sources, run) for name in split_names(classes, sources)]
    chosen = [sources[name] for name in dict.fromkeys(wanted or sources)]
    if truncation is not None or ema is not None:
        for snapshot in {id(source.snapshot): source.snapshot for source in chosen}.values():
            size, n = snapshot.network.latent_size, _MEASURED * len(snapshot.class_names)
            measure_statistics(snapshot, latents_for(0, "statistics", range(n), size, truncation))
    return chosen


def _class_meant(name: str, sources: Collection[str], run: Path) -> str:
    """The class that a name means; case does not matter."""
    if name in sources:
        return name
    folded = {other.casefold(): other for other in sources}
    if (meant := folded.get(name.strip().casefold())) is not None:
        return meant
    hint = did_you_mean(name, sources)
    if "=" in name:
        hint = "; classes are joined where they are read from data, by --classes of train"
    raise UserError(f"--classes {name}: {run} generates {', '.join(sources)}{hint}")


def _origin(run: Path, path: Path, step: int) -> str:
    """Name a file from its run folder on: a manifest is shared, the path to the run is not."""
    root, path = run.resolve().parent, path.resolve()
    name = path.relative_to(root) if path.is_relative_to(root) else path.name
    return f"{name}@{step}"

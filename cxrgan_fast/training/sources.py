"""Which generator draws which class: from what a user names to loaded networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cxrgan_fast.data.sources import folder_names
from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.training.checkpoint import best_generator_path, generator_path, saved_steps
from cxrgan_fast.training.run_data import read_record
from cxrgan_fast.training.snapshot import GeneratorSnapshot, load_generator


@dataclass(frozen=True)
class ClassSource:
    """A class and the generator that draws it."""

    class_name: str
    label: int
    snapshot: GeneratorSnapshot
    """Shared by the classes that one conditional generator draws."""
    checkpoint: str
    """Where the generator is from, with its step: 00003-phantom-64-resnet/generator…@4000."""


def find_generators(run: Path, checkpoint: str | None = None) -> list[Path]:
    """Find the generator files of a run: one, or one for each class of a `--per-class` run.

    Args:
        run: run folder, or a generator file itself.
        checkpoint: a step that the run has kept, "best" for the lowest FID of its evaluations
            (--eval-every), or a generator file; None for the newest.

    Raises:
        UserError: there is no such run, generator or step.
    """
    if not run.exists():
        raise UserError(f"{run}: there is no such run{did_you_mean(run.name, _names(run.parent))}")
    if run.is_file():
        if checkpoint is not None:
            raise UserError(f"--checkpoint {checkpoint}: {run} is a file; name its run folder")
        return [run]
    if checkpoint is not None and checkpoint != "best" and not checkpoint.isdecimal():
        if not Path(checkpoint).is_file():
            raise UserError(
                f"--checkpoint {checkpoint}: expected a step, best, or a .safetensors file"
            )
        return [Path(checkpoint)]
    folders = [run]
    if not _newest(run).is_file():
        folders = [folder for folder in _folders(run) if _newest(folder).is_file()]
    if not folders:
        raise UserError(
            f"{run} has no generator yet: the first comes with the first checkpoint; go on "
            f"training it, or name a folder that python -m cxrgan_fast.train made"
        )
    _require_every_class(run, folders)
    if checkpoint is None:
        return [_newest(folder) for folder in folders]
    if checkpoint == "best":
        return [_best(folder) for folder in folders]
    return [_generator_at(folder, int(checkpoint)) for folder in folders]


def load_sources(
    run: Path,
    checkpoint: str | None = None,
    classes: Sequence[str] = (),
    device: str | torch.device = "cpu",
) -> list[ClassSource]:
    """Load the generators of the classes asked for.

    Args:
        run: see `find_generators`.
        checkpoint: see `find_generators`.
        classes: names of the classes, in the order wanted; none for all.
        device: where the generators work.

    Raises:
        UserError: as `find_generators`; a damaged file; a class that no generator draws.
    """
    sources: dict[str, ClassSource] = {}
    for path in find_generators(run, checkpoint):
        snapshot = load_generator(path, device)
        for label, name in enumerate(snapshot.class_names):
            if name in sources:
                raise UserError(
                    f"{run} holds several runs that draw {name}: name one of them, "
                    f"such as {path.parent}"
                )
            sources[name] = ClassSource(name, label, snapshot, _origin(run, path, snapshot.step))
    for name in classes:
        if name not in sources:
            raise UserError(
                f"--class {name}: {run} draws {', '.join(sources)}{did_you_mean(name, sources)}"
            )
    return [sources[name] for name in dict.fromkeys(classes or sources)]


def _require_every_class(run: Path, folders: list[Path]) -> None:
    """Refuse a ``--per-class`` run that has not come to all of its classes: half a set misleads."""
    record = None if folders == [run] else read_record(run)
    if record is None:
        return
    there = {folder.name for folder in folders}
    of_class = folder_names(record.images)
    missing = [name for name, folder in of_class.items() if folder not in there]
    if missing:
        raise UserError(
            f"{run} has no generator of {', '.join(sorted(missing))} yet: go on with "
            f"python -m cxrgan_fast.train --resume {run}, or name the folder of one class"
        )


def _newest(folder: Path) -> Path:
    return folder / "generator.safetensors"


def _best(folder: Path) -> Path:
    path = best_generator_path(folder)
    if not path.is_file():
        raise UserError(
            f"--checkpoint best: {folder} has not been evaluated; train it with --eval-every, or "
            "name a step"
        )
    return path


def _generator_at(folder: Path, step: int) -> Path:
    path = generator_path(folder, step)
    if not path.is_file():
        kept = ", ".join(map(str, saved_steps(folder))) or "none"
        raise UserError(f"--checkpoint {step}: {folder} has kept the generators of steps {kept}")
    return path


def _origin(run: Path, path: Path, step: int) -> str:
    """Name a file from its run folder on: a manifest is shared, the path to the run is not."""
    root, path = run.resolve().parent, path.resolve()
    name = path.relative_to(root) if path.is_relative_to(root) else path.name
    return f"{name}@{step}"


def _folders(parent: Path) -> list[Path]:
    return sorted(entry for entry in parent.iterdir() if entry.is_dir())


def _names(parent: Path) -> list[str]:
    return [folder.name for folder in _folders(parent)] if parent.is_dir() else []

"""Which generator files a run has kept: the newest, the best, or those of a step."""

from pathlib import Path

from cxrgan_fast.data.sources import folder_names
from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.runs.checkpoint import best_generator_path, generator_path, saved_steps
from cxrgan_fast.runs.data_record import read_record


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


def _folders(parent: Path) -> list[Path]:
    return sorted(entry for entry in parent.iterdir() if entry.is_dir())


def _names(parent: Path) -> list[str]:
    return [folder.name for folder in _folders(parent)] if parent.is_dir() else []

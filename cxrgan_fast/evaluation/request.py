"""What an evaluation is asked for, checked before anything is loaded."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxrgan_fast.data.sources import Columns
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.image_sets import is_run
from cxrgan_fast.files import write_error
from cxrgan_fast.metrics.metric import check_metrics, metric_names


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how.

    Attributes:
        subject: run folder, generator file, or folder of class folders of images.
        data: folder of the real images or "phantom"; None for the run's own.
        against: run, generator file or folder of images that is compared with instead of `data`;
            None for `data`.
        metrics: names out of `metric_names`.
        samples: images of each kind to compare.
        seed: random seed of the latents, the choices and the resamples.
        checkpoint: as `load_sources` takes it.
        classes: to compare; none for all.
        resolution: to which a folder's images are made smaller.
        skip_bad: go on without unreadable images.
        columns: which columns of `data`, a table, say what.
        progress: show bars on standard error, if that is a terminal.
    """

    subject: Path
    data: str | None = None
    against: Path | None = None
    metrics: tuple[str, ...] = field(default_factory=metric_names)
    samples: int = 1000
    seed: int = 0
    checkpoint: str | None = None
    classes: tuple[str, ...] = ()
    resolution: int | None = None
    skip_bad: bool = False
    columns: Columns = field(default_factory=Columns)
    progress: bool = True

    def check(self) -> None:
        """Refuse what cannot be before anything is loaded.

        Raises:
            UserError: naming the argument.
        """
        if not self.metrics:
            known = ", ".join(metric_names())
            raise UserError(f"--metrics: none named; expected some of {known}")
        check_metrics(self.metrics, metric_names())
        if self.samples < 2:
            raise UserError(f"--samples {self.samples}: expected 2 or more")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: expected 0 or more, below 2^63")
        if self.resolution is not None and self.resolution < 1:
            raise UserError(f"--resolution {self.resolution}: expected a number of pixels")
        if self.against is not None and self.data is not None:
            raise UserError(
                f"--against {self.against} and --data {self.data}: give one of the two; both name "
                "what the images are compared with"
            )
        if not is_run(self.subject) and self.checkpoint is not None:
            raise UserError(
                f"--checkpoint {self.checkpoint}: {self.subject} is a folder of images, not a run"
            )


def default_output(subject: Path, checkpoint: str | None) -> Path:
    """Return where the evaluation of something lies unless told otherwise."""
    if subject.is_file() or not is_run(subject):
        name = subject.stem if subject.is_file() else real_path(subject).name
        return real_path(subject).with_name(f"{name}-evaluation")
    if checkpoint is None:
        return subject / "evaluation"
    return subject / f"evaluation-{Path(checkpoint).stem}"


def real_path(path: Path) -> Path:
    """Resolve links. A loop of them, at which `Path.resolve` raises, is left as it is."""
    return Path(os.path.realpath(path))


def output_folders(
    subjects: Sequence[Path], checkpoint: str | None, out: Path | None
) -> list[Path]:
    """Name the folder for the files of each subject.

    Args:
        subjects: what is evaluated.
        checkpoint: step of the checkpoint of runs; None for the newest.
        out: the folder that the user names: of one subject the files lie in it, of several each
            has a folder in it; None for the usual places.

    Raises:
        UserError: there is no subject, or two that would have the same folder.
    """
    if not subjects:
        raise UserError("RUN|FOLDER is missing: name what is to be evaluated")
    usual = [default_output(subject, checkpoint) for subject in subjects]
    if out is not None:
        names = [real_path(subject).name for subject in subjects]
        usual = [out] if len(subjects) == 1 else [out / name for name in names]
    seen: dict[Path, Path] = {}
    for subject, folder in zip(subjects, usual, strict=True):
        other = seen.setdefault(real_path(folder), subject)
        if other is not subject:
            raise UserError(
                f"{other} and {subject}: the files of both would lie in {folder}; evaluate one "
                "after the other, with another --out each"
            )
    return usual


def make_output(out: Path) -> None:
    """Make the folder for the files, if it is not there.

    Raises:
        UserError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error

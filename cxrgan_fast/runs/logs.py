"""What a run says while it goes: its lines of JSON, TensorBoard events and a progress bar."""

import contextlib
import json
import math
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, field_validator
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams, scalar
from tqdm import tqdm

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small, require_small, write_atomic, write_error
from cxrgan_fast.runs.watch import DiscriminatorWatch

_MOST_BYTES = 1 << 30  # of the lines of a run

_ENDS = "ends_early"  # of a row: it has fewer steps than the others

# TensorBoard shows tags group by group: what is before the stroke.
_GROUPS = {
    "d_loss": "loss",
    "g_loss": "loss",
    "r1": "loss",
    "r2": "loss",
    "d_real_accuracy": "accuracy",
    "d_fake_accuracy": "accuracy",
    "d_pair_accuracy": "accuracy",
    "r_t": "accuracy",
    "images_per_second": "speed",
    "seconds": "speed",
    "threads": "speed",
    "peak_memory": "speed",
    "images": "progress",
    "share": "progress",
    **dict.fromkeys(
        (
            "noise_std",
            "r1_gamma",
            "r2_gamma",
            "g_lr",
            "d_lr",
            "beta2",
            "ema_half_life",
            "augment_probability",
            "augment_p",
        ),
        "schedule",
    ),
}
_HYPERPARAMETER_METRICS = ("loss/d_loss", "loss/g_loss")


def _tag(name: str) -> str:
    return f"{_GROUPS.get(name, 'training')}/{name}"


class RunLog:
    """Writes the measurements of one run.

    :meth:`grid` and :meth:`evaluation` may run on another thread than the rest: TensorBoard queues
    events under a lock of its own, and of the files only the event file is written by both.

    Args:
        run: The run's folder.
        step: Steps done already; later lines of an interrupted run are dropped, since they will
            be written again.
        steps: Steps in all.
        title: What the progress bar is called.
    """

    def __init__(self, run: Path, step: int, steps: int, title: str) -> None:
        self.path = metrics_path(run)
        self.evaluations = evaluations_path(run)
        self.watch = DiscriminatorWatch()
        for line in _drop_lines_after(self.path, step):
            self.watch.see(json.loads(line))
        _drop_lines_after(self.evaluations, step)
        self._thread_hook = threading.excepthook
        threading.excepthook = self._leave_to_the_next_write
        try:
            self.events = SummaryWriter(str(run), purge_step=step + 1 if step else None)
        except OSError as error:
            threading.excepthook = self._thread_hook
            raise write_error(run, error) from error
        except UnicodeEncodeError:
            threading.excepthook = self._thread_hook
            raise UserError(
                f"{printable(str(run))}: a name with bytes that are no text, which TensorBoard's "
                "files cannot have; rename the folder"
            ) from None
        # Where nobody watches (a file, a batch queue) a line a log interval says more than a bar.
        self.watched = sys.stderr is not None and sys.stderr.isatty()
        self.bar = tqdm(
            total=steps, initial=step, desc=title, unit="step", disable=not self.watched
        )

    def advance(self) -> None:
        """Move the progress bar on by one step."""
        if self.watched:
            with _whoever_reads():
                self.bar.update()

    def metrics(self, row: dict[str, Any]) -> None:
        """Write one row of measurements, which holds its ``step``."""
        scalars = {name: value for name, value in row.items() if name not in ("step", _ENDS)}
        self._write(self.path, row, [scalar(_tag(name), value) for name, value in scalars.items()])
        shown = {
            "img/s": f"{row['images_per_second']:.0f}",
            "D": _short(row.get("d_loss")),
            "G": _short(row.get("g_loss")),
            "D acc": "/".join(_percents(row)) or "-",
            "r_t": _short(row.get("r_t")),
        }
        if "augment_p" in row:
            shown["p"] = _short(row["augment_p"])
        with _whoever_reads():
            if self.watched:
                self.bar.set_postfix(shown)
            else:
                line = "  ".join(f"{name} {value}" for name, value in shown.items())
                print(f"step {row['step']}/{self.bar.total}  {line}", file=sys.stderr, flush=True)
        if warning := self.watch.see(row):
            self.say(warning)

    def evaluation(self, row: dict[str, Any], labels: Mapping[str, tuple[str, str]]) -> None:
        """Write one evaluation, as :class:`PeriodicEvaluation` gives it.

        Args:
            row: The line of evaluations.jsonl.
            labels: For each metric, by its name, the title under which TensorBoard shows it and
                which way is better.
        """
        summaries = []
        for name, metric in row["metrics"].items():
            summary = scalar(f"{name}/{row['features']}", metric["value"])
            metadata = summary.value[0].metadata
            metadata.display_name, better = labels[name]
            metadata.summary_description = f"{better} is better"
            summaries.append(summary)
        self._write(self.evaluations, row, summaries)

    def settings(self, settings: dict[str, Any]) -> None:
        """Show a run's settings among TensorBoard's hyperparameters, beside its losses."""
        plain = {
            # A path may hold bytes that are no text, which TensorBoard does not take.
            name: value if isinstance(value, bool | int | float) else printable(str(value))
            for name, value in settings.items()
        }
        writer: Any = self.events.file_writer  # it is annotated as None, which it is before this
        try:
            for summary in hparams(plain, dict.fromkeys(_HYPERPARAMETER_METRICS, 0.0)):
                writer.add_summary(summary)
        except OSError as error:
            raise write_error(self.path.parent, error) from error

    def last_metrics(self, row: dict[str, Any]) -> None:
        """Write what was measured since the last row, where a run ends between two.

        A run that goes on begins that row anew, and drops this one: see :func:`_lines_until`.
        """
        self.metrics({**row, _ENDS: True})

    def say(self, line: str) -> None:
        """Show a line on stderr, above the bar."""
        with _whoever_reads():
            tqdm.write(line, file=sys.stderr)

    def grid(self, path: Path, step: int) -> None:
        """Show the sample grid at ``path`` among the events."""
        try:
            with Image.open(path) as grid:
                pixels = np.asarray(grid.convert("RGB"))
            self.events.add_image("samples", pixels, step, dataformats="HWC")
        except OSError as error:
            raise write_error(self.path.parent, error) from None

    def _write(self, path: Path, row: dict[str, Any], summaries: Iterable[Any]) -> None:
        # As add_scalar does it, which takes no title.
        writer: Any = self.events.file_writer
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            for summary in summaries:
                writer.add_summary(summary, row["step"])
        except OSError as error:
            raise write_error(path, error) from None

    def close(self) -> None:
        """End the bar and the event file.

        An event file that cannot be ended is not worth an error of its own: what it lacks stands
        in metrics.jsonl, and where the disk is full, another write has said so.
        """
        with _whoever_reads():
            self.bar.close()
        with contextlib.suppress(OSError):
            self.events.close()
        threading.excepthook = self._thread_hook

    def _leave_to_the_next_write(self, failure: threading.ExceptHookArgs) -> None:
        """TensorBoard's thread raises what stopped it again at the next write: once is enough."""
        if not isinstance(failure.exc_value, OSError):
            self._thread_hook(failure)


def _whoever_reads() -> contextlib.suppress:
    """Within, that nobody reads the terminal or the pipe any more is no reason to stop."""
    return contextlib.suppress(OSError, ValueError)  # ValueError: a closed stream


def metrics_path(run: Path) -> Path:
    """Return the path of the file that holds a line for each measurement of a run."""
    return run / "metrics.jsonl"


def evaluations_path(run: Path) -> Path:
    """Return the path of the file that holds a line for each evaluation of a run."""
    return run / "evaluations.jsonl"


class _Metric(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    value: float
    n_real: NonNegativeInt
    n_fake: NonNegativeInt


class _Evaluation(BaseModel):
    """A line of evaluations.jsonl."""

    model_config = ConfigDict(strict=True, extra="allow")

    step: NonNegativeInt
    features: str
    features_version: str
    metrics: dict[str, _Metric]

    @field_validator("metrics")
    @classmethod
    def _with_fid(cls, metrics: dict[str, _Metric]) -> dict[str, _Metric]:
        if "fid" not in metrics:
            raise ValueError("there is no fid")
        return metrics


def require_logs(run: Path) -> None:
    """Refuse the logs of a run that a :class:`RunLog` could not go on with.

    Raises:
        UserError: One is something else than a file, or a huge one.
        OSError: One cannot be looked at.
    """
    for path in (metrics_path(run), evaluations_path(run)):
        require_small(path, _MOST_BYTES)


def read_evaluations(run: Path, step: int) -> list[dict[str, Any]]:
    """Return the evaluations of a run up to a step.

    Raises:
        UserError: The file cannot be read, or a line is no evaluation.
    """
    path = evaluations_path(run)
    if not path.exists():
        return []
    rows = [json.loads(line) for line in _lines_until(path, step)]
    for number, row in enumerate(rows, 1):
        try:
            _Evaluation.model_validate(row)
        except ValidationError as error:  # noqa: PERF203 - a few lines
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise UserError(
                f"{path}: line {number} is no evaluation ({printable(reason)}): put a copy of the "
                "file in its place, or delete the line"
            ) from None
    return rows


def _drop_lines_after(path: Path, step: int) -> list[str]:
    """Drop the lines of later steps, and give those that stay."""
    kept = _lines_until(path, step) if path.exists() else []
    if os.path.lexists(path):  # a link too, through which lines would go to another place
        write_atomic(path, "".join(kept).encode())
    return kept


def _lines_until(path: Path, step: int) -> list[str]:
    lines = read_small(path, _MOST_BYTES).decode(errors="replace").splitlines(keepends=True)
    return [line for line in lines if (at := _step_of(line)) is not None and at <= step]


def _step_of(line: str) -> int | None:
    """The step of a line; None if it was not written whole, or only because the run ended."""
    try:
        row = json.loads(line)
        step = None if row.get(_ENDS) else row["step"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return step if type(step) is int else None


def _short(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _percents(row: dict[str, Any]) -> list[str]:
    """The accuracies of a row: of real and of generated images, or of pairs of them."""
    return [f"{row[name]:.0%}" for name in _GROUPS if name.endswith("_accuracy") and name in row]

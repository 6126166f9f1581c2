"""The runs of ``research.compare_settings``: each trained by the ordinary command, as a process."""

from __future__ import annotations

import ctypes
import json
import math
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen

import torch

from bench.record import ROOT
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import make_folder
from cxrgan_fast.provenance import commit
from cxrgan_fast.runs.calls import last_call
from cxrgan_fast.runs.checkpoint import load_newest_checkpoint
from cxrgan_fast.runs.data_record import read_record
from cxrgan_fast.runs.lock import STALE_SECONDS, locked
from cxrgan_fast.runs.logs import metrics_path
from research.compare_arms import Arm
from research.compare_work import Record, Work

INTERRUPTED = 130  # what train ends with after a signal, when it has saved all
_UNLIMITED = 10**7  # steps of a run whose length is a time
_SET_DEATH_SIGNAL = 1  # of Linux's prctl
_TAIL = 1 << 14  # bytes at the end of a log, which hold its last lines
_CURVE = 60  # points of a run's curves that are kept
_PLACES = ("data", "out", "name", "init_from", "inception_weights", "features_weights")
_LAST_SHARE = 0.1  # of a run, over which its last numbers are averaged


@dataclass(frozen=True)
class Length:
    """How long each run is.

    Attributes:
        steps: of the first arm; other arms take as many steps as show the same number of images.
            None where `minutes` is given.
        minutes: by the clock.
        images_per_step: of the first arm.
    """

    steps: int | None
    minutes: float | None
    images_per_step: int

    def steps_of(self, arm: Arm) -> int:
        """Steps after which an arm's run ends by itself."""
        if self.steps is None:
            return _UNLIMITED
        return max(1, round(self.steps * self.images_per_step / arm.images_per_step))

    def share(self, arm: Arm, row: Record) -> float:
        """How much of a run is done, by a line of its metrics.jsonl."""
        if self.minutes is not None:
            return min(1.0, row["seconds"] / (60 * self.minutes))
        return min(1.0, row["step"] / self.steps_of(arm))


@dataclass(frozen=True)
class Machine:
    """On what each run is trained.

    Attributes:
        data: of ``train``.
        device: of ``train``.
        threads: of each run.
        workers: runs at a time.
    """

    data: str
    device: str
    threads: int
    workers: int


class Child:
    """A run that is being trained, or goes on, in a process of its own.

    Args:
        work: where it is kept.
        seed: of the run.
        arm: of the run.
        length: of each run.
        machine: on what.
    """

    def __init__(self, work: Work, seed: int, arm: Arm, length: Length, machine: Machine) -> None:
        self.work, self.seed, self.arm = work, seed, arm
        self.length, self.machine = length, machine
        place = work.place(seed, arm)
        place.parent.mkdir(parents=True, exist_ok=True)
        make_folder(place)
        self.log = place / "train.log"
        self._process: Popen[bytes] | None = None
        self._kept = work.read(seed, arm, "run")
        if self._kept is not None:
            return  # to be evaluated only
        run = work.run_folder(seed, arm)
        minutes = 0.0 if length.minutes is None else length.minutes
        if run is not None:
            _wait_until_free(run)
            if length.minutes is not None:
                minutes -= _seconds_trained(run) / 60
        if length.minutes is not None and minutes <= 0:
            return  # it was stopped between its last step and its record
        words = [
            *arm.flags,
            "--data", machine.data, "--seed", str(seed), "--threads", str(machine.threads),
            "--device", machine.device, "--steps", str(length.steps_of(arm)),
            "--out", str(place), "--resume", "auto",
        ]  # fmt: skip
        if length.minutes is not None:
            words += ["--max-minutes", repr(minutes)]
        with self.log.open("ab") as said:
            # In a session of its own: Ctrl-C is handed on by `stop`, once.
            self._process = Popen(
                [sys.executable, "-m", "cxrgan_fast.train", *words],
                stdin=DEVNULL, stdout=said, stderr=said,
                start_new_session=True, preexec_fn=_end_with_parent(),
            )  # fmt: skip

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process is None or self._process.poll() is not None

    def stop(self) -> None:
        """Have the run saved and ended, as by Ctrl-C."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        """Wait until the process has ended."""
        if self._process is not None:
            self._process.wait()

    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        run = self.work.run_folder(self.seed, self.arm)
        rows = [] if run is None else read_rows(run, _TAIL)
        return self.length.share(self.arm, rows[-1]) if rows else 0.0

    def result(self) -> Record:
        """What is kept of the run that has ended, with ``failed``: None, or the reason.

        Raises:
            KeyboardInterrupt: somebody has stopped the run.
        """
        if self._kept is not None:
            return self._kept
        status = 0 if self._process is None else self._process.returncode
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        about = {
            "arm": self.arm.name,
            "seed": self.seed,
            "commit": commit(ROOT),
            "workers": self.machine.workers,
        }
        if status:
            return {**about, "failed": self._reason(status)}
        run = self.work.run_folder(self.seed, self.arm)
        if run is None:
            return {**about, "failed": f"it has saved nothing; see {self.log.name}"}
        return {**about, "failed": None, **describe_run(run)}

    def _reason(self, status: int) -> str:
        if status < 0:
            return f"the process was ended by {signal.Signals(-status).name}"
        said = _tail(self.log).decode(errors="replace").splitlines()
        errors = [line for line in said if line.startswith("error: ")]
        reason = errors[-1].removeprefix("error: ") if errors else (said or ["no reason given"])[-1]
        return reason.replace(str(self.work.folder.absolute()), "").replace(
            str(self.work.folder), ""
        )


def describe_run(run: Path) -> Record:
    """Collect what a run's own files say of it.

    Returns:
        ``steps``, ``images``, ``seconds``, ``images_per_second`` (the median of its lines),
        ``r_t``, ``d_loss``, ``d_real_accuracy`` and others (the mean over the last tenth of the
        lines), ``curve`` (some of its lines), ``parameters``, ``settings``, ``version`` and
        ``fingerprint`` of the data.

    Raises:
        UserError: it has no lines.
    """
    rows = read_rows(run)
    if not rows:
        raise UserError(f"{run} has no measurements: let runs be longer than --log-every steps")
    last, call, data = rows[-1], last_call(run) or {}, read_record(run)
    tail = rows[-max(1, math.ceil(_LAST_SHARE * len(rows))) :]
    chosen = sorted({round(k * (len(rows) - 1) / _CURVE) for k in range(_CURVE + 1)})
    names = ("r_t", "d_loss", "g_loss", "d_real_accuracy", "d_fake_accuracy", "r1")
    means = {
        name: statistics.fmean(values)
        for name in names
        if (values := [row[name] for row in tail if row.get(name) is not None])
    }
    return {
        "folder": run.name,
        "steps": last["step"],
        "images": last["images"],
        "seconds": last["seconds"],
        "images_per_second": statistics.median(row["images_per_second"] for row in rows),
        **means,
        "curve": [
            {key: rows[k][key] for key in ("step", "images", "seconds", *names) if key in rows[k]}
            for k in chosen
        ],
        "parameters": call.get("parameters"),
        "settings": {  # where things lie is of no interest elsewhere
            name: value
            for name, value in (call.get("settings") or {}).items()
            if name not in _PLACES
        },
        "version": call.get("version"),
        "torch": call.get("torch"),
        "fingerprint": None if data is None else data.fingerprint,
    }


def read_rows(run: Path, most_bytes: int | None = None) -> list[Record]:
    """The lines of a run's metrics.jsonl, or those at its end."""
    path = metrics_path(run)
    try:
        content = path.read_bytes() if most_bytes is None else _tail(path, most_bytes)
    except FileNotFoundError:
        return []
    rows = []
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # cut, or being written
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def _tail(path: Path, most_bytes: int = _TAIL) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - most_bytes))
        return file.read()


def _seconds_trained(run: Path) -> float:
    return float(load_newest_checkpoint(run, torch.device("cpu")).state["seconds"])


def _wait_until_free(run: Path) -> None:
    """Wait for a run that is still saving, since the study that had begun it was killed.

    Raises:
        UserError: it goes on and on.
    """
    deadline = time.monotonic() + 2 * STALE_SECONDS
    while True:
        try:
            with locked(run):
                return
        except UserError:  # noqa: PERF203 - it waits
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _end_with_parent() -> Callable[[], None] | None:
    """What has a process saved and ended when its parent is killed; None where none can be told."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SET_DEATH_SIGNAL, int(signal.SIGTERM))


def stop_all(children: Sequence[Child]) -> None:
    """Have runs saved, and wait for that."""
    for child in children:
        child.stop()
    for child in children:
        child.wait()

"""The runs of ``research.compare_settings``: each trained by the ordinary command, as a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.record import ROOT
from cxrgan_fast.files import make_folder
from cxrgan_fast.provenance import commit
from cxrgan_fast.runs.description import TAIL_BYTES, describe_run, read_rows
from cxrgan_fast.training.child import (
    INTERRUPTED,
    UNLIMITED_STEPS,
    TrainProcess,
    reason_of,
    seconds_trained,
    wait_until_free,
)
from research.compare_arms import Arm
from research.compare_work import Record, Work


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
            return UNLIMITED_STEPS
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
        self._process: TrainProcess | None = None
        self._kept = work.read(seed, arm, "run")
        if self._kept is not None:
            return  # to be evaluated only
        run = work.run_folder(seed, arm)
        minutes = 0.0 if length.minutes is None else length.minutes
        if run is not None:
            wait_until_free(run)
            if length.minutes is not None:
                minutes -= seconds_trained(run) / 60
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
        self._process = TrainProcess(words, self.log)

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process is None or self._process.status is not None

    def stop(self) -> None:
        """Have the run saved and ended, as by Ctrl-C."""
        if self._process is not None:
            self._process.stop()

    def wait(self) -> None:
        """Wait until the process has ended."""
        if self._process is not None:
            self._process.wait()

    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        run = self.work.run_folder(self.seed, self.arm)
        rows = [] if run is None else read_rows(run, TAIL_BYTES)
        return self.length.share(self.arm, rows[-1]) if rows else 0.0

    def result(self) -> Record:
        """What is kept of the run that has ended, with ``failed``: None, or the reason.

        Raises:
            KeyboardInterrupt: somebody has stopped the run.
        """
        if self._kept is not None:
            return self._kept
        status = 0 if self._process is None else self._process.status
        assert status is not None
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        about = {
            "arm": self.arm.name,
            "seed": self.seed,
            "commit": commit(ROOT),
            "workers": self.machine.workers,
        }
        if status:
            return {**about, "failed": reason_of(status, self.log, self.work.folder)}
        run = self.work.run_folder(self.seed, self.arm)
        if run is None:
            return {**about, "failed": f"it has saved nothing; see {self.log.name}"}
        return {**about, "failed": None, **describe_run(run)}


def stop_all(children: Sequence[Child]) -> None:
    """Have runs saved, and wait for that."""
    for child in children:
        child.stop()
    for child in children:
        child.wait()

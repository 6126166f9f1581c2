"""What a sweep is asked for, checked before anything is loaded or made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.folder import check_name
from cxrgan_fast.studies.storage import JOURNAL
from cxrgan_fast.studies.study import OBJECTIVES
from cxrgan_fast.studies.trial import Budget
from cxrgan_fast.studies.worker import SAMPLERS
from cxrgan_fast.threads import MOST_THREADS, available_cores

MINUTES = 10.0
"""Budget of a trial unless another is given."""
TRIALS = 50
"""Trials of a sweep unless another number is given."""

GIVEN_FLAGS = {
    "--data": "--data",
    "--seed": "--seed",
    "--steps": "--steps-per-trial",
    "--max-minutes": "--minutes-per-trial",
    "--plan-by": "--minutes-per-trial",
    "--until": "the sweep, which stops trials to measure them",
    "--threads": "--threads",
    "--device": "--device",
    "--out": "--out",
    "--name": "NAME",
    "--resume": "the same command, which goes on by itself",
    "--config": "flags, so that the study knows them",
    "--eval-every": "the sweep, which measures trials itself",
    "--per-class": "no sweep: its trials are conditional GANs",
    "--hold-out-patients": "no sweep: trials are measured by all images",
    "--init-from": "no sweep: its trials begin with random weights",
}
"""Flags of ``train`` that trials cannot be given, and what gives them instead."""


@dataclass(frozen=True)
class Request:
    """A sweep that is asked for.

    Attributes:
        name: what the study and its folder in `out` are called.
        data: as ``train`` takes it.
        space: file of the space.
        minutes: budget of a trial by time; None where `steps` is given.
        steps: budget of a trial by steps; None where `minutes` is given.
        trials: in all.
        storage: address of a database or file; None for the journal in the sweep's folder.
        out: folder in which the sweep's folder is.
        sampler: one of `SAMPLERS`.
        objective: one of `OBJECTIVES`.
        seed: seed of the draws, and of each training.
        threads: threads of each training; None for the cores that there are, shared by the workers.
        workers: at a time, on this device.
        device: where trials are trained and measured.
        features: kinds of features; the first decides.
        samples: generated images, and real ones; None for as many as there are training images.
    """

    name: str
    data: str
    space: Path
    minutes: float | None = MINUTES
    steps: int | None = None
    trials: int = TRIALS
    storage: str | None = None
    out: Path = Path("runs")
    sampler: str = "tpe"
    objective: str = "fid"
    seed: int = 0
    threads: int | None = None
    workers: int = 1
    device: str = "auto"
    features: tuple[str, ...] = ()
    samples: int | None = None

    @property
    def folder(self) -> Path:
        """Return the folder of the sweep."""
        return self.out / self.name

    @property
    def where(self) -> str:
        """Return the address or the file of the storage."""
        return self.storage or str(self.folder / JOURNAL)

    @property
    def budget(self) -> Budget:
        """Return how long each trial is trained."""
        return Budget(self.minutes, self.steps)

    @property
    def threads_of_each(self) -> int:
        """Return the threads of each training."""
        return self.threads or max(1, available_cores() // self.workers)

    def check(self) -> None:
        """Refuse what cannot be, before anything is loaded.

        Raises:
            UserError: naming the option.
        """
        check_name(self.name)
        if (self.minutes is None) == (self.steps is None):
            raise UserError("--minutes-per-trial and --steps-per-trial: give one of the two")
        if self.minutes is not None and not (self.minutes > 0 and math.isfinite(self.minutes)):
            raise UserError(f"--minutes-per-trial {self.minutes:g}: expected a number above 0")
        for flag, value, most in (
            ("--steps-per-trial", self.steps, 10**9),
            ("--trials", self.trials, 10**6),
            ("--threads", self.threads, MOST_THREADS),
            ("--workers-per-device", self.workers, MOST_THREADS),
        ):
            if value is not None and not 1 <= value <= most:
                raise UserError(f"{flag} {value}: expected a whole number from 1 to {most}")
        if self.samples is not None and self.samples < 4:
            raise UserError(f"--samples {self.samples}: expected 4 or more")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: expected 0 or more, below 2^63")
        assert self.sampler in SAMPLERS
        assert self.objective in OBJECTIVES

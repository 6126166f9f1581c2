"""One trial: trained by ``train`` in a folder of its own, measured at its rungs and at its end.

Everything that it comes to is kept in its folder before the study hears of it, so that whoever
takes it up, after Ctrl-C, a kill or a database that was gone, does no more than what is left:

- ``config.yaml``: its complete settings;
- ``train.log``: what ``train`` said;
- ``00000-…``: its run, which resumes to the bit;
- ``rungs.json``: FID and seconds at the rungs that it has passed;
- ``measurements.json``: what it was measured with at its end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.judge import Judge
from cxrgan_fast.files import make_folder, read_json, write_atomic
from cxrgan_fast.provenance import commit
from cxrgan_fast.runs.checkpoint import load_newest_checkpoint, saved_steps
from cxrgan_fast.runs.description import TAIL_BYTES, describe_run, read_rows
from cxrgan_fast.runs.folder import newest_run
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.config_file import write_config
from cxrgan_fast.studies.measurements import fid_of, measure
from cxrgan_fast.studies.pruning import rung_name
from cxrgan_fast.training.child import (
    INTERRUPTED,
    UNLIMITED_STEPS,
    TrainProcess,
    is_of_settings,
    reason_of,
    wait_until_free,
)

BROKEN = 1
"""What train ends with after an error that it does not know: a defect, or a library's."""

_POLL_SECONDS = 0.5
_PASSED = 0.02  # share by which a run may be beyond a rung and still be measured as at it
_REACHED = 1.05  # of the final FID: from there on it counts as reached


class TrialError(Exception):
    """A trial has failed, and the sweep goes on; the message is the reason.

    Args:
        reason: in words.
        by_settings: whether its settings are at fault.
    """

    def __init__(self, reason: str, *, by_settings: bool) -> None:
        super().__init__(reason)
        self.by_settings = by_settings


class LostTrialError(Exception):
    """Another worker has taken the trial, since this one was too slow to say that it has it."""


@dataclass(frozen=True)
class Budget:
    """How long each trial is trained, measurements not counted.

    Attributes:
        minutes: None where steps are given.
        steps: None where minutes are given.
    """

    minutes: float | None
    steps: int | None

    def share(self, step: int, seconds: float) -> float:
        """Return the share of the budget that a run has used."""
        if self.minutes is not None:
            return seconds / (60 * self.minutes)
        assert self.steps is not None
        return step / self.steps


@dataclass(frozen=True)
class Resources:
    """With what this worker trains and measures.

    Attributes:
        folder: folder of the sweep.
        data: where this machine has the data.
        device: as ``train`` takes it.
        threads: threads of each training.
        budget: length of each trial.
        judge: measures; its floors are known.
    """

    folder: Path
    data: str
    device: str
    threads: int
    budget: Budget
    judge: Judge


class TrialRun:
    """The training of a trial, begun or gone on with.

    Args:
        resources: with what.
        number: number of the trial.
        config: its settings.
        lost: set when another worker has taken the trial.
        say: called with what is being done and the share of the budget that is used.

    Raises:
        UserError: its folder cannot be written.
    """

    def __init__(
        self,
        resources: Resources,
        number: int,
        config: TrainConfig,
        lost: Event,
        say: Callable[[str, float], None],
    ) -> None:
        self._resources, self._lost, self._say = resources, lost, say
        self.place = resources.folder / f"trial-{number:05d}"
        make_folder(self.place)
        steps = resources.budget.steps or UNLIMITED_STEPS
        self._config = override(config, {"steps": steps})
        kept = self.place / "rungs.json"
        self.rungs: dict[str, dict[str, float]] = read_json(kept) if kept.exists() else {}

    @property
    def run(self) -> Path | None:
        """Return the run folder, once it has a checkpoint."""
        return newest_run(self.place, begun=True)

    def train_to(self, share: float) -> None:
        """Train until a share of the budget is used.

        Raises:
            TrialError: the training has failed.
            LostTrialError: another worker has the trial.
            UserError: something is wrong that the settings have nothing to do with.
            KeyboardInterrupt: the run is saved.
        """
        stood_still = 0
        while True:
            before = self._saved_step()
            process = self._start(share)
            if process is None:
                return
            status = self._wait(process)
            if status == 0:
                return
            if status < 0:  # killed: from outside, or by a system that is out of memory
                stood_still = 0 if self._saved_step() > before else stood_still + 1
                if stood_still < 2:
                    continue
            self._fail(status)

    def _start(self, share: float) -> TrainProcess | None:
        resources, run = self._resources, self.run
        left = ["--until", repr(share)]
        seconds = 0.0
        if run is not None:
            wait_until_free(run)
            state = load_newest_checkpoint(run, torch.device("cpu")).state
            seconds = float(state["seconds"])
            if resources.budget.share(state["training"]["step"], seconds) >= share:
                return None
        if resources.budget.minutes is not None:
            # The plan of schedules is what is done and what is left: always the whole budget.
            left += ["--max-minutes", repr(resources.budget.minutes - seconds / 60)]
        config = self.place / "config.yaml"
        write_atomic(config, write_config(self._config).encode())
        words = [
            "--config", str(config), "--data", resources.data, "--device", resources.device,
            "--threads", str(resources.threads), "--out", str(self.place), "--resume", "auto",
            *left,
        ]  # fmt: skip
        return TrainProcess(words, self._log)

    @property
    def _log(self) -> Path:
        return self.place / "train.log"

    def _wait(self, process: TrainProcess) -> int:
        try:
            while (status := process.status) is None:
                if self._lost.is_set():
                    raise LostTrialError
                self._say("training", self.share())
                time.sleep(_POLL_SECONDS)
        finally:  # Ctrl-C: the run is saved before anything else is done
            process.stop()
            process.wait()
        return status

    def _fail(self, status: int) -> None:
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        reason = reason_of(status, self._log, self.place)
        if is_of_settings(reason):
            raise TrialError(reason, by_settings=True)
        if status < 0 or status == BROKEN:
            raise TrialError(f"{reason} (see {self._log.name})", by_settings=False)
        raise UserError(f"{self.place.name}: {reason}; the same command then goes on with it")

    def share(self) -> float:
        """Return the share of the budget that is used, by the run's log."""
        rows = [] if (run := self.run) is None else read_rows(run, TAIL_BYTES)
        return self._resources.budget.share(rows[-1]["step"], rows[-1]["seconds"]) if rows else 0.0

    def _saved_step(self) -> int:
        run = self.run
        return 0 if run is None else saved_steps(run)[-1]

    def measure_rung(self, share: float) -> float | None:
        """Measure FID at a rung; None where the run was beyond it before anybody asked.

        Raises:
            TrialError: the generator gives no numbers.
        """
        name = rung_name(share)
        if name not in self.rungs:
            if self.share() > share + _PASSED:
                return None
            self._keep_rung(name, self._measured(lambda run: fid_of(self._resources.judge, run)))
        return self.rungs[name]["fid"]

    def measure_end(self) -> dict[str, dict[str, Any]]:
        """Measure all that is kept of a trial that has run to the end.

        Raises:
            TrialError: the generator gives no numbers.
        """
        kept, judge = self.place / "measurements.json", self._resources.judge
        if kept.exists() and (found := read_json(kept))["key"] == judge.key:
            measured: dict[str, dict[str, Any]] = found["measurements"]
        else:
            say = self._say
            measured = self._measured(
                lambda run: measure(judge, run, lambda words: say(f"measuring: {words}", 1.0))
            )
            record = {"key": judge.key, "measurements": measured}
            write_atomic(kept, json.dumps(record).encode())
        self._keep_rung(rung_name(1.0), measured[self.features]["fid"])
        return measured

    @property
    def features(self) -> str:
        """Return the name of the features that decide."""
        return self._resources.judge.names[0]

    def _measured(self, by: Callable[[Path], Any]) -> Any:
        run = self.run
        assert run is not None, "it is measured after it was trained"
        self._say("measuring", self.share())
        try:
            return by(run)
        except UserError as error:
            raise TrialError(f"measuring: {error}", by_settings=True) from None

    def _keep_rung(self, name: str, fid: float) -> None:
        run = self.run
        assert run is not None
        self.rungs[name] = {"fid": fid, "seconds": read_rows(run, TAIL_BYTES)[-1]["seconds"]}
        write_atomic(self.place / "rungs.json", json.dumps(self.rungs).encode())

    def seconds_to_final(self) -> float:
        """Return the seconds of training at the first rung whose FID is about the final one."""
        final = self.rungs[rung_name(1.0)]["fid"]
        return min(
            rung["seconds"] for rung in self.rungs.values() if rung["fid"] <= _REACHED * final
        )

    def record(self) -> dict[str, Any]:
        """Collect what the study keeps of the trial, as far as there is something."""
        run = self.run
        found: dict[str, Any] = {
            "folder": (run or self.place).relative_to(self._resources.folder).as_posix(),
            "seed": self._config.seed,
            "commit": commit(),
            "config": write_config(self._config),
            "rungs": {name: rung["fid"] for name, rung in self.rungs.items()},
        }
        rows = [] if run is None else read_rows(run, TAIL_BYTES)
        if run is not None and rows:
            described: Mapping[str, Any] = describe_run(run)
            for name in ("seconds", "images_per_second", "peak_memory", "r_t", "steps"):
                if described.get(name) is not None:
                    found[name] = described[name]
        return found

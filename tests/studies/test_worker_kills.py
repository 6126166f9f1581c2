"""Kills and Ctrl-C at any moment: the trial goes on in its folder, to the same numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import call
from cxrgan_fast import sweep
from cxrgan_fast.runs.checkpoint import saved_steps
from cxrgan_fast.studies.ownership import WORKER
from cxrgan_fast.studies.storage import open_storage
from trainings import train_here

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.long

STEPS = 60


def study_in(place: Path):
    storage = open_storage(str(place / "a" / "study.journal"), create=False)
    return optuna.load_study(study_name="a", storage=storage)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(place: Path) -> list[Path]:
    return list((place / "a" / "trial-00000").glob("0*"))


def training(place: Path) -> int | None:
    """The process that trains, once it has saved something."""
    for run in runs(place):
        if saved_steps(run) and (run / ".lock").exists():
            return json.loads((run / ".lock").read_text())["pid"]
    return None


def small(words: list[str]) -> list[str]:
    """One trial of some steps, of which every second is saved."""
    words[-1] += " --checkpoint-every 2"
    return [*words, "a", "--steps-per-trial", str(STEPS), "--trials", "1"]


def finish(words: list[str], *more: str) -> None:
    """Run the sweep to its end, with its trainings in this process, which saves their starts."""
    with pytest.MonkeyPatch.context() as patch:
        train_here(patch, lambda _: None)
        assert call(sweep.main, *words, *more) == 0


@pytest.mark.parametrize(
    "killed",
    ["both", *(pytest.param(each, marks=pytest.mark.slow)
               for each in ("worker", "training", "interrupted"))],
)  # fmt: skip
def test_a_trial_that_was_killed_goes_on_to_the_same_numbers(words, tmp_path, killed):
    words, place = small(words), tmp_path / "runs"
    line = [sys.executable, "-m", "cxrgan_fast.sweep", *words]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: training(place) is not None, process)
    child = training(place)
    assert child is not None
    if killed in ("training", "both"):
        os.kill(child, signal.SIGKILL)
    if killed in ("worker", "both"):
        process.kill()
    if killed == "interrupted":
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    if killed == "training":  # the worker has begun it again by itself
        assert process.returncode == 0, err
    else:
        (trial,) = study_in(place).trials
        assert trial.state.name == "RUNNING"
        assert max(saved_steps(runs(place)[0])) < STEPS
        if killed == "interrupted":
            assert process.returncode == 130
            assert "the same command goes on with a" in err
            assert trial.user_attrs[WORKER] == {}  # it belongs to nobody
        finish(words)
    (trial,) = study_in(place).trials
    assert (trial.number, trial.state.name) == (0, "COMPLETE")
    assert len(runs(place)) == 1
    finish(words, "--out", str(tmp_path / "whole"))
    undisturbed = study_in(tmp_path / "whole").trials[0].user_attrs
    for name in ("rungs", "measurements", "folder", "steps"):
        assert trial.user_attrs[name] == undisturbed[name], name

"""Several workers on a device: as many as there is room for, each with its share of the cores."""

from __future__ import annotations

from unittest.mock import create_autospec

import pytest
import torch

from commands import call
from cxrgan_fast import sweep
from cxrgan_fast.errors import UserError
from cxrgan_fast.studies import workers
from cxrgan_fast.studies.request import Request
from cxrgan_fast.studies.space import DEFAULT_SPACE
from cxrgan_fast.studies.storage import open_storage
from cxrgan_fast.studies.workers import require_cores, require_memory
from cxrgan_fast.threads import available_cores

optuna = pytest.importorskip("optuna")
CUDA = torch.device("cuda")
GIB = 2**30


def study_with(peak: int | None):
    study = optuna.create_study()
    trial = study.ask()
    if peak is not None:
        trial.set_user_attr("peak_memory", peak)
    return study


def free(monkeypatch, size: int) -> None:
    info = create_autospec(torch.cuda.mem_get_info, return_value=(size, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "mem_get_info", info)


def test_on_a_gpu_the_memory_of_trial_0_decides(monkeypatch):
    free(monkeypatch, 7 * GIB)
    require_memory(study_with(2 * GIB), 3, CUDA)
    with pytest.raises(UserError) as refused:
        require_memory(study_with(2 * GIB), 4, CUDA)
    assert str(refused.value) == (
        "--workers-per-device 4: trial 0 took 2.00 GiB, 4 take 8.00 GiB, and 7.00 GiB of cuda are "
        "free; take 3"
    )
    with pytest.raises(UserError, match="run it first, with --trials 1"):
        require_memory(study_with(None), 2, CUDA)


def test_on_a_cpu_there_are_at_most_as_many_as_cores(monkeypatch):
    monkeypatch.setattr(workers, "available_cores", lambda: 4)
    require_cores(4, torch.device("cpu"))
    require_memory(study_with(None), 4, torch.device("cpu"))
    with pytest.raises(UserError, match="expected at most the cores that are there, 4"):
        require_cores(5, torch.device("cpu"))
    require_cores(5, CUDA)


def test_the_cores_are_shared(monkeypatch):
    monkeypatch.setattr("cxrgan_fast.studies.request.available_cores", lambda: 8)
    asked = {"name": "a", "data": "phantom", "space": DEFAULT_SPACE}
    assert Request(**asked).threads_of_each == 8
    assert Request(**asked, workers=3).threads_of_each == 2
    assert Request(**asked, workers=3, threads=1).threads_of_each == 1


@pytest.mark.long
@pytest.mark.skipif(available_cores() < 2, reason="this machine has one core")
def test_two_workers_of_one_command_run_all_trials_and_say_what_they_do(words, tmp_path, capfd):
    words += ["a", "--steps-per-trial", "1", "--trials", "3", "--workers-per-device", "2"]
    assert call(sweep.main, *words) == 0
    said = capfd.readouterr()
    storage = open_storage(str(tmp_path / "runs" / "a" / "study.journal"))
    trials = optuna.load_study(study_name="a", storage=storage).trials
    assert 3 <= len(trials) <= 4
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert "worker 1: trial" in said.err
    assert "worker 2: trial" in said.err
    assert f"a: {len(trials)} complete" in said.out
    # An error of a worker is said, and is one of the command.
    (tmp_path / "runs" / "a" / f"trial-{len(trials):05d}").write_text("in the way")
    words[words.index("--trials") + 1] = str(len(trials) + 1)
    assert call(sweep.main, *words) == 2
    err = capfd.readouterr().err
    assert "error: cannot write" in err
    assert "of 2 workers have ended with an error, which stands above" in err

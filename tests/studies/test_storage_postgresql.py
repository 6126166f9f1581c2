"""A study in a real PostgreSQL, with several workers at once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from commands import call
from cxrgan_fast import sweep
from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.calls import read_calls
from cxrgan_fast.studies.storage import open_storage, said_plainly
from postgresql import database

optuna = pytest.importorskip("optuna")
pytest.importorskip("psycopg")

pytestmark = pytest.mark.long
WORKERS, TRIALS = 3, 6


def test_three_workers_at_once_run_no_trial_twice_and_tell_all(words, tmp_path, capsys):
    with database() as address:
        flags = [*words, "a", "--steps-per-trial", "1", "--trials", str(TRIALS)]
        line = [sys.executable, "-m", "cxrgan_fast.sweep", *flags, "--storage", address]
        workers = [subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                    text=True) for _ in range(WORKERS)]  # fmt: skip
        said = [worker.communicate(timeout=600)[1] for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * WORKERS, said
        study = optuna.load_study(study_name="a", storage=open_storage(address))
        trials = study.trials
        # As many as were asked for; each worker but one may have begun one more.
        assert TRIALS <= len(trials) < TRIALS + WORKERS
        assert {trial.state.name for trial in trials} == {"COMPLETE"}
        assert [trial.user_attrs.get("default") for trial in trials] == [True] + [None] * (
            len(trials) - 1
        )
        told = Counter(line.partition(":")[0] for each in said for line in each.splitlines()
                       if line.startswith("trial "))  # fmt: skip
        assert told == {f"trial {trial.number}": 1 for trial in trials}
        assert sum("trial " in each for each in said) == WORKERS  # all of them had a part
        for trial in trials:
            assert len(read_calls(tmp_path / "runs" / "a" / trial.user_attrs["folder"])) == 1
        assert len({tuple(trial.params.items()) for trial in trials}) == len(trials)
        assert call(sweep.main, "--list", "--storage", address) == 0
        assert f"a: {len(trials)} complete" in capsys.readouterr().out


def test_a_server_that_goes_away_is_one_line():
    with database() as address:
        storage = open_storage(address)
        optuna.create_study(storage=storage, study_name="a")
    with pytest.raises(UserError, match="does not answer as it should"), said_plainly(address):
        optuna.get_all_study_names(storage)

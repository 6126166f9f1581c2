"""A sweep as its user has it: the command, its folder, joining, going on, and looking up."""

from __future__ import annotations

import csv
import io
import itertools
import math
import sys
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from commands import call
from cxrgan_fast import sweep
from cxrgan_fast.runs.checkpoint import saved_steps
from cxrgan_fast.studies import ownership, worker
from cxrgan_fast.studies.pruning import should_prune
from cxrgan_fast.studies.storage import open_storage
from cxrgan_fast.train import parse
from trainings import train_here

optuna = pytest.importorskip("optuna")

ATTRIBUTES = {
    "folder", "seed", "commit", "seconds", "images_per_second", "peak_memory", "r_t", "steps",
    "rungs", "measurements",
}  # fmt: skip


def study_in(tmp_path: Path, name: str = "a"):
    storage = open_storage(str(tmp_path / "runs" / name / "study.journal"), create=False)
    return optuna.load_study(study_name=name, storage=storage)


def look(tmp_path: Path, *words: str) -> int:
    return call(sweep.main, *words, "--out", str(tmp_path / "runs"))


def ended_with(monkeypatch, statuses: list[int | None]) -> None:
    """Have trainings end with these, one after the other; None trains."""
    left = iter(statuses)
    train_here(monkeypatch, lambda words: next(left))


@pytest.mark.long
def test_from_the_command_to_the_best_settings(command, begun, tmp_path, capsys):
    flags = ["a", "--steps-per-trial", 10, "--trials", 2]
    assert command(*flags) == 0
    assert "a: 2 complete" in capsys.readouterr().out
    study = study_in(tmp_path)
    first, second = study.trials
    assert first.user_attrs["default"] is True
    assert first.params == {"g_lr": 5e-4, "latent_size": 8}
    assert "default" not in second.user_attrs
    for trial in study.trials:
        attributes = trial.user_attrs
        assert attributes.keys() >= ATTRIBUTES
        assert "reason" not in attributes
        assert list(attributes["rungs"]) == ["0.1", "0.2", "0.5", "1.0"]
        (measured,) = attributes["measurements"].values()
        assert set(measured) == {
            "fid", "kid", "recall", "nearest_neighbour", "floor", "classes",
        }  # fmt: skip
        assert set(measured["classes"]) == {"normal", "bacterial"}
        assert trial.value == pytest.approx(math.log(measured["fid"] / measured["floor"]))
        assert attributes["rungs"]["1.0"] == measured["fid"]
        run = tmp_path / "runs" / "a" / attributes["folder"]
        assert (attributes["steps"], saved_steps(run)[-1]) == (10, 10)
    assert study.user_attrs["settings"]["steps_per_trial"] == 10
    assert study.user_attrs["space"]["latent_size"] == {"choices": [8, 16]}
    assert study.user_attrs["rank_correlations"]["trials"] == 2

    # The same command again does nothing that is done; with more trials it goes on.
    before = len(begun)
    assert command(*flags) == 0
    assert len(begun) == before
    assert command(*flags[:-1], 3) == 0
    assert [trial.state.name for trial in study_in(tmp_path).trials] == ["COMPLETE"] * 3
    capsys.readouterr()

    assert look(tmp_path, "--list") == 0
    assert "a: 3 complete; lowest FID" in capsys.readouterr().out
    assert look(tmp_path, "--show", "a") == 0
    shown = capsys.readouterr().out
    assert "0 (default)" in shown
    assert "Spearman's ρ with the final FID over 3 trials: 10% of the budget" in shown
    assert look(tmp_path, "--export", "csv", "a") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["state"] for row in rows] == ["COMPLETE"] * 3
    assert float(rows[0]["measurements_pixels_fid"]) == pytest.approx(
        study.trials[0].user_attrs["measurements"]["pixels"]["fid"]
    )
    assert look(tmp_path, "--best", "a") == 0
    best = tmp_path / "best.yaml"
    best.write_text(capsys.readouterr().out)
    config, _ = parse(["--config", str(best), "--data", "phantom", "--device", "cpu"])
    lowest = study_in(tmp_path).best_trial
    assert config.optimization.g_lr == lowest.params["g_lr"]
    assert (config.network.family, config.batch_size) == ("dcgan", 4)


def test_a_sweep_that_was_interrupted_goes_on_with_its_trial(
    command, begun, monkeypatch, tmp_path, capsys
):
    flags = ["a", "--steps-per-trial", 1, "--trials", 1]
    ended_with(monkeypatch, [130])  # as train ends when it is told to
    assert command(*flags) == 130
    assert "the same command goes on with a" in capsys.readouterr().err
    (trial,) = study_in(tmp_path).trials
    assert trial.state.name == "RUNNING"
    assert look(tmp_path, "--best", "a") == 2
    assert "no trial of a has run to the end yet (1 running)" in capsys.readouterr().err
    assert look(tmp_path, "--show", "a") == 0
    assert "no trial has run to the end yet" in capsys.readouterr().out
    assert look(tmp_path, "--export", "csv", "a") == 0
    ended_with(monkeypatch, [None])
    assert command(*flags) == 0
    (trial,) = study_in(tmp_path).trials
    assert trial.state.name == "COMPLETE"
    assert trial.user_attrs["rungs"].keys() == {"1.0"}  # the first step is all of its steps


@pytest.mark.long
def test_a_trial_that_a_kill_has_left_without_settings_gets_those_it_would_have_had(
    command, begun, tmp_path
):
    flags = ["--steps-per-trial", 1, "--trials"]
    assert command("a", *flags, 1) == 0
    left = study_in(tmp_path).ask()
    left.set_user_attr(ownership.WORKER, {})
    assert left.params == {}
    assert command("a", *flags, 2) == 0
    assert command("b", *flags, 2) == 0
    for name in ("a", "b"):
        assert [trial.state.name for trial in study_in(tmp_path, name).trials] == ["COMPLETE"] * 2
    first, second = (study_in(tmp_path, name).trials[1] for name in ("a", "b"))
    assert (first.params, first.values) == (second.params, second.values)


@pytest.mark.long
def test_what_diverges_is_told_with_its_reason_and_the_sweep_goes_on(
    command, begun, words, tmp_path, capsys
):
    (tmp_path / "space.yaml").write_text("d_lr: [0.0005, 1.0e+12]\n")
    words[-1] += " --log-every 1"
    assert command("a", "--steps-per-trial", 4, "--trials", 4) == 0
    trials = study_in(tmp_path).trials
    diverged = [trial for trial in trials if trial.params["d_lr"] > 1]
    assert 0 < len(diverged) < 4
    for trial in trials:
        assert trial.state.name == ("PRUNED" if trial in diverged else "COMPLETE")
        assert trial.values is None or trial not in diverged
    assert "is not finite" in diverged[0].user_attrs["reason"]
    assert str(tmp_path) not in diverged[0].user_attrs["reason"]
    shown = capsys.readouterr()
    assert f"trial {diverged[0].number} failed: step" in shown.out
    assert f"trial {diverged[0].number}: failed: step" in shown.err


@pytest.mark.long
def test_a_killed_training_is_begun_again_and_given_up_if_it_stands_still(
    command, begun, monkeypatch, tmp_path
):
    killed = [-9, None, None, -9, None, None]
    ended_with(monkeypatch, killed)
    assert command("a", "--steps-per-trial", 4, "--trials", 1) == 0
    assert study_in(tmp_path).trials[0].state.name == "COMPLETE"
    ended_with(monkeypatch, [-9, -9])
    assert command("b", "--steps-per-trial", 4, "--trials", 1) == 0
    (trial,) = study_in(tmp_path, "b").trials
    assert trial.state.name == "FAIL"
    assert "the process was ended by SIGKILL" in trial.user_attrs["reason"]


@pytest.mark.long
def test_defects_in_a_row_end_the_worker_and_not_the_study(
    command, begun, monkeypatch, tmp_path, capsys
):
    ended_with(monkeypatch, [1] * worker.MOST_BREAKS)
    assert command("a", "--steps-per-trial", 1, "--trials", 5) == 2
    assert "error: 3 trials in a row have broken" in capsys.readouterr().err
    assert [trial.state.name for trial in study_in(tmp_path).trials] == ["FAIL"] * 3
    ended_with(monkeypatch, [None] * 8)
    assert command("a", "--steps-per-trial", 1, "--trials", 5) == 0
    assert [trial.state.name for trial in study_in(tmp_path).trials[3:]] == ["COMPLETE"] * 2


@pytest.mark.long
def test_what_the_settings_have_nothing_to_do_with_leaves_the_trial_untold(
    command, begun, monkeypatch, tmp_path, capsys
):
    ended_with(monkeypatch, [2])  # a full disk, say
    assert command("a", "--steps-per-trial", 2, "--trials", 1) == 2
    assert "the same command then goes on with it" in capsys.readouterr().err
    assert study_in(tmp_path).trials[0].state.name == "RUNNING"
    ended_with(monkeypatch, [None] * 4)
    assert command("a", "--steps-per-trial", 2, "--trials", 1) == 0
    assert study_in(tmp_path).trials[0].state.name == "COMPLETE"


def test_what_was_computed_outlives_a_storage_that_is_gone(
    command, begun, monkeypatch, tmp_path, capsys
):
    journal = tmp_path / "runs" / "a" / "study.journal"
    measure = worker.TrialRun.measure_end
    kept = []

    def then_gone(run):
        measured = measure(run)
        if not kept:
            kept.append(journal.read_bytes())
            journal.unlink()
        return measured

    monkeypatch.setattr(worker.TrialRun, "measure_end", then_gone)
    flags = ["a", "--steps-per-trial", 1, "--trials", 1]
    assert command(*flags) == 2
    assert "study.journal was replaced or cut while it was in use" in capsys.readouterr().err
    journal.write_bytes(kept[0])
    monkeypatch.setattr(
        ownership, "GRACE_SECONDS", 0.0
    )  # this process, whose the trial was, lives on
    before = len(begun)
    assert command(*flags) == 0
    assert len(begun) == before
    assert study_in(tmp_path).trials[0].state.name == "COMPLETE"


@pytest.mark.long
def test_a_trial_that_is_pruned_is_trained_no_further(command, begun, monkeypatch, tmp_path):
    double = create_autospec(should_prune, side_effect=lambda study, share, fid: share == 0.5)
    monkeypatch.setattr(worker, "should_prune", double)
    assert command("a", "--steps-per-trial", 10, "--trials", 1) == 0
    (trial,) = study_in(tmp_path).trials
    assert (trial.state.name, trial.user_attrs["steps"]) == ("PRUNED", 5)
    assert trial.intermediate_values == {50: trial.value}
    assert list(trial.user_attrs["rungs"]) == ["0.1", "0.2", "0.5"]
    assert "measurements" not in trial.user_attrs


@pytest.mark.long
def test_a_budget_of_time_and_the_seconds_as_an_objective(command, begun, tmp_path):
    flags = ["a", "--minutes-per-trial", 0.02, "--objective", "fid,seconds", "--trials", 2]
    assert command(*flags) == 0
    for trial in study_in(tmp_path).trials:
        assert 1.2 <= trial.user_attrs["seconds"] < 2.5
        value, seconds = trial.values
        rungs = trial.user_attrs["rungs"]
        assert value == pytest.approx(
            math.log(rungs["1.0"] / trial.user_attrs["measurements"]["pixels"]["floor"])
        )
        early = any(rungs[name] <= 1.05 * rungs["1.0"] for name in list(rungs)[:-1])
        assert seconds < 1.2 if early else seconds >= 1.2
    # The plan is that of the whole trial, whatever its parts; a rung that a long step has gone
    # beyond is left out.
    lines = [
        (float(words[words.index("--until") + 1]), float(words[words.index("--max-minutes") + 1]))
        for words in begun
    ]
    first = lines[: [until for until, _ in lines].index(1.0) + 1]
    assert first[0] == (0.1, 0.02)
    assert [until for until, _ in first] == sorted({0.1, 1.0} | {until for until, _ in first})
    for (until, _), (_, left) in itertools.pairwise(first):
        assert left <= 0.02 * (1 - until)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--trials", "3"], "NAME is missing"),
        (["a/b"], "NAME 'a/b': expected letters"),
        (["00001-a"], "NAME '00001-a': expected letters"),
        (["a", "--trials", "0"], "--trials 0: expected a whole number from 1"),
        (["a", "--minutes-per-trial", "0"], "--minutes-per-trial 0: expected a number above 0"),
        (["a", "--minutes-per-trial", "1", "--steps-per-trial", "1"], "give one of the two"),
        (["a", "--samples", "2"], "--samples 2: expected 4 or more"),
        (["a", "--seed", "-1"], "--seed -1: expected 0 or more"),
        (["a", "--objective", "fidd"], "expected one of fid, fid,seconds"),
        (["a", "--objective", "classifier"], "expected one of fid, fid,seconds"),
        (["a", "--train", "--seed 3"], "--train: --seed is given by --seed"),
        (["a", "--train", "--per-class"], "--train: --per-class is given by no sweep"),
        (["a", "--train", "--l3 0"], "--l3"),
        (["a", "--train", "'"], '--train: "\'" are no flags'),
        (["a", "--space", "none.yaml"], "cannot read none.yaml"),
        (["a", "--data", "nowhere"], "nowhere"),
        (["a", "--device", "cud"], "--device cud"),
        (["--list", "--show", "a"], "--list and --show: give one of them"),
        (["--show", "a", "b"], "--show and NAME b: give one of them"),
        (["--show", "a"], "there is no study in"),
        (["--best", "a"], "there is no study in"),
        (["--export", "csv", "a"], "there is no study in"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(command, tmp_path, capsys, more, said):
    assert command(*more) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_a_folder_of_something_else_and_trials_of_another_study_are_left_alone(
    command, begun, tmp_path, capsys
):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "mine").touch()
    assert command("a", "--steps-per-trial", 1) == 2
    assert "holds something else: give another NAME or --out" in capsys.readouterr().err
    assert command("b", "--steps-per-trial", 1, "--trials", 1) == 0
    other = ["--storage", str(tmp_path / "other.journal")]
    assert command("b", "--steps-per-trial", 1, "--trials", 1, *other) == 2
    assert "holds trials of another study of that name" in capsys.readouterr().err
    assert command("b", "--steps-per-trial", 2, "--trials", 1) == 2
    assert "begun with steps_per_trial 1, not 2" in capsys.readouterr().err


def test_without_optuna_one_line_says_what_to_install(command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert command("a") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: a sweep needs Optuna, which is missing")
    assert err.rstrip().endswith("pip install 'cxrgan_fast[sweep]'")

"""A confirmation as its user has it: the command, going on, more seeds, and the report of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import call
from cxrgan_fast import sweep
from cxrgan_fast.settings.config_file import read_config
from cxrgan_fast.studies.confirmation import DEFAULT, VALUE, WINNER
from cxrgan_fast.studies.confirmation_runs import run_of
from cxrgan_fast.studies.storage import open_storage
from trainings import train_here

optuna = pytest.importorskip("optuna")


@pytest.fixture
def looked(tmp_path: Path):
    """Look up something of the sweeps; the exit code."""
    return lambda *words: call(sweep.main, *words, "--out", str(tmp_path / "runs"))


@pytest.fixture
def swept(command, begun, tmp_path: Path, capsys) -> Path:
    """A sweep of a default of one step and a winner, whose default is told as the worse."""
    assert command("a", "--steps-per-trial", 1, "--trials", 2) == 0
    journal = tmp_path / "runs" / "a" / "study.journal"
    # Of two steps' images which are better is chance: the journal says here that trial 1 is.
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    told = [line for line in lines if line.get("values")]
    for line, value in zip(told, (2.0, 1.0), strict=True):
        line["values"] = [value]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    begun.clear()
    return tmp_path / "runs" / "a"


def configs(begun: list[list[str]]) -> list[dict]:
    """The settings of each training that has begun."""
    paths = [Path(words[words.index("--config") + 1]) for words in begun]
    return [read_config(path.read_text(), path) for path in paths]


@pytest.mark.long
def test_a_winner_is_run_again_beside_the_default(swept, begun, looked, monkeypatch, capsys):
    confirm = ["--confirm", "a", "--seeds", 2, "--threads", 1, "--device", "cpu"]
    left = iter([None, 130])
    train_here(monkeypatch, lambda words: begun.append(words) or next(left))
    assert looked(*confirm) == 130  # Ctrl-C in the second of four
    assert "the same command goes on with the confirmation of a" in capsys.readouterr().err
    train_here(monkeypatch, begun.append)
    assert looked("--report", "a") == 0
    assert "not complete: 3 runs of the confirmation have not ended" in capsys.readouterr().out
    assert looked(*confirm) == 0
    said = capsys.readouterr().out
    assert said.startswith("trial 1, against the default: ")
    assert "on 2 new seeds FID / floor is " in said
    # Each run once, but for the one that was interrupted.
    storage = open_storage(str(swept / "study.journal"), create=False)
    study = optuna.load_study(study_name="a:confirm-1", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    first, second = optuna.load_study(study_name="a", storage=storage).trials
    found = configs(begun)
    assert [each["seed"] for each in found] == [1, 1, 1, 2, 2]
    for each, arm in zip(found, (second, first, first, second, first), strict=True):
        assert each["g_lr"] == pytest.approx(arm.params["g_lr"])
        assert each["latent_size"] == arm.params["latent_size"]
    assert {path.name for path in (swept / "confirm-1").iterdir()} == {
        f"trial-{number:05d}" for number in range(4)
    }
    # Nothing is done twice; the report has it, and no list of sweeps does.
    before = len(begun)
    assert looked(*confirm) == 0
    assert len(begun) == before
    assert looked("--report", "a", "--report-to", str(swept.parent / "page")) == 0
    confirmed = json.loads((swept.parent / "page" / "report.json").read_text())["confirmation"]
    assert (confirmed["trial"], confirmed["seeds"], confirmed["pairs"]) == (1, [1, 2], 2)
    assert len(confirmed["differences"][VALUE]["values"]) == 2
    assert (swept.parent / "page" / "confirmation.png").exists()
    capsys.readouterr()
    assert looked("--list") == 0
    assert "confirm" not in capsys.readouterr().out


def test_what_cannot_be_confirmed_is_refused_in_a_line(swept, begun, looked, tmp_path, capsys):
    for words, said in (
        (["--confirm", "b"], "there is no study in"),
        (["--confirm", "a", "--seeds", 1], "--seeds 1: expected a whole number from 2 to 1000"),
        (["--confirm", "a", "--report", "a"], "--report and --confirm: give one of them"),
        (["--report", "a", "--seeds", 3], "--seeds 3 does nothing without --confirm NAME"),
        (["--show", "a", "--against", "a"], "--against a does nothing without --report NAME"),
        (["--list", "--report-to", "x"], "--report-to x does nothing without --report NAME"),
        (["--report", "a", "--against", "b"], "there is no study in"),
        (["--confirm", "a", "--data", str(tmp_path / "none")], "none"),
    ):
        assert looked(*words) == 2, words
        error = capsys.readouterr().err
        assert said in error
        assert error.strip().count("\n") <= 1
    # Nor is there anything to confirm where the default is the best, or nothing has finished.
    journal = swept / "study.journal"
    content = journal.read_text()
    journal.write_text(content.replace('"values": [2.0]', '"values": [0.5]'))
    assert looked("--confirm", "a") == 2
    assert "the default is the best of the finished trials" in capsys.readouterr().err
    lines = [line for line in content.splitlines() if '"values": [' not in line]
    journal.write_text("\n".join(lines) + "\n")
    assert looked("--confirm", "a") == 2
    assert "no trial has run to the end yet" in capsys.readouterr().err
    assert begun == []
    assert not (swept / "confirm-1").exists()


def test_runs_are_pairs_of_new_seeds() -> None:
    assert [run_of(number, 5) for number in range(4)] == [
        (WINNER, 6), (DEFAULT, 6), (WINNER, 7), (DEFAULT, 7),
    ]  # fmt: skip
    assert run_of(0, 2**63 - 1) == (WINNER, 0)  # a seed is below 2^63

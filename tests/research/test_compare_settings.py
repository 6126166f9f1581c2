"""``python -m research.compare_settings``, from flags to files and to the plot."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench import plot
from commands import call, size_of_picture
from cxrgan_fast.runs.checkpoint import load_newest_checkpoint, save_checkpoint, saved_steps
from research import compare_settings
from research.compare_report import report
from trainings import train_here

TINY = (
    "--resolution 32 --base-channels 8 --latent-size 8 --batch-size 4 --phantom-images 40 "
    "--precision fp32 --preset small --log-every 1"
)
FIRST, SAME, OTHER = "first", "same: --r1-gamma 1", "other: --g-lr 0.002"
DIVERGES = "diverges: --optimizer sgd --loss least_squares --d-lr 100 --g-lr 100 --r1-gamma 0"
CPU = torch.device("cpu")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of a tiny study."""
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    places = ["--work", tmp_path / "work", "--out", tmp_path / "result.json"]
    return list(map(str, ["--train", TINY, "--device", "cpu", "--features", "pixels", *places]))


@pytest.fixture
def command(words: list[str]) -> Callable[..., int]:
    """Run ``research.compare_settings`` here."""

    def run(*flags: object, arms: tuple[str, ...] = (FIRST, OTHER)) -> int:
        of_arms = [word for arm in arms for word in ("--arm", arm)]
        return call(compare_settings.main, *words, *of_arms, *flags)

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Train in this process what would be trained in others; seed and arm of each that is begun."""
    begun: list[tuple[str, str]] = []

    def noted(words: list[str]) -> None:
        place = Path(words[words.index("--out") + 1])
        begun.append((place.parent.name, place.name))

    train_here(monkeypatch, noted)
    monkeypatch.setattr(compare_settings, "_POLL_SECONDS", 0.0)
    return begun


def test_from_the_command_to_the_plot(command, trained, tmp_path: Path, capsys) -> None:
    result, png = tmp_path / "result.json", tmp_path / "plot.png"
    arms = (FIRST, SAME, OTHER)
    assert command("--seeds", 1, "--steps", 3, arms=arms[:2]) == 0
    # Another arm takes what is there.
    assert command("--seeds", 1, "--steps", 3, "--plot", png, arms=arms) == 0
    assert trained == [("seed-0", "first"), ("seed-0", "same"), ("seed-0", "other")]
    printed = capsys.readouterr().out
    record = json.loads(result.read_text())
    assert report(record) in printed
    assert "3 of 3 runs, complete: written to" in printed
    assert record["complete"] is True
    assert str(tmp_path) not in json.dumps(record)
    assert size_of_picture(png)[2] > 5000
    assert call(plot.main, result, png) == 0
    # Arms of the same settings are the same to the bit; others are not.
    differences = record["summary"]["differences"]
    assert differences["same"]["pixels"]["fid"]["values"] == [0.0]
    (difference,) = differences["other"]["pixels"]["fid"]["values"]
    assert difference != 0
    for run in record["runs"]:
        assert (run["steps"], run["images"], run["failed"]) == (3, 12, None)
        assert run["r_t"] == pytest.approx(2 * run["d_real_accuracy"] - 1)
        fids = run["evaluation"]["features"]["pixels"]
        assert fids["halves"]["fid"] > record["floors"]["pixels"]["fid"] > 0
        assert sum(run["evaluation"]["key"]["images"].values()) == 40
        assert run["evaluation"]["near_copies"]["of"] == 40
    summary = record["summary"]["arms"]["first"]["numbers"]["pixels"]
    mean = statistics.fmean(summary["fid_at_floor"]["values"])
    assert summary["fid_less_floor"]["mean"] == pytest.approx(
        mean - record["floors"]["pixels"]["fid"]
    )


@pytest.mark.long
def test_of_a_seed_arms_begin_with_the_same_weights_and_images(command, trained, tmp_path) -> None:
    # At a rate of 0 the weights stay those of the beginning.
    still = "--g-lr 0 --d-lr 0"
    arms = (f"first: {still}", f"more: {still} --r1-gamma 0")
    assert command("--seeds", 1, "--steps", 1, arms=arms) == 0
    states = []
    for arm in ("first", "more"):
        (run,) = (tmp_path / "work" / "seed-0" / arm).glob("0*")
        states.append(load_newest_checkpoint(run, CPU).state["training"])
    for network in ("generator", "discriminator"):
        for name, weight in states[0][network].items():
            if "running_" not in name and "num_batches" not in name:
                assert torch.equal(weight, states[1][network][name]), name


@pytest.mark.long
def test_more_seeds_go_on_seed_by_seed_over_all_arms(command, trained, tmp_path, capsys) -> None:
    assert command("--seeds", 1, "--steps", 2) == 0
    assert command("--seeds", 3, "--steps", 2, "--workers", 2) == 0
    assert trained == [
        ("seed-0", "first"), ("seed-0", "other"),
        ("seed-1", "other"), ("seed-1", "first"),
        ("seed-2", "first"), ("seed-2", "other"),
    ]  # fmt: skip
    record = json.loads((tmp_path / "result.json").read_text())
    fid = record["summary"]["differences"]["other"]["pixels"]["fid"]
    firsts, others = (
        record["summary"]["arms"][arm]["numbers"]["pixels"]["fid"]["values"]
        for arm in ("first", "other")
    )
    assert fid["values"] == [b - a for a, b in zip(firsts, others, strict=True)]
    low, high = fid["interval_95"]
    assert low < fid["mean"] < high
    assert "signs need 6 seeds" in capsys.readouterr().out


@pytest.mark.long
def test_what_fails_is_recorded_and_the_rest_goes_on(command, trained, tmp_path, capsys) -> None:
    arms = (FIRST, DIVERGES)
    assert command("--seeds", 1, "--steps", 3, arms=arms) == 0
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["complete"] is True
    assert "is not finite" in record["summary"]["arms"]["diverges"]["failed"]["0"]
    assert "diverges, seed 0: step" in capsys.readouterr().out
    assert len(trained) == 2
    assert command("--seeds", 1, "--steps", 3, arms=arms) == 0
    assert len(trained) == 2
    assert command("--seeds", 1, "--steps", 3, "--retry-failed", arms=arms) == 0
    assert trained[2:] == [("seed-0", "diverges")]
    # Where nothing is left there is nothing to say.
    (tmp_path / "work" / "seed-0" / "first" / "run.json").write_text(
        json.dumps({"failed": "so", "arm": "first", "seed": 0})
    )
    assert command("--seeds", 1, "--steps", 3, arms=arms) == 2
    assert "error: all runs have failed: so; step" in capsys.readouterr().err


@pytest.mark.long
def test_the_best_is_trained_again_on_new_seeds(command, trained, tmp_path, capsys) -> None:
    flags = ["--seeds", 1, "--steps", 2, "--confirm-seeds", 2]
    worse = "worse: --g-lr 0 --d-lr 0"
    assert command(*flags, "--confirm", "worse", arms=(FIRST, worse)) == 0
    record = json.loads((tmp_path / "result.json").read_text())
    confirmed = record["confirmation"]
    assert (confirmed["arm"], confirmed["seeds"]) == ("worse", [1000, 1001])
    assert confirmed["summary"]["arms"]["worse"]["seeds"] == [1000, 1001]
    assert record["summary"]["arms"]["worse"]["seeds"] == [0]  # apart from those that chose it
    assert "CONFIRMATION on new seeds: 'worse'" in capsys.readouterr().out
    chosen = record["summary"]["differences"]["worse"]["pixels"]["fid"]["mean"]
    assert command(*flags, "--confirm", "best", arms=(FIRST, worse)) == 0
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["confirmation"] is None) == (chosen >= 0)
    assert len(trained) == 6  # nothing twice


@pytest.mark.long
def test_arms_of_other_batches_show_as_many_images(command, trained, tmp_path) -> None:
    arms = (FIRST, "twice: --batch-size 8", "k: --discriminator-steps 2")
    assert command("--seeds", 1, "--steps", 4, arms=arms) == 0
    runs = json.loads((tmp_path / "result.json").read_text())["runs"]
    assert [(run["steps"], run["images"]) for run in runs] == [(4, 16), (2, 16), (2, 16)]


@pytest.mark.long
def test_a_length_in_minutes_counts_what_was_trained_before(
    command, trained, tmp_path, monkeypatch
) -> None:
    lengths = []

    def noted(words: list[str]) -> None:
        lengths.append(float(words[words.index("--max-minutes") + 1]))

    train_here(monkeypatch, noted)
    assert command("--seeds", 1, "--minutes", 0.02) == 0
    assert lengths == [0.02, 0.02]
    place = tmp_path / "work" / "seed-0" / "first"
    (run,) = place.glob("0*")
    state = load_newest_checkpoint(run, CPU).state
    assert state["seconds"] >= 1.2
    # As if it had been stopped half-way.
    (place / "run.json").unlink()
    (place / "evaluation.json").unlink()
    del state["format"]
    save_checkpoint(run, saved_steps(run)[-1], {**state, "seconds": 0.6})
    assert command("--seeds", 1, "--minutes", 0.02) == 0
    assert lengths[2:] == [pytest.approx(0.01)]


@pytest.mark.parametrize(
    ("flags", "arms", "said"),
    [
        (["--steps", 2], (FIRST,), "--arm: expected two arms or more, got 1"),
        ([], (FIRST, OTHER), "--steps and --minutes: give one of the two"),
        (["--steps", 2, "--minutes", 1], (FIRST, OTHER), "--steps and --minutes: give one"),
        (["--steps", 2], (FIRST, "a: --seed 3"), "--seed is given by --seeds"),
        (["--steps", 2], (FIRST, "a: --max_minutes=3"), "--max-minutes is given by --minutes"),
        (["--steps", 2], (FIRST, "a: --r1-gama 3"), "arm 'a': Unrecognized options: --r1-gama"),
        (["--steps", 2], (FIRST, "a: --r1-interval 4 --r1-gamma 0"), "--r1-interval does nothing"),
        (["--steps", 2], (FIRST, "a: --resolution 64"), "resolution is 64, and 32 in 'first'"),
        (["--steps", 2], (FIRST, "a: --per-class"), "--per-class is not compared here"),
        (["--steps", 2], (FIRST, "a b", "a_b"), "'a b' and 'a_b' would have one folder"),
        (["--steps", 2], (FIRST, "a: '"), "are no flags"),
        (["--steps", 2], (FIRST, "best"), "--arm 'best': expected a name"),
        (["--steps", 2, "--confirm", "x"], (FIRST, OTHER), "--confirm x: expected best or one of"),
        (["--steps", 2, "--confirm", "first"], (FIRST, OTHER), "it is what the others are"),
        (["--steps", 2, "--samples", 1], (FIRST, OTHER), "--samples: got 1, expected 2 or more"),
    ],
)
def test_what_cannot_be_is_refused(command, tmp_path, capsys, flags, arms, said) -> None:
    assert command(*flags, arms=arms) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.long
def test_a_study_keeps_its_settings(command, trained, tmp_path, capsys) -> None:
    assert command("--seeds", 1, "--steps", 2) == 0
    for flags, arms, said in (
        (["--steps", 3], (FIRST, OTHER), "with steps 2, not 3"),
        (["--steps", 2, "--threads", 2], (FIRST, OTHER), "with threads 1, not 2"),
        (["--steps", 2], (FIRST, "other: --g-lr 0.1"), "arm 'other' with g_lr 0.002, not 0.1"),
    ):
        assert command("--seeds", 1, *flags, arms=arms) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert command("--steps", 2, "--work", tmp_path / "other") == 2
    assert "holds something else; name a new folder" in capsys.readouterr().err
    assert len(trained) == 2


@pytest.mark.long
def test_other_samples_judge_the_runs_that_are_there(command, trained, tmp_path) -> None:
    assert command("--seeds", 1, "--steps", 2) == 0
    assert command("--seeds", 1, "--steps", 2, "--samples", 20) == 0
    assert len(trained) == 2
    record = json.loads((tmp_path / "result.json").read_text())
    assert sum(record["evaluation"]["images"].values()) == 20
    assert "--samples 20" in record["command"]


@pytest.mark.long
def test_arms_of_a_file(command, trained, tmp_path, capsys) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text('"gamma 1": --r1-gamma 1\nplain:\n')
    assert command("--seeds", 1, "--steps", 2, "--arms", file, arms=(OTHER,)) == 0
    record = json.loads((tmp_path / "result.json").read_text())
    assert list(record["arms"]) == ["gamma 1", "plain", "other"]
    assert record["arms"]["gamma 1"] == f"{TINY} --r1-gamma 1"
    assert "--arms arms.yaml" in record["command"]
    for text in ("- a\n", "a: 3\n", "a: [\n", ""):
        file.write_text(text)
        assert command("--steps", 2, "--arms", file) == 2
        assert f"--arms: {file}" in capsys.readouterr().err


# --- In processes of their own --------------------------------------------------------------------


def start(words: list[str], *flags: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "research.compare_settings", *words, *map(str, flags)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def checkpoints(work: Path) -> list[Path]:
    return [path for run in work.glob("seed-*/*/0*") for path in run.glob("checkpoints/step-*.pt")]


def wait_for_checkpoint(work: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not checkpoints(work):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def holders(work: Path) -> list[int]:
    """Processes that train a run of the study."""
    return [json.loads(lock.read_text())["pid"] for lock in work.glob("seed-*/*/0*/.lock")]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_study_that_is_killed_goes_on_to_the_same_bits(words, tmp_path, number) -> None:
    flags = ["--arm", FIRST, "--arm", OTHER, "--seeds", 1, "--steps", 60]
    words = [word.replace(TINY, f"{TINY} --checkpoint-every 5") for word in words]
    work = tmp_path / "work"
    process = start(words, *flags, "--workers", 2)
    wait_for_checkpoint(work, process)
    training = holders(work)
    assert training
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on" in err
    deadline = time.monotonic() + 60  # nothing is left behind that would train on
    while any(is_alive(pid) for pid in training):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    cut = [max(saved_steps(run), default=0) for run in work.glob("seed-*/*/0*")]
    assert any(0 < step < 60 for step in cut), cut
    for place in (work, tmp_path / "whole"):
        again = [*words, *map(str, flags), "--work", str(place), "--out", str(place) + ".json"]
        assert call(compare_settings.main, *again) == 0
    killed, whole = (
        json.loads(Path(f"{place}.json").read_text()) for place in (work, tmp_path / "whole")
    )
    assert all(run["steps"] == 60 for run in killed["runs"])
    for arm in ("first", "other"):
        values = [each["summary"]["arms"][arm]["numbers"]["pixels"] for each in (killed, whole)]
        assert values[0] == values[1]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.long
def test_a_diverging_arm_in_processes_of_its_own(words, tmp_path, capsys) -> None:
    flags = ["--seeds", "1", "--steps", "4", "--workers", "2"]
    assert call(compare_settings.main, *words, *flags, "--arm", FIRST, "--arm", DIVERGES) == 0
    said = capsys.readouterr()
    assert "diverges, seed 0: step" in said.out
    assert "seed 0, diverges: failed: step" in said.err
    added = ["--arm", FIRST, "--arm", DIVERGES, "--arm", OTHER]
    assert call(compare_settings.main, *words, *flags, *added) == 0
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["summary"]["arms"]["other"]["seeds"] == [0]
    logs = list((tmp_path / "work").glob("seed-0/*/train.log"))
    assert len(logs) == 3

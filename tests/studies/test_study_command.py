"""``python -m cxrgan_fast.study``: plans, trains, goes on, and refuses, as a user sees it."""

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from commands import call
from cxrgan_fast import locks
from cxrgan_fast import study as command
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import PlaceError
from cxrgan_fast.studies.augmentation import study
from cxrgan_fast.studies.augmentation.groups import Work
from cxrgan_fast.studies.augmentation.plan import Group
from programs import run_module

GAN = (
    "--phantom-images 40 --resolution 32 --family dcgan --base-channels 8 --latent-size 8 "
    "--batch-size 4 --steps 1 --precision fp32 --r1-gamma 0"
)


@pytest.fixture
def run(tmp_path: Path, capsys) -> Callable[..., tuple[int, str, str]]:
    def start(*more: object, name: str = "first") -> tuple[int, str, str]:
        words = [name, "--data", "phantom", "--train", GAN, "--sizes", "all", "--ratios",
                 "1", "--arms", "RA,RAS", "--seeds", "2", "--classifier-steps", "2", "--out",
                 tmp_path / "studies", "--device", "cpu"]  # fmt: skip
        status = call(command.main, *words, *more)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return start


def test_a_plan_says_what_and_how_long_and_leaves_nothing(run, tmp_path: Path) -> None:
    status, out, err = run("--plan")
    assert status == 0, err
    assert "primary outcome: Difference of AUC between RAS and RA" in out
    assert "trainings: 10 GANs and 20 classifiers" in out
    assert "for one worker on this machine" in out
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--sizes", "30,all"], "size 30: fold . has"), (["--sizes", "1"], "size 1: .* no image of"),
     (["--sizes", "x"], "sizes 'x'"), (["--ratios", "0"], "ratios '0'"),
     (["--arms", "RA"], "RAS is missing"), (["--seeds", "1"], "--seeds 1: expected 2"),
     (["--negative", "healthy"], "negative class 'healthy'"),
     (["--classifier-steps", "0"], "steps 0"), (["--report", "--plan"], "give one of them"),
     (["--report"], "no classifier is trained yet"),
     (["--train", "--seed 3"], "--train: --seed is given by --seeds"),
     (["--train", "--resolution 7"], "--train: .*resolution"),
     (["--train", "--phantom-images 8 --resolution 32"], "class 'normal' has 4 patients"),
     (["--train", "'"], "are no flags")],
)  # fmt: skip
def test_what_cannot_be_is_a_line_before_any_training(run, words, message) -> None:
    status, _, err = run(*words)
    assert status == 2
    (line,) = [each for each in err.splitlines() if each.startswith("error: ")]
    assert re.search(message, line), line


def test_a_folder_of_something_else_and_another_plan_are_refused(run, tmp_path: Path) -> None:
    (tmp_path / "studies" / "other").mkdir(parents=True)
    (tmp_path / "studies" / "other" / "file").touch()
    assert "holds something else" in run("--report", name="other")[2]
    assert "NAME '../x'" in run("--report", name="../x")[2]
    assert "no classifier is trained yet" in run("--report")[2]
    plan = json.loads((tmp_path / "studies" / "first" / "plan.json").read_text())
    assert plan["protocol"]["stopping_rule"].startswith("All trainings")
    # Which preset "auto" stands for is another on another machine, and in another version.
    assert plan["generator"]["base_channels"] == 8
    assert "preset" not in plan["generator"]
    assert "planned with seeds 2, got 3" in run("--report", "--seeds", 3)[2]


def test_groups_that_fail_are_told_and_tried_again(run, monkeypatch, tmp_path: Path) -> None:
    fails = create_autospec(study.run_group, side_effect=UserError("the loss is not finite"))
    monkeypatch.setattr(study, "run_group", fails)
    for _ in range(2):
        fails.reset_mock()
        status, _, err = run()
        assert status == 2
        assert fails.call_count == study.MOST_FAILURES
        assert "3 groups in a row have failed, the last one: fold2-sizeall-seed0: the loss" in err
    note = tmp_path / "studies" / "first" / "groups" / "fold0-sizeall-seed0" / "failed.txt"
    assert note.read_text() == "the loss is not finite\n"


def test_a_full_disk_stops_at_once_and_ctrl_c_says_how_to_go_on(run, monkeypatch) -> None:
    real = study.run_group
    full = create_autospec(real, side_effect=PlaceError("cannot write x: the disk"))
    monkeypatch.setattr(study, "run_group", full)
    status, _, err = run()
    assert (status, full.call_count) == (2, 1)
    assert "cannot write x" in err
    stopped = create_autospec(real, side_effect=KeyboardInterrupt)
    monkeypatch.setattr(study, "run_group", stopped)
    status, _, err = run()
    assert status == 130
    assert "the same command goes on with" in err


def test_a_group_of_another_worker_is_left_to_it(run, monkeypatch, tmp_path: Path) -> None:
    """The first group is locked; it is taken up when the lock ends, whatever became of its work."""
    done: list[str] = []
    place = tmp_path / "studies" / "first" / "groups" / "fold0-sizeall-seed0"
    place.mkdir(parents=True)

    def finish(work: Work, group: Group) -> None:
        done.append(group.name)
        for arm, ratio in work.missing(group):
            label = "RA" if arm == "RA" else f"RAS_{ratio:g}"
            (work.place(group) / f"{label}.csv").touch()

    with ExitStack() as other:
        assert other.enter_context(locks.locked(place))

        def waits(seconds: float) -> None:
            assert len(done) == 9  # all others are done, and this one is waited for
            other.close()

        monkeypatch.setattr(
            study, "run_group", create_autospec(study.run_group, side_effect=finish)
        )
        monkeypatch.setattr(study.time, "sleep", waits)
        monkeypatch.setattr(command, "report_study",
                            create_autospec(study.report_study, return_value="report"))  # fmt: skip
        # Made before by whoever holds the lock.
        monkeypatch.setattr(command, "make_study_folder", create_autospec(study.make_study_folder))
        status, _, err = run()
    assert status == 0, err
    assert done[-1] == "fold0-sizeall-seed0"
    assert len(done) == len(set(done)) == 10


@pytest.mark.long
def test_a_whole_study_comes_to_its_report(tmp_path: Path) -> None:
    words = ["first", "--data", "phantom", "--train", GAN, "--sizes", "8,all", "--ratios",
             "1", "--arms", "R,RA,RAS", "--seeds", "2", "--classifier-steps", "2", "--out",
             tmp_path, "--device", "cpu"]  # fmt: skip
    out = run_module("cxrgan_fast.study", *words)
    assert "NOT WHOLE" not in out
    record = json.loads((tmp_path / "first" / "study.json").read_text())
    assert (record["whole"], record["trainings"]) == (True, 60)
    assert record["plan"]["gans"] == 20
    assert out.startswith(record["finding"][:40])
    rows = sorted((tmp_path / "first" / "groups").glob("*/*.csv"))
    rows[0].unlink()
    assert "NOT WHOLE: 59 of 60" in run_module("cxrgan_fast.study", *words, "--report")
    assert run_module("cxrgan_fast.study", *words) == out  # to the bit

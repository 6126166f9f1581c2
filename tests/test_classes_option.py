"""``--classes`` is one option with one syntax, whatever command has it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrgan_fast import evaluate as evaluate_command
from cxrgan_fast import generate as generate_command
from cxrgan_fast.command import run_command
from cxrgan_fast.data import __main__ as data_command
from cxrgan_fast.data import load_dataset, open_packed
from cxrgan_fast.errors import UserError
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.train import parse
from image_files import class_folders

BOTH = (["--classes", "bacterial", "normal"], ["--classes", "bacterial,normal"],
        ["--classes", "bacterial,", "normal"], ["--class", "bacterial", "normal"],
        ["--class=bacterial,normal"])  # fmt: skip
NONE = (["--classes", ""], ["--class", ""], [])
JOINED = (["--classes", "ill=normal+bacterial"], ["--class", "ill=normal+bacterial"])

Done = Callable[..., str]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Done:
    """Run a command in this process, hold that it succeeds, and give what it says."""

    def call(main: Callable[[], None], *words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        code = run_command(main)
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return call


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    for split in ("train", "test", "val"):
        class_folders(tmp_path / "xrays", 12, split=split)
    return tmp_path / "xrays"


CASES = [
    *((words, ("bacterial", "normal")) for words in BOTH),
    *((words, ("normal", "bacterial")) for words in NONE),
    *((words, ("ill",)) for words in JOINED),
]


@pytest.mark.parametrize(("words", "names"), CASES)
def test_prepare(words, names, done, xrays, tmp_path):
    done(data_command.main, "prepare", xrays, tmp_path / "out", "--resolution", 16, *words)
    assert open_packed(tmp_path / "out").class_names == names


@pytest.mark.parametrize(("words", "names"), CASES)
def test_subset(words, names, done, xrays, tmp_path):
    done(data_command.main, "subset", xrays, tmp_path / "out", "--per-class", 3, *words)
    assert tuple(json.loads((tmp_path / "out" / "subset.json").read_text())["classes"]) == names


@pytest.mark.parametrize(("words", "names"), CASES)
def test_train(words, names, xrays):
    config, _ = parse(["--device", "cpu", "--data", str(xrays), *words])
    chosen = config.dataset.classes or None
    assert load_dataset(xrays, resolution=32, classes=chosen).class_names == names


def test_files_may_come_after_it(done, xrays, tmp_path):
    words = ("--classes", "bacterial,normal", xrays, tmp_path / "out")
    done(data_command.main, "prepare", "--resolution", 16, *words)
    assert open_packed(tmp_path / "out").class_names == ("bacterial", "normal")


@pytest.mark.parametrize(("words", "names"), [case for case in CASES if case[1] != ("ill",)])
def test_generate(words, names, done, make_run, tmp_path):
    more = ("--out", tmp_path / "out", "--n-per-class", 1, "--device", "cpu")
    said = done(generate_command.main, make_run(), *more, *words)
    assert said.startswith(f"1 images of each of {', '.join(names)}: ")


@pytest.mark.parametrize(
    ("words", "names"),
    [(["--classes", "bacterial"], ["bacterial"]), (["--class", "bacterial"], ["bacterial"]),
     (BOTH[1], ["normal", "bacterial"]), (NONE[0], ["normal", "bacterial"])],
)  # fmt: skip
def test_evaluate(words, names, done, data, a_run):
    more = ("--data", data, "--features", "pixels", "--metrics", "fid", "--samples", 10)
    done(evaluate_command.main, a_run, *more, "--device", "cpu", *words)
    record = json.loads((a_run / "evaluation" / "evaluation.json").read_text())
    assert sorted(record["data"]["train"]) == sorted(names)


@pytest.mark.parametrize(
    ("main", "words"),
    [(generate_command.main, []), (evaluate_command.main, []), (data_command.main, ["prepare"]),
     (data_command.main, ["subset"]), (lambda: parse(sys.argv[1:]), [])],
)  # fmt: skip
def test_help_shows_the_usual_name_first(main, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command", *words, "--help"])
    with pytest.raises(SystemExit):
        main()
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--classes [NAME ...], --class [NAME ...] Classes" in said
    assert "separated by spaces or commas" in said


def test_what_a_run_generates_is_found_by_name(make_run):
    run = make_run(class_names=("a,b", "Normal"))

    def found(*words: str) -> list[str]:
        return [source.class_name for source in load_sources(run, None, words)]

    assert found("a,b") == ["a,b"]
    assert found("normal", "a,b") == ["Normal", "a,b"]
    with pytest.raises(UserError, match=r"^--classes x=a\+b: .*; classes are joined where .*train"):
        found("x=a+b")

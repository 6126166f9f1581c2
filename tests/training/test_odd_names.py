"""Odd names of runs, folders and files through every command: each works or is refused in a line.

Nothing is written but into the folder that is named. Class names have tests of their own:
`tests/data/test_class_names.py` and `test_class_folders.py`.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrgan_fast import evaluate, generate, train
from cxrgan_fast.command import run_command
from cxrgan_fast.data import __main__ as data
from evaluations import write_images

MAIN = {"train": train.main, "generate": generate.main, "evaluate": evaluate.main,
        "data": data.main}  # fmt: skip

NAMES = [
    "a\nb", "-x", "--", "...", "..", ".", "~", "~root", "$HOME", "%s%d", "{x}", "*?[a]", "a;b",
    " a ", "trailing.", "'\"", "x" * 300, "日本語" * 60, "\udcff\udcfe", "a\0b", "\x1b[31mred",
    "\u202eabc", "\u200b", "é", "e\u0301", "CON", "nul.txt", "A", "a/b", "../esc", ".hidden",
    "a=b", "a,b", "0", "-1", "last", "phantom", "checkpoints", "manifest.csv",
]  # fmt: skip


def shown(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()[:30]


# A training of each takes its time: one name of each kind.
FEW = ["a\nb", "--", "..", ".", "$HOME", "%s%d", " a ", "x" * 300, "\udcff\udcfe", "a\0b",
       "\x1b[31mred", "e\u0301", "../esc"]  # fmt: skip

# One of each kind again, of what takes less.
odd_names = pytest.mark.parametrize(
    "name",
    [name if name in FEW else pytest.param(name, marks=pytest.mark.long) for name in NAMES],
    ids=shown,
)


@pytest.fixture
def call(monkeypatch, capfd, tmp_path) -> Callable[..., int]:
    """Run a command in a folder of its own; hold that it ends well and writes only where it may."""

    def run(command: str, *arguments: object, writes: str) -> int:
        here = tmp_path / "x" / "here"
        here.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(here)
        monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
        before = set(tmp_path.rglob("*"))
        try:
            code = run_command(MAIN[command])
        except SystemExit as end:  # what the parser of the flags says
            code = end.code
        _, err = capfd.readouterr()
        assert code in (0, 2), err
        assert "Traceback" not in err
        allowed = Path(os.path.normpath(here / writes.replace("\0", "")))
        new = set(tmp_path.rglob("*")) - before
        assert [path for path in new if allowed not in (path, *path.parents)
                and path not in allowed.parents] == []  # fmt: skip
        assert before <= set(tmp_path.rglob("*"))
        if code == 0:
            assert allowed.exists()
        return code

    return run


SMALL = ["--device", "cpu", "--resolution", 32, "--base-channels", 8, "--latent-size", 8,
         "--batch-size", 4, "--phantom-images", 12, "--precision", "fp32", "--preset", "small",
         "--keep-checkpoints", 9]  # fmt: skip
REFUSED = {"\udcff\udcfe", "a\0b", "x" * 300, "日本語" * 60}


@pytest.mark.long
@pytest.mark.parametrize("name", FEW, ids=shown)
def test_a_folder_of_runs(call, tmp_path, name):
    code = call("train", *SMALL, "--steps", 1, f"--out={name}", writes=name)
    assert (code == 2) == (name in REFUSED)
    if code == 0:
        runs = tmp_path / "x/here" / name
        (run,) = (path for path in runs.iterdir() if path.name.startswith("00000-"))
        assert call("train", "--steps", 2, "--resume", run, writes=name) == 0
        assert (run / "checkpoints/step-00000002.pt").is_file()


@pytest.mark.first_tier(5)
@pytest.mark.parametrize("name", FEW, ids=shown)
def test_a_name_of_a_run(call, name):
    call("train", *SMALL, "--steps", 1, "--out", "runs", f"--name={name}", writes="runs")


@odd_names
def test_a_folder_of_generated_images(call, make_run, name):
    run = make_run("runs/run")
    few = ["--n-per-class", 1, "--device", "cpu"]
    code = call("generate", run, f"--out={name}", *few, writes=name)
    # That the current folder is not empty is a reason; here `..` alone is not.
    assert (code == 2) == (name in {*REFUSED - {"\udcff\udcfe"}, ".."})
    call("generate", run, "--out=o", *few, "--class-folders", f"normal={name}", writes="o")
    call("generate", run, "--out=o2", *few, f"--class={name}", writes="o2")
    call("generate", run, "--out=o3", *few, f"--checkpoint={name}", writes="o3")


@pytest.mark.first_tier(5)
@pytest.mark.parametrize("name", FEW, ids=shown)
def test_a_folder_of_an_evaluation(call, a_run, name):
    few = ["--features", "pixels", "--samples", 6, "--metrics", "fid", "--device", "cpu"]
    call("evaluate", a_run, f"--out={name}", *few, writes=name)


@odd_names
def test_folders_and_files_of_data(call, tmp_path, name):
    source = write_images(tmp_path / "src", "train", 6)
    shares = ["--val-share", 0, "--test-share", 0]
    call("data", "prepare", "--resolution", 32, *shares, "--", source, name, writes=name)
    call("data", "subset", "--per-class", 1, "--", source, f"sub{name}", writes=f"sub{name}")
    call("data", "inspect", source, f"--json=j{name}", writes=f"j{name}")
    call("data", "inspect", "--", name, writes=name)


def test_a_resumed_run_is_the_one_that_was_named(call):
    """Two parsers read --resume: a name that one of them takes for a flag began a new run."""
    assert call("train", *SMALL, "--steps", 1, "--out=--odd", writes="--odd") == 0
    run = "--odd/00000-phantom-32-resnet"
    assert call("train", "--steps", 2, "--resume", run, writes="nowhere") == 2
    assert call("train", "--steps", 2, "--resume", f"./{run}", writes="--odd") == 0

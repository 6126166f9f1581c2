"""``python -m cxrgan_fast.data``: what a user types, and what comes back."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cxrgan_fast.command import run_command
from cxrgan_fast.data.__main__ import main
from cxrgan_fast.data.packed import open_packed
from image_files import class_folders

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["data", *map(str, arguments)])
        try:
            code = run_command(main)
        except SystemExit as end:  # of the parser
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    for split, n in (("train", 12), ("test", 6), ("val", 2)):
        class_folders(tmp_path / "xrays", n, split=split)
    return tmp_path / "xrays"


def test_prepare(run: Run, xrays: Path, tmp_path: Path) -> None:
    (xrays / "train/NORMAL/notes.txt").touch()
    options = ("--resolution", 16, "--classes", "bacterial,normal", "--fit", "pad")
    code, out, err = run("prepare", xrays, tmp_path / "out", *options)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("out: 40 images of 1x16x16")
    assert lines[1].startswith("  bacterial: 20 images of 6 patients (")
    assert lines[-1].endswith(f"python -m cxrgan_fast.train --data {tmp_path / 'out'}")
    assert "not used, no image by name or content: 1 file (1 .txt in train/NORMAL)" in lines
    made = open_packed(tmp_path / "out")
    assert made.class_names == ("bacterial", "normal")
    assert made.settings["fit"] == "pad"


@pytest.mark.parametrize("words", [["--exposure", "percentile"], ["--exposure=percentile"]])
def test_contrast_by_its_name_of_before(run: Run, xrays: Path, tmp_path: Path, words) -> None:
    """A script of an earlier version makes the same set, which has the setting's old name."""
    command = ("prepare", xrays, tmp_path / "out", "--resolution", 16)
    code, _, err = run(*command, *words)
    assert (code, err) == (0, "")
    assert open_packed(tmp_path / "out").settings["exposure"] == "percentile"
    before = (tmp_path / "out/set.json").stat().st_mtime_ns
    assert run(*command, "--contrast", "percentile")[0] == 0
    assert (tmp_path / "out/set.json").stat().st_mtime_ns == before
    code, _, err = run("inspect", xrays, *words)  # which has no such option by any name
    assert code == 2
    assert "--exposure" in err


def test_prepare_with_the_sources_splits_warns_of_them(
    run: Run, xrays: Path, tmp_path: Path
) -> None:
    code, out, _ = run("prepare", xrays, tmp_path / "out", "--resolution", 16, "--splits", "source")
    assert code == 0
    assert "(12 train, 6 test, 2 val)" in out
    assert "warning: train and test share 6 of 6 patients of test" in out
    assert "warning: val has 4 images: too few" in out


def test_unusable_files_are_listed(run: Run, xrays: Path, tmp_path: Path) -> None:
    for number in range(3):
        (xrays / f"train/NORMAL/bad{number}.png").write_bytes(b"")
    code, out, err = run("prepare", xrays, tmp_path / "out", "--resolution", 16)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 4
    assert "  train/NORMAL/bad2.png: not an image" in err
    assert "error: train/NORMAL/bad0.png" in err
    code, out, _ = run("prepare", xrays, tmp_path / "out", "--resolution", 16, "--skip-bad")
    assert code == 0
    assert "left out: 3 files" in out


def test_inspect(run: Run, xrays: Path, tmp_path: Path) -> None:
    code, out, err = run(
        "inspect", xrays, "--json", tmp_path / "i.json", "--sheet", tmp_path / "i.png"
    )
    assert (code, err) == (0, "")
    assert "xrays: 40 images of 12 patients" in out
    assert "warning: train and test share" in out
    assert json.loads((tmp_path / "i.json").read_text())["images"] == 40
    with Image.open(tmp_path / "i.png") as sheet:
        assert sheet.width > 600
    code, _, err = run("inspect", xrays, "--json", tmp_path / "none/i.json")
    assert code == 2
    assert "there is no folder" in err


def test_subset(run: Run, xrays: Path, tmp_path: Path) -> None:
    code, out, err = run("subset", xrays, tmp_path / "out", "--per-class", 5, "--split", "train")
    assert (code, err) == (0, "")
    assert "out: 5 normal, 5 bacterial; 0.0" in out
    assert len(list((tmp_path / "out").rglob("*.png"))) == 10


def test_download_without_kagglehub(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    code, _, err = run("download", tmp_path / "out")
    assert code == 2
    assert err.startswith("error: download needs kagglehub")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare", "nowhere", "out"), "nowhere: no such folder or file"),
        (("prepare", "xrays", "out", "--classes", "ill"), "no class 'ill'"),
        (("prepare", "xrays", "out", "--workers", "0"), "workers 0: expected 1 to 64"),
        (("prepare", "xrays", "out", "--resolution", "3"), "resolution 3"),
        (("prepare", "xrays", "out", "--fit", "zoom"), "zoom"),
        (("prepare", "xrays", "out", "--val-share", "2"), "val share 2"),
        (("inspect", "xrays", "--workers", "99"), "workers 99"),
        (("subset", "xrays", "out", "--per-class", "999"), "give a smaller --per-class"),
        (("fly",), "fly"),
    ],
)
def test_what_cannot_work(
    run: Run,
    xrays: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_the_module_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cxrgan_fast.data", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in ("prepare", "inspect", "subset", "download"):
        assert name in done.stdout

"""The commit that a result names, and a file that is kept while there is nothing better."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import ModuleType
from unittest.mock import create_autospec

import pytest

from bench import kernels, record, throughput
from commands import call


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit of one file, inside another; it is ROOT."""
    monkeypatch.delenv("CXRGAN_COMMIT", raising=False)
    root = tmp_path / "inner"
    root.mkdir()
    monkeypatch.setattr(record, "ROOT", root)
    (root / "file").write_text("text")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    commands = (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "first"])
    for folder in (root, tmp_path):
        for arguments in commands:
            subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
    return root


def test_the_commit_and_whether_files_differ_from_it(checkout: Path) -> None:
    assert re.fullmatch("[0-9a-f]{40}", record.commit())
    before = record.commit()
    (checkout / "new").write_text("not tracked")
    assert record.commit() == before
    (checkout / "file").write_text("other text")
    assert record.commit() == before + "+"


def test_a_copy_without_its_history(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names no commit of what it happens to lie in."""
    (checkout / ".git").rename(checkout / "history")
    assert record.commit() == "unknown"
    monkeypatch.setenv("CXRGAN_COMMIT", "abc+")
    assert record.commit() == "abc+"


def test_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert record.commit() == "unknown"


@pytest.mark.parametrize(
    ("module", "measure"), [(kernels, "measure"), (throughput, "load_dataset")], ids=str
)
def test_ctrl_c_before_the_first_figure_leaves_an_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, module: ModuleType, measure: str
) -> None:
    (tmp_path / "result.json").write_text("older")
    interrupted = create_autospec(getattr(module, measure), side_effect=KeyboardInterrupt)
    monkeypatch.setattr(module, measure, interrupted)
    assert call(module.main, "--device", "cpu", "--out", tmp_path / "result.json") == 130
    assert (tmp_path / "result.json").read_text() == "older"
    assert "nothing is written" in capsys.readouterr().out

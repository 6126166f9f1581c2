"""The commit that a run or a result names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cxrgan_fast.provenance import commit


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit of one file, inside another."""
    monkeypatch.delenv("CXRGAN_COMMIT", raising=False)
    root = tmp_path / "inner"
    root.mkdir()
    (root / "file").write_text("text")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    commands = (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "first"])
    for folder in (root, tmp_path):
        for arguments in commands:
            subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
    return root


def test_the_commit_and_whether_files_differ_from_it(checkout: Path) -> None:
    assert re.fullmatch("[0-9a-f]{40}", commit(checkout))
    before = commit(checkout)
    (checkout / "new").write_text("not tracked")
    assert commit(checkout) == before
    (checkout / "file").write_text("other text")
    assert commit(checkout) == before + "+"


def test_a_copy_without_its_history(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names no commit of what it happens to lie in."""
    (checkout / ".git").rename(checkout / "history")
    assert commit(checkout) == "unknown"
    monkeypatch.setenv("CXRGAN_COMMIT", "abc+")
    assert commit(checkout) == "abc+"


def test_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert commit(checkout) == "unknown"

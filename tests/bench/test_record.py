"""The commit that a result names, and files that are whole at any time."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from bench import record


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


def test_a_file_is_replaced_at_once_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    record.replace(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"

    def interrupted(self: Path, target: Path) -> None:
        assert self.read_text() == "newer"
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record.replace(file, "newer")
    assert file.read_text() == "new"
    assert {each.name for each in tmp_path.iterdir()} == {"file", "link"}


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        record.replace(pipe, "text")
        assert os.read(reading, 100) == b"text"
        assert pipe.is_fifo()
    finally:
        os.close(reading)

"""Locks on folders, with either system's calls and without any."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from cxrgan_fast.locks import locked

HOLD = """
import sys
from pathlib import Path
from cxrgan_fast.locks import locked
with locked(Path(sys.argv[1])) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


def test_one_process_holds_a_folder_and_the_end_of_it_releases(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "True\n"
        with locked(tmp_path) as held:
            assert not held
        other.kill()
        other.wait()
    with locked(tmp_path) as held:
        assert held
    assert list(tmp_path.iterdir()) == []


class Msvcrt:
    """Windows' module: one byte of an open file is locked by one descriptor at a time."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        info = os.fstat(descriptor)
        holder = self.held.get((info.st_dev, info.st_ino))
        if holder is not None and holder != descriptor:
            raise OSError(errno.EACCES, "Permission denied")
        self.held[info.st_dev, info.st_ino] = descriptor


def test_windows_locks_a_file_beside_the_folder(tmp_path, monkeypatch):
    folder = tmp_path / "set"
    folder.mkdir()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    with locked(folder) as held:
        assert held
        assert [path.name for path in tmp_path.iterdir() if path != folder] == [".set.lock"]
        with locked(folder) as again:
            assert not again
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.iterdir()) == []


def test_where_there_are_no_locks_a_folder_counts_as_held(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    with locked(tmp_path) as held:
        assert held


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_counts_as_held(tmp_path, monkeypatch, code):
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path) as held:
        assert held


def test_other_failures_are_told(tmp_path, monkeypatch):
    def locking(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path):
        pass

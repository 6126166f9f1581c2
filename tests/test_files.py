"""Files are whole or absent."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import made_whole, read_small, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_write_atomic_writes_bytes_and_what_a_function_writes(tmp_path):
    path = tmp_path / "file.bin"
    write_atomic(path, b"first")
    assert path.read_bytes() == b"first"
    write_atomic(path, lambda file: torch.save({"step": 3}, file))
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert names(tmp_path) == ["file.bin"]


def test_the_content_is_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        events.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def spy_replace(self: Path, target: Path) -> Path:
        events.append(("rename", str(self)))
        assert self.read_bytes() == b"content"  # flushed: nothing waits in a Python buffer
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    write_atomic(tmp_path / "a", b"content")
    aside = str(tmp_path / ".a.tmp")
    assert events == [("fsync", aside), ("rename", aside), ("fsync", str(tmp_path))]


@pytest.mark.parametrize("failure", [RuntimeError("a defect"), KeyboardInterrupt()])
def test_a_failure_midway_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def write_half(file):
        file.write(b"new" * 100_000)
        raise failure

    with pytest.raises(type(failure)):
        write_atomic(path, write_half)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch, code):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:  # delayed allocation: the failure shows at the sync
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=rf"^cannot write {path}: the disk .*free some space$"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_torch_save_on_a_full_disk_is_the_same_line(tmp_path):
    path = tmp_path / "file.bin"

    def save(file):
        with open("/dev/full", "wb", buffering=0) as full:
            torch.save({"weights": torch.zeros(1000)}, full)

    with pytest.raises(UserError, match="the disk is full"):
        write_atomic(path, save)
    assert names(tmp_path) == []


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode != 0:
        pytest.skip("mounting a small file system needs privileges that this user has not")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk(tiny_disk):
    path = tiny_disk / "checkpoint.pt"
    write_atomic(path, b"old")
    state = {"weights": torch.zeros(100_000)}
    for content in (bytes(100_000), lambda file: torch.save(state, file)):
        with pytest.raises(UserError, match="the disk is full"):
            write_atomic(path, content)
        assert path.read_bytes() == b"old"
        assert names(tiny_disk) == ["checkpoint.pt"]


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*gone/a: No such file or directory"):
        write_atomic(tmp_path / "gone" / "a", b"content")


def test_kill_9_while_writing_leaves_the_old_file_and_the_next_write_cleans_up(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from cxrgan_fast.files import write_atomic\n"
        "def half(file):\n"
        "    file.write(bytes(100_000)); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(Path(sys.argv[1]), half)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -9
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file.bin"]


def test_files_get_the_permissions_of_an_ordinary_file(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    write_atomic(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == ordinary.stat().st_mode


def test_a_file_system_that_cannot_sync_folders_is_good_enough(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_atomic(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


# ------------------------------------------------------------------ folders that are made whole

KILLED = """
import os, sys
from pathlib import Path
from cxrgan_fast.files import made_whole
out = Path(sys.argv[1])
with made_whole(out, ["normal", "manifest.csv"]):
    (out / "normal").mkdir()
    (out / "normal" / "1.png").touch()
    os.kill(os.getpid(), 9)
"""


def test_what_a_kill_has_left_goes_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert sorted(path.name for path in out.iterdir()) == [".unfinished", "normal"]
    with made_whole(out, ["bacterial"]):
        (out / "bacterial").mkdir()
    assert [path.name for path in out.iterdir()] == ["bacterial"]
    with pytest.raises(UserError, match="is not empty"), made_whole(out, ["bacterial"]):
        pass
    assert [path.name for path in out.iterdir()] == ["bacterial"]
    shutil.rmtree(out)
    subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    (out / "thesis.doc").touch()
    with pytest.raises(UserError, match="is not empty"), made_whole(out, ["bacterial"]):
        pass
    assert [path.name for path in out.iterdir()] == ["thesis.doc"]


@pytest.mark.parametrize("names", ['["../kept"]', '[".."]', '["/"]', "5", "[5]", "{", '["a/b"]'])
def test_a_marker_that_somebody_wrote_removes_nothing_outside(tmp_path, names):
    kept, out = tmp_path / "kept", tmp_path / "out"
    kept.mkdir()
    out.mkdir()
    (out / ".unfinished").write_text(names)
    with made_whole(out, ["a"]):
        (out / "a").touch()
    assert kept.is_dir()
    assert [path.name for path in out.iterdir()] == ["a"]


def test_a_link_at_the_place_of_the_temporary_file_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / ".file.tmp").symlink_to(target)
    write_atomic(tmp_path / "file", b"content")
    assert target.read_text() == "precious"
    assert (tmp_path / "file").read_bytes() == b"content"
    assert not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize("path", ["/dev/zero", "pipe", ".", "none"])
def test_what_is_no_small_file_is_refused_and_not_waited_for(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"larger than 1,000 bytes|cannot read"):
        read_small(tmp_path / path, 1000)

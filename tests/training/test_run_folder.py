"""Run folders are numbered once, and files are whole or absent."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.training.run_folder import create_run_folder, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ---------------------------------------------------------------------------- run folders


def test_runs_are_numbered_and_named_after_what_they_train(tmp_path):
    root = tmp_path / "not" / "yet"
    assert create_run_folder(root, "phantom", 64, "resnet") == root / "00000-phantom-64-resnet"
    assert create_run_folder(root, "lungs", 128, "dcgan") == root / "00001-lungs-128-dcgan"
    assert names(root) == ["00000-phantom-64-resnet", "00001-lungs-128-dcgan"]


def test_a_number_is_never_used_again(tmp_path):
    (tmp_path / "00041-anything").mkdir()
    (tmp_path / "00042").mkdir()  # reserved by a program that was killed at once
    (tmp_path / "99999 notes.txt").touch()  # not a run
    assert create_run_folder(tmp_path, "phantom", 64, "resnet").name == "00043-phantom-64-resnet"


def test_a_data_name_cannot_leave_the_root_or_break_the_name(tmp_path):
    folder = create_run_folder(tmp_path, "../chest X-rays/", 64, "resnet")
    assert folder.parent == tmp_path
    assert folder.name == "00000-chest_X-rays-64-resnet"
    assert create_run_folder(tmp_path, "...", 64, "resnet").name == "00001-data-64-resnet"
    assert create_run_folder(tmp_path, "肺" * 200, 64, "resnet").is_dir()


def test_programs_that_start_together_get_different_numbers(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from cxrgan_fast.training.run_folder import create_run_folder\n"
        "input()\n"  # all wait for the start
        "for _ in range(25): create_run_folder(Path(sys.argv[1]), sys.argv[2], 64, 'resnet')\n"
    )
    # Different names: two runs of the same number would not clash as folders.
    commands = [[sys.executable, "-c", program, str(tmp_path), name] for name in "abcd"]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE) for command in commands]
    for process in running:
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait() for process in running] == [0, 0, 0, 0]
    assert [name[:5] for name in names(tmp_path)] == [f"{number:05d}" for number in range(100)]


@pytest.mark.parametrize("meanwhile", ["00000", "00000-other-32-dcgan"])
def test_a_number_that_is_taken_while_we_look_is_not_used(tmp_path, monkeypatch, meanwhile):
    look = os.listdir
    looks = []

    def look_too_early(folder: Path) -> list[str]:
        looks.append(folder)
        if len(looks) == 1:
            (tmp_path / meanwhile).mkdir()
            return []
        return look(folder)

    monkeypatch.setattr(os, "listdir", look_too_early)
    assert create_run_folder(tmp_path, "phantom", 64, "resnet").name == "00001-phantom-64-resnet"
    assert sorted(look(tmp_path)) == [meanwhile, "00001-phantom-64-resnet"]


def test_a_root_that_is_a_file_is_refused_by_name(tmp_path):
    root = tmp_path / "runs"
    root.write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot write .*runs: a file of that name is in the way"):
        create_run_folder(root, "phantom", 64, "resnet")
    with pytest.raises(UserError, match=r"cannot write .*deeper: a part of that path is a file"):
        create_run_folder(root / "deeper", "phantom", 64, "resnet")


def test_a_root_that_refuses_is_a_line(tmp_path, monkeypatch):
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = rf"^cannot write {tmp_path}: no permission to write there; choose another folder$"
    with pytest.raises(UserError, match=message):
        create_run_folder(tmp_path, "phantom", 64, "resnet")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="no permission"):
        create_run_folder(tmp_path / "runs", "phantom", 64, "resnet")


# ------------------------------------------------------------------------- atomic writing


def test_write_atomic_writes_bytes_and_what_a_function_writes(tmp_path):
    path = tmp_path / "file.bin"
    write_atomic(path, b"first")
    assert path.read_bytes() == b"first"
    write_atomic(path, lambda file: torch.save({"step": 3}, file))
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert names(tmp_path) == ["file.bin"]


def test_the_content_is_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, Path.rename

    def spy_fsync(descriptor: int) -> None:
        events.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def spy_rename(self: Path, target: Path) -> Path:
        events.append(("rename", str(self)))
        assert self.read_bytes() == b"content"  # flushed: nothing waits in a Python buffer
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "rename", spy_rename)
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
        "from cxrgan_fast.training.run_folder import write_atomic\n"
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

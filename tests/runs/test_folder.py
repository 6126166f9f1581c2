"""Run folders are numbered once."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.folder import create_run_folder


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
        "from cxrgan_fast.runs.folder import create_run_folder\n"
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

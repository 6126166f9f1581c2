"""The cache of prepared sets: nothing is left behind, and nobody deletes what another finishes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cxrgan_fast.data import Preparation, cache, open_source
from cxrgan_fast.data.cache import cached_set
from cxrgan_fast.data.packed import is_packed, open_packed
from evaluations import write_images


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Prepare one set through the cache: (its folder, what was said)."""
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    source = write_images(tmp_path / "lungs", "train", 8)

    def run() -> tuple[Path, str]:
        made, said = cached_set(
            open_source(source), Preparation(32), classes=None, split="train", skip_bad=False,
            progress=False,
        )  # fmt: skip
        return made.path, said

    return run


def test_what_a_kill_in_the_last_moment_has_left_is_removed(prepare):
    folder, _ = prepare()
    (folder / ".partial").mkdir()
    (folder / ".partial" / "pixels").write_bytes(bytes(1000))
    assert prepare() == (folder, f"from the cache {folder}")
    assert not (folder / ".partial").exists()
    assert is_packed(folder)


def test_a_damaged_set_and_what_is_left_of_one_are_made_anew(prepare):
    folder, _ = prepare()
    images = folder / "images.npy"
    images.write_bytes(images.read_bytes()[:-1] + b"x")
    assert prepare()[1] == f"cached in {folder}"
    (folder / "set.json").unlink()
    assert prepare()[1] == f"cached in {folder}"
    assert open_packed(folder).path == folder


def test_a_set_that_is_finished_between_two_looks_is_not_deleted(prepare, monkeypatch):
    """Another training writes set.json after the first look and before the lock."""
    folder, _ = prepare()
    described = (folder / "set.json").read_bytes()
    (folder / "set.json").unlink()
    looks = []
    look = cache.is_packed

    def finished_meanwhile(path: Path) -> bool:
        found = look(path)
        if not looks:
            (folder / "set.json").write_bytes(described)
        looks.append(found)
        return found

    monkeypatch.setattr(cache, "is_packed", finished_meanwhile)
    before = (folder / "images.npy").stat().st_ino
    assert prepare() == (folder, f"from the cache {folder}")
    assert looks[0] is False
    assert (folder / "images.npy").stat().st_ino == before


def test_nothing_is_removed_while_another_program_has_the_lock(prepare):
    folder, _ = prepare()
    (folder / "set.json").unlink()
    with cache.locked(folder):
        assert cache._whole(folder) is None
        assert (folder / "images.npy").exists()


def leave_unfinished(folder: Path, name: str) -> Path:
    """What a killed program leaves of another set."""
    partial = folder.parent / name / ".partial"
    partial.mkdir(parents=True)
    (partial / "pixels").write_bytes(bytes(1000))
    (partial.parent / "images.npy").write_bytes(bytes(1000))
    return partial


def test_the_work_of_sets_that_nobody_asks_for_again_is_swept(prepare, tmp_path):
    folder, _ = prepare()
    partial = leave_unfinished(folder, "other")
    whole = shutil.copytree(folder, folder.parent / "whole")
    (whole / ".partial").mkdir()
    outside = tmp_path / "outside"
    (outside / ".partial").mkdir(parents=True)
    (folder.parent / "linked").mkdir()
    (folder.parent / "linked/.partial").symlink_to(outside)
    assert prepare() == (folder, f"from the cache {folder}")
    assert list(partial.parent.iterdir()) == []
    assert is_packed(whole)
    assert not (whole / ".partial").exists()
    assert (outside / ".partial").is_dir()
    assert is_packed(folder)


HOLD = """
import sys, time
from pathlib import Path
from cxrgan_fast.data.prepare import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_work_of_a_living_program_is_not_swept(prepare):
    folder, _ = prepare()
    partial = leave_unfinished(folder, "other")
    writer = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(partial.parent)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout.readline() == "held\n"
        prepare()
        assert (partial / "pixels").is_file()
        assert (partial.parent / "images.npy").is_file()
    finally:
        writer.kill()
        writer.communicate()
    prepare()
    assert not partial.exists()

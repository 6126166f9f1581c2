"""Kept sets: nothing is left behind, and one training never deletes what another finishes."""

from pathlib import Path

import pytest

from cxrgan_fast.data import Preparation, kept, open_source
from cxrgan_fast.data.kept import kept_set
from cxrgan_fast.data.packed import is_packed, open_packed
from evaluations import write_images


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """Prepare one set and keep it: (its folder, what was said)."""
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    source = write_images(tmp_path / "lungs", "train", 8)

    def run() -> tuple[Path, str]:
        made, said = kept_set(
            open_source(source), Preparation(32), classes=None, split="train", skip_bad=False,
            progress=False,
        )  # fmt: skip
        return made.path, said

    return run


def test_what_a_kill_in_the_last_moment_has_left_is_removed(keep):
    folder, _ = keep()
    (folder / ".partial").mkdir()
    (folder / ".partial" / "pixels").write_bytes(bytes(1000))
    assert keep() == (folder, f"as kept in {folder}")
    assert not (folder / ".partial").exists()
    assert is_packed(folder)


def test_a_damaged_set_and_what_is_left_of_one_are_made_anew(keep):
    folder, _ = keep()
    images = folder / "images.npy"
    images.write_bytes(images.read_bytes()[:-1] + b"x")
    assert keep()[1] == f"kept in {folder}"
    (folder / "set.json").unlink()
    assert keep()[1] == f"kept in {folder}"
    assert open_packed(folder).path == folder


def test_a_set_that_is_finished_between_two_looks_is_not_deleted(keep, monkeypatch):
    """Another training writes set.json after the first look and before the lock."""
    folder, _ = keep()
    described = (folder / "set.json").read_bytes()
    (folder / "set.json").unlink()
    looks = []
    look = kept.is_packed

    def finished_meanwhile(path: Path) -> bool:
        found = look(path)
        if not looks:
            (folder / "set.json").write_bytes(described)
        looks.append(found)
        return found

    monkeypatch.setattr(kept, "is_packed", finished_meanwhile)
    before = (folder / "images.npy").stat().st_ino
    assert keep() == (folder, f"as kept in {folder}")
    assert looks[0] is False
    assert (folder / "images.npy").stat().st_ino == before


def test_nothing_is_removed_while_another_program_has_the_lock(keep):
    folder, _ = keep()
    (folder / "set.json").unlink()
    with kept.locked(folder):
        assert kept._whole(folder) is None
        assert (folder / "images.npy").exists()

"""Packed sets: the same bits however they are made, whole or not there, never outside OUT."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrgan_fast.data import load_dataset, packed
from cxrgan_fast.data.packed import CONTENT, PackedSet, is_packed, open_packed
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division, UnusableFilesError, prepare_set
from cxrgan_fast.data.sources import open_source, select
from cxrgan_fast.data.sources.store import SourceChangedError
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import PlaceError
from image_files import class_folders, encoded, smooth

SMALL = Preparation(16)


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "xrays")


def make(source: Path, out: Path, **options: Any) -> PackedSet:
    preparation = options.pop("preparation", SMALL)
    return prepare_set(open_source(source), out, preparation, progress=False, **options)


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_what_is_in_a_set(xrays: Path, tmp_path: Path) -> None:
    made = make(xrays, tmp_path / "out")
    assert made.name == "xrays"
    assert made.class_names == ("normal", "bacterial")
    assert made.images.shape == (24, 1, 16, 16)
    assert made.images.dtype == np.uint8
    assert not made.images.flags.writeable
    assert made.labels.tolist() == [0] * 12 + [1] * 12
    first = made.rows[0]
    assert (first.file, first.class_name, first.patient) == (
        "NORMAL/IM-0000-0000.png",
        "normal",
        "IM-0000",
    )
    assert (first.width, first.height) == (48, 40)
    assert first.sha256 == packed.file_digest(xrays / first.file)
    assert made.settings["resolution"] == 16
    assert made.settings["splits"] == "patient"
    assert sorted(os.listdir(tmp_path / "out")) == sorted([*CONTENT, "set.json"])
    by_patient = {row.patient: row.split for row in made.rows}
    assert all(by_patient[row.patient] == row.split for row in made.rows)
    assert {row.split for row in made.rows} == {"train", "test", "val"}
    # NumPy alone reads it.
    assert np.array_equal(np.load(tmp_path / "out/images.npy"), made.images)


def test_the_images_are_those_of_load_dataset(xrays: Path, tmp_path: Path) -> None:
    made = make(xrays, tmp_path / "out", division=Division(val_share=0, test_share=0))
    assert np.array_equal(made.images, load_dataset(xrays, resolution=16, progress=False).images)


def test_the_number_of_threads_changes_no_bit(xrays: Path, tmp_path: Path) -> None:
    sets = []
    for workers in (1, 2, 7):
        make(xrays, tmp_path / f"out{workers}", workers=workers)
        sets.append(content(tmp_path / f"out{workers}"))
    assert sets[0] == sets[1] == sets[2]


_KILLED = """
import os, signal, sys
from pathlib import Path
from cxrgan_fast.data import prepare, unfinished
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.sources import open_source
real, count = unfinished.write_at, 0
def write(*arguments):
    global count
    real(*arguments)
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
unfinished.write_at = write
prepare.prepare_set(open_source(sys.argv[1]), Path(sys.argv[2]), Preparation(16), progress=False)
"""


def test_kill_9_and_again(xrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    make(xrays, whole)
    for place in (7, 9):
        command = [sys.executable, "-c", _KILLED, str(xrays), str(out), str(place)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert not is_packed(out)
        with pytest.raises(UserError):
            open_packed(out)
    path = out / ".partial/journal.jsonl"
    first = json.loads(path.read_text().splitlines()[1])
    with path.open("a") as journal:
        for at, value in enumerate(("1", 5, "x", [], 5, [5], 1.5)):  # damaged, and still JSON
            journal.write(json.dumps([*first[:at], value, *first[at + 1 :]]) + "\n")
        journal.write("[" * 10**5 + "\n")
        journal.write('[17, "cut o')  # what a power cut leaves
    with (out / ".partial/pixels").open("r+b") as pixels:
        pixels.write(b"\xff")  # of the first image: its checksum tells
    read = []
    real = type(open_source(xrays)).read
    monkeypatch.setattr(
        "cxrgan_fast.data.sources.source.Source.read",
        lambda self, file: (read.append(file.name), real(self, file))[1],
    )
    make(xrays, out)
    assert content(out) == content(whole)
    assert 24 - 15 <= len(read) <= 24 - 13  # 6 + 8 were finished, one of them damaged


def test_again_is_nothing_to_do_and_other_settings_are_refused(xrays: Path, tmp_path: Path) -> None:
    make(xrays, tmp_path / "out")
    before = content(tmp_path / "out")
    make(xrays, tmp_path / "out")
    assert content(tmp_path / "out") == before
    for options in ({"preparation": Preparation(8)}, {"division": Division(seed=3)}):
        with pytest.raises(UserError, match="holds another set already, of xrays"):
            make(xrays, tmp_path / "out", **options)
    assert content(tmp_path / "out") == before


def test_a_folder_with_other_things_is_refused(xrays: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.doc").touch()
    with pytest.raises(UserError, match=r"out: is not empty \(it holds thesis\.doc\)"):
        make(xrays, tmp_path / "out")
    with pytest.raises(UserError, match=r"cannot write .*file"):
        make(xrays, tmp_path / "out/thesis.doc")


def test_a_partial_set_of_other_settings_is_thrown_away(xrays: Path, tmp_path: Path) -> None:
    bad = xrays / "NORMAL/IM-0001-0002.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:50])
    with pytest.raises(UnusableFilesError):
        make(xrays, tmp_path / "out", preparation=Preparation(8))
    bad.write_bytes(whole)
    make(xrays, tmp_path / "out")
    make(xrays, tmp_path / "other")
    assert content(tmp_path / "out") == content(tmp_path / "other")


def test_unusable_files_are_all_named_or_left_out(xrays: Path, tmp_path: Path) -> None:
    (xrays / "NORMAL/IM-0001-0002.png").write_bytes(b"nothing")
    (xrays / "PNEUMONIA/person0_bacteria_0.png").write_bytes(b"")
    (xrays / "NORMAL/gone.png").symlink_to("nowhere")
    (xrays / "PNEUMONIA/person7_4.png").write_bytes(encoded(smooth(0)))
    names = ["NORMAL/gone.png", "PNEUMONIA/person7_4.png"]
    with pytest.raises(UnusableFilesError, match=r"other files.*--skip-bad$") as caught:
        make(xrays, tmp_path / "out")
    assert [name for name, _ in caught.value.problems] == names
    made = make(xrays, tmp_path / "out", skip_bad=True)
    assert len(made.rows) == 22
    left_out = [name for name, _ in made.left_out]
    assert left_out == sorted(
        [*names, "NORMAL/IM-0001-0002.png", "PNEUMONIA/person0_bacteria_0.png"]
    )
    with pytest.raises(UnusableFilesError):  # the finished set does not hide them
        make(xrays, tmp_path / "out")


def test_a_class_without_readable_images(xrays: Path, tmp_path: Path) -> None:
    for path in (xrays / "NORMAL").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="class 'normal': none of its images can be read"):
        make(xrays, tmp_path / "out", skip_bad=True)


def test_a_source_that_changes_stops_it(xrays: Path, tmp_path: Path) -> None:
    source = open_source(xrays)
    (xrays / "NORMAL/IM-0002-0004.png").write_bytes(encoded(smooth(5)) + b"more")
    for skip_bad in (False, True):
        with pytest.raises(
            SourceChangedError, match=r"IM-0002-0004\.png: changed while it was read"
        ):
            prepare_set(source, tmp_path / "out", SMALL, skip_bad=skip_bad, progress=False)
    assert not is_packed(tmp_path / "out")


def test_two_programs_in_one_folder(xrays: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    descriptor = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(PlaceError, match="out: another program is preparing a set there"):
        make(xrays, tmp_path / "out")
    os.close(descriptor)
    make(xrays, tmp_path / "out")


@pytest.mark.parametrize("call", ["fcntl.flock", "os.posix_fallocate"])
def test_file_systems_that_lack_a_call(
    xrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def unsupported(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    make(xrays, tmp_path / "other")
    monkeypatch.setattr(call, unsupported)
    make(xrays, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "other")


@pytest.mark.parametrize(
    "call", ["os.posix_fallocate", "cxrgan_fast.data.unfinished.write_at", "os.fsync"]
)
def test_a_full_disk(
    xrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(PlaceError, match="the disk is full; free some space"):
            make(xrays, tmp_path / "out")
    assert not is_packed(tmp_path / "out")
    make(xrays, tmp_path / "out")
    make(xrays, tmp_path / "other")
    assert content(tmp_path / "out") == content(tmp_path / "other")


def test_splits_of_the_source_are_kept_when_asked(tmp_path: Path) -> None:
    for split, n in (("train", 8), ("test", 4), ("val", 2)):
        class_folders(tmp_path / "xrays", n, split=split)
    made = make(tmp_path / "xrays", tmp_path / "out", division=Division("source"))
    assert all(row.file.startswith(f"{row.split}/") for row in made.rows)
    with pytest.raises(UserError, match="has no splits of its own"):
        make(class_folders(tmp_path / "plain"), tmp_path / "out2", division=Division("source"))


@pytest.mark.parametrize("name", CONTENT)
def test_damage_is_noticed(xrays: Path, tmp_path: Path, name: str) -> None:
    make(xrays, tmp_path / "out")
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged .*prepare the set anew"):
            open_packed(tmp_path / "out")
    path.unlink()
    with pytest.raises(UserError):
        open_packed(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "in version 2 of the format, where 1 is known"),
        ({"format": "zip"}, "does not describe a packed set"),
        ({"shape": [24, 1, 8, 8]}, "damaged packed set"),
        ({"class_names": ["a", "b"]}, "labels and classes differ"),
        ({"class_names": None}, "damaged packed set"),
        ({"sha256": {}}, "damaged packed set"),
    ],
)
def test_descriptions_that_do_not_fit(
    xrays: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    make(xrays, tmp_path / "out")
    path = tmp_path / "out/set.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=message) as caught:
        open_packed(tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_odd_names_survive(tmp_path: Path) -> None:
    folder = tmp_path / "set/ill"
    folder.mkdir(parents=True)
    names = ["a b.png", 'quo"te,.png', "größe.png", "line\r\nbreak.png", "\udcfe.png", "'.png"]
    for number, name in enumerate(names):
        (folder / name).write_bytes(encoded(smooth(number)))
    made = make(tmp_path / "set", tmp_path / "out")
    assert sorted(row.file for row in made.rows) == sorted(f"ill/{name}" for name in names)
    assert open_packed(str(tmp_path / "out")).rows == made.rows


def test_choosing_from_a_set(xrays: Path, tmp_path: Path) -> None:
    made = make(xrays, tmp_path / "out")
    chosen = select(made, "test", ["Bacterial", "normal"])
    assert chosen.class_names == ("bacterial", "normal")
    assert {file.split for file in chosen.files} == {"test"}
    assert chosen.files[0].class_name == "bacterial"
    assert chosen.labels == sorted(chosen.labels)
    order = made.order()
    names = [made.rows[order[place]].file for place in chosen.places]
    assert names == [file.name for file in chosen.files]
    for split, classes, message in (
        ("train", ["viral"], "no class 'viral'"),
        ("train", [], "none named"),
        ("train", ["normal", "NORMAL"], "each class once"),
    ):
        with pytest.raises(UserError, match=message):
            select(made, split, classes)


def test_training_data_from_a_packed_set(xrays: Path, tmp_path: Path) -> None:
    made = make(xrays, tmp_path / "out")
    dataset = load_dataset(tmp_path / "out", resolution=16, split="test", progress=False)
    places = [place for place, row in enumerate(made.rows) if row.split == "test"]
    assert np.array_equal(dataset.images, made.images[places])
    assert dataset.patients == [made.rows[place].patient for place in places]
    assert "read from the packed set" in dataset.prepared
    with pytest.raises(UserError, match="train at --resolution 16 --image-channels 1"):
        load_dataset(tmp_path / "out", resolution=32)


def test_sources_are_prepared_into_the_cache_once(
    xrays: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    first = load_dataset(xrays, resolution=16, progress=False)
    assert f"cached in {tmp_path / 'cache'}" in first.prepared
    assert "made 16 x 16 by --fit squash" in first.prepared
    monkeypatch.setattr("cxrgan_fast.data.cache.prepare_set", None)  # not called again
    for path in xrays.rglob("*.png"):
        os.utime(path, (0, 0))  # the content counts, not the time
    again = load_dataset(xrays, resolution=16, progress=False)
    assert f"from the cache {tmp_path / 'cache'}" in again.prepared
    assert again.fingerprint == first.fingerprint
    assert again.patients == first.patients
    monkeypatch.undo()
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    (xrays / "NORMAL/IM-0000-0000.png").write_bytes(encoded(smooth(77)))
    assert load_dataset(xrays, resolution=16, progress=False).fingerprint != first.fingerprint
    assert len(list((tmp_path / "cache/sets").iterdir())) == 2


def test_a_damaged_set_in_the_cache_is_made_anew(
    xrays: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    first = load_dataset(xrays, resolution=16, progress=False)
    (path,) = (tmp_path / "cache/sets").glob("*/images.npy")
    for damage in (lambda: path.write_bytes(path.read_bytes()[:-1]), path.unlink):
        damage()
        again = load_dataset(xrays, resolution=16, progress=False)
        assert again.fingerprint == first.fingerprint
        assert "from the cache" not in again.prepared


def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    xrays: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "file"))
    dataset = load_dataset(xrays, resolution=16, progress=False)
    assert len(dataset) == 24
    assert "not cached (cannot write" in dataset.prepared
    assert "CXRGAN_CACHE" in dataset.prepared

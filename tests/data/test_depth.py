"""Which value is white is decided by the whole set, whatever is chosen of it and interrupted."""

import json
from pathlib import Path

import numpy as np
import pytest

from cxrgan_fast.data import load_dataset
from cxrgan_fast.data.depth import Brightest, Storage, shown_notes, white_of, whites_of
from cxrgan_fast.data.inspection import as_json, as_table, inspect_source
from cxrgan_fast.data.packed import open_packed
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division, UnusableFilesError, prepare_set
from cxrgan_fast.data.sources import open_source
from image_files import encoded, smooth
from tone_cards import png

SIXTEEN = Storage(16, 65535)


def test_white_by_the_bits_in_use() -> None:
    for brightest, white in (
        (0, 255), (255, 255), (256, 1023), (1023, 1023), (1024, 4095), (16384, 65535),
    ):  # fmt: skip
        assert white_of(Brightest(SIXTEEN, brightest)) == white
    signed = Storage(15, 32767)
    assert white_of(Brightest(signed, 20000)) == 32767
    # A claim of 12 bits: values in the lower ones, or PNG's way in the upper.
    claimed = Storage(12, 65535)
    assert white_of(Brightest(claimed, 1100)) == 4095
    assert white_of(Brightest(claimed, 4096)) == 65535


def test_white_of_a_set_is_that_of_its_brightest_image() -> None:
    signed = Storage(15, 32767)
    found = [Brightest(SIXTEEN, 1000), Brightest(SIXTEEN, 3000), Brightest(signed, 9)]
    assert whites_of(found) == {SIXTEEN: 4095, signed: 255}
    assert whites_of([]) == {}


def deep_set(root: Path) -> Path:
    """Flat images of 12 bits in 16, dim ones in train and the brightest in test."""
    values = {"train/a": (400, 1023), "train/b": (600, 1100), "test/a": (2000,), "test/b": (4000,)}
    for folder, tones in values.items():
        (root / folder).mkdir(parents=True)
        for tone in tones:
            image = np.full((16, 16), tone, np.uint16)
            (root / folder / f"{tone}.png").write_bytes(png(image))
    (root / "train/a/eight.png").write_bytes(encoded(np.full((16, 16), 90, np.uint8)))
    return root


def tones_of(folder: Path) -> dict[str, int]:
    made = open_packed(folder)
    return {
        row.file: int(image[0, 5, 5]) for row, image in zip(made.rows, made.images, strict=True)
    }


EXPECTED = {
    "train/a/400.png": 25, "train/a/1023.png": 64, "train/b/600.png": 37, "train/b/1100.png": 68,
    "train/a/eight.png": 90, "test/a/2000.png": 125, "test/b/4000.png": 249,
}  # fmt: skip


def prepare(root: Path, out: Path, **options: object) -> dict[str, int]:
    division = Division("source")
    settings = Preparation(16)
    prepare_set(  # type: ignore[misc]
        open_source(root), out, settings, division=division, progress=False, **options
    )
    return tones_of(out)


def test_images_keep_their_tones_beside_each_other(tmp_path: Path) -> None:
    root = deep_set(tmp_path / "set")
    for workers in (1, 5):
        assert prepare(root, tmp_path / f"all{workers}", workers=workers) == EXPECTED
    # Whatever is chosen: all images of the source have a say.
    train = prepare(root, tmp_path / "train", split="train")
    assert train == {file: tone for file, tone in EXPECTED.items() if file.startswith("train")}
    some = prepare(root, tmp_path / "some", split="train", classes=["b"])
    assert some == {file: tone for file, tone in EXPECTED.items() if file.startswith("train/b")}


def test_it_is_said(tmp_path: Path) -> None:
    root = deep_set(tmp_path / "set")
    prepare(root, tmp_path / "out")
    note = "values of 16 bits: 4095 is white, by the set"
    assert open_packed(tmp_path / "out").notes == {note: 6}
    assert json.loads((tmp_path / "out/set.json").read_text())["notes"] == {note: 6}
    found = inspect_source(open_source(root), progress=False)
    assert as_json(found)["notes"] == {note: 6}
    assert f"6 images: {note}" in as_table(found)
    # What brightness means is the same for both.
    means = {seen.file.name: seen.mean for seen in found.images}
    assert means == pytest.approx(EXPECTED)


def test_training_takes_the_same_tones_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    root = deep_set(tmp_path / "set")

    def train() -> dict[str, int]:
        loaded = load_dataset(root, resolution=16, progress=False)
        assert "images: values of 16 bits" in loaded.prepared
        return dict(zip(loaded.files, loaded.images[:, 0, 5, 5].tolist(), strict=True))

    expected = {file: tone for file, tone in EXPECTED.items() if file.startswith("train")}
    assert train() == expected
    assert train() == expected  # from the cache
    # An image of another split changes what is white, and so which set is meant.
    (root / "test/a/2000.png").write_bytes(png(np.full((16, 16), 60000, np.uint16)))
    assert train()["train/b/1100.png"] == 4


def test_interrupted_work_goes_on_with_the_same_white(tmp_path: Path) -> None:
    root = deep_set(tmp_path / "set")
    damaged = root / "train/a/z.png"
    damaged.write_bytes(b"damaged")
    with pytest.raises(UnusableFilesError):
        prepare(root, tmp_path / "out")
    journal = tmp_path / "out/.partial/journal.jsonl"
    lines = journal.read_text().splitlines()
    assert len(lines) == 7
    # Killed when of the images that need the set only its brightest was done.
    done = [line for line in lines if int(json.loads(line)[0]) in (3, 5)]
    assert len(done) == 2
    journal.write_text("\n".join(done) + "\n")
    with pytest.raises(UnusableFilesError):
        prepare(root, tmp_path / "out")
    made = prepare(root, tmp_path / "out", skip_bad=True)
    assert made == EXPECTED


def test_another_image_of_the_source_begins_the_work_anew(tmp_path: Path) -> None:
    root = deep_set(tmp_path / "set")
    (root / "train/b/1100.png").write_bytes(png(np.full((16, 16), 1000, np.uint16)))
    (root / "train/b/z.png").write_bytes(b"damaged")
    with pytest.raises(UnusableFilesError):
        prepare(root, tmp_path / "out", split="train")
    # Without the images of test, 10 bits are in use: what was prepared by 12 is not gone on with.
    for name in ("a/2000", "b/4000"):
        (root / f"test/{name}.png").write_bytes(encoded(smooth(1)))
    made = prepare(root, tmp_path / "out", split="train", skip_bad=True)
    assert made["train/b/600.png"] == 150
    assert made["train/a/1023.png"] == 255


def test_only_the_most_common_notes_are_shown() -> None:
    notes = {f"note {number}": 10 - number for number in range(10)} | {"\x1b[2J": 50}
    shown = shown_notes(notes)
    assert shown[0] == r"50 images: \x1b[2J"
    assert len(shown) == 9
    assert shown[-1] == "6 images: 3 other notes"

"""Inspection: every count, copies of every kind, conflicts and damage, in three forms."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrgan_fast.data import duplicates, inspection_sheet, phantom_image
from cxrgan_fast.data.duplicates import groups, near_duplicates, perceptual_hashes, thumbnail
from cxrgan_fast.data.inspection import as_json, as_table, inspect_source
from cxrgan_fast.data.inspection_sheet import write_sheet
from cxrgan_fast.data.readers import look_at
from cxrgan_fast.data.sources import open_source
from cxrgan_fast.errors import UserError
from image_files import class_folders, encoded, smooth


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    for split, n in (("train", 8), ("test", 2)):
        class_folders(tmp_path / "xrays", n, split=split)
    root = tmp_path / "xrays"
    for number in range(2):  # class_folders draws the same images for every split
        (root / f"test/NORMAL/IM-0000-000{number}.png").write_bytes(encoded(smooth(50 + number)))
        path = root / f"test/PNEUMONIA/person0_bacteria_{number}.png"
        path.write_bytes(encoded(smooth(60 + number)))
    return root


def inspect(root: Path) -> dict[str, object]:
    return as_json(inspect_source(open_source(root), progress=False))


def test_counts_and_ranges(xrays: Path) -> None:
    (xrays / "train/NORMAL/IM-0007-0001.jpeg").write_bytes(encoded(smooth(70, 90, 60), "JPEG"))
    found = inspect(xrays)
    assert found["images"] == 21
    classes = found["classes"]
    assert isinstance(classes, dict)
    assert classes["normal"]["splits"] == {"train": 9, "test": 2}
    assert classes["normal"]["patients"] == 5
    assert classes["bacterial"]["images"] == 10
    assert found["kinds"] == {"PNG L": 20, "JPEG L": 1}
    assert found["height"] == {"min": 40, "median": 40, "max": 90}
    assert found["most_common_sizes"] == [
        {"width": 48, "height": 40, "images": 20},
        {"width": 60, "height": 90, "images": 1},
    ]
    assert found["images_per_patient"] == {"min": 1, "median": 2, "max": 4}
    for key in ("exact_duplicates", "near_duplicates", "label_conflicts", "unusable"):
        assert found[key] == []
    (shared,) = found["split_warnings"]  # type: ignore[misc]
    assert shared.startswith("train and test share 2 of 2 patients")


def test_copies_conflicts_and_leaks(xrays: Path) -> None:
    train = xrays / "train"
    original = (train / "NORMAL/IM-0000-0000.png").read_bytes()
    (train / "NORMAL/IM-0009-0001.png").write_bytes(original)
    (train / "PNEUMONIA/person8_bacteria_9.png").write_bytes(original)
    other = Image.open(train / "PNEUMONIA/person3_bacteria_7.png")
    other.resize((96, 80)).save(xrays / "test/PNEUMONIA/person3_bacteria_99.jpeg", quality=80)
    found = inspect(xrays)
    three = [
        "train/NORMAL/IM-0000-0000.png",
        "train/NORMAL/IM-0009-0001.png",
        "train/PNEUMONIA/person8_bacteria_9.png",
    ]
    two = ["test/PNEUMONIA/person3_bacteria_99.jpeg", "train/PNEUMONIA/person3_bacteria_7.png"]
    assert found["exact_duplicates"] == [three]
    assert found["near_duplicates"] == [two]
    assert found["label_conflicts"] == [three]
    assert found["duplicates_of_other_patients"] == [three]
    assert found["duplicates_across_splits"] == [two]


def test_damage_and_odd_brightness_are_named(xrays: Path) -> None:
    (xrays / "train/NORMAL/IM-0001-0002.png").write_bytes(b"nothing")
    (xrays / "train/NORMAL/gone.png").symlink_to("nowhere")
    (xrays / "train/notes.txt").touch()
    white = np.full((40, 48), 255, np.uint8)
    (xrays / "train/NORMAL/IM-0010-0001.png").write_bytes(encoded(white))
    for number in range(30):
        pixels = smooth(100 + number) // 4 + 90
        (xrays / f"train/NORMAL/IM-1{number:03d}-0001.png").write_bytes(encoded(pixels))
    found = inspect(xrays)
    assert [name for name, _ in found["unusable"]] == [  # type: ignore[attr-defined]
        "train/NORMAL/IM-0001-0002.png",
        "train/NORMAL/gone.png",
    ]
    assert "train/NORMAL/IM-0010-0001.png" in found["unusual_brightness"]  # type: ignore[operator]
    (notes,) = found["unused"]  # type: ignore[misc]
    assert (notes["suffix"], notes["files"]) == (".txt", 1)


def test_the_table_says_what_to_do(xrays: Path) -> None:
    original = (xrays / "train/NORMAL/IM-0000-0000.png").read_bytes()
    (xrays / "train/PNEUMONIA/person8_bacteria_9.png").write_bytes(original)
    (xrays / "train/NORMAL/line\nbreak.png").write_bytes(b"nothing")
    table = as_table(inspect_source(open_source(xrays), progress=False))
    assert "xrays: 21 images of" in table
    assert "warning: groups of copies of several classes: 1 (such as train/NORMAL/IM-0000" in table
    assert r"line\nbreak.png, not an image" in table
    assert max(map(len, table.splitlines())) < 260
    assert "nothing to warn of" not in table


def test_a_clean_set(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for n in range(4):
            content = encoded(smooth(10 * ord(name) + n))
            (tmp_path / "set" / name / f"{name}{n}.png").write_bytes(content)
    assert as_table(inspect_source(open_source(tmp_path / "set"))).endswith("nothing to warn of")


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"nothing")
    with pytest.raises(
        UserError, match=r"none of its 1 images can be read .*a/1\.png: not an image"
    ):
        inspect_source(open_source(tmp_path), progress=False)


def test_the_number_of_threads_changes_nothing(xrays: Path) -> None:
    results = [
        json.dumps(as_json(inspect_source(open_source(xrays), workers=n, progress=False)))
        for n in (1, 5)
    ]
    assert results[0] == results[1]


def test_the_sheet_is_a_picture(xrays: Path, tmp_path: Path) -> None:
    source = open_source(xrays)
    write_sheet(inspect_source(source, progress=False), source, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("L"))
    assert min(pixels.shape) > 400
    assert pixels.std() > 20


def test_a_sheet_keeps_no_whole_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of an image outside the memory that all share is as small as it is drawn."""
    (tmp_path / "set/a").mkdir(parents=True)
    for number in range(3):
        (tmp_path / f"set/a/{number}.png").write_bytes(encoded(smooth(number, 900, 1200)))
    source = open_source(tmp_path / "set")
    found = inspect_source(source, progress=False)
    kept = []

    def noted(*arguments: Any) -> Any:
        kept.append(look_at(*arguments))
        return kept[-1]

    monkeypatch.setattr(inspection_sheet, "look_at", noted)
    write_sheet(found, source, tmp_path / "sheet.png")
    assert len(kept) >= 3
    assert {max(image.size) for image in kept} == {384}


def test_a_sheet_without_matplotlib(
    xrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(xrays)
    found = inspect_source(source, progress=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        UserError, match=r"--sheet needs Matplotlib: pip install 'cxrgan_fast\[data\]'"
    ):
        write_sheet(found, source, tmp_path / "sheet.png")


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer)


CHANGES = {
    "encoded again": jpeg,
    "resized": lambda image: image.resize((150, 130)),
    "brighter": lambda image: image.point([min(255, int(1.15 * v + 8)) for v in range(256)]),
    "of another gamma": lambda image: image.point(
        [int(255 * (v / 255) ** 1.25) for v in range(256)]
    ),
}


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("change", list(CHANGES))
def test_copies_are_found_and_other_patients_are_not(change: str) -> None:
    originals = [Image.fromarray(phantom_image(5, n, n % 2).image) for n in range(60)]
    copies = [CHANGES[change](image) for image in originals]
    thumbs = np.stack([thumbnail(image) for image in [*originals, *copies]])
    pairs = {(i, j) for i, j, _ in near_duplicates(thumbs)}
    expected = {(n, n + 60) for n in range(60)}
    assert len(pairs & expected) >= 57
    assert len(pairs - expected) <= 1


def test_blocks_give_what_all_pairs_give(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    thumbs = np.stack([smooth(int(n), 32, 32) for n in rng.integers(0, 12, 50)])
    whole = near_duplicates(thumbs)
    assert whole
    monkeypatch.setattr("cxrgan_fast.data.duplicates._BLOCK", 7)
    assert near_duplicates(thumbs) == whole
    assert all(correlation == pytest.approx(1) for _, _, correlation in whole)


def test_many_copies_are_told_by_the_pairs_that_connect_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    originals = np.stack([smooth(n, 32, 32) for n in range(20)])
    # A third of them equal to the bit, the others each a little different.
    noise = rng.integers(-2, 3, (100, *originals.shape))
    noise[::3] = 0
    thumbs = (originals + noise).clip(0, 255).astype(np.uint8).reshape(-1, 32, 32)
    compared: list[int] = []

    def counted(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        compared.append(len(first))
        return correlations(first, second)

    correlations = duplicates._correlations
    monkeypatch.setattr(duplicates, "_correlations", counted)
    pairs = near_duplicates(thumbs)
    assert groups([pair[:2] for pair in pairs]) == [list(range(n, 2000, 20)) for n in range(20)]
    assert len(pairs) == 2000 - 20
    assert sum(compared) < 20 * 2000  # of 99,000 pairs of copies


def test_images_of_one_tone() -> None:
    flat = np.stack([np.full((32, 32), level, np.uint8) for level in (0, 90)] + [smooth(1, 32, 32)])
    assert perceptual_hashes(flat).shape == (3, 64)
    assert [pair[:2] for pair in near_duplicates(flat)] == [(0, 1)]
    assert near_duplicates(flat[:1]) == []


def test_groups_are_connected_pairs() -> None:
    assert groups([(4, 5), (0, 2), (5, 9), (2, 1)]) == [[0, 1, 2], [4, 5, 9]]
    assert groups([]) == []

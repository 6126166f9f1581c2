"""Subsets: of like size, of different patients, under the limit, whole and readable."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import dicom_files
from cxrgan_fast.data import prepare_set
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.sources import open_source
from cxrgan_fast.data.subset import Subset, make_subset
from cxrgan_fast.errors import UserError
from image_files import class_folders, encoded, smooth


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Of each class 12 images of about 40 x 48, and 4 of other sizes."""
    root = class_folders(tmp_path / "xrays", 12)
    for number in range(4):
        for name in (f"NORMAL/IM-9{number}-1.png", f"PNEUMONIA/person9{number}_bacteria_1.png"):
            (root / name).write_bytes(encoded(smooth(number, 90 + 30 * number, 100)))
    return root


def make(source: Path, out: Path, **options: int) -> Subset:
    return make_subset(open_source(source), out, progress=False, **options)  # type: ignore[arg-type]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def total(out: Path) -> int:
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def test_images_of_the_most_common_size_of_different_patients(mixed: Path, tmp_path: Path) -> None:
    made = make(mixed, tmp_path / "out", per_class=6)
    assert made.counts == {"normal": 6, "bacterial": 6}
    found = rows(tmp_path / "out")
    assert {(row["width"], row["height"]) for row in found} == {("48", "40")}
    assert len({(row["label"], row["patient"]) for row in found}) == 12
    assert made.total == total(tmp_path / "out")
    for row in found:
        assert (tmp_path / "out" / row["path"]).read_bytes() == (mixed / row["source"]).read_bytes()
    described = json.loads((tmp_path / "out/subset.json").read_text())
    assert described["images"] == made.counts


def test_the_result_is_a_source_by_itself(mixed: Path, tmp_path: Path) -> None:
    make(mixed, tmp_path / "out", per_class=4)
    table = open_source(tmp_path / "out/manifest.csv")
    folder = open_source(tmp_path / "out")
    expected = {row["path"]: (row["label"], row["patient"]) for row in rows(tmp_path / "out")}
    assert {file.name: (file.class_name, file.patient) for file in table.files} == expected
    assert [file.patient for file in folder.files] == [file.patient for file in table.files]


def test_draws_repeat_and_differ_by_seed(mixed: Path, tmp_path: Path) -> None:
    outs = [tmp_path / f"out{place}" for place in range(3)]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        make(mixed, out, per_class=4, seed=seed)
    assert rows(outs[0]) == rows(outs[1]) != rows(outs[2])


def test_second_images_of_a_patient_come_last(mixed: Path, tmp_path: Path) -> None:
    make(mixed, tmp_path / "out", per_class=8)
    patients = [row["patient"] for row in rows(tmp_path / "out") if row["label"] == "normal"]
    assert len(set(patients)) == 6
    assert len(patients) == 8


def test_large_files_give_way_to_small_ones(tmp_path: Path) -> None:
    for number in range(9):
        path = tmp_path / f"xrays/a/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(smooth(number)) + bytes(2000 * number))  # PNGs may have a tail
    made = make(
        tmp_path / "xrays", tmp_path / "out", per_class=3, max_bytes=15_000, image_bytes=10_000
    )
    assert made.total <= 15_000
    with pytest.raises(UserError, match=r"3 images of each class do not fit .* about \d would"):
        make(tmp_path / "xrays", tmp_path / "out2", per_class=3, max_bytes=8_000)
    assert not (tmp_path / "out2").exists()


def test_long_names_count(tmp_path: Path) -> None:
    folder = tmp_path / "xrays" / ("ill" * 20) / ("p" * 200)
    folder.mkdir(parents=True)
    for number in range(20):
        content = encoded(smooth(number, 9, 9))
        (folder / f"{number}{chr(0x1F480) * 50}.png").write_bytes(content)
    made = make(tmp_path / "xrays", tmp_path / "out", per_class=8, max_bytes=20_000)
    assert made.total == total(tmp_path / "out") <= 20_000


def test_what_cannot_be(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="class 'normal' has 16 images that can be read, 17"):
        make(mixed, tmp_path / "out", per_class=17)
    with pytest.raises(UserError, match="per class 0"):
        make(mixed, tmp_path / "out", per_class=0)
    with pytest.raises(UserError, match="xrays is not empty"):
        make(mixed, mixed, per_class=1)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: a file of that name is in the way"):
        make(mixed, tmp_path / "file", per_class=1)


def test_unreadable_files_are_named(mixed: Path, tmp_path: Path) -> None:
    (mixed / "NORMAL/IM-0001-0002.png").write_bytes(b"nothing")
    made = make(mixed, tmp_path / "out", per_class=6)
    assert [name for name, _ in made.unusable] == ["NORMAL/IM-0001-0002.png"]


def test_hostile_names_stay_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "xrays/a b").mkdir(parents=True)
    names = [
        "x y.png",
        "x\ty.png",
        "x..png",
        "größe.png",
        "X Y.png",
        "\udcfe.png",
        "e" * 200 + ".png",
    ]
    for number, name in enumerate(names):
        (tmp_path / "xrays/a b" / name).write_bytes(encoded(smooth(number)))
    make(tmp_path / "xrays", tmp_path / "out", per_class=len(names))
    paths = [
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")
    ]
    assert len({path.casefold() for path in paths}) == len(names)
    assert all(path.isascii() and path.startswith("a_b/") for path in paths)
    source = open_source(tmp_path / "out/manifest.csv")
    assert source.classes == ("a b",)
    assert len(source.files) == len(names)


def dicom_of_patients(root: Path) -> Path:
    """18 DICOM files of 6 patients, which neither names nor folders tell."""
    for number in range(18):
        path = root / "ab"[number % 2] / f"{number:02d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = smooth(number).astype(np.uint16)
        path.write_bytes(
            dicom_files.encoded(dicom_files.dataset(pixels, PatientID=f"P{number // 3}"))
        )
    return root


def test_the_manifest_has_the_patients_that_dicom_files_tell(tmp_path: Path) -> None:
    """Its column goes before what the files tell: their own names there would divide patients."""
    root = dicom_of_patients(tmp_path / "xrays")
    make(root, tmp_path / "out", per_class=9)
    found = rows(tmp_path / "out")
    whose = {row["source"]: row["patient"] for row in found}
    assert len(set(whose.values())) == 6
    assert all(name.startswith("patient-") for name in whose.values())
    for place in ("out", "out/manifest.csv"):
        made = prepare_set(
            open_source(tmp_path / place), tmp_path / f"set{len(place)}", Preparation(16),
            progress=False,
        )  # fmt: skip
        splits: dict[int, set[str]] = {}
        for row in made.rows:
            splits.setdefault(int(Path(row.file).stem) // 3, set()).add(row.split)
        assert all(len(each) == 1 for each in splits.values())


def test_a_subset_of_folders_of_patients_keeps_them(tmp_path: Path) -> None:
    for number in range(12):
        path = tmp_path / f"xrays/a/P{number // 3}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(smooth(number)))
    make(tmp_path / "xrays", tmp_path / "out", per_class=12)
    assert {file.patient for file in open_source(tmp_path / "out").files} == {
        "P0",
        "P1",
        "P2",
        "P3",
    }
    assert open_source(tmp_path / "out").name == "out"

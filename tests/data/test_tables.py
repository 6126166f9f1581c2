"""Tables: which columns say what, for every command, and what lies beside them."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from cxrgan_fast.data import load_dataset, prepare_set
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division
from cxrgan_fast.data.sources import Columns, open_source
from cxrgan_fast.errors import UserError
from image_files import encoded, published, smooth
from listings import touch, unused


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_images_of_an_archive_that_its_table_does_not_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("table.csv", "path,label\ni/1.png,a\n")
        for name in ("i/1.png", "i/2.png"):
            archive.writestr(name, encoded(smooth(1)))
    assert unused(open_source(tmp_path / "set.zip")) == {"not named in table.csv": 1}


def test_the_table_of_a_packed_set_is_read_where_it_lies(tmp_path: Path) -> None:
    root = published(tmp_path / "set")
    made = prepare_set(
        open_source(root), tmp_path / "out", Preparation(16),
        division=Division("source"), progress=False,
    )  # fmt: skip
    source = open_source(tmp_path / "out/images.csv")
    assert [file.name for file in source.files] == sorted(row.file for row in made.rows)
    assert source.classes == ("bacterial", "normal")
    assert source.has_splits
    dataset = load_dataset(
        tmp_path / "out/images.csv", resolution=16, classes=["normal,bacterial"], progress=False
    )
    direct = load_dataset(root, resolution=16, progress=False)
    assert dataset.fingerprint == direct.fingerprint
    root.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"are no longer in .*; name the packed set itself"):
        open_source(tmp_path / "out/images.csv")
    (tmp_path / "moved/images.csv").write_bytes((tmp_path / "out/images.csv").read_bytes())
    assert len(open_source(tmp_path / "moved/images.csv").files) == len(made.rows)


def test_the_table_of_a_set_that_was_packed_from_an_archive(tmp_path: Path) -> None:
    root = published(tmp_path / "set")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, path.relative_to(root))
    made = prepare_set(
        open_source(tmp_path / "set.zip"), tmp_path / "out", Preparation(16), progress=False
    )
    source = open_source(tmp_path / "out/images.csv")
    assert len(source.files) == len(made.rows)
    with Image.open(io.BytesIO(source.read(source.files[0]))) as image:
        assert image.size == (48, 40)


def test_older_packed_sets_have_no_notes(tmp_path: Path) -> None:
    made = prepare_set(
        open_source(published(tmp_path / "set")), tmp_path / "out", Preparation(16), progress=False
    )
    described = json.loads((made.path / "set.json").read_text())
    del described["notes"], described["unused"], described["source"]
    (made.path / "set.json").write_text(json.dumps(described))
    dataset = load_dataset(made.path, resolution=16, progress=False)
    assert not any("not used" in note for note in dataset.notes)
    with pytest.raises(UserError, match="names no image that is there"):
        open_source(made.path / "images.csv")


# ------------------------------------------------------------------ images that it does not name


def test_images_beside_a_table_that_it_does_not_name(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "set", "i/1.png", "i/2.png", "i/3.png", "loose.jpg", "other/4.dcm", "notes.txt",
        ".cache/5.png", "runs/00000-x/generator.safetensors", "runs/00000-x/grids/grid-000002.png",
    )  # fmt: skip
    (root / "t.csv").write_text("path,label,dx\ni/1.png,a,x\n./i/2.png,b,\n")
    (root / "other/IM0001").write_bytes(encoded(smooth(1)))
    source = open_source(root / "t.csv")
    assert unused(source) == {"not named in t.csv": 4, "a run's folder": 1}
    assert any(
        line.startswith("not used, not named in t.csv: 4 files (1 .jpg in the top folder, 1 .png")
        for line in source.notes()
    )
    # A row that has no value is told as such, and not once more as a file that is not named.
    source = open_source(root / "t.csv", Columns(label_column="dx"))
    assert unused(source) == {
        "not named in t.csv": 4,
        "a run's folder": 1,
        "without a value in the column dx": 1,
    }


def test_images_in_the_folders_into_which_a_table_leads(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "images/2.png", "images/deeper/3.png", "aside/4.png")
    (tmp_path / "link").symlink_to(tmp_path / "images")
    (tmp_path / "labels").mkdir()
    rows = f"../link/1.png,a\n{tmp_path}/images/2.png,a\n"
    (tmp_path / "labels/t.csv").write_text(f"path,label\n{rows}")
    assert unused(open_source(tmp_path / "labels/t.csv")) == {}
    touch(tmp_path, "images/5.png")
    (line,) = open_source(tmp_path / "labels/t.csv").notes()
    assert line == "not used, not named in t.csv: 1 file (1 .png in ../images)"


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path: Path, monkeypatch) -> None:
    touch(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text("path,label\n1.png,a\n")

    def refused(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("cxrgan_fast.data.sources.store.os.scandir", refused)
    source = open_source(tmp_path / "t.csv")
    assert [file.name for file in source.files] == ["1.png"]
    (line,) = source.notes()
    assert line.startswith("images that the table does not name are not counted: ")
    assert line.endswith("cannot be listed (Permission denied)")


# --------------------------------------------------------------------------- columns, everywhere


def odd_table(root: Path) -> Path:
    """A table whose columns nobody can guess: 8 images of 4 patients."""
    lines = ["where;which;who;part"]
    for number in range(8):
        touch(root, f"{number}.png").joinpath(f"{number}.png").write_bytes(encoded(smooth(number)))
        lines.append(
            f"{number}.png;{'ab'[number % 2]};p{number // 2};{'train' if number else 'test'}"
        )
    (root / "t.csv").write_text("\n".join(lines) + "\n")
    return root / "t.csv"


ODD = Columns("where", "which", "who", "part")


def test_loading_takes_the_columns_that_preparing_takes(tmp_path: Path) -> None:
    table = odd_table(tmp_path)
    with pytest.raises(
        UserError, match="or say which they are by --path-column and --label-column"
    ):
        load_dataset(table, resolution=16, progress=False)
    dataset = load_dataset(table, resolution=16, columns=ODD, progress=False)
    assert dataset.class_counts() == {"a": 3, "b": 4}
    assert sorted(set(dataset.patients)) == ["p0", "p1", "p2", "p3"]


def test_columns_for_what_is_no_table_are_refused(tmp_path: Path) -> None:
    made = prepare_set(
        open_source(published(tmp_path / "set")), tmp_path / "out", Preparation(16), progress=False
    )
    for place in (tmp_path / "set", made.path):
        with pytest.raises(UserError, match=r"is no table, and --label-column names a column"):
            load_dataset(place, resolution=16, columns=Columns(label_column="dx"), progress=False)


# ----------------------------------------------------------- columns and values that come near


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("pid", "patient"), ("MRN", "patient"), ("case_id", "patient"), ("id_patient", "patient"),
        ("subset", "split"), ("Dataset_type", "split"), ("phase", "split"), ("data split", "split"),
    ],
)  # fmt: skip
def test_columns_that_come_near_and_are_not_read_are_named(
    tmp_path: Path, header: str, column: str
) -> None:
    touch(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text(f"path,label,{header}\n1.png,a,x\n")
    assert open_source(tmp_path / "t.csv").notes() == [
        f"no column is read as the {column} (near: {header.lower()}): call it {column}, or say "
        f"which by --{column}-column NAME"
    ]
    told = {f"{column}_column": header}
    if column == "patient":
        source = open_source(tmp_path / "t.csv", Columns(**told))
        assert (source.files[0].patient, source.notes()) == ("x", [])


@pytest.mark.parametrize("same", [("P7", "p7"), ("7", "007", "7.0"), ("0", "00", "0.0")])
def test_a_patient_who_is_spelled_in_several_ways_is_one(
    tmp_path: Path, same: tuple[str, ...]
) -> None:
    names = [f"{number}.png" for number in range(len(same) + 2)]
    touch(tmp_path, *names)
    whose = [*same, "70", "P70"]
    rows = [f"{name},a,{patient}" for name, patient in zip(names, whose, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,patient", *rows]) + "\n")
    found = [file.patient for file in open_source(tmp_path / "t.csv").files]
    assert found == [same[0]] * len(same) + ["70", "P70"]


def test_rows_without_a_patient_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "patient00002/2.png")
    (tmp_path / "t.csv").write_text("path,label,patient\n1.png,a,\npatient00002/2.png,a,\n")
    source = open_source(tmp_path / "t.csv")
    assert [file.patient for file in source.files] == ["1.png", "patient00002"]
    (line,) = source.notes()
    assert line.startswith("2 images have no value in the column of patients: their paths tell")


def test_words_of_splits_in_a_column(tmp_path: Path) -> None:
    words = ("train", "Validate", "dev", "TEST", "holdout")
    names = touch(tmp_path, *(f"{word}.png" for word in words))
    rows = [f"{word}.png,a,{word}" for word in words]
    (names / "t.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    found = {file.name[:-4]: file.split for file in open_source(names / "t.csv").files}
    assert found == dict(zip(words, ("train", "val", "val", "test", "test"), strict=True))

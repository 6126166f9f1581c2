"""What a user names as data: five kinds that answer the same questions."""

import ast
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cxrgan_fast
from cxrgan_fast.data import (
    PackedSet,
    PhantomSource,
    Preparation,
    load_dataset,
    open_data,
    open_source,
    phantom_image,
    prepare_set,
    select,
)
from cxrgan_fast.data.load import data_place, packed_shape
from cxrgan_fast.data.prepare import Division
from cxrgan_fast.data.readers import prepare_image
from cxrgan_fast.data.sources import Columns, classes_with_images
from cxrgan_fast.errors import UserError

CLASSES = ("bacterial", "normal")
ROOT = Path(cxrgan_fast.__file__).parent


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same images as a folder, a table, an archive and a packed set; and the phantom set."""
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "xrays"
    rng = np.random.default_rng(0)
    rows = ["path,label,split"]
    for split in ("train", "test"):
        for name in CLASSES:
            for number in range(3):
                path = folder / split / name / f"p{split}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (20, 16), dtype=np.uint8)).save(path)
                rows.append(f"{path.relative_to(folder)},{name},{split}")
    (folder / "t.csv").write_text("\n".join(rows))
    with zipfile.ZipFile(tmp_path / "xrays.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    packed = prepare_set(
        open_source(folder), tmp_path / "packed", Preparation(16), division=Division("source"),
        classes=CLASSES[::-1], progress=False,  # so that names and labels are sorted differently
    )  # fmt: skip
    return {
        "folder": str(folder),
        "table": str(folder / "t.csv"),
        "archive": str(tmp_path / "xrays.zip"),
        "packed": str(packed.path),
        "phantom": "phantom",
    }


@pytest.mark.parametrize("kind", ["folder", "table", "archive", "packed", "phantom"])
def test_every_kind_answers_the_same_questions(kinds: dict[str, str], kind: str) -> None:
    opened = open_data(kinds[kind], phantom_images=6)
    assert set(opened.classes) == set(opened.default_classes) == set(CLASSES)
    assert opened.has_splits
    assert opened.name == {"table": "t", "phantom": "phantom"}.get(kind, "xrays")
    assert classes_with_images(opened, "train") == set(CLASSES)
    assert opened.class_folders() == {name: [name] for name in opened.classes}
    for split, classes in (("train", None), ("test", ["Normal"]), ("test", ["normal,bacterial"])):
        chosen = select(opened, split, classes)
        dataset = load_dataset(
            kinds[kind], resolution=16, split=split, classes=classes, phantom_images=6,
            progress=False,
        )  # fmt: skip
        assert dataset.class_names == chosen.class_names
        assert dataset.labels.tolist() == chosen.labels == sorted(chosen.labels)
        assert dataset.files == [file.name for file in chosen.files]
        assert dataset.patients == [file.patient for file in chosen.files]
        assert {file.split for file in chosen.files} == {split}
        assert dataset.name == opened.name
    with pytest.raises(UserError, match=r"no class 'nromal' in .*did you mean 'normal'"):
        select(opened, "train", ["nromal"])
    with pytest.raises(UserError, match="split 'valid': expected one of train, test, val"):
        select(opened, "valid")


def test_the_same_images_have_one_fingerprint_in_every_kind(kinds: dict[str, str]) -> None:
    del kinds["phantom"]
    for split in ("train", "test"):
        options = {"resolution": 16, "split": split, "progress": False}
        for classes in (CLASSES, ["normal"], ["both=normal+bacterial"]):
            found = {
                load_dataset(data, classes=classes, **options).fingerprint  # type: ignore[arg-type]
                for data in kinds.values()
            }
            assert len(found) == 1


def test_the_phantom_set_is_the_sequence_of_phantoms() -> None:
    """Splits take disjoint ranges of it, and classes lie in blocks: figures depend on both."""
    source = PhantomSource(5, seed=3)
    for block, split in enumerate(("train", "test", "val")):
        dataset = source.load(Preparation(16), split=split)
        assert dataset.labels.tolist() == [0, 0, 0, 1, 1]
        for row, label in enumerate(dataset.labels.tolist()):
            drawn = phantom_image(3, (block << 40) + row, label).image
            alone = prepare_image(Image.fromarray(drawn), Preparation(16))
            assert np.array_equal(dataset.images[row], alone)
        assert dataset.patients[4] == f"phantom-{split}-000004"
        assert dataset.files[4] == "bacterial/phantom000004.png"
    swapped = source.load(Preparation(16), split="train", classes=["bacterial", "normal"])
    assert swapped.class_names == ("bacterial", "normal")
    assert torch.equal(
        swapped.images[:1],
        source.load(Preparation(16), split="train", classes=["bacterial"]).images[:1],
    )


def test_a_part_of_a_joined_class_may_lack_images_in_a_split_of_a_packed_set(
    kinds: dict[str, str], tmp_path: Path
) -> None:
    """A division by patient may do that; a folder's own split without a class is told."""
    folder = Path(kinds["folder"])
    for path in (folder / "test/normal").iterdir():
        path.unlink()
    made = prepare_set(
        open_source(folder), tmp_path / "again", Preparation(16), division=Division("source"),
        progress=False,
    )  # fmt: skip
    joined = ["both=normal+bacterial"]
    assert [file.class_name for file in select(made, "test", joined).files] == ["both"] * 3
    assert len(select(made, "train", joined).files) == 6
    with pytest.raises(UserError, match=r"again \(test\): class 'normal' has no images"):
        select(made, "test", ["normal"])
    with pytest.raises(UserError, match=r"xrays \(test\): class 'normal' has no images"):
        select(open_source(folder), "test", joined)


def test_the_name_of_the_phantom_set_is_no_path(
    kinds: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("packed").rename("phantom")
    assert data_place("phantom") is None
    assert isinstance(open_data("phantom"), PhantomSource)
    assert packed_shape("phantom") is None
    for path in ("./phantom", Path("phantom")):
        assert data_place(path) == Path("phantom")
        assert isinstance(open_data(path), PackedSet)
        assert packed_shape(path) == (1, 16)
    assert packed_shape(kinds["folder"]) is None


@pytest.mark.parametrize("kind", ["folder", "packed", "phantom"])
def test_columns_of_what_is_no_table_are_refused(kinds: dict[str, str], kind: str) -> None:
    with pytest.raises(UserError, match="is no table, and --patient-column names a column"):
        load_dataset(kinds[kind], resolution=16, columns=Columns(patient_column="patient"))


def test_no_module_compares_with_the_name_of_the_phantom_set() -> None:
    """Where it becomes the source, its name is PhantomSource.name; all others ask data_place."""
    files = sorted([*ROOT.rglob("*.py"), *(ROOT.parent / "bench").rglob("*.py")])
    names = {"phantom", "PhantomSource"}
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare):
                sides = [each for side in (node.left, *node.comparators) for each in ast.walk(side)]
                values = {getattr(each, "value", None) for each in sides if _is_plain(each)}
                values |= {each.id for each in sides if isinstance(each, ast.Name)}
                if values & names:
                    found.append(file.relative_to(ROOT.parent).as_posix())
    assert found == ["cxrgan_fast/data/load.py"]


def _is_plain(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)

"""Which class names can be worked with, and the folders that they get."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.data.class_folders import choose_folders, class_folders
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import prepare_set
from cxrgan_fast.data.sources import check_class_names, folder_names, open_source
from cxrgan_fast.data.subset import make_subset
from cxrgan_fast.errors import UserError
from image_files import class_folders as write_published
from image_files import encoded, smooth

ODD = [
    *("No Lung Opacity / Not Normal", "N/A", "../other-run", "..", "/etc", "CON", "a:b", "train"),
    *("masks", ".hidden", "x ", "config.yaml", "checkpoints", "größe", "N_A", "normal"),
]


@given(st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=8))
def test_folders_are_one_safe_part_of_a_path_each_of_its_own(names: list[str]) -> None:
    folders = folder_names(names)
    assert list(folders) == names
    assert len({folder.casefold() for folder in folders.values()}) == len(names)
    for folder in folders.values():
        assert 0 < len(folder.encode("utf-8", "surrogateescape")) <= 100
        assert folder.isprintable()
        assert not set(folder) & set('/\\:*?"<>|')
        assert folder[0] not in ". -~"
        assert folder[-1] not in ". "


def test_usual_names_are_their_own_folders_and_odd_ones_are_not() -> None:
    usual = ["normal", "No Finding", "COVID-19", "größe", "0", "Lung_Opacity", "N_A"]
    assert folder_names(usual) == {name: name for name in usual}
    odd = [name for name in ODD if name not in usual]
    folders = folder_names(odd)
    assert all(folder != name for name, folder in folders.items())
    assert folders["N/A"].startswith("N_A-")
    # Alone as among others: a part of a set goes into the same folder.
    assert all(folder_names([name])[name] == folder for name, folder in folders.items())


def test_names_that_differ_in_case_alone_get_two_folders() -> None:
    first, second = folder_names(["Normal", "NORMAL"]).values()
    assert first == "Normal"
    assert second.startswith("NORMAL-")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no class names"),
        (None, "no class names"),
        ("ab", "no class names"),
        ([1], "expected a name, got int"),
        (["", "a"], "a name without a character"),
        ([" "], "a name without a character"),
        (["a", "a"], "'a' is named more than once"),
        (["x" * 201], "a name of 201 characters"),
        (["a\x1b[2J"], "a name that cannot be printed"),
        (["a\u202eb"], "a name that cannot be printed"),
        (["\udcff"], "a name that cannot be printed"),
    ],
)
def test_names_that_cannot_be_worked_with(names: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_class_names(names, "here")
    assert str(caught.value).isprintable()


def test_all_ways_in_ask_the_same(tmp_path: Path) -> None:
    bad = "a\tb"
    (tmp_path / bad).mkdir()
    (tmp_path / bad / "1.png").write_bytes(encoded(smooth(1)))
    (tmp_path / "t.csv").write_text(f"path,label\n{bad}/1.png,{bad}\n")
    for source in (tmp_path, tmp_path / "t.csv"):
        with pytest.raises(UserError, match="cannot be printed"):
            load_dataset(source, resolution=16, progress=False)
    with pytest.raises(UserError, match="cannot be printed"):
        ImageDataset(
            images=torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
            labels=torch.zeros(1, dtype=torch.int64),
            class_names=(bad,), patients=["p"], files=["f"], name="n",
        )  # fmt: skip


def table(root: Path, names: list[str], each: int = 3) -> Path:
    """A table whose labels are the names."""
    rows = ["path,label"]
    for label, name in enumerate(names):
        for number in range(each):
            (root / "i").mkdir(parents=True, exist_ok=True)
            (root / f"i/{label}x{number}.png").write_bytes(encoded(smooth(label * 50 + number)))
            rows.append(f'i/{label}x{number}.png,"{name}"')
    (root / "t.csv").write_text("\n".join(rows))
    return root / "t.csv"


def test_a_subset_writes_into_safe_folders_and_keeps_the_names(tmp_path: Path) -> None:
    names = [*(name.strip() for name in ODD), "a b", "a_b"]  # of which plain letters make one
    path = table(tmp_path / "set", names)
    before = {each for each in tmp_path.rglob("*") if each.is_file()}
    out = tmp_path / "a/b/out"
    make_subset(open_source(path), out, per_class=2, progress=False)
    assert {
        each for each in tmp_path.rglob("*") if each.is_file() and out not in each.parents
    } == before
    assert len([each for each in out.iterdir() if each.is_dir()]) == len(names)
    again = open_source(out / "manifest.csv")
    assert set(again.classes) == set(names)


# ------------------------------------------------------------------------- folders like the data's


def test_folders_of_a_source_of_every_kind(tmp_path: Path) -> None:
    root = write_published(tmp_path / "set", 8)
    (root / "PNEUMONIA/person9_virus_1.png").write_bytes(encoded(smooth(3)))
    expected = {"normal": ["NORMAL"], "bacterial": ["PNEUMONIA"], "viral": ["PNEUMONIA"]}
    assert class_folders(root).folders == expected
    division = {"progress": False}
    made = prepare_set(
        open_source(root), tmp_path / "packed", Preparation(16),
        classes=["normal,ill=bacterial+virus"], **division,
    )  # fmt: skip
    assert class_folders(made.path).folders == {"normal": ["NORMAL"], "ill": ["PNEUMONIA"]}
    path = table(tmp_path / "table", ["N/A", "b"], each=8)
    by_name = {"N/A": [folder_names(["N/A"])["N/A"]], "b": ["b"]}
    assert class_folders(path).folders == by_name
    packed = prepare_set(open_source(path), tmp_path / "packed_table", Preparation(16), **division)
    assert class_folders(packed.path).folders == by_name
    assert class_folders("phantom").folders == {"normal": ["normal"], "bacterial": ["bacterial"]}


def test_folders_as_the_data_have_them(tmp_path: Path) -> None:
    root = str(write_published(tmp_path / "set", 4))
    folders, warnings = choose_folders(["Bacterial", "normal"], [], root)
    assert folders == {"Bacterial": "PNEUMONIA", "normal": "NORMAL"}
    assert warnings == []
    assert choose_folders(["pneumonia"], [], root)[0] == {"pneumonia": "PNEUMONIA"}
    folders, (warning,) = choose_folders(["bacterial"], [], root)
    assert warning.startswith("nothing goes into NORMAL, which ")
    folders, _ = choose_folders(["bacterial", "fracture"], ["Fracture=OTHER"], root)
    assert folders == {"fracture": "OTHER", "bacterial": "PNEUMONIA"}
    assert choose_folders(["a", "b"], [], None) == ({}, [])
    assert choose_folders(["a=b", "b"], ["a=b=C=D"], None)[0] == {"a=b": "C=D"}


@pytest.mark.parametrize(
    ("given_", "like", "message"),
    [
        (["norml=X"], False, "expected NAME=FOLDER with a name of normal, bacterial; did you mean"),
        (["normal"], False, "expected NAME=FOLDER"),
        (["normal=../x"], False, r"folder '\.\./x': expected the name of one folder"),
        (["normal="], False, "expected the name of one folder"),
        (["normal=manifest.csv"], False, "expected the name of one folder"),
        (["normal=A", "Normal=B"], False, "'normal' is named more than once"),
        (["normal=A", "bacterial=a"], False, "are one folder on some systems"),
        (["normal=Bacterial"], False, "are one folder on some systems"),
        (
            [],
            True,
            "has no class 'bacterial' .*name its folder by --class-folders bacterial=FOLDER",
        ),
    ],
)
def test_folders_that_cannot_be(
    tmp_path: Path, given_: list[str], like: bool, message: str
) -> None:
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal/1.png").write_bytes(encoded(smooth(1)))
    with pytest.raises(UserError, match=message):
        choose_folders(["normal", "bacterial"], given_, str(tmp_path) if like else None)


def test_a_class_in_several_folders_is_asked_about(tmp_path: Path) -> None:
    for name in ("train/Normal", "test/NORMAL"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(encoded(smooth(1)))
    with pytest.raises(UserError, match=r"in several folders \(NORMAL, Normal\): name one by"):
        choose_folders(["normal"], [], str(tmp_path))

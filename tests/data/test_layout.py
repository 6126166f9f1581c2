"""Which files of a folder are which class, which patient and which split."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cxrgan_fast.data.sources import Source, open_source, select
from cxrgan_fast.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(source: Source, split: str | None = None) -> dict[str, list[str]]:
    return {
        name: [
            file.name
            for file in source.files
            if file.class_name == name and split in (None, file.split)
        ]
        for name in source.classes
    }


def choose(source: Source, wanted: Sequence[str] | None) -> tuple[str, ...]:
    return select(source, "train", wanted).class_names


PUBLISHED = (
    "NORMAL/IM-0115-0001.jpeg",
    "NORMAL/NORMAL2-IM-0429-0001-0002.jpeg",
    "PNEUMONIA/person1_bacteria_1.jpeg",
    "PNEUMONIA/person1_bacteria_2.jpeg",
    "PNEUMONIA/person447_virus_921_1.jpeg",
)


def published(root: Path) -> Path:
    return touch(root, *(f"{split}/{name}" for split in ("train", "test") for name in PUBLISHED))


def test_published_layout_by_file_name(tmp_path: Path) -> None:
    source = open_source(published(tmp_path))
    assert source.has_splits
    assert found(source, "test") == {
        "normal": [f"test/{PUBLISHED[0]}", f"test/{PUBLISHED[1]}"],
        "bacterial": [f"test/{PUBLISHED[2]}", f"test/{PUBLISHED[3]}"],
        "viral": [f"test/{PUBLISHED[4]}"],
    }
    assert len(source.files) == 10
    assert choose(source, None) == ("normal", "bacterial")
    patients = [file.patient for file in source.files if file.split == "test"]
    assert patients == ["IM-0115", "NORMAL2-IM-0429", "person1", "person1", "person447"]


def test_published_layout_without_splits(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, *PUBLISHED))
    assert source.classes == ("normal", "bacterial", "viral")
    assert not source.has_splits
    assert {file.split for file in source.files} == {"train"}


@pytest.mark.parametrize("where", ["chest_xray/chest_xray", "download/archive", "x/chest_xray"])
def test_the_archives_nested_folders_are_entered(tmp_path: Path, where: str) -> None:
    published(tmp_path / where)
    touch(tmp_path / Path(where).parts[0] / "__MACOSX", "train/NORMAL/._IM-0115-0001.jpeg")
    source = open_source(tmp_path / Path(where).parts[0])
    inside = "/".join(Path(where).parts[1:])
    assert source.files[0].name == f"{inside}/test/{PUBLISHED[0]}"
    assert len(source.files) == 10


def test_splits_win_over_the_archives_copy_of_itself(tmp_path: Path) -> None:
    published(tmp_path / "chest_xray")
    published(tmp_path / "chest_xray" / "chest_xray")
    names = [file.name for file in open_source(tmp_path / "chest_xray").files]
    assert len(names) == 10
    assert not any(name.startswith("chest_xray/") for name in names)


def test_what_is_not_an_image_is_passed_over_and_counted(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("a/1.JPEG", "a/2.Png", "a/.DS_Store", "a/._1.JPEG", "a/Thumbs.db", "a/notes.txt"),
        *("a/.cache/9.png", "__MACOSX/a/1.png", ".hidden/1.png", "b/1.tif", "README.md"),
    )
    source = open_source(tmp_path)
    assert found(source) == {"a": ["a/1.JPEG", "a/2.Png"], "b": ["b/1.tif"]}
    assert {(each.folder, each.suffix): each.files for each in source.unused} == {
        ("a", ".db"): 1,
        ("a", ".txt"): 1,
        ("", ".md"): 1,
    }


def test_any_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/covid/p1/a.png", "train/covid/p1/b.png", "train/covid/c.png")
    touch(tmp_path, "train/clear/person7_x.png")
    source = open_source(tmp_path)
    assert choose(source, None) == ("clear", "covid")
    patients = {file.name: file.patient for file in source.files}
    assert patients == {
        "train/covid/p1/a.png": "p1",
        "train/covid/p1/b.png": "p1",
        "train/covid/c.png": "train/covid/c",
        "train/clear/person7_x.png": "person7",
    }


def test_equal_names_in_two_classes_are_two_patients(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "a/0001.png", "b/0001.png"))
    assert len({file.patient for file in source.files}) == 2


def test_one_class_with_a_folder_for_each_patient_is_not_a_wrapper(tmp_path: Path) -> None:
    touch(tmp_path, "lungs/p1/a.png", "lungs/p2/a.png")
    assert found(open_source(tmp_path)) == {"lungs": ["lungs/p1/a.png", "lungs/p2/a.png"]}


def test_pneumonia_without_kinds_is_a_plain_class(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/1.png", "PNEUMONIA/2.png")
    assert choose(open_source(tmp_path), None) == ("NORMAL", "PNEUMONIA")


def test_classes_in_the_order_named_whatever_their_case(tmp_path: Path) -> None:
    chosen = select(open_source(published(tmp_path)), "train", ["Viral", "NORMAL"])
    names, files = chosen.class_names, chosen.files
    assert names == ("viral", "normal")
    assert [file.class_name for file in files] == ["viral", "normal", "normal"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["normal", "bacteria"], r"no class 'bacteria' in .*; did you mean 'bacterial'\?"),
        (["covid"], r"no class 'covid' in .* \(it has normal, bacterial, viral\)$"),
        (["viral", "Viral"], r"'viral' is named 2 times"),
        ([], r"classes: none named"),
    ],
)
def test_class_names_that_cannot_work(tmp_path: Path, wanted: list[str], message: str) -> None:
    source = open_source(published(tmp_path))
    with pytest.raises(UserError, match=message):
        choose(source, wanted)


def test_an_empty_class_is_refused_unless_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/notes.txt", "c/2.png")
    source = open_source(tmp_path)
    with pytest.raises(UserError, match=r"class 'b' has no images.*with images: a, c\)"):
        choose(source, None)
    assert choose(source, ["c", "a"]) == ("c", "a")


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        ((), "train", "holds no class folders"),
        (("a.png",), "train", "holds images but no class folders"),
        (("a/1.xyz", "a/2.xyz", "b/1.txt"), "train", r"only files such as '\.xyz': convert"),
        (("a/.DS_Store",), "train", "holds no images in a; expected .*png"),
        (("train/a/1.png", "val/a/1.png"), "test", "no 'test' images; it has train, val"),
        (("a/1.png",), "test", "all images count as 'train'"),
    ],
)
def test_folders_that_cannot_work(
    tmp_path: Path, names: tuple[str, ...], split: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        select(open_source(touch(tmp_path, *names)), split)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_sources(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such folder or file; .*'phantom'"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"1\.png: neither a folder nor a \.csv or \.zip"):
        open_source(touch(tmp_path, "1.png") / "1.png")

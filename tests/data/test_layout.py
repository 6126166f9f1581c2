"""Which files of a folder are which class and which patient."""

from pathlib import Path

import pytest

from cxrgan_fast.data.layout import FolderListing, choose_classes, list_folder
from cxrgan_fast.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(listing: FolderListing) -> dict[str, list[str]]:
    return {
        name: [file.path.relative_to(listing.root).as_posix() for file in files]
        for name, files in listing.classes.items()
    }


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
    listing = list_folder(published(tmp_path), "test")
    assert listing.root == tmp_path / "test"
    assert found(listing) == {
        "normal": [PUBLISHED[0], PUBLISHED[1]],
        "bacterial": [PUBLISHED[2], PUBLISHED[3]],
        "viral": [PUBLISHED[4]],
    }
    assert choose_classes(listing, None) == ("normal", "bacterial")
    patients = [file.patient for files in listing.classes.values() for file in files]
    assert patients == ["IM-0115", "NORMAL2-IM-0429", "person1", "person1", "person447"]


def test_published_layout_without_splits(tmp_path: Path) -> None:
    assert set(found(list_folder(touch(tmp_path, *PUBLISHED), "train"))) == {
        "normal",
        "bacterial",
        "viral",
    }


@pytest.mark.parametrize("where", ["chest_xray/chest_xray", "download/archive", "x/chest_xray"])
def test_the_archives_nested_folders_are_entered(tmp_path: Path, where: str) -> None:
    published(tmp_path / where)
    touch(tmp_path / Path(where).parts[0] / "__MACOSX", "train/NORMAL/._IM-0115-0001.jpeg")
    listing = list_folder(tmp_path / Path(where).parts[0], "train")
    assert listing.root == tmp_path / where / "train"


def test_splits_win_over_the_archives_copy_of_itself(tmp_path: Path) -> None:
    published(tmp_path / "chest_xray")
    published(tmp_path / "chest_xray" / "chest_xray")
    assert list_folder(tmp_path / "chest_xray", "train").root == tmp_path / "chest_xray/train"


def test_what_is_not_an_image_is_passed_over(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("a/1.JPEG", "a/2.Png", "a/.DS_Store", "a/._1.JPEG", "a/Thumbs.db", "a/notes.txt"),
        *("a/.cache/9.png", "__MACOSX/a/1.png", ".hidden/1.png", "b/1.tif", "README.md"),
    )
    assert found(list_folder(tmp_path, "train")) == {"a": ["a/1.JPEG", "a/2.Png"], "b": ["b/1.tif"]}


def test_any_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/covid/p1/a.png", "train/covid/p1/b.png", "train/covid/c.png")
    touch(tmp_path, "train/clear/person7_x.png")
    listing = list_folder(tmp_path, "train")
    assert choose_classes(listing, None) == ("clear", "covid")
    assert [file.patient for file in listing.classes["covid"]] == ["c", "p1", "p1"]
    assert [file.patient for file in listing.classes["clear"]] == ["person7"]


def test_one_class_with_a_folder_for_each_patient_is_not_a_wrapper(tmp_path: Path) -> None:
    touch(tmp_path, "lungs/p1/a.png", "lungs/p2/a.png")
    assert found(list_folder(tmp_path, "train")) == {"lungs": ["lungs/p1/a.png", "lungs/p2/a.png"]}


def test_pneumonia_without_kinds_is_a_plain_class(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/1.png", "PNEUMONIA/2.png")
    assert choose_classes(list_folder(tmp_path, "train"), None) == ("NORMAL", "PNEUMONIA")


def test_classes_in_the_order_named_whatever_their_case(tmp_path: Path) -> None:
    listing = list_folder(published(tmp_path), "train")
    assert choose_classes(listing, ["Viral", "NORMAL"]) == ("viral", "normal")


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
    listing = list_folder(published(tmp_path), "train")
    with pytest.raises(UserError, match=message):
        choose_classes(listing, wanted)


def test_an_empty_class_is_refused_unless_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/notes.txt", "c/2.png")
    listing = list_folder(tmp_path, "train")
    with pytest.raises(UserError, match=r"class 'b' has no images.*with images: a, c\)"):
        choose_classes(listing, None)
    assert choose_classes(listing, ["c", "a"]) == ("c", "a")


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        ((), "train", "holds no class folders"),
        (("a.png",), "train", "holds images but no class folders"),
        (("a/1.dcm", "a/2.dcm", "b/1.txt"), "train", r"only files such as '\.dcm': convert"),
        (("a/.DS_Store",), "train", "holds no images in a; expected .*png"),
        (("train/a/1.png", "val/a/1.png"), "test", "no 'test' folder; it has train, val"),
        (("a/1.png",), "test", "all images count as 'train'"),
    ],
)
def test_folders_that_cannot_work(
    tmp_path: Path, names: tuple[str, ...], split: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        list_folder(touch(tmp_path, *names), split)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such folder; .*'phantom'"):
        list_folder(tmp_path / "nowhere", "train")
    with pytest.raises(UserError, match=r"1\.png: is a file; name the folder"):
        list_folder(touch(tmp_path, "1.png") / "1.png", "train")

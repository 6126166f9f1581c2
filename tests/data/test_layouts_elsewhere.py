"""Layouts of sets as others publish them: splits, parts and masks under other names."""

from pathlib import Path

import pytest

from cxrgan_fast.data.sources import open_source
from cxrgan_fast.errors import UserError
from listings import assert_all_counted, touch, unused, used


def grid(*levels: tuple[str, ...]) -> list[str]:
    """Every path of one name of each level."""
    paths = [""]
    for names in levels:
        paths = [f"{path}/{name}".lstrip("/") for path in paths for name in names]
    return paths


FILES = ("1.png", "2.png", "3.png")


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("01_train", "02_val", "03_test"),
        ("stage_2_train_images", "stage_2_valid_images", "stage_2_test_images"),
        ("NIH-train", "NIH-validation", "NIH-test"),
        ("train", "dev", "holdout"),
        ("Train (80%)", "Val (10%)", "Test (10%)"),
    ],
)
def test_splits_by_a_part_of_their_names(tmp_path: Path, train: str, val: str, test: str) -> None:
    source = open_source(touch(tmp_path, *grid((train, val, test), ("a", "b"), FILES)))
    assert source.classes == ("a", "b")
    meant = {train: "train", val: "val", test: "test"}
    assert all(file.split == meant[file.name.split("/")[0]] for file in source.files)
    assert {file.split for file in source.files} == {"train", "val", "test"}


@pytest.mark.parametrize(
    "classes",
    [("test_well", "train_ill"), ("test_a", "test_b"), ("train_ill",), ("pre", "dev-ill")],
)
def test_words_of_splits_in_names_of_classes(tmp_path: Path, classes: tuple[str, ...]) -> None:
    source = open_source(touch(tmp_path, *grid(classes, FILES)))
    assert source.classes == tuple(sorted(classes))
    assert not source.has_splits


def test_folders_that_wrap_the_classes_of_a_split(tmp_path: Path) -> None:
    touch(tmp_path, *grid(("train", "test"), ("images",), ("a", "b"), FILES), "train/x.png")
    source = open_source(tmp_path)
    assert source.classes == ("a", "b")
    assert source.has_splits
    assert "the class folders are those in test/images, train/images" in source.notes()
    assert_all_counted(source, tmp_path)


def test_one_class_of_patients_below_a_split_is_no_wrapper(tmp_path: Path) -> None:
    touch(tmp_path, *grid(("train", "test"), ("ill",), ("anna", "bob"), FILES))
    source = open_source(tmp_path)
    assert source.classes == ("ill",)
    assert {file.patient for file in source.files} == {"anna", "bob"}


@pytest.mark.parametrize(
    "parts", [("fold1", "fold2"), ("batch_1", "batch_2", "batch_3"), ("images_001", "images_002")]
)
def test_parts_of_a_set_above_the_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    source = open_source(touch(tmp_path, *grid(parts, ("ill", "well"), FILES)))
    assert source.classes == ("ill", "well")
    assert len(source.files) == 6 * len(parts)
    assert source.notes() == [f"the class folders are those in {', '.join(parts)}"]


def test_parts_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    folds = touch(tmp_path / "folds", *grid(("fold1", "fold2"), ("train", "val"), ("a",), FILES))
    with pytest.raises(UserError, match=r"fold1, fold2 have splits of their own: .* name one of"):
        open_source(folds)
    assert open_source(folds / "fold1").has_splits
    nih = touch(tmp_path / "nih", *grid(("images_001", "images_002"), ("images",), FILES))
    with pytest.raises(UserError, match=r"images_001, images_002 are parts of a set and no class"):
        open_source(nih)
    hospitals = touch(tmp_path / "h", *grid(("hospital 1", "hospital 2"), FILES))
    assert open_source(hospitals).classes == ("hospital 1", "hospital 2")


def test_folders_of_words_below_every_class_are_told(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, *grid(("Berlin", "Bonn"), ("ill", "well"), FILES)))
    assert source.classes == ("Berlin", "Bonn")
    (line,) = source.notes()
    assert line.startswith("below every class folder lie ill, well, which count as neither")


# --------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    "masks",
    ["seg", "GT", "Ground Truth", "ground_truth", "leftMask", "LungMasks", "lungmask", "heatmaps",
     "contours", "lungs", "Lung only"],
)  # fmt: skip
def test_pictures_made_of_the_images_beside_them(tmp_path: Path, masks: str) -> None:
    source = open_source(touch(tmp_path, *grid(("a", "b"), ("images", masks), FILES)))
    assert used(source) == {
        name: [f"train:{name}/images/{file}" for file in FILES] for name in ("a", "b")
    }
    assert unused(source) == {"a mask and not an X-ray": 6}
    assert not any("neither" in line for line in source.notes())


@pytest.mark.parametrize(
    "mask",
    ["1_mask", "1-mask", "1 (mask)", "mask_1", "Mask-1", "1_GT", "1_lungmask", "1_lung_mask",
     "1mask", "1_seg", "1.left_mask"],
)  # fmt: skip
def test_masks_beside_their_images_by_name(tmp_path: Path, mask: str) -> None:
    source = open_source(touch(tmp_path, *grid(("a", "b"), ("1.png", "2.png", f"{mask}.png"))))
    assert unused(source) == {"a mask and not an X-ray": 2}
    alone = open_source(touch(tmp_path / "alone", *grid(("a",), (f"{mask}.png", "7.png"))))
    assert len(alone.files) == 2


@pytest.mark.parametrize(
    "names",
    [
        grid(("a", "b"), ("images", "p1", "p2"), FILES),  # patients beside loose images
        grid(("a", "b"), ("PA", "lateral"), FILES),
        [*grid(("a",), ("images", "anna"), FILES), *grid(("b",), ("images", "bob"), FILES)],
        grid(("images", "Normal", "Ill"), FILES),
        grid(("a", "b"), ("images", "follow-up"), FILES)[:9]
        + grid(("b",), ("follow-up",), ("7.png", "8.png", "9.png")),
    ],
)
def test_folders_that_hold_no_masks(tmp_path: Path, names: list[str]) -> None:
    source = open_source(touch(tmp_path, *names))
    assert "a mask and not an X-ray" not in unused(source)


def test_views_of_one_name_are_of_one_patient(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, *grid(("a", "b"), ("PA", "lateral"), FILES)))
    whose = {file.name: file.patient for file in source.files}
    assert whose["a/PA/1.png"] == whose["a/lateral/1.png"] != whose["a/PA/2.png"]
    assert whose["a/PA/1.png"] != whose["b/PA/1.png"]

"""Every file of a source is an image of a class, or counted as not used, and users are told."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cxrgan_fast.data import load_dataset, prepare_set
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division
from cxrgan_fast.data.sources import open_source
from cxrgan_fast.errors import UserError
from image_files import class_folders, encoded, smooth
from listings import assert_all_counted, touch, unused, used


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path_factory.mktemp("cache")))


# ------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "test"),
        ("Training", "Validation", "Testing"),
        ("train_set", "val_set", "test-set"),
        ("TRAIN", "validation", "testing"),
    ],
)
def test_the_usual_names_of_splits_are_splits(
    tmp_path: Path, train: str, val: str, test: str
) -> None:
    touch(tmp_path, f"{train}/a/1.png", f"{val}/a/2.png", f"{test}/b/3.png")
    source = open_source(tmp_path)
    assert source.has_splits
    assert used(source) == {
        "a": [f"train:{train}/a/1.png", f"val:{val}/a/2.png"] if train < val else
             [f"val:{val}/a/2.png", f"train:{train}/a/1.png"],
        "b": [f"test:{test}/b/3.png"],
    }  # fmt: skip


def test_words_for_splits_are_classes_where_there_is_no_training_split(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "valid/1.png", "invalid/2.png"))
    assert source.classes == ("invalid", "valid")
    assert not source.has_splits


def test_splits_below_the_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/train/1.png", "a/test/2.png", "b/train/p1/3.png", "b/valid/4.png")
    source = open_source(tmp_path)
    assert source.has_splits
    assert [(f.class_name, f.split, f.patient) for f in source.files] == [
        ("a", "test", "a/test/2"),
        ("a", "train", "a/train/1"),
        ("b", "train", "p1"),
        ("b", "val", "b/valid/4"),
    ]


def test_images_beside_class_folders_and_splits_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/loose.png", "test/b/2.png", "other/a/3.png", "top.png")
    source = open_source(tmp_path)
    assert len(source.files) == 2
    assert unused(source) == {
        "beside the class folders": 1,
        "beside the folders of splits": 2,
    }
    assert_all_counted(source, tmp_path)


# ------------------------------------------------------------------------ suffixes and content


def test_images_by_other_suffixes_and_by_content(tmp_path: Path) -> None:
    pixels = smooth(1)
    names = {"1.jfif": "JPEG", "2.jpe": "JPEG", "3.jp2": "JPEG2000", "4": "PNG", "5.ima": "PNG",
             "1.2.840.10008": "PNG", "6.unknown": "TIFF"}  # fmt: skip
    for name, kind in names.items():
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(encoded(pixels, kind))
    touch(tmp_path, "a/notes.txt", "a/LICENSE", "a/9.unknown")
    source = open_source(tmp_path)
    assert sorted(file.name for file in source.files) == sorted(f"a/{name}" for name in names)
    assert unused(source) == {"no image by name or content": 3}
    assert len({file.patient for file in source.files}) == len(names)
    made = prepare_set(
        source, tmp_path / "out", Preparation(16),
        division=Division(val_share=0, test_share=0), progress=False,
    )  # fmt: skip
    assert len(made.labels) == len(names)


def test_dicom_without_a_suffix(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/IM000001").write_bytes(bytes(128) + b"DICM" + bytes(40))
    (tmp_path / "a/IM000002").write_bytes(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(40))
    (tmp_path / "a/README").write_bytes(b"DICM is what others begin with, and this does not" * 9)
    source = open_source(tmp_path)
    assert [file.name for file in source.files] == ["a/IM000001", "a/IM000002"]


def test_content_in_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a/1", encoded(smooth(1)))
        archive.writestr("a/2", b"text")
        archive.writestr("loose.png", encoded(smooth(2)))
        archive.writestr("b/3.png", encoded(smooth(3)))
    source = open_source(tmp_path / "set.zip")
    assert [file.name for file in source.files] == ["a/1", "b/3.png"]
    assert unused(source) == {"no image by name or content": 1, "beside the class folders": 1}


# ------------------------------------------------------------------- wrappers, thumbnails, case


@pytest.mark.parametrize(
    "where", ["images", "data/images", "archive", "COVID-19_Radiography_Dataset", "x/images_001"]
)
def test_wrapper_folders_are_entered(tmp_path: Path, where: str) -> None:
    touch(tmp_path / where, "COVID/1.png", "Normal/2.png", "Viral Pneumonia/3.png")
    source = open_source(tmp_path)
    assert source.classes == ("COVID", "Normal", "Viral Pneumonia")
    assert f"the class folders are those in {where}" in source.notes()


def test_one_class_with_a_folder_a_patient_is_told_to_be_one(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "lungs/p1/a.png", "lungs/p2/a.png"))
    assert source.classes == ("lungs",)
    (note,) = source.notes()
    assert note.startswith("one class, lungs; its 2 folders, such as p1, count as patients")


def test_thumbnails_and_deleted_files_are_no_images_of_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png", "a/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir/x.png")
    touch(tmp_path, "#recycle/old/3.png", "b/Thumbnails/2.png")
    source = open_source(tmp_path)
    assert [file.name for file in source.files] == ["a/1.png", "b/2.png"]
    assert source.classes == ("a", "b")
    assert unused(source) == {"thumbnails": 3, "deleted files": 1}
    assert_all_counted(source, tmp_path)


def test_class_folders_whose_case_differs_are_one_class(tmp_path: Path) -> None:
    touch(
        tmp_path, "train/Normal/1.png", "train/Normal/2.png", "test/NORMAL/3.png", "test/Ill/4.png"
    )
    touch(tmp_path, "train/Ill /5.png")
    source = open_source(tmp_path)
    assert set(source.classes) == {"Normal", "Ill"}
    assert Counter(file.class_name for file in source.files) == {"Normal": 3, "Ill": 2}
    notes = "\n".join(source.notes())
    assert "one class, Normal, under names of different case" in notes
    (tmp_path / "t.csv").write_text(
        "path,label\ntrain/Normal/1.png,Normal\ntest/NORMAL/3.png,NORMAL\ntest/Ill/4.png,ill\n"
    )
    assert open_source(tmp_path / "t.csv").classes == ("NORMAL", "ill")


def test_a_table_at_the_top_of_a_folder_is_pointed_to(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na/1.png,x\n")
    source = open_source(touch(tmp_path, "a/1.png"))
    assert "t.csv is a table of images and not read: name it itself to use it" in source.notes()


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("s/grade1/1.png", "s/grade2/2.png"), ("grade1", "grade2")),  # named as the folder above
        (("any/Edema/1.png", "any/Effusion/2.png"), ("Edema", "Effusion")),  # words are classes
        (("lungs/images/p11/1.png", "lungs/images/p12/2.png"), ("lungs",)),
        (("lungs/images/1.png", "lungs/images/2.png"), ("lungs",)),
    ],
)
def test_what_is_a_wrapper_and_what_a_class(
    tmp_path: Path, names: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    assert open_source(touch(tmp_path / "s", *names)).classes == classes


# --------------------------------------------------------------------------------------- masks


def radiography(root: Path, n: int = 8) -> Path:
    """Two classes with images and their masks, as the COVID-19 Radiography Database has them."""
    for label, name in enumerate(("COVID", "Normal")):
        for number in range(n):
            pixels = smooth(100 * label + number)
            for kind, drawn in (("images", pixels), ("masks", np.where(pixels > 128, 255, 0))):
                (root / name / kind).mkdir(parents=True, exist_ok=True)
                content = encoded(drawn.astype(np.uint8))
                (root / name / kind / f"{name}-{number}.png").write_bytes(content)
    return root


def test_masks_are_no_xrays(tmp_path: Path) -> None:
    source = open_source(radiography(tmp_path))
    assert all("/images/" in file.name for file in source.files)
    assert unused(source) == {"a mask and not an X-ray": 16}
    assert len({file.patient for file in source.files}) == 16


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (("images/a/1.png", "images/b/2.png"), ("masks/a/1.png", "masks/b/2.png")),
        (("a/1.png", "a/2.png"), ("Lung Masks/1.png", "Lung Masks/2.png")),
        (("a/1.png", "b/2.png"), ("a/1_mask.png", "b/2-mask.png")),
        (("a/1.png", "b/2.png"), ("a/seg/labels/1.png", "b/segmentation/9.png")),
        (("train/a/1.png",), ("train/a/ground_truth/1.tif", "train_masks/1.png")),
        (("images/a/p7.png", "images/b/2.png"), ("segmentations/7.png",)),
    ],
)
def test_masks_wherever_they_lie(
    tmp_path: Path, images: tuple[str, ...], masks: tuple[str, ...]
) -> None:
    source = open_source(touch(tmp_path, *images, *masks))
    assert {file.name for file in source.files} == set(images)
    assert unused(source) == {"a mask and not an X-ray": len(masks)}


def test_a_class_that_is_called_a_mask_stays_a_class(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "mask/1.png", "no_mask/1.png"))
    assert source.classes == ("mask", "no_mask")
    source = open_source(touch(tmp_path / "s", "oxygen mask/7.png", "none/1.png"))
    assert len(source.files) == 2


def test_a_folder_of_nothing_but_masks_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images/readme.txt", "masks/1.png", "masks/2.png")
    with pytest.raises(UserError, match="holds only masks"):
        open_source(tmp_path)


# ------------------------------------------------------------------------ what the package wrote


def test_runs_and_other_outputs_in_the_data_folder_are_no_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, 4)
    touch(tmp_path, "runs/00000-x/config.yaml", "runs/00000-x/dataset.json")
    touch(tmp_path, "runs/00000-x/grids/step.png", "runs/00001-x/ill/generator.safetensors")
    touch(tmp_path, "runs/00001-x/ill/grids/step.png", "packed/set.json", "packed/images.npy")
    touch(tmp_path, "out-evaluation/evaluation.json", "out-evaluation/samples.png")
    touch(tmp_path, "venv/pyvenv.cfg", "venv/lib/logo.png", "small/subset.json", "small/a/1.png")
    touch(tmp_path, "small/manifest.csv", "drawn/ill/1.png")
    (tmp_path / "runs/00002").mkdir()
    (tmp_path / "drawn/manifest.csv").write_text("file,class,seed,checkpoint\nill/1.png,ill,0,x\n")
    source = open_source(tmp_path)
    assert source.classes == ("normal", "bacterial", "viral")
    assert len(source.files) == 8
    assert_all_counted(source, tmp_path)
    assert set(unused(source)) == {
        "a run's folder", "a packed set", "an evaluation", "a Python environment",
        "a subset of other images", "generated images",
    }  # fmt: skip


def test_a_manifest_of_something_else_leaves_nothing_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a/manifest.csv").write_text("name,age\n1,2\n")
    assert len(open_source(tmp_path).files) == 2


def test_a_run_is_no_data(tmp_path: Path) -> None:
    touch(tmp_path, "generator.safetensors", "grids/1.png", "checkpoints/2.png")
    with pytest.raises(UserError, match="is a run's folder and no folder of class folders"):
        open_source(tmp_path)


# ------------------------------------------------------------------------------- who says it


def test_all_that_take_data_say_what_is_not_used(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "set", 12)
    for name in ("extra1.png", "extra2.png"):
        (root / name).write_bytes(encoded(smooth(3)))
    line = "not used, beside the class folders: 2 files (2 .png in the top folder)"
    assert line in open_source(root).notes()
    dataset = load_dataset(root, resolution=16, progress=False)
    assert line in dataset.notes
    assert line in load_dataset(root, resolution=16, progress=False).notes  # from the cache
    made = prepare_set(open_source(root), tmp_path / "out", Preparation(16), progress=False)
    assert line in made.unused
    assert line in load_dataset(tmp_path / "out", resolution=16, progress=False).notes


def test_places_are_named_and_many_are_summed_up(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a/p{n}/{m}.txt" for n in range(9) for m in range(9 - n)), "a/1.png")
    (line,) = [each for each in open_source(tmp_path).notes() if each.startswith("not used")]
    assert line == (
        "not used, no image by name or content: 45 files (9 .txt in a/p0, 8 .txt in a/p1, "
        "7 .txt in a/p2, 6 .txt in a/p3, 15 in 5 other places)"
    )


def test_images_of_other_splits_are_told(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "train/a/1.png", "test/a/2.png", "valid/a/3.png"))
    assert source.notes(split="train") == [
        "not used, of other splits than train: 1 test, 1 val images"
    ]

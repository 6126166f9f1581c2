"""Folders and phantoms as sets in memory."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError


def write(path: Path, level: int, size: tuple[int, int] = (20, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, base in (("train", 0), ("test", 100)):
        for number in range(3):
            write(tmp_path / f"xrays/{split}/NORMAL/IM-000{number}-0001.png", base + number)
            name = f"person{number}_bacteria_{number}.png"
            write(tmp_path / f"xrays/{split}/PNEUMONIA/{name}", base + 10 + number)
        write(tmp_path / f"xrays/{split}/PNEUMONIA/person9_virus_1.png", base + 20)
    return tmp_path / "xrays"


def load(source: Path | str, **options: object) -> ImageDataset:
    return load_dataset(source, **{"resolution": 16, "progress": False, **options})  # type: ignore[arg-type]


def levels(dataset: ImageDataset) -> list[int]:
    assert (dataset.images == dataset.images[:, :, :1, :1]).all()
    return dataset.images[:, 0, 0, 0].tolist()


def test_a_folder_in_memory(folder: Path) -> None:
    dataset = load(folder)
    assert dataset.images.dtype == torch.uint8
    assert dataset.images.shape == (6, 1, 16, 16)
    assert levels(dataset) == [0, 1, 2, 10, 11, 12]
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.labels.dtype == torch.int64
    assert dataset.class_names == ("normal", "bacterial")
    assert dataset.class_counts() == {"normal": 3, "bacterial": 3}
    assert dataset.patients == ["IM-0000", "IM-0001", "IM-0002", "person0", "person1", "person2"]
    assert dataset.files[0] == "train/NORMAL/IM-0000-0001.png"
    assert dataset.name == "xrays"
    assert load(folder / "train").name == "xrays"
    assert dataset.skipped == []


def test_split_classes_and_channels(folder: Path) -> None:
    dataset = load(folder, split="test", classes=["viral", "normal"], image_channels=3)
    assert dataset.images.shape == (4, 3, 16, 16)
    assert levels(dataset) == [120, 100, 101, 102]
    assert dataset.labels.tolist() == [0, 1, 1, 1]


def test_of_class(folder: Path) -> None:
    whole = load(folder)
    part = whole.of_class("bacterial")
    assert part.class_names == ("bacterial",)
    assert part.labels.tolist() == [0, 0, 0]
    assert levels(part) == [10, 11, 12]
    assert part.patients == whole.patients[3:]
    assert part.files == whole.files[3:]
    with pytest.raises(UserError, match=r"no class 'bacteria' in xrays.*did you mean 'bacterial'"):
        whole.of_class("bacteria")


def test_the_fingerprint_follows_the_content(folder: Path) -> None:
    first = load(folder).fingerprint
    assert load(folder).fingerprint == first
    assert load(folder, classes=["bacterial", "normal"]).fingerprint != first
    assert load(folder, resolution=8).fingerprint != first
    write(folder / "train/NORMAL/IM-0001-0001.png", 77)
    assert load(folder).fingerprint != first


def test_bad_images_are_named_or_skipped(folder: Path) -> None:
    bad = folder / "train/NORMAL/IM-0001-0001.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(UserError, match=r"NORMAL/IM-0001-0001\.png: .*--skip-bad$") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    dataset = load(folder, skip_bad=True)
    assert levels(dataset) == [0, 2, 10, 11, 12]
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1]
    assert len(dataset.patients) == len(dataset.files) == 5
    ((name, reason),) = dataset.skipped
    assert name == "train/NORMAL/IM-0001-0001.png"
    assert reason
    assert str(folder) not in reason


def test_a_class_left_without_readable_images(folder: Path) -> None:
    for path in (folder / "train/NORMAL").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"class 'normal': none of its images can be read.*IM-0000"):
        load(folder, skip_bad=True)


def test_pneumonia_of_unknown_kind(folder: Path) -> None:
    write(folder / "train/PNEUMONIA/person5_1.png", 50)
    with pytest.raises(UserError, match=r"person5_1\.png: its name says neither .*--skip-bad"):
        load(folder)
    assert [name for name, _ in load(folder, skip_bad=True).skipped] == [
        "train/PNEUMONIA/person5_1.png"
    ]
    assert levels(load(folder, classes=["normal"])) == [0, 1, 2]  # not needed, not refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0}, "resolution 0: expected 8 to 1024"),
        ({"resolution": 5000}, "resolution 5000"),
        ({"image_channels": 2}, "image channels 2: expected 1"),
        ({"phantom_images": 1}, "phantom images 1: expected at least 2"),
        ({"phantom_images": 0, "classes": ["normal"]}, "phantom images 0: expected at least 1"),
        ({"classes": ["viral"]}, r"no class 'viral' in the phantom set \(it has normal, bact"),
        ({"classes": ["bacteria"]}, "did you mean 'bacterial'"),
        ({"classes": []}, "classes: none named"),
        ({"classes": ["normal", "Normal"]}, "'normal' is named 2 times"),
        ({"classes": ["x=normal+bacterial"]}, "none to join"),
        ({"seed": -1}, "seed -1"),
        ({"split": "all"}, "split 'all': expected one of train, test, val"),
    ],
)
def test_settings_that_cannot_work(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load("phantom", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 2], "0 to 2 go beyond the 2 classes a, b"), ([-1, 0], "-1 to 0"), ([0], r"shape \(2,\)")],
)
def test_labels_beyond_the_classes(labels: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ImageDataset(
            images=torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
            labels=torch.tensor(labels),
            class_names=("a", "b"),
            patients=["p", "q"],
            files=["1", "2"],
            name="made",
        )


def test_images_must_be_bytes_in_four_dimensions() -> None:
    for images in (torch.zeros(1, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)):
        with pytest.raises(UserError, match=r"images: expected torch\.uint8 of shape"):
            ImageDataset(images, torch.zeros(1, dtype=torch.int64), ("a",), ["p"], ["1"], "made")


def test_phantoms_in_memory() -> None:
    dataset = load("phantom", phantom_images=7)
    assert dataset.images.shape == (7, 1, 16, 16)
    assert dataset.class_counts() == {"normal": 4, "bacterial": 3}
    assert dataset.name == "phantom"
    assert len(set(dataset.patients)) == 7
    assert load("phantom", phantom_images=7).fingerprint == dataset.fingerprint
    assert load("phantom", phantom_images=7, seed=1).fingerprint != dataset.fingerprint
    assert load("phantom", phantom_images=7, split="test").fingerprint != dataset.fingerprint


def test_one_phantom_class() -> None:
    dataset = load("phantom", phantom_images=3, classes=["bacterial"], image_channels=3)
    assert dataset.class_names == ("bacterial",)
    assert dataset.images.shape == (3, 3, 16, 16)
    assert dataset.labels.tolist() == [0, 0, 0]


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = set()
    for cores in (1, 2, 7):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        fingerprints.add(load("phantom", phantom_images=12).fingerprint)
    assert len(fingerprints) == 1


def test_a_folder_called_phantom_is_reached_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "phantom/a/1.png", 9)
    monkeypatch.chdir(tmp_path)
    assert levels(load("./phantom")) == levels(load(Path("phantom"))) == [9]


def test_progress_goes_to_a_terminal_when_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(folder, progress=True)
    assert capsys.readouterr() == ("", "")  # no terminal: a log is not for bars
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load(folder, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "checking" in captured.err
    load(folder, progress=True, resolution=17)
    assert "reading" in capsys.readouterr().err
    load(folder)
    assert capsys.readouterr().err == ""


def test_order_does_not_depend_on_the_file_system(folder: Path) -> None:
    files = load(folder).files
    assert files == sorted(files)
    assert np.unique(files).size == len(files)

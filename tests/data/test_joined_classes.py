"""Classes that are joined, chosen or left out, of the published set and of others."""

from pathlib import Path

import pytest

from cxrgan_fast.data import load_dataset, prepare_set
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division
from cxrgan_fast.data.sources import open_source, select
from cxrgan_fast.errors import UserError
from image_files import published
from listings import touch


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_viral_images_are_left_out_and_it_is_said(tmp_path: Path) -> None:
    (line,) = open_source(published(tmp_path)).notes()
    assert line.startswith("not used, left out unless named: 12 viral images; --classes ")
    source = open_source(tmp_path)
    assert source.notes(["normal,bacterial,viral"]) == []
    (line,) = source.notes(["normal"])
    assert line == "not used, of classes that are not named: 12 bacterial, 12 viral images"


@pytest.mark.parametrize(
    "wanted",
    [
        ["normal,pneumonia=bacterial+virus"],
        ["normal", "pneumonia=Bacterial+viral"],
        ["NORMAL, pneumonia = bacteria + viral"],
    ],
)
def test_classes_are_joined(tmp_path: Path, wanted: list[str]) -> None:
    root = published(tmp_path / "set")
    dataset = load_dataset(root, resolution=16, classes=wanted, progress=False)
    assert dataset.class_counts() == {"normal": 6, "pneumonia": 12}
    again = load_dataset(root, resolution=16, classes=wanted, progress=False)  # from the cache
    assert again.fingerprint == dataset.fingerprint
    made = prepare_set(
        open_source(root), tmp_path / "joined", Preparation(16),
        division=Division("source"), classes=wanted, progress=False,
    )  # fmt: skip
    assert made.class_names == ("normal", "pneumonia")
    packed = prepare_set(
        open_source(root), tmp_path / "apart", Preparation(16), division=Division("source"),
        classes=["normal,bacterial,viral"], progress=False,
    )  # fmt: skip
    later = load_dataset(packed.path, resolution=16, classes=wanted, progress=False)
    assert later.fingerprint == dataset.fingerprint


def test_images_of_unknown_kind_are_of_the_joined_class(tmp_path: Path) -> None:
    root = published(tmp_path)
    touch(root, "train/PNEUMONIA/person9_3.png")
    source = open_source(root)
    assert len(source.without_kind(None, None)) == 1
    joined = ["pneumonia=bacterial+viral"]
    assert source.without_kind(joined, None) == []
    assert len(select(source, "train", joined).files) == 13


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["a=bacterial+bacterial"], "'bacterial' is taken 2 times"),
        (["normal", "x=normal+viral"], "'normal' is taken 2 times"),
        (["x=normal", "x=viral"], "'x' is named 2 times"),
        (["x=normal+sick"], "no class 'sick'"),
        (["=normal+viral"], "a name without a character"),
        (["x="], "no class ''"),
    ],
)
def test_joins_that_cannot_work(tmp_path: Path, wanted: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(open_source(published(tmp_path)), None, wanted)


def test_a_name_with_signs_in_it_goes_before_their_meaning(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "a,b=c+d/1.png", "a/2.png", "b/3.png"))
    assert select(source, None, ["a,b=c+d"]).class_names == ("a,b=c+d",)
    assert select(source, None, ["b,a"]).class_names == ("b", "a")

"""The published X-rays, where a copy is at hand: CXRGAN_DATA or ../shared/data/chest_xray."""

import os
import time
from pathlib import Path

import pytest

from cxrgan_fast.data import load_dataset

ROOT = Path(
    os.environ.get("CXRGAN_DATA") or Path(__file__).resolve().parents[3] / "shared/data/chest_xray"
)
ORIGINALS = ROOT.parent / "originals"

needs_set = pytest.mark.skipif(
    not (ROOT / "train").is_dir(), reason=f"no copy of the published X-rays at {ROOT}"
)
needs_originals = pytest.mark.skipif(
    not (ROOT / "train").is_dir() or not ORIGINALS.is_dir(),
    reason=f"no originals of the published X-rays at {ORIGINALS}",
)


@pytest.mark.long
@needs_set
def test_the_training_set_loads_whole_and_quickly() -> None:
    began = time.perf_counter()
    dataset = load_dataset(
        ROOT, resolution=64, classes=["normal", "bacterial", "viral"], progress=False
    )
    took = time.perf_counter() - began
    assert dataset.class_counts() == {"normal": 1341, "bacterial": 2530, "viral": 1345}
    assert dataset.images.shape == (5216, 1, 64, 64)
    assert len(set(dataset.patients)) < len(dataset)
    assert 100 < dataset.images.float().mean() < 145
    assert took < 20  # two seconds on two free cores


@needs_set
def test_the_test_split_in_its_default_classes() -> None:
    dataset = load_dataset(ROOT, split="test", resolution=32, progress=False)
    assert dataset.class_counts() == {"normal": 234, "bacterial": 242}


@pytest.mark.long
@needs_originals
def test_originals_and_prepared_copies_give_the_same_images() -> None:
    names = ["normal", "bacterial", "viral"]
    originals = load_dataset(ORIGINALS, resolution=64, classes=names, progress=False)
    assert len(originals) == 39
    copies = load_dataset(ROOT, resolution=64, classes=names, progress=False)
    place = {Path(file).name: row for row, file in enumerate(copies.files)}
    compared = 0
    for row, file in enumerate(originals.files):
        if Path(file).name not in place:
            continue  # an image of the test split
        difference = originals.images[row].float() - copies.images[place[Path(file).name]].float()
        assert difference.abs().mean() < 2.5, file
        compared += 1
    assert compared > 20

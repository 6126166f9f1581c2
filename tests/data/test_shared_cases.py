"""Small sets that other programs get wrong, where a copy is at hand: ../shared/cases."""

from pathlib import Path

import pytest

from cxrgan_fast.data import prepare_set
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.sources import open_source

CASES = Path(__file__).resolve().parents[3] / "shared/cases"

needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"no copy of the cases at {CASES}")


@needs_cases
@pytest.mark.parametrize(
    ("case", "whose"),
    [
        ("patient_study", lambda name: name.split("/")[1]),
        ("patient_id_column/table.csv", lambda name: name.split("/")[-1].partition("_")[0]),
        ("nih_names", lambda name: name.split("/")[-1].partition("_")[0]),
    ],
)
def test_no_patient_is_in_two_splits(tmp_path: Path, case: str, whose) -> None:
    made = prepare_set(open_source(CASES / case), tmp_path / "out", Preparation(32), progress=False)
    splits: dict[str, set[str]] = {}
    for row in made.rows:
        splits.setdefault(whose(row.file), set()).add(row.split)
    assert len(splits) == 12
    assert all(len(each) == 1 for each in splits.values())


@needs_cases
@pytest.mark.parametrize(
    ("case", "images", "line"),
    [
        ("loose", 12, "not used, beside the class folders: 5 files (5 .png in the top folder)"),
        (
            "images_and_masks",
            16,
            "not used, a mask and not an X-ray: 16 files (8 .png in COVID/masks, 8 .png in "
            "Normal/masks)",
        ),
    ],
)
def test_what_is_not_used_is_told(case: str, images: int, line: str) -> None:
    source = open_source(CASES / case)
    assert len(source.files) == images
    assert line in source.notes()

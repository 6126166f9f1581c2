"""The table of trainings is read as it was written, and damage is said by its row."""

from pathlib import Path

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.outcomes import OUTCOMES
from cxrgan_fast.studies.augmentation.predictions import read_predictions
from cxrgan_fast.studies.augmentation.trainings import read_trainings, write_trainings
from study_trainings import drawn_trainings


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = drawn_trainings(tmp_path, folds=1, seeds=2)
    write_trainings(tmp_path / "t.csv", reversed(made))
    found = read_trainings(tmp_path / "t.csv")
    assert sorted(found, key=repr) == sorted(made, key=repr)
    assert [(each.size, each.label) for each in found[::2]] == [
        (size, arm) for size in (20, "all")
        for arm in ("R", "RA", "RR", "RAS_0.5", "RAS_1", "S_1", "N_1")
    ]  # fmt: skip
    first = found[0]
    assert set(first.outcomes) == set(OUTCOMES)
    assert first.validation_auc == 0.8
    assert list(read_predictions(tmp_path / first.predictions)) == ["validation", "test"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [("fold,size", "size,fold", "is no table of trainings: expected the columns fold"),
     (",R,,0,", ",RX,,0,", r"row 2 is no training \(arm 'RX'"),
     (",R,,0,", ",R,1.0,0,", "row 2 .*arm R with ratio"), (",R,,0,", ",R,nan,0,", "row 2 .*nan"),
     (",R,,0,", ",R,,0,,", "row 2 .*columns, expected"), (",R,,0,", ",R,,x,", "row 2 .*'x'"),
     ("5:0.7 10:0.8", "", "row 2 .*no curve"), ("5:0.7 10:0.8", "5", "row 2 "),
     (",R,,1,", ",R,,0,", "row 3: the training is there twice")],
)  # fmt: skip
def test_a_row_that_is_none_is_refused(tmp_path: Path, before, after, message) -> None:
    path = tmp_path / "t.csv"
    write_trainings(path, drawn_trainings(tmp_path, folds=1, seeds=2, sizes=(20,)))
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(UserError, match=message):
        read_trainings(path)


def test_a_training_without_a_slope_is_kept_and_one_without_an_auc_is_not(tmp_path: Path) -> None:
    (made, *_) = drawn_trainings(tmp_path, folds=1, seeds=1, sizes=(20,))
    made.outcomes["calibration_slope"] = None
    write_trainings(tmp_path / "t.csv", [made])
    assert read_trainings(tmp_path / "t.csv")[0].outcomes["calibration_slope"] is None
    made.outcomes["auc"] = None
    write_trainings(tmp_path / "t.csv", [made])
    with pytest.raises(UserError, match="it has no auc"):
        read_trainings(tmp_path / "t.csv")

"""A study's report: files, tables and the sentence, of an effect that is there and of none."""

import csv
import json
from pathlib import Path

import pytest

from commands import size_of_picture
from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.report import shown, write_report
from cxrgan_fast.studies.augmentation.trainings import Training, read_trainings
from study_trainings import drawn_trainings


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[Training], str, list[Path]]:
    """A report of a study in which RAS_1 is much better."""
    folder = tmp_path_factory.mktemp("study")
    trainings = drawn_trainings(folder, gain=1.5)
    text, files = write_report(folder, trainings, about={"plan": {"seeds": 3}}, progress=False)
    return folder, trainings, text, files


def test_the_files_are_there_and_the_finding_is_on_top(made) -> None:
    folder, trainings, text, files = made
    assert [path.name for path in files] == ["study.json", "trainings.csv", "study.png"]
    record = json.loads((folder / "study.json").read_text())
    assert next(iter(record)) == "finding"
    assert record["finding"].startswith("Synthetic images raised the AUC on new patients with 20")
    assert " ".join(text.split("\n\n")[0].split()) == record["finding"]
    assert record["plan"] == {"seeds": 3}
    across, down, size = size_of_picture(folder / "study.png")
    assert (across > 1000, down > 400, size > 20_000) == (True, True, True)
    with (folder / "trainings.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == len(trainings) + 1
    assert len(read_trainings(folder / "trainings.csv")) == len(trainings)
    assert shown(record) == text


def test_it_has_all_that_the_study_asks(made) -> None:
    record = json.loads((made[0] / "study.json").read_text())
    for each in record["sizes"]:
        assert each["p_holm"] >= each["p_value"]
        assert each["ratios_chosen"] == {"1": 6}
        assert set(each["secondary"]) >= {"accuracy", "brier", "calibration_error",
                                          "type_1_youden", "type_2_sensitivity_95"}  # fmt: skip
        assert set(each["mistakes"]) == {"half", "sensitivity_95", "youden"}
        assert each["training_rate"]["pairs"] == 6
        assert each["smallest_effect"] > 0
    asked = {(each["arm"], each["against"]) for each in record["others"]}
    assert asked >= {("RA", "R"), ("RR", "R"), ("S_*", "R"), ("RAS_1", "RA"), ("RAS_0.5", "RA"),
                     ("RAS_1", "N_1")}  # fmt: skip
    assert ("RS_*", "R") not in asked  # nobody trained it
    assert {each["arm"] for each in record["means"]} >= {"R", "RA", "RAS_*", "N_1"}
    assert record["sizes"][1]["images"] == 80
    assert record["break_even"] is not None
    assert record["reference"]["auc"] == 0.968


def test_where_there_is_no_effect_it_says_no(tmp_path: Path) -> None:
    trainings = drawn_trainings(tmp_path, seed=3, arms=(("RA", None), ("RAS", 1.0)))
    text, _ = write_report(tmp_path, trainings, progress=False)
    assert text.startswith("No difference shown with 20 real images")
    assert "would have been" in " ".join(text.split())
    assert "is not shown to change with the number of real images" in text


def test_a_study_that_is_not_whole_is_reported_as_far_as_it_is(tmp_path: Path) -> None:
    trainings = drawn_trainings(tmp_path, gain=1.5, arms=(("RA", None), ("RAS", 1.0)))
    kept = [each for each in trainings if not (each.size == "all" and each.fold == 1 and each.seed)]
    write_report(tmp_path, kept, progress=False)
    record = json.loads((tmp_path / "study.json").read_text())
    assert [each["folds"] for each in record["sizes"]] == [2, 1]
    assert record["notes"][0].startswith(
        "size all: fewer than two seeds of RAS and RA in the folds 1"
    )
    assert record["break_even"] is None  # the sizes have other patients
    text = shown(record)
    assert "size all: fewer than two seeds" in text


def test_without_the_primary_arms_the_table_is_kept_and_the_rest_refused(tmp_path: Path) -> None:
    trainings = drawn_trainings(tmp_path, arms=(("R", None), ("RS", 1.0)), folds=1, seeds=1)
    with pytest.raises(UserError, match=r"no size has two seeds of RAS and RA .* of R, RS; train"):
        write_report(tmp_path, trainings, progress=False)
    assert len(read_trainings(tmp_path / "trainings.csv")) == len(trainings)


def test_predictions_that_are_missing_are_named(tmp_path: Path) -> None:
    arms = (("RA", None), ("RAS", 1.0))
    trainings = drawn_trainings(tmp_path, folds=1, seeds=2, sizes=(20,), arms=arms)
    lost = next(each for each in trainings if each.arm == "RA")
    (tmp_path / lost.predictions).unlink()
    with pytest.raises(UserError, match=rf"cannot read .*{lost.predictions}"):
        write_report(tmp_path, trainings, progress=False)

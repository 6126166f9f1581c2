"""Pairs of trainings, their effects by outcome, and mistakes; against what is computed by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.comparisons import (
    Pair,
    Reader,
    chosen_by_validation,
    effect_of,
    fold_scores,
    mistakes_of,
    training_rate,
)
from cxrgan_fast.studies.augmentation.outcomes import OUTCOMES
from cxrgan_fast.studies.augmentation.predictions import read_predictions, write_predictions
from cxrgan_fast.studies.augmentation.trainings import Training
from study_trainings import drawn_trainings


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, list[Training]]:
    folder = tmp_path_factory.mktemp("study")
    arms = (("RA", None), ("RAS", 0.5), ("RAS", 1.0))
    return folder, drawn_trainings(folder, 0.5, sizes=(20,), folds=3, arms=arms)


def of_arm(trainings, arm: str, ratio: float | None = None) -> dict[tuple[int, int], Training]:
    return {(each.fold, each.seed): each for each in trainings
            if (each.arm, each.ratio) == (arm, ratio)}  # fmt: skip


def pair_of(study) -> Pair:
    return Pair.of(of_arm(study[1], "RAS", 1.0), of_arm(study[1], "RA"))


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_effect_is_the_mean_difference_of_the_outcomes_of_trainings(study, outcome) -> None:
    """The table's outcomes and the effects come of the same predictions by other ways."""
    folder, trainings = study
    ours, theirs = of_arm(trainings, "RAS", 1.0), of_arm(trainings, "RA")
    expected = np.mean([ours[key].outcomes[outcome] - theirs[key].outcomes[outcome]
                        for key in ours])  # fmt: skip
    assert effect_of(outcome, pair_of(study), Reader(folder)).value == pytest.approx(expected)


def test_pairs_are_those_that_both_arms_have(study) -> None:
    ours, theirs = of_arm(study[1], "RAS", 1.0), of_arm(study[1], "RA")
    del ours[0, 1], theirs[2, 0], theirs[2, 2]
    pair = Pair.of(ours, theirs)
    assert [[(a.fold, a.seed) for a, _ in fold] for fold in pair.folds] == [
        [(0, 0), (0, 2)], [(1, 0), (1, 1), (1, 2)]
    ]  # fmt: skip
    assert pair.left_out == [2]
    assert all((a.fold, a.seed) == (b.fold, b.seed) for fold in pair.folds for a, b in fold)


def test_the_ratio_is_chosen_by_validation_and_never_by_test(study) -> None:
    several = [each for each in study[1] if each.arm == "RAS"]
    assert {each.ratio for each in chosen_by_validation(several).values()} == {1.0}
    other = [replace(each, curve=((10, 0.9 if each.ratio == 0.5 else 0.8),)) for each in several]
    assert {each.ratio for each in chosen_by_validation(other).values()} == {0.5}
    equal = [replace(each, curve=((10, 0.9),)) for each in several]
    assert {each.ratio for each in chosen_by_validation(equal).values()} == {0.5}


def test_mistakes_are_of_the_mean_of_seeds_above_their_thresholds(study) -> None:
    folder, _ = study
    read = Reader(folder)
    pair = pair_of(study)
    found = mistakes_of(pair, read)["half"]
    counts = {"normal": [0, 0], "diseased": [0, 0]}
    for pairs in pair.folds:
        ours, theirs = (
            np.mean([read(each[place]).scores for each in pairs], 0) for place in (0, 1)
        )
        ill = read(pairs[0][0]).diseased
        for kind, rows in (("normal", ~ill), ("diseased", ill)):
            wrong = [(scores >= 0) != ill for scores in (ours, theirs)]
            counts[kind][0] += int((wrong[0] & ~wrong[1])[rows].sum())
            counts[kind][1] += int((wrong[1] & ~wrong[0])[rows].sum())
    for kind, expected in counts.items():
        assert [found[kind]["only_ours"], found[kind]["only_theirs"]] == expected
        assert found[kind]["images"] == 60


def test_the_training_rate_is_by_what_the_other_arm_ends_with(study) -> None:
    found = training_rate(pair_of(study))  # RAS_1 has 0.9 at the end, RA 0.8; both after 10 steps
    assert found == {"pairs": 9, "reached": 9, "steps": 10.0, "steps_of_other": 10.0}
    pair = pair_of(study)
    slow = [[(replace(a, curve=((5, 0.1),)), b) for a, b in fold] for fold in pair.folds]
    never = training_rate(Pair(slow, []))
    assert (never["reached"], never["steps"]) == (0, None)


def test_trainings_of_other_test_images_are_refused(study, tmp_path) -> None:
    folder, trainings = study
    pair = pair_of(study)
    first, other = pair.folds[0][0], pair.folds[1][0]
    moved = replace(first[1], predictions=other[1].predictions)
    with pytest.raises(UserError, match="its test images are not those of the other trainings"):
        fold_scores(Pair([[(first[0], moved), *pair.folds[0][1:]]], []), Reader(folder))
    parts = read_predictions(folder / trainings[0].predictions)
    write_predictions(tmp_path / "p.csv", {"test": parts["test"]})
    with pytest.raises(UserError, match="no predictions of validation and test images"):
        Reader(tmp_path)(replace(trainings[0], predictions="p.csv"))


def test_a_slope_that_is_none_is_said(study) -> None:
    pair = pair_of(study)
    ours, theirs = pair.folds[0][0]
    without = replace(ours, outcomes={**ours.outcomes, "calibration_slope": None})
    pair.folds[0][0] = (without, theirs)
    with pytest.raises(UserError, match=r"has no calibration_slope, since it tells"):
        effect_of("calibration_slope", pair, Reader(study[0]))

"""The plan is written before the first training, and a study keeps to it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.folds import Fold
from cxrgan_fast.studies.augmentation.plan import (
    Group,
    Plan,
    check_arms,
    describe_plan,
    keep_plan,
)
from cxrgan_fast.studies.augmentation.recipe import Recipe

FOLDS = tuple(Fold(number, "f", tuple(range(40)), (40, 41), (42, 43)) for number in range(2))


def a_plan(**more: object) -> Plan:
    plan = Plan(
        data="lungs", fingerprint="f", class_names=("normal", "bacterial"), negative=0,
        folds=FOLDS, sizes=(10, "all"), arms=("R", "RA", "RAS", "N"), ratios=(1.0, 2.0, 5.0),
        seeds=3, recipe=Recipe(), generator={"steps": 10},
    )  # fmt: skip
    return replace(plan, **more)


def test_groups_come_seed_by_seed_and_trainings_are_those_that_can_be() -> None:
    plan = a_plan()
    groups = list(plan.groups())
    assert groups[:3] == [Group(0, 10, 0), Group(1, 10, 0), Group(0, "all", 0)]
    assert len(groups) == 12
    assert plan.trainings(groups[0]) == [
        ("R", None), ("RA", None), ("RAS", 1.0), ("RAS", 2.0), ("RAS", 5.0), ("N", 1.0), ("N", 2.0)
    ]  # fmt: skip
    # Of all images there are no more real ones.
    assert {arm for arm, _ in plan.trainings(Group(0, "all", 0))} == {"R", "RA", "RAS"}
    assert plan.counts() == {"gans": 12, "classifiers": 6 * 7 + 6 * 5}
    assert a_plan(arms=("R", "RA")).counts()["gans"] == 0
    assert Group(0, "all", 2).name == "fold0-sizeall-seed2"


def test_a_study_is_joined_by_who_has_the_same_plan(tmp_path: Path) -> None:
    plan = a_plan()
    assert keep_plan(tmp_path, plan) == plan
    content = (tmp_path / "plan.json").read_bytes()
    # Folds that another version would make are not taken: the study has its own.
    moved = tuple(replace(fold, test=(43, 44)) for fold in FOLDS)
    assert keep_plan(tmp_path, replace(plan, folds=moved)) == plan
    assert (tmp_path / "plan.json").read_bytes() == content
    kept = json.loads(content)
    assert "RAS and RA" in kept["protocol"]["primary_outcome"]
    assert kept["protocol"]["stopping_rule"]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seeds": 4}, "planned with seeds 3, got 4"), ({"sizes": (10,)}, r"sizes \[10, 'all'\]"),
     ({"fingerprint": "g"}, "fingerprint 'f', got 'g'"),
     ({"recipe": Recipe(steps=3)}, "planned with recipe"),
     ({"generator": {"steps": 11}}, "generator"), ({"ratios": (1.0,)}, "ratios")],
)  # fmt: skip
def test_another_plan_is_refused_by_what_differs(tmp_path: Path, change, message) -> None:
    keep_plan(tmp_path, a_plan())
    with pytest.raises(UserError, match=message):
        keep_plan(tmp_path, a_plan(**change))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"folds": 3}', '{"folds": [{}]}', "[" * 9999])
def test_a_damaged_plan_is_said_in_a_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(UserError, match=r"is damaged|fold: train is None"):
        keep_plan(tmp_path, a_plan())


def test_a_plan_is_told_with_its_time() -> None:
    told = describe_plan(a_plan(), {"gan": 600.0, "classifier": 60.0})
    assert "trainings: 12 GANs and 72 classifiers" in told
    assert (
        "about 3 hours for one worker on this machine" in told
    )  # 2 hours of GANs, 72 minutes of classifiers
    assert "10 minutes a GAN, 60 seconds a classifier" in told
    assert "time:" not in describe_plan(a_plan())


def test_arms_are_known_and_have_the_primary_comparison() -> None:
    assert check_arms(["RAS", "RA", "R"]) == ("R", "RA", "RAS")
    for arms, message in ((["RA"], "RAS is missing"), (["RA", "RAS", "RA"], "RA: named twice"),
                          (["RA", "RAS", "Q"], "arm 'Q'")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            check_arms(arms)

"""A study is made once, and joined only by who has the same settings."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies import study as studies
from cxrgan_fast.studies.storage import open_storage
from cxrgan_fast.studies.study import IDENTITY, SETTINGS, SPACE, Fixed, find_study, join_study

optuna = pytest.importorskip("optuna")

FIXED = Fixed(
    {"objective": "fid", "steps_per_trial": 3, "minutes_per_trial": None, "train": {"l2": 0.0}},
    {"g_lr": {"low": 0.1, "high": 1.0}},
    {"g_lr": 0.5},
)


def fixed(settings: dict | None = None, space: dict | None = None) -> Fixed:
    return Fixed({**FIXED.settings, **(settings or {})}, space or FIXED.space, FIXED.default)


def join(path: Path, wanted: Fixed = FIXED, name: str = "a"):
    return join_study(open_storage(str(path)), str(path), name, wanted)


def test_trial_0_is_the_default_and_the_settings_are_kept(tmp_path):
    study = join(tmp_path / "j")
    assert study.user_attrs[SETTINGS] == FIXED.settings
    assert study.user_attrs[SPACE] == FIXED.space
    again = join(tmp_path / "j")
    assert again.user_attrs[IDENTITY] == study.user_attrs[IDENTITY]
    (trial,) = again.trials
    assert trial.user_attrs == {"default": True}
    asked = again.ask()
    assert (asked.number, asked.suggest_float("g_lr", 0.1, 1.0)) == (0, 0.5)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (fixed({"steps_per_trial": 4}), "begun with steps_per_trial 3, not 4"),
        (fixed({"minutes_per_trial": 2.0}), "begun with minutes_per_trial none, not 2.0"),
        (fixed({"train": {"l2": 0.1}}), "begun with train l2 0.0, not 0.1"),
        (fixed({"objective": "fid,seconds"}), "begun with objective fid, not fid,seconds"),
        (fixed(space={"g_lr": {"low": 0.2, "high": 1.0}}), "with space g_lr low 0.1, not 0.2"),
        (fixed(space={**FIXED.space, "l2": {}}), "begun with space l2 none, not {}"),
        (fixed(space={"l2": {}}), "begun with space g_lr {'low': 0.1, 'high': 1.0}, not none"),
    ],
)
def test_a_difference_is_one_line_that_names_it(tmp_path, wanted, said):
    join(tmp_path / "j")
    with pytest.raises(UserError, match="give another NAME") as refused:
        join(tmp_path / "j", wanted)
    assert said in str(refused.value)


def test_of_those_who_begin_at_once_one_makes_it(tmp_path):
    path, made = tmp_path / "j", []
    storages = [open_storage(str(path)) for _ in range(4)]

    def begin(storage) -> None:
        made.append(join_study(storage, str(path), "a", FIXED))

    threads = [threading.Thread(target=begin, args=(each,)) for each in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({study.user_attrs[IDENTITY] for study in made}) == 1
    assert [len(study.trials) for study in made] == [1] * 4


def test_what_a_killed_maker_has_left_is_made_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "_MADE_SECONDS", 0.1)
    storage = open_storage(str(tmp_path / "j"))
    half = optuna.create_study(storage=storage, study_name="a")
    half.enqueue_trial({"g_lr": 0.5}, user_attrs={"default": True})
    study = join(tmp_path / "j")
    assert study.user_attrs[SETTINGS] == FIXED.settings
    assert len(study.trials) == 1


def test_a_study_of_another_program_is_no_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "_MADE_SECONDS", 0.1)
    storage = open_storage(str(tmp_path / "j"))
    optuna.create_study(storage=storage, study_name="b", directions=["minimize"] * 3)
    with pytest.raises(UserError, match="is none of a sweep"):
        join(tmp_path / "j", name="b")
    other = optuna.create_study(storage=storage, study_name="c")
    other.tell(other.ask(), 1.0)
    with pytest.raises(UserError, match="is none of a sweep"):
        join(tmp_path / "j", name="c")
    with pytest.raises(UserError, match="has no settings of a sweep"):
        find_study(storage, "j", "b")


def test_an_unknown_name_gets_the_nearest(tmp_path):
    join(tmp_path / "j", name="lungs")
    storage = open_storage(str(tmp_path / "j"))
    assert find_study(storage, "j", "lungs").study_name == "lungs"
    with pytest.raises(UserError, match="no study 'lung' in j: there is lungs; did you mean"):
        find_study(storage, "j", "lung")
    with pytest.raises(UserError, match="no study 'a' in e, nor any other"):
        find_study(open_storage(str(tmp_path / "empty")), "e", "a")

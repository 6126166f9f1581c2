"""Schedules as they are typed and kept: by flags, in files, in Python."""

import json
import re

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.setting import settings_of
from cxrgan_fast.settings.checks import changed_on_resume, check
from cxrgan_fast.settings.config import TrainConfig, flatten, override
from cxrgan_fast.settings.config_file import read_config_file, write_config
from cxrgan_fast.train import parse

SCHEDULED = [name for name, known in settings_of(TrainConfig()).items() if known.scheduled]


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("1:0", Schedule(1, 0)),
        ("5e-4:1.5e-07:cosine", Schedule(5e-4, 1.5e-7, "cosine")),
        ("0.1:3:linear:0.2", Schedule(0.1, 3, share=0.2)),
        ("10:2:cosine:0.25", Schedule(10, 2, "cosine", 0.25)),
    ],
)
def test_a_schedule_is_read_as_it_is_written(text, schedule):
    assert Schedule.read(text) == schedule
    assert Schedule.read(str(schedule)) == schedule
    assert Schedule.read("1.0:0:linear:1") == Schedule.read("1:0")
    assert str(Schedule.read("1.0:0:linear:1")) == "1:0"


@pytest.mark.parametrize(
    "text",
    ["1:", ":1", "1:0:", "1:0:sine", "1:0:linear:0", "1:0:linear:1.5", "1:0:linear:0.5:2",
     "1:0:linear:nan", "nan:0", "1:inf", "1: 0", "1:0:0.2", "a:b", "1e999:0"],
)  # fmt: skip
def test_a_schedule_that_is_none_is_refused_everywhere_with_one_sentence(text, tmp_path):
    with pytest.raises(ValueError):  # noqa: PT011 - what a user sees is below
        Schedule.read(text)
    said = r"should be auto or a number of at least 0 or a schedule START:END.*, got '"
    with pytest.raises(UserError, match=rf"^--r1-gamma {said}{text}'$"):
        parse(["--device", "cpu", f"--r1-gamma={text}"])
    file = tmp_path / "settings.yaml"
    file.write_text(f"r1_gamma: {text!r}\n")
    with pytest.raises(UserError, match=rf"settings.yaml: r1_gamma {said}{text}'$"):
        read_config_file(file)


def test_which_settings_take_a_schedule():
    assert SCHEDULED == [
        "augment_probability", "noise_std", "r1_gamma", "r2_gamma", "g_lr", "d_lr", "beta2",
        "ema_half_life",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULED)
def test_bounds_hold_at_both_ends_however_it_comes(name, tmp_path):
    known, file = settings_of(TrainConfig())[name], tmp_path / "settings.yaml"
    least, most = known.bounds
    beyond = most if known.setting.below else most * 2
    for start, end in ((least - 1, least), (least, least - 1), (least, beyond), (beyond, least)):
        schedule, said = Schedule(start, end), []
        file.write_text(f"{name}: {schedule}\n")
        for refused in (
            lambda: read_config_file(file),
            lambda schedule=schedule: parse(["--device", "cpu", f"{known.flag}={schedule}"]),
            lambda schedule=schedule: override(TrainConfig(), {name: schedule}),
        ):
            with pytest.raises(UserError, match=re.escape(f"got '{schedule}'")) as caught:
                refused()
            said.append(str(caught.value).partition(" should be ")[2])
        assert len(set(said)) == 1
    file.write_text(f"{name}: {Schedule(least, least, 'cosine', 0.5)}\n")
    assert read_config_file(file) == {name: Schedule(least, least, "cosine", 0.5)}


def test_a_setting_that_takes_none_refuses_one(tmp_path):
    for value in ("1:0", "10:1", "1:30.5"):
        file = tmp_path / "settings.yaml"
        file.write_text(f"label_smoothing: {value}\nsteps: {value}")
        with pytest.raises(UserError, match=f"got '{value}'"):
            read_config_file(file)
    with pytest.raises(UserError, match=r"^steps should be .*, got '1:0'$"):
        override(TrainConfig(), {"steps": Schedule(1, 0)})


@pytest.mark.parametrize("text", ["10:1", "1:0", "1:30", "5:0.5", "1.5:0:cosine", "10:59.5"])
def test_a_file_needs_no_quotes_where_yaml_has_numbers_of_base_60(text, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(f"r1_gamma: {text}\nobjective:\n  noise_std: '{text}'\n")
    schedule = Schedule.read(text)
    assert read_config_file(file) == {"r1_gamma": schedule, "noise_std": schedule}


def test_a_dict_is_no_schedule(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("r1_gamma: {start: 1, end: 0}\n")
    with pytest.raises(UserError, match="r1_gamma should be auto or a number of at least 0 or"):
        read_config_file(file)


def test_a_schedule_is_written_as_its_text_and_a_number_as_before(tmp_path):
    config, _ = parse(["--device", "cpu", "--r1-gamma", "10:1:cosine", "--noise-std", "0.25"])
    text = write_config(config)
    assert "  r1_gamma: 10:1:cosine\n" in text
    assert "  noise_std: 0.25\n" in text
    assert "  r1_gamma: 1.0\n" in write_config(TrainConfig())
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    again = override(TrainConfig(), read_config_file(file))
    assert again == config
    assert json.loads(json.dumps(str(again.objective.r1_gamma))) == "10:1:cosine"
    assert isinstance(flatten(again)["r1_gamma"], Schedule)


def test_a_schedule_counts_as_a_value_of_its_setting(tmp_path):
    one = override(TrainConfig(), {"r1_gamma": Schedule(0, 1), "r1_interval": 5})
    check(one)
    with pytest.raises(UserError, match="--r1-interval does nothing without --r1-gamma"):
        check(override(one, {"r1_gamma": Schedule(0, 0)}))
    changed_on_resume(one, override(one, {"r1_gamma": Schedule.read("0:1")}), tmp_path)
    with pytest.raises(UserError, match=r"got --r1-gamma 0:2 \(.* has 0:1\)"):
        changed_on_resume(one, override(one, {"r1_gamma": Schedule(0, 2)}), tmp_path)
    with pytest.raises(UserError, match=r"^--beta2 0:0.9 is a schedule, which --optimizer rmsprop"):
        check(override(TrainConfig(), {"optimizer": "rmsprop", "beta2": Schedule(0, 0.9)}))
    with pytest.raises(UserError, match=r"^--plan-by does nothing without --max-minutes"):
        check(override(TrainConfig(), {"plan_by": "steps"}))

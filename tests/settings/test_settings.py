"""What stands at the field of a setting is what its flag, its key and its check follow."""

import contextlib
import io
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn.family import FAMILIES
from cxrgan_fast.setting import Known, Needs, Setting, Settings, settings_of
from cxrgan_fast.settings.checks import changed_on_resume, check
from cxrgan_fast.settings.config import EvaluationConfig, TrainConfig, flatten, override
from cxrgan_fast.settings.config_file import read_config_file
from cxrgan_fast.train import parse

# Of every family, by name: its own setting is a flag of it alone.
BY_FAMILY = {
    (family, name): known
    for family in FAMILIES
    for name, known in settings_of(override(TrainConfig(), {"family": family})).items()
}
KNOWN = {name: known for (_, name), known in BY_FAMILY.items()}
NUMBERS = {name: known for name, known in KNOWN.items() if known.number is not None}


@pytest.fixture(scope="module")
def help_of() -> dict[str, str]:
    """The part of --help that is of each flag, on one line."""
    found: dict[str, str] = {}
    for family in FAMILIES:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
            parse(["--family", family, "--device", "cpu", "--help"])
        lines = re.sub("[│╭╮╰╯─]", " ", out.getvalue())
        for part in re.split(r"^ {1,3}(?=--)", lines, flags=re.MULTILINE)[1:]:
            text = " ".join(part.split())
            for flag in re.findall(r"--[a-z0-9-]+", part.splitlines()[0].split("  ")[0]):
                found[flag] = text
    return found


def family_of(name: str) -> str:
    return next(family for family, other in BY_FAMILY if other == name)


def beyond(known: Known) -> list[Any]:
    """Values of the right type or nearly that a setting refuses."""
    if known.choices and known.number is None:
        return [987, "bogus"] if known.setting.choices else ["bogus"]
    least, most = known.bounds
    assert least is not None
    wrong: list[Any] = [least - 1, most + 1 if known.setting.below is None else most, "bogus"]
    others = [2.5, 10**390] if known.number is int else [float("nan"), float("inf")]
    return [*wrong, most * 2, *others]


def test_the_settings_are_those_of_the_configuration():
    config = TrainConfig()
    assert list(settings_of(config)) == list(flatten(config))
    assert {name: known.default for name, known in settings_of(config).items()} == flatten(config)
    assert {"steps", "noise_std", "upsampling", "latent_size"} <= KNOWN.keys()


@pytest.mark.parametrize("name", KNOWN)
def test_every_setting_has_help_and_limits_and_a_default_within(name):
    known = KNOWN[name]
    assert len(known.help) > 10
    assert known.help[-1] in ".)"
    if known.number is not None:
        least, most = known.bounds
        assert least is not None
        assert least < most
    known.check(known.default, name)  # raises


@pytest.mark.parametrize("name", KNOWN)
def test_help_shows_the_default_the_bounds_and_what_it_needs(name, help_of):
    known, shown = KNOWN[name], help_of[KNOWN[name].flag]
    assert known.help[:20] in shown
    by_device = ("preset", "base_channels", "batch_size", "family", "group_size", "expansion")
    if name not in by_device:
        default = known.default if known.is_list else (known.default,)
        said = " ".join(str(each) for each in default if each is not None)
        said = said or known.setting.unset or "none"
        assert f"(default: {said}" in shown
    if known.number is not None:
        assert known.expected() in shown
    for choice in known.choices:
        assert re.search(rf"[{{,]{choice}[,}}]", shown)
    if known.setting.needs:
        assert known.setting.needs.hint in shown


@pytest.mark.first_tier(8)
@pytest.mark.parametrize(
    "name", [name for name in KNOWN if NUMBERS.get(name) or KNOWN[name].choices]
)
def test_flags_files_and_python_refuse_the_same_with_the_same_sentence(name, tmp_path):
    known, file = KNOWN[name], tmp_path / "settings.yaml"
    flags = ["--device", "cpu", "--family", family_of(name)]
    for value in beyond(known):
        said = []
        shown = str(value).replace("inf", ".inf").replace("nan", ".nan")
        file.write_text(f"{name}: {[value] if known.is_list else shown}\n")
        with pytest.raises(UserError) as caught:
            read_config_file(file)
        said.append(str(caught.value).removeprefix(f"{file}: {name} "))
        typed = [known.flag, str(value)]
        with pytest.raises(UserError) as caught:
            parse([*(flags if name != "family" else flags[:2]), *typed])
        said.append(str(caught.value).removeprefix(f"{known.flag} "))
        config = override(TrainConfig(), {"family": family_of(name)})
        with pytest.raises(UserError) as caught:
            override(config, {name: (value,) if known.is_list else value})
        said.append(str(caught.value).removeprefix(f"{name} "))
        # Of what is typed and is no such number the text is shown.
        forms = {re.sub(r"got [\[('\"]*(.+?)[\])'\",]*(;|$)", r"got \1\2", each) for each in said}
        forms = {each.replace(".0", "") for each in forms}
        assert len(forms) == 1, said
        assert re.match(r"should be .*, got ", said[0])


@pytest.mark.parametrize("name", NUMBERS)
def test_every_bound_is_one_that_fits(name, tmp_path):
    known, file = NUMBERS[name], tmp_path / "settings.yaml"
    family = family_of(name)
    least, most = known.bounds
    for value in (least, most) if known.setting.below is None else (least, most - 1e-9):
        config = override(TrainConfig(), {"family": family, name: value})
        assert flatten(config)[name] == value
        file.write_text(f"{name}: {value!r}\n")
        assert read_config_file(file) == {name: value}
        parsed, _ = parse(["--device", "cpu", "--family", family, known.flag, repr(value)])
        assert flatten(parsed)[name] == value


def test_a_number_that_cannot_be_written_is_refused_in_a_line(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(f"steps: 0x{'f' * 5000}\n")
    with pytest.raises(
        UserError, match=r"steps should be a whole number .*, got one of 20000 bits"
    ):
        read_config_file(file)
    with pytest.raises(UserError, match=r"^--steps should be a whole number .*, got '9+$"):
        parse(["--device", "cpu", "--steps", "9" * 5000])
    with pytest.raises(UserError, match=r"^l2 should be a number from 0 to 1e\+12, got 10+$"):
        override(TrainConfig(), {"l2": 10**390})  # no double


def test_a_setting_that_needs_another_names_one_that_there_is():
    for name, known in KNOWN.items():
        if (needs := known.setting.needs) is not None:
            other = KNOWN[needs.setting]
            for value in (*needs.among, *([] if needs.but is None else [needs.but])):
                other.check(value, name)
                assert isinstance(value, type(other.default))


@pytest.mark.parametrize(
    "name", [name for name, known in KNOWN.items() if known.setting.needs is not None]
)
def test_a_setting_that_would_do_nothing_is_refused_unless_a_resumed_run_keeps_it(name):
    known, needs = KNOWN[name], KNOWN[name].setting.needs
    other = KNOWN[needs.setting]
    idle = {"skip_bad": True, "class_balance": True, "reuse_real_logits": True,
            "spectral_norm": True, "latent_chunks": True, "scale_residuals": True,
            "features": "pixels", "inception_weights": Path("w"), "features_weights": "w",
            }.get(name)  # fmt: skip
    if known.default == "":
        idle = "column"
    if idle is None and known.number is None:
        idle = next(choice for choice in known.choices if choice != known.default)
    elif idle is None:
        idle = known.bounds[0] + (0.25 if known.number is float else 3)
    usual = needs.but if needs.but is not None else () if other.is_list else next(
        value
        for value in (*other.choices, 0, "else")
        if not needs.met(value) and (isinstance(value, str) or not isinstance(other.default, str))
    )  # fmt: skip
    # Of evaluations there have to be some, where what they compare is the other setting.
    eval_every = 0 if needs.setting == "eval_every" else 1
    config = override(TrainConfig(), {"eval_every": eval_every, name: idle, needs.setting: usual})
    with pytest.raises(
        UserError, match=rf"^{known.flag} does nothing {needs.text}.*; leave it out"
    ):
        check(config)
    if known.owner is EvaluationConfig:
        check(config, resumed=True)
    else:
        with pytest.raises(UserError, match="does nothing"):
            check(config, resumed=True)
    check(override(config, {name: known.default}))


@pytest.mark.parametrize("name", KNOWN)
def test_only_what_is_marked_may_change_on_resume(name):
    known, source = KNOWN[name], Path("run/config.yaml")
    stored = override(TrainConfig(), {"family": family_of(name)})
    others = [c for c in known.choices if c != flatten(stored)[name]]
    step = 0.25 if known.number is float else known.setting.multiple_of
    numbers = [known.bounds[0] + n * step for n in (1, 2)] if known.number else []
    numbers = [number for number in numbers if number != flatten(stored)[name]]
    plain = {bool: not known.default, str: "other", Path: Path("other")}
    other = next(iter((*others, *numbers)), plain.get(type(known.default), Path("other")))
    if known.is_list:
        other = (other if known.choices else "other",)
    changed = override(stored, {name: other})
    assert flatten(changed)[name] != flatten(stored)[name]
    if known.setting.resumable:
        changed_on_resume(stored, changed, source)
    else:
        with pytest.raises(UserError, match=rf"got {known.flag} "):
            changed_on_resume(stored, changed, source)


def test_a_resumed_run_of_another_family_is_refused_by_name():
    stored = override(TrainConfig(), {"family": "dcgan"})
    with pytest.raises(UserError, match="got --family resnet"):
        changed_on_resume(stored, TrainConfig(), Path("run/config.yaml"))


def test_a_new_setting_is_one_field():
    """Its flag, bounds, help and refusals follow from the field alone."""

    @dataclass(frozen=True)
    class More(Settings):
        warm: Annotated[int, Setting(least=0, most=9, needs=Needs("loss", but="hinge"))] = 2
        """Steps of warm-up."""

    (known,) = settings_of(More).values()
    assert (known.help, known.flag) == ("Steps of warm-up.", "--warm")
    assert known.expected() == "a whole number from 0 to 9"
    with pytest.raises(UserError, match=r"^warm should be a whole number from 0 to 9, got 10$"):
        More(10)
    with pytest.raises(UserError, match=r"^warm should be a whole number from 0 to 9, got True$"):
        More(True)


def test_settings_need_neither_yaml_nor_pydantic_nor_tyro():
    code = """
import sys
for name in ("yaml", "pydantic", "tyro", "annotated_types"):
    sys.modules[name] = None
from cxrgan_fast.settings.checks import check
from cxrgan_fast.settings.config import TrainConfig, override
check(override(TrainConfig(), {"steps": 3}))
"""
    subprocess.run([sys.executable, "-c", code], check=True)

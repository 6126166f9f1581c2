"""Advice that can be followed: options that messages name exist, and names from elsewhere too."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch

import cxrgan_fast
from cxrgan_fast import evaluate as evaluate_command
from cxrgan_fast import generate as generate_command
from cxrgan_fast.data.sources import Columns
from cxrgan_fast.errors import UserError
from cxrgan_fast.setting import settings_of
from cxrgan_fast.settings.config import TrainConfig, flatten, override
from cxrgan_fast.settings.config_file import read_config_file
from cxrgan_fast.settings.names import answers_to, refuse_names_from_elsewhere
from cxrgan_fast.train import parse
from cxrgan_fast.training.loop import train as train_loop
from cxrgan_fast.training.run import Run
from cxrgan_fast.training.step import TrainingStep
from evaluations import write_images

ERRORS = ("UserError", "NonFiniteError", "PlaceError")
PACKAGE = Path(cxrgan_fast.__file__).parent


def options(arguments: type) -> set[str]:
    names = {f.name.replace("_", "-") for f in dataclasses.fields(arguments)}
    if "columns" in names:
        names |= {f.name.replace("_", "-") for f in dataclasses.fields(Columns)}
    return names | {"class"} if "classes" in names else names


TRAIN = {name.replace("_", "-") for name in flatten(TrainConfig())} | {"resume", "config", "help"}
EVALUATE, GENERATE = options(evaluate_command.Arguments), options(generate_command.Arguments)

# What messages of a file may name: the options of every command that reaches it.
SHARED = {
    "data/dataset.py": TRAIN & EVALUATE,
    "data/phantom/source.py": TRAIN & EVALUATE,
    "data/sources": TRAIN & EVALUATE,
    "data/opening.py": TRAIN & EVALUATE,
    "data/all_bits.py": TRAIN & EVALUATE,
    "data/dicom.py": TRAIN & EVALUATE,
    "data/packed.py": TRAIN & EVALUATE,
    "metrics": EVALUATE,
    "devices.py": TRAIN & EVALUATE & GENERATE,
    "evaluation/checkpoints.py": EVALUATE,
    "evaluation/matching.py": EVALUATE,
    "evaluation/evaluator.py": EVALUATE,
    "evaluation/request.py": EVALUATE,
    "evaluation/image_sets.py": EVALUATE,
    "runs/generators.py": EVALUATE & GENERATE,
    "sampling/class_sources.py": EVALUATE & GENERATE,
    "runs/generator_file.py": EVALUATE & GENERATE,
    "sampling/generation.py": GENERATE,
    "settings/checks.py": TRAIN,
    "settings/config.py": TRAIN,
    "training/loop.py": TRAIN,
    "training/run.py": TRAIN,
    "training/thread_count.py": TRAIN,
}


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The text of every UserError that a file raises, without what is filled in."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
            parts = (
                each.value
                for argument in node.args
                for each in ast.walk(argument)
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )
            yield node.lineno, "".join(parts)


@pytest.mark.parametrize("place", SHARED)
def test_messages_name_options_of_the_commands_that_show_them(place):
    found = 0
    path = PACKAGE / place
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for line, text in messages(file):
            found += 1
            # "train it with --eval-every" and "prepare with --skip-bad" name another command.
            if re.search(r"\b(train|prepare|generate)\b", text):
                continue
            for option in re.findall(r"--([a-z][a-z0-9-]+)", text):
                assert option in SHARED[place], f"{file.name}:{line}: --{option}: {text}"
    assert found


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--lr", "--g-lr and --d-lr"),
        ("--learning-rate", "--g-lr and --d-lr"),
        ("--learning_rate", "--g-lr and --d-lr"),
        ("--weight-decay", "--l2"),
        ("--epochs", "--steps"),
        ("--ngf", "--base-channels"),
        ("--z-dim", "--latent-size"),
        ("--num_workers", "--threads"),
    ],
)
def test_flags_of_other_programs_are_answered_with_ours(fails, flag, said):
    for words in ([flag, "3"], [f"{flag}=3"]):
        line = fails(*words)
        assert f"{flag}: there is no such setting; here it is {said}" in line


def test_names_of_other_programs_in_a_file_are_answered_with_ours(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("learning_rate: 0.1\n")
    with pytest.raises(UserError, match=r"unknown setting 'learning_rate'; here it is --g-lr and"):
        read_config_file(path)


def test_every_answer_names_settings_that_there_are_and_hides_none():
    known = settings_of(TrainConfig())
    answers = answers_to(known)
    assert not answers.keys() & known.keys()
    assert {"epochs", "ngf", "ckpt"} < answers.keys()
    for name, answer in answers.items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        named = re.findall(r"--([a-z0-9-]+)", answer)
        assert named
        settings = {each.replace("-", "_") for each in named}
        assert settings <= known.keys() | {"resume", "config"}, answer


def test_settings_of_ours_pass(tmp_path):
    known = settings_of(TrainConfig())
    refuse_names_from_elsewhere([f"--{name.replace('_', '-')}" for name in known], known)
    config, _ = parse(["--device", "cpu", "--l2", "0.1", "--g-lr", "1e-3"])
    assert config.optimization.l2 == 0.1


def test_override_refuses_names_that_are_no_settings():
    with pytest.raises(UserError, match=r"no setting 'batchsiz'; did you mean 'batch_size'\?"):
        override(TrainConfig(), {"batchsiz": 4})
    with pytest.raises(UserError, match=r"no setting 'z_dim'; here it is --latent-size"):
        override(TrainConfig(), {"z_dim": 4})
    with pytest.raises(UserError, match="no setting 'network'"):  # a group is none
        override(TrainConfig(), {"network": 4})


def test_train_as_a_function_makes_of_auto_what_the_command_does(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    settings = {"resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4,
                "phantom_images": 12, "steps": 1, "device": "cpu", "out": tmp_path}  # fmt: skip
    seen = []
    made = create_autospec(Run, side_effect=lambda config, *_: seen.append(config) or stop())

    def stop() -> None:
        raise InterruptedError

    monkeypatch.setattr("cxrgan_fast.training.loop.Run", made)
    with pytest.raises(InterruptedError):
        train_loop(override(TrainConfig(), settings))
    assert [config.precision for config in seen] == ["bf16"]


def test_a_step_takes_no_precision_that_is_not_resolved():
    with pytest.raises(ValueError, match="precision 'auto' is no precision"):
        TrainingStep(TrainConfig(), create_autospec(object), torch.device("cpu"))


def test_a_table_of_generated_images_is_evaluated(evaluate, data, tmp_path):
    drawn = write_images(tmp_path / "drawn", "val", 24)
    lines = ["path,label"]
    lines += [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in drawn.rglob("*.png")]
    table = tmp_path / "drawn.csv"
    table.write_text("\n".join(lines) + "\n")
    more = ["--data", data, "--features", "pixels", "--metrics", "fid", "--samples", 10]
    code, out, err = evaluate(table, *more)
    assert code == 0, err
    assert (tmp_path / "drawn-evaluation" / "evaluation.json").is_file()
    assert "drawn.csv against the training images" in out


def test_classes_are_named_by_either_option(evaluate, data, images):
    more = ["--data", data, "--features", "pixels", "--metrics", "fid", "--samples", 4]
    names = sorted(path.name for path in images.rglob("*") if path.is_dir())
    for words in (["--class", names[-1]], ["--classes", ",".join(names)], ["--classes", ""]):
        code, _, err = evaluate(images, *more, *words)
        assert code == 0, err

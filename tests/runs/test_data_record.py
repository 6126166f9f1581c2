"""A run goes on from any folder, finds data that have moved, and runs no code of a stranger's."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from cxrgan_fast.data import Preparation, open_source, prepare_set
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.config_file import read_config_file
from cxrgan_fast.training.loop import train as train_in_process
from evaluations import write_images

TINY = ["--device", "cpu", "--precision", "fp32", "--base-channels", 8, "--latent-size", 8,
        "--batch-size", 4]  # fmt: skip
CODE = """
from pathlib import Path
Path({mark!r}).touch()
def features(images):
    return images.flatten(1)[:, :4] + 0
"""


@pytest.fixture
def run(train, tmp_path, monkeypatch):
    """A run on the folder `lungs`, named as it is typed in the folder above it."""
    write_images(tmp_path / "home" / "lungs", "train", 12)
    monkeypatch.chdir(tmp_path / "home")
    code, _, err = train(*TINY, "--data", "lungs", "--resolution", 32, "--steps", 1)
    assert code == 0, err
    (run,) = (tmp_path / "home" / "runs").iterdir()
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Such a run, trained once."""
    home = tmp_path_factory.mktemp("trained") / "home"
    settings = {"data": str(write_images(home / "lungs", "train", 12)), "resolution": 32,
                "base_channels": 8, "latent_size": 8, "batch_size": 4, "precision": "fp32",
                "steps": 1, "out": home / "runs"}  # fmt: skip
    run, _ = train_in_process(override(TrainConfig(), settings), torch.device("cpu"))
    return run


@pytest.fixture
def copied(trained, tmp_path):
    """Such a run with its data, copied: it is to be refused before it trains."""
    home = trained.parents[1]
    shutil.copytree(home, tmp_path / "home")
    run = tmp_path / "home" / "runs" / trained.name
    settings = (run / "config.yaml").read_text()
    assert str(home) in settings
    (run / "config.yaml").write_text(settings.replace(str(home), str(tmp_path / "home")))
    return run


def edit(run: Path, group: str, **changes: object) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings[group].update(changes)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))


def test_a_run_goes_on_from_another_folder(run, train, evaluate, tmp_path, monkeypatch):
    assert read_config_file(run / "config.yaml")["data"] == str(tmp_path / "home" / "lungs")
    monkeypatch.chdir(tmp_path)
    code, _, err = train("--resume", run, "--steps", 2)
    assert code == 0, err
    options = ["--features", "pixels", "--metrics", "fid", "--samples", 8]
    code, _, err = evaluate(run, *options)
    assert code == 0, err


def test_data_that_have_moved_with_the_run_are_found(run, train, evaluate, tmp_path, monkeypatch):
    shutil.move(tmp_path / "home", tmp_path / "away")
    moved = tmp_path / "away" / "runs" / run.name
    monkeypatch.chdir(tmp_path)
    options = ["--features", "pixels", "--metrics", "fid", "--samples", 8]
    code, _, err = evaluate(moved, *options)
    assert code == 0, err
    code, out, err = train("--resume", moved, "--steps", 2)
    assert code == 0, err
    place = tmp_path / "away" / "lungs"
    assert f"found in {place}" in out
    assert read_config_file(moved / "config.yaml")["data"] == str(place)


def test_other_data_of_the_same_name_are_not_taken_for_the_runs(run, train, fails, tmp_path):
    shutil.move(tmp_path / "home" / "lungs", tmp_path / "kept")
    write_images(tmp_path / "home" / "lungs", "test", 12)
    line = fails("--resume", run, "--steps", 2)
    assert f"are not those that {run} began with" in line
    assert "name their folder with --data" in line
    code, out, err = train("--resume", run, "--steps", 2, "--data", tmp_path / "kept")
    assert code == 0, err
    assert "found in" not in out


def test_a_run_of_an_earlier_version_has_its_data_as_typed(run, train, tmp_path, monkeypatch):
    edit(run, "dataset", data="lungs")
    monkeypatch.chdir(tmp_path)
    code, out, err = train("--resume", run, "--steps", 2)
    assert code == 0, err
    assert f"found in {tmp_path / 'home' / 'lungs'}" in out


def test_data_that_are_nowhere_are_said_to_be(copied, fails, tmp_path):
    shutil.rmtree(tmp_path / "home" / "lungs")
    line = fails("--resume", copied, "--steps", 2)
    assert "--data may say where the run's images are now" in line


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 10**5,
                                     '{"name": 1}', '{"name": "x"}',
                                     '{"name": "x", "fingerprint": "y", "images": {"a": "b"}}',
                                     ])  # fmt: skip
def test_a_record_that_was_edited_is_refused_by_name(copied, fails, content):
    (copied / "dataset.json").write_text(content)
    line = fails("--resume", copied, "--steps", 2)
    assert f"{copied / 'dataset.json'} is damaged (" in line


def test_features_that_are_code_run_only_where_the_command_line_names_them(
    run, train, fails, tmp_path
):
    mark = tmp_path / "sprung"
    trap = tmp_path / "trap.py"
    trap.write_text(CODE.format(mark=str(mark)))
    name = f"{trap}:features"
    edit(run, "evaluation", features=name, eval_every=1, eval_samples=8)
    line = fails("--resume", run, "--steps", 2)
    assert f"the settings name the features {name}, which is code" in line
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"features: {name}\neval_every: 1\n")
    assert "which is code" in fails("--config", settings, "--data", "lungs", *TINY)
    assert "which is code" in fails("--resume", run, "--steps", 2, "--config", settings)
    assert not mark.exists()
    code, _, err = train("--resume", run, "--steps", 2, "--features", name)
    assert code == 0, err
    assert mark.exists()


def test_a_packed_set_brings_its_resolution_and_channels(train, fails, tmp_path):
    write_images(tmp_path / "lungs", "train", 12)
    packed = tmp_path / "packed"
    prepare_set(open_source(tmp_path / "lungs"), packed, Preparation(32, 3), progress=False)
    options = [*TINY, "--data", packed, "--steps", 1, "--out", tmp_path / "runs"]
    code, _, err = train(*options)
    assert code == 0, err
    (run,) = (tmp_path / "runs").iterdir()
    settings = read_config_file(run / "config.yaml")
    assert (settings["resolution"], settings["image_channels"]) == (32, 3)
    assert "train at --resolution 32" in fails(*options, "--resolution", 64)


@pytest.mark.parametrize("option", ["--resume", "--data", "--out", "--config"])
@pytest.mark.parametrize("form", ["two words", "one word"])
def test_empty_paths_are_refused_and_change_nothing(copied, fails, option, form, monkeypatch):
    monkeypatch.chdir(copied)  # where the empty path would be the run itself
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    words = [option, ""] if form == "two words" else [f"{option}="]
    assert fails(*words, "--steps", 2) == (
        f"error: an empty argument after {option}: give a value, or leave it out"
    )
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_a_run_that_cannot_go_on_is_not_changed(copied, fails):
    for path in (copied / "checkpoints").iterdir():
        path.unlink()
    before = (copied / "config.yaml").read_bytes()
    assert "it has no checkpoint yet" in fails("--resume", copied, "--steps", 7)
    assert (copied / "config.yaml").read_bytes() == before

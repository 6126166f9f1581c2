"""The trainings of ``research.parity``: their beginnings, their clock, and what is kept of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from safetensors.torch import load_file

from bench import timing
from cxrgan_fast.data import load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config import TrainConfig, override
from research import parity_training
from research.parity_training import Work, settings_of, snapshot_steps, start, train

CPU = torch.device("cpu")
TINY = {"resolution": 32, "base_channels": 8, "batch_size": 4, "latent_size": 8, "seed": 3}
CONFIG = override(TrainConfig(), {**TINY, "precision": "fp32"})


@pytest.fixture(scope="module")
def dataset():
    """A few phantoms."""
    return load_dataset("phantom", resolution=32, phantom_images=8, progress=False)


@pytest.mark.parametrize(
    ("steps", "snapshots", "expected"),
    [(600, 3, [200, 400, 600]), (10, 4, [2, 5, 8, 10]), (3, 3, [1, 2, 3]), (7, 1, [7])],
)
def test_snapshots_are_evenly_spaced_and_the_last_is_the_end(steps, snapshots, expected) -> None:
    assert snapshot_steps(steps, snapshots) == expected


def test_all_variants_of_a_seed_begin_with_the_same_weights(dataset) -> None:
    training, *ours = (start(name, CONFIG, dataset, CPU) for name in ("reference", "fp32", "bf16"))
    latents, labels = torch.randn(4, 8), torch.tensor([0, 1, 0, 1])
    images = torch.rand(4, 1, 32, 32) * 2 - 1
    for each in ours:
        step = each.step
        with torch.no_grad():
            torch.testing.assert_close(
                step.ema.module(latents, labels), training.ema(latents, labels)
            )
            torch.testing.assert_close(
                step.networks["discriminator"](images, labels),
                training.discriminator(images, labels),
            )
    assert [each.step.config.precision for each in ours] == ["fp32", "bf16"]
    other = start("reference", override(CONFIG, {"seed": 4}), dataset, CPU)
    assert not torch.equal(other.generator.linear.weight, training.generator.linear.weight)


def test_the_reference_draws_by_its_seed_whatever_was_drawn_before(dataset) -> None:
    weights = []
    for noise in (1, 5):
        torch.randn(noise)
        training = start("reference", CONFIG, dataset, CPU)
        training()
        weights.append(training.generator.linear.weight.detach().clone())
        vars(training).clear()
    torch.testing.assert_close(*weights)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("variant", ["bf16", "reference"])
def test_a_training_keeps_its_average_and_its_clock(dataset, tmp_path: Path, variant) -> None:
    folder, told = tmp_path / "run", list[int]()
    config = override(CONFIG, {"r1_interval": 2})
    folder.mkdir()
    (folder / "evaluation.json").write_text("of weights that are replaced")
    run = train(
        variant, config, dataset, CPU, snapshots=[1, 4, 6], folder=folder, progress=told.append
    )
    assert not (folder / "evaluation.json").exists()
    assert sum(told) == 6
    assert run["window_steps"] == [2, 1, 2]  # the first step is timed apart
    assert run["variant"] == variant
    assert run["executor"] == "eager"
    assert [each["step"] for each in run["snapshots"]] == [1, 4, 6]
    assert [each["images"] for each in run["snapshots"]] == [4, 16, 24]
    seconds = [each["seconds"] for each in run["snapshots"]]
    assert seconds[0] == run["first_step_s"]
    assert seconds[2] == pytest.approx(run["first_step_s"] + sum(run["window_s"]))
    whole = sorted((run["window_s"][0], run["window_s"][2]))
    assert run["images_per_second"] == pytest.approx(8 / (sum(whole) / 2))
    weights = [load_file(folder / f"generator-{step:06d}.safetensors") for step in (1, 4, 6)]
    names = [name for name in weights[0] if name.endswith("conv1.weight")]
    assert names
    for name in names:
        assert not torch.equal(weights[0][name], weights[2][name])


def test_what_is_written_is_not_on_the_clock(dataset, tmp_path: Path, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Training:
        """Steps of a second, the first of which takes ten."""

        def __init__(self) -> None:
            self.ema, self.first = torch.nn.Linear(1, 1), True

        def __call__(self) -> None:
            now[0] += 10 if self.first else 1
            self.first = False

    def save(*arguments: Any) -> None:
        now[0] += 1000

    start = create_autospec(parity_training.start, return_value=Training())
    monkeypatch.setattr(parity_training, "start", start)
    saved = create_autospec(parity_training._save, side_effect=save)
    monkeypatch.setattr(parity_training, "_save", saved)
    run = train("reference", CONFIG, dataset, CPU, snapshots=[20, 40], folder=tmp_path)
    assert [each["seconds"] for each in run["snapshots"]] == [29, 49]
    assert run["first_step_s"] == 10
    assert run["window_steps"] == [16, 3, 16, 4]
    assert run["images_per_second"] == 4


def test_a_folder_is_bound_to_its_settings(dataset, tmp_path: Path) -> None:
    def settings(config: TrainConfig = CONFIG, steps: int = 6) -> dict[str, Any]:
        return settings_of(config, dataset, CPU, steps, 2)

    folder = tmp_path / "some" / "work"
    Work(folder, settings())
    work = Work(folder, settings(steps=7))  # nothing is trained yet
    assert work.run(0, "bf16") is None
    work.run_folder(0, "bf16").mkdir(parents=True)
    work.keep({"seed": 0, "variant": "bf16", "more": 1})
    assert work.run(0, "bf16") == {"seed": 0, "variant": "bf16", "more": 1}
    again = Work(folder, settings(steps=7))
    assert again.run(0, "bf16") is not None
    # What belongs to a single training, or to none, is free.
    Work(folder, settings(override(CONFIG, {"seed": 9, "precision": "bf16"}), steps=7))
    with pytest.raises(UserError, match="was trained with steps 7, not 6: name a new folder"):
        Work(folder, settings())
    with pytest.raises(UserError, match=r"training.g_lr 0.0005, not 0.1"):
        Work(folder, settings(override(CONFIG, {"g_lr": 0.1}), steps=7))
    other = load_dataset("phantom", resolution=32, phantom_images=8, seed=1, progress=False)
    with pytest.raises(UserError, match=r"data.fingerprint"):
        Work(folder, settings_of(CONFIG, other, CPU, 7, 2))
    (folder / "settings.json").write_text("{")
    with pytest.raises(UserError, match=r"settings.json is damaged: remove the folder"):
        Work(folder, settings(steps=7))


def test_a_folder_that_holds_something_else_is_left_alone(dataset, tmp_path: Path) -> None:
    settings = settings_of(CONFIG, dataset, CPU, 6, 2)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds something else; name a new folder"):
        Work(tmp_path, settings)
    assert [each.name for each in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(UserError, match="cannot be made: Not a directory"):
        Work(tmp_path / "letter.txt" / "work", settings)
    work = Work(tmp_path / "work", settings)
    path = work.run_folder(1, "fp32") / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([1]))
    with pytest.raises(UserError, match=r"run.json is damaged: remove the folder"):
        work.run(1, "fp32")

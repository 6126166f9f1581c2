"""Runs whose augmentation is made with a probability: what steers it, and that they go on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_flatten

from cxrgan_fast.augment.diffaugment import POLICIES
from cxrgan_fast.runs.checkpoint import checkpoint_path, save_checkpoint, saved_steps
from cxrgan_fast.settings.config_file import read_config_file

PHANTOM = ["--device", "cpu", "--threads", 1, "--precision", "fp32", "--resolution", 32,
           "--base-channels", 8, "--latent-size", 8, "--batch-size", 4, "--phantom-images", 12,
           "--log-every", 1]  # fmt: skip
STEERED = [*PHANTOM, "--augment", *POLICIES, "--ada-target", 0.3, "--ada-ramp", 0.4,
           "--augment-probability", 0.5]  # fmt: skip


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def logged(run: Path) -> dict[str, list]:
    """What was measured of each step, by name, without what depends on the clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = rows[-1].keys() - {"seconds", "images_per_second", "peak_memory"}
    return {name: [row.get(name) for row in rows] for name in sorted(names)}


def assert_same(run: Path, other: Path, step: int) -> None:
    """Check that two runs have the same log, generator and state of training, to the bit."""
    assert logged(run) == logged(other)
    a, b = (run / "generator.safetensors", other / "generator.safetensors")
    assert a.read_bytes() == b.read_bytes()
    a, b = (torch.load(checkpoint_path(r, step), weights_only=True) for r in (run, other))
    assert a["training"]["objective"].keys() >= {"augment_p", "r_t_total", "r_t_steps"}
    (leaves, form), (others, same_form) = (tree_flatten(each["training"]) for each in (a, b))
    assert form == same_form
    for x, y in zip(leaves, others, strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y


@pytest.mark.parametrize(
    ("settings", "target", "start", "ends"),
    [
        # A generator that learns nothing is told from real images soon.
        (["--g-lr", 0, "--d-lr", 0.002], 0.2, 0.0, (0.7, 1.0)),
        # And what would have to be sure of all but one image in a hundred is not.
        pytest.param(["--d-lr", 0], 0.99, 1.0, (0.0, 0.3), marks=pytest.mark.long),
    ],
)
def test_the_probability_follows_how_sure_the_discriminator_is(
    train, tmp_path, settings, target, start, ends
):
    options = ["--augment", "rotation", "scale", "cutout", "--ada-target", target]
    options += ["--ada-ramp", 0.5, "--augment-probability", start, "--seed", 1]
    code, _, err = train(*PHANTOM, *options, *settings, "--steps", 40, "--out", tmp_path)
    assert code == 0, err
    measured = logged(only_run(tmp_path))
    assert measured["augment_p"][0] == start
    assert ends[0] <= measured["augment_p"][-1] <= ends[1]
    moved = [b - a for a, b in zip(measured["augment_p"], measured["augment_p"][1:], strict=False)]
    for step, change in enumerate(moved, 1):  # it is reported as the step finds it
        excess = sum(measured["r_t"][step - 4 : step]) - 4 * target
        assert (change != 0) <= (step % 4 == 0)
        assert change * excess >= 0
    assert f"r_t {measured['r_t'][-1]:.3f}  p {measured['augment_p'][-1]:.3f}" in err


def _settings(run: Path) -> dict:
    return read_config_file(run / "config.yaml")


def test_steering_alone_begins_with_no_changes_and_says_so(train, tmp_path):
    assert train(*PHANTOM, "--ada-target", 0.3, "--steps", 2, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    assert logged(run)["augment_p"] == [0, 0]
    assert _settings(run)["augment_probability"] == 0.0
    assert train("--resume", run, "--steps", 3)[0] == 0


@pytest.mark.parametrize("policies", [["--augment"], ["--augment", "cutout"]])
def test_without_steering_every_change_is_made_as_before(train, tmp_path, policies):
    assert train(*PHANTOM, *policies, "--steps", 1, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    assert _settings(run)["augment_probability"] == 1.0
    assert "augment_p" not in logged(run)
    assert train("--resume", run, "--steps", 2)[0] == 0


def test_what_a_file_of_settings_says_stands(train, tmp_path):
    """Such as the config.yaml of a run from when steering alone began with 1."""
    file = tmp_path / "config.yaml"
    file.write_text("dataset:\n  ada_target: 0.3\n  augment_probability: 1.0\n")
    options = ["--config", file, "--steps", 1, "--out", tmp_path / "runs"]
    assert train(*PHANTOM, *options)[0] == 0
    run = only_run(tmp_path / "runs")
    assert train("--resume", run, "--steps", 2)[0] == 0
    assert logged(run)["augment_p"] == [1, 1]


@pytest.mark.parametrize(
    "loss", ["non_saturating", pytest.param("relativistic", marks=pytest.mark.long)]
)
def test_a_run_that_is_steered_goes_on_to_the_bit(train, tmp_path, loss):
    """From a checkpoint between two moves of the probability."""
    options = ["--loss", loss, "--checkpoint-every", 6, "--keep-checkpoints", 9, "--steps", 20]
    assert train(*STEERED, *options, "--out", tmp_path / "a")[0] == 0
    straight = only_run(tmp_path / "a")
    other = Path(shutil.copytree(straight, tmp_path / "b" / straight.name))
    for step in saved_steps(other):
        if step > 6:
            checkpoint_path(other, step).unlink()
    assert train("--resume", other, "--steps", 20)[0] == 0
    assert_same(straight, other, 20)
    assert len(set(logged(straight)["augment_p"])) >= 3


@pytest.mark.long
def test_a_run_that_is_steered_and_killed_goes_on_to_the_bit(train, tmp_path):
    options = [*STEERED, "--checkpoint-every", 10, "--steps", 60]
    process = subprocess.Popen(
        [sys.executable, "-m", "cxrgan_fast.train", *map(str, options), "--out", tmp_path / "a"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not ((tmp_path / "a").exists() and any(map(saved_steps, (tmp_path / "a").iterdir()))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -9  # amid the run
    killed = only_run(tmp_path / "a")
    assert saved_steps(killed)[-1] < 60
    assert train("--resume", killed, "--steps", 60)[0] == 0
    assert train(*options, "--out", tmp_path / "b")[0] == 0
    assert_same(only_run(tmp_path / "b"), killed, 60)


def test_a_checkpoint_from_before_there_was_steering_goes_on(train, tmp_path):
    options = ["--checkpoint-every", 4, "--log-every", 3, "--out", tmp_path]
    assert train(*PHANTOM, "--steps", 4, *options)[0] == 0
    run = only_run(tmp_path)
    state = torch.load(checkpoint_path(run, 4), weights_only=True)
    training = state["training"]
    del state["format"]  # which is written for it
    names = training.pop("numbers")
    del training["objective"]
    old = ["d_loss", "d_real_accuracy", "d_fake_accuracy", "g_loss", "r1"]
    kept = [names.index(name) for name in old]
    training["meters"] = [
        each[kept] if each.shape == (len(names),) else each for each in training["meters"]
    ]
    save_checkpoint(run, 4, state)
    code, _, err = train("--resume", run, "--steps", 8)
    assert code == 0, err
    assert saved_steps(run)[-1] == 8
    last = logged(run)
    assert all(-1 <= value <= 1 for value in last["r_t"])
    assert 0 <= last["d_real_accuracy"][-1] <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ada-ramp", 0.1], "--ada-target"),
        (["--augment", "--ada-target", 0.6], "--augment"),
        (["--augment", "--augment-probability", 0.5], "--augment"),
        (["--ada-target", 1.0], "--ada-target"),
        (["--augment-probability", 1.5], "--augment-probability"),
        (["--augment-probability", "0:0.3", "--ada-target", 0.6], "leave one of the two out"),
    ],
)
def test_what_would_do_nothing_is_refused(fails, tmp_path, options, said):
    assert said in fails(*PHANTOM, *options, "--steps", 1, "--out", tmp_path)

"""The training of the network of ``cxr``, on a set of a few small files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cxrgan_fast.command import run_command
from cxrgan_fast.data import load_dataset
from cxrgan_fast.metrics.cxr_blocks import INPUT_SIZE
from cxrgan_fast.metrics.cxr_network import CLASS_NAMES, CxrNetwork
from research import cxr_features
from research.cxr_features import main, split_patients, spoil
from research.damage import KINDS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A set in the published layout: normal ones dark, bacterial bright, viral striped."""
    root = tmp_path_factory.mktemp("set") / "chest_xray"
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 4)):
        for k in range(count):
            noise = rng.integers(0, 40, (40, 40))
            stripes = 80 * (np.arange(40) % 8 < 4)[None] + noise
            for folder, name, image in (
                ("NORMAL", f"IM-{k:04d}-0001.jpeg", noise),
                ("PNEUMONIA", f"person{k}_bacteria_{k}.jpeg", noise + 150),
                ("PNEUMONIA", f"person{k}_virus_{k}.jpeg", stripes),
            ):
                path = root / split / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.astype(np.uint8)).save(path)
    return root


@pytest.fixture
def command(data, tmp_path, monkeypatch, capsys):
    def call(out: str = "w.safetensors", **options: object) -> tuple[int, str, Path]:
        file = tmp_path / out
        arguments = {"data": data, "out": file, "batch-size": 6, "epochs": 2, **options}
        flags = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["cxr_features", *flags])
        code = run_command(main)
        captured = capsys.readouterr()
        return code, captured.out + captured.err, file

    return call


def test_weights_and_scores_are_written(command, tmp_path):
    code, out, file = command(record=tmp_path / "scores.json")
    assert code == 0, out
    assert "epoch 2: loss" in out
    network = CxrNetwork()
    network.load_state_dict(load_file(file))
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["bytes"] == file.stat().st_size
    assert record["test"]["images"] == 12
    assert set(record["test"]["damages"]) == set(KINDS)
    for size in ("32", "64", "128"):
        assert 0 <= record["test"]["classes"][size]["auc_normal_pneumonia"] <= 1
    assert not list(tmp_path.glob("*unfinished*"))


@pytest.mark.long
def test_an_interrupted_training_goes_on_to_the_same_weights(command, monkeypatch):
    assert command("straight.safetensors")[0] == 0
    epoch = cxr_features.Training.epoch

    def interrupted(self, title):
        if title.startswith("epoch 2/"):
            raise KeyboardInterrupt
        return epoch(self, title)

    monkeypatch.setattr(cxr_features.Training, "epoch", interrupted)
    assert command("halves.safetensors")[0] == 130
    monkeypatch.setattr(cxr_features.Training, "epoch", epoch)
    code, out, _ = command("halves.safetensors", seed=1)
    assert code == 2
    assert "is of other settings" in out
    code, out, file = command("halves.safetensors")
    assert "going on after epoch 1" in out
    straight = load_file(file.with_name("straight.safetensors"))
    assert all(torch.equal(value, straight[name]) for name, value in load_file(file).items())


def test_no_patient_is_on_both_sides(data):
    dataset = load_dataset(data, resolution=16, classes=CLASS_NAMES)
    training, validation = split_patients(dataset, 0)
    assert sorted(torch.cat([training, validation]).tolist()) == list(range(len(dataset)))
    sides = [{dataset.patients[row] for row in rows.tolist()} for rows in (training, validation)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == round(cxr_features.VALIDATION * len(sides[0] | sides[1]))


def test_what_was_done_is_what_the_heads_learn():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(300, 1, INPUT_SIZE, INPUT_SIZE, generator=generator)
    seen, strengths = spoil(images, generator)
    done = strengths > 0
    untouched = ~done.any(1)
    # A binomial share: five standard deviations.
    share, wanted = done.float().mean(0), cxr_features.DAMAGED
    assert float((share - wanted).abs().max()) < 5 * (wanted * (1 - wanted) / 300) ** 0.5
    full = torch.arange(300) >= 200  # the last third keeps its resolution
    torch.testing.assert_close(seen[full & untouched], images[full & untouched])
    changed = (seen - images).abs().amax((1, 2, 3)) > 1e-3
    assert changed[full & ~untouched].all()


def test_a_set_without_the_classes(tmp_path, command):
    for name in ("a", "b"):
        (tmp_path / "d/train" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "d/train" / name / "0.png")
    code, out, _ = command(data=tmp_path / "d")
    assert code == 2
    assert "normal" in out

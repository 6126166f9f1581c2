"""Power-function averages of a training, from its command to that of generating."""

import sys
from pathlib import Path

import pytest
import torch

from cxrgan_fast import generate as generate_command
from cxrgan_fast.command import run_command
from cxrgan_fast.runs.checkpoint import checkpoint_path
from cxrgan_fast.runs.generator_file import load_generator
from cxrgan_fast.runs.power_averages import average_path, saved_averages
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.sampling.latents import latents_for
from cxrgan_fast.sampling.standing_statistics import measure_statistics

TINY = ["--device", "cpu", "--threads", 1, "--resolution", 32, "--base-channels", 8,
        "--latent-size", 8, "--batch-size", 4, "--phantom-images", 12, "--power-ema-every", 2,
        "--precision", "fp32"]  # fmt: skip


@pytest.fixture
def generate(monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["generate", *map(str, arguments), "--device", "cpu"])
        code = run_command(generate_command.main)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for *_, path in saved_averages(run)}


def test_a_run_keeps_averages_resumes_to_the_bit_and_generates_any_width(train, generate, tmp_path):
    options = [*TINY, "--steps", 7, "--checkpoint-every", 3]
    assert train(*options, "--out", tmp_path / "straight")[0] == 0
    straight = only_run(tmp_path / "straight")
    assert [step for step, *_ in saved_averages(straight)] == [2, 2, 4, 4, 6, 6, 7, 7]
    whole = files(straight)
    # The state of a run that was killed: averages beyond the newest checkpoint, of other bits.
    for step in (6, 7):
        checkpoint_path(straight, step).unlink()
    for width in ("0.05", "0.1"):
        other = whole[f"power-{width}-00000002.safetensors"]
        for step in (5, 7):  # 5, where it was stopped
            average_path(straight, width, step).write_bytes(other)
    assert train("--resume", straight)[0] == 0
    assert files(straight) == whole
    state = torch.load(checkpoint_path(straight, 7), weights_only=True)["training"]["power_ema"]
    kept = load_generator(average_path(straight, "0.05", 7)).generator.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in state["0.05"].items())

    pictures = {}
    for width in ("0.05", "0.08"):
        out = tmp_path / width
        code, said, err = generate(straight, "--ema", width, "--n-per-class", 1, "--out", out)
        assert code == 0, err
        assert f"ema: {width}, of 8 averages, whose profiles come within" in said
        pictures[width] = next(out.rglob("*.png")).read_bytes()
        assert f"averages/ema-{width}@7" in (out / "manifest.csv").read_text()
    path = average_path(straight, "0.05", 7)
    code, _, err = generate(path, "--n-per-class", 1, "--out", tmp_path / "file")
    assert code == 0, err
    # The weights of the file, with statistics of their own instead of those of its step.
    (made, _), (stored, _) = load_sources(straight, ema=0.05), load_sources(path)
    theirs = dict(stored.snapshot.generator.named_parameters())
    for name, parameter in made.snapshot.generator.named_parameters():
        torch.testing.assert_close(parameter, theirs[name], rtol=1e-6, atol=1e-7)
    assert pictures["0.05"] != next((tmp_path / "file").rglob("*.png")).read_bytes()
    size, again = stored.snapshot.network.latent_size, stored.snapshot
    measure_statistics(again, latents_for(0, "statistics", range(1024), size))
    theirs = dict(again.generator.named_buffers())
    for name, buffer in made.snapshot.generator.named_buffers():
        torch.testing.assert_close(buffer, theirs[name], rtol=1e-4, atol=1e-6)
    for wrong, line in (
        ([straight, "--ema", "0.4"], "--ema should be a number above 0 and at most 0.28, got 0.4"),
        ([straight, "--ema", "0.1", "--checkpoint", "3"], "leave --checkpoint out"),
        ([path, "--ema", "0.1"], "is a file; name its run folder"),
    ):
        code, _, err = generate(*wrong, "--out", tmp_path / "none")
        assert (code, len(err.splitlines())) == (2, 1)
        assert line in err


@pytest.mark.long
def test_averages_change_nothing_of_a_training_and_are_of_no_other_run(train, generate, tmp_path):
    for name, every in (("with", 2), ("without", 0)):
        options = [*TINY, "--power-ema-every", every, "--steps", 3, "--out", tmp_path / name]
        assert train(*options)[0] == 0
    one, other = (only_run(tmp_path / name) for name in ("with", "without"))
    a, b = (torch.load(checkpoint_path(run, 3), weights_only=True)["training"]
            for run in (one, other))  # fmt: skip
    assert "power_ema" not in b
    assert all(torch.equal(a["generator"][name], b["generator"][name]) for name in b["generator"])
    assert not (other / "averages").exists()
    code, _, err = generate(other, "--ema", "0.1", "--out", tmp_path / "none")
    assert code == 2
    assert "has kept no averages" in err

"""``python -m bench.throughput``, from flags to files and to the plot."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import plot, plot_throughput, throughput, throughput_variants
from commands import call, size_of_picture
from cxrgan_fast.settings import config as training_config
from programs import stop_once

QUICK = ["--variants", "reference", "eager", "floor", "--rounds", 2]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Run ``bench.throughput`` here on tiny networks, with the allocator left alone."""
    tiny = {"base_channels": 8, "batch_size": 2, "r1_interval": 2, "latent_size": 8}
    monkeypatch.setitem(training_config.PRESETS, "small", tiny)
    monkeypatch.setattr(throughput, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(throughput, "PHANTOM_IMAGES", 8)
    monkeypatch.setattr(throughput, "PHANTOM_BATCHES", 2)
    return partial(call, throughput.main, "--resolution", 32, "--device", "cpu")


def test_from_the_command_to_the_plot(command, tmp_path: Path, monkeypatch, capsys) -> None:
    file, png = tmp_path / "new" / "result.json", tmp_path / "new" / "result.png"
    assert command("--out", file, *QUICK, "--precision", "fp32") == 0
    printed = capsys.readouterr().out
    assert "32 pixels, batch 2" in printed
    assert f"1 of 1 points, complete: written to {file}" in printed
    record = json.loads(file.read_text())
    flags = "--resolution 32 --device cpu --variants reference eager floor --rounds 2"
    assert record["command"] == f"python -m bench.throughput {flags} --precision fp32"
    assert record["complete"] is True
    assert record["settings"]["base_channels"] == 8
    assert record["settings"]["precision"] == "fp32"
    (point,) = record["points"]
    assert point["data"] == "phantom, 8 images"
    assert point["left_out"] == {}
    assert list(point["variants"]) == ["reference", "eager", "floor"]
    for name, measurements in point["variants"].items():
        assert measurements["steps_per_turn"] == 2  # r1_interval
        assert len(measurements["samples_ms"]) == 2
        assert min(measurements["samples_ms"]) > 0
        assert measurements["dispatched_ops"] > 0
        reference = point["variants"]["reference"]["ms_per_step"]
        assert measurements["times_reference"] == pytest.approx(
            reference / measurements["ms_per_step"], abs=1e-3
        )
        if name != "floor":
            assert measurements["peak_mb"] > measurements["resident_mb"] > 0
            assert measurements["first_step_s"] > 0
    assert point["variants"]["floor"]["how"] == "called"
    assert point["variants"]["floor"]["times_floor"] == 1

    pytest.importorskip("matplotlib")
    assert call(plot.main, file, png) == 0
    assert size_of_picture(png)[2] > 15_000


@pytest.mark.long
def test_what_cannot_run_here_is_left_out_with_its_reason(
    command, tmp_path: Path, monkeypatch, capsys
) -> None:
    real = throughput_variants.ReferenceTraining

    def refuses(*arguments: Any, amp: bool = False, **options: Any) -> Any:
        if amp:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return real(*arguments, **options)

    monkeypatch.setattr(throughput_variants, "ReferenceTraining", refuses)
    flags = ["--variants", "reference", "reference_amp", "graph", "--rounds", 1]
    assert command("--out", tmp_path / "result.json", *flags) == 0
    (point,) = json.loads((tmp_path / "result.json").read_text())["points"]
    assert list(point["variants"]) == ["reference"]
    assert point["left_out"]["reference_amp"] == (
        "OutOfMemoryError: CUDA out of memory. Tried to allocate"
    )
    assert "needs an NVIDIA GPU" in point["left_out"]["graph"]
    assert "needs an NVIDIA GPU" in capsys.readouterr().out


@pytest.mark.long
def test_what_would_take_too_long_is_left_out(command, tmp_path: Path) -> None:
    assert command("--out", tmp_path / "result.json", *QUICK, "--limit", "1e-9") == 0
    (point,) = json.loads((tmp_path / "result.json").read_text())["points"]
    assert point["variants"] == {}
    assert list(point["left_out"]) == ["reference", "eager", "floor"]
    for why in point["left_out"].values():
        assert "more than the limit of 1e-09 s" in why


def test_what_fails_in_a_turn_leaves_the_others(command, tmp_path: Path, monkeypatch) -> None:
    turn = throughput_variants.Running.turn

    def fails(running: Any, steps: int) -> Any:
        if running.name == "eager":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return turn(running, steps)

    monkeypatch.setattr(throughput_variants.Running, "turn", fails)
    flags = ["--variants", "eager", "floor", "--rounds", 2]
    assert command("--out", tmp_path / "result.json", *flags) == 0
    (point,) = json.loads((tmp_path / "result.json").read_text())["points"]
    assert point["left_out"] == {"eager": "OutOfMemoryError: CUDA out of memory."}
    assert len(point["variants"]["floor"]["samples_ms"]) == 2


@pytest.mark.long
def test_a_sweep_goes_over_batch_sizes_and_resolutions(
    command, tmp_path: Path, monkeypatch, capsys
) -> None:
    file, measured = tmp_path / "result.json", throughput.measure_point

    def one_runs_out(config: Any, *arguments: Any, **options: Any) -> Any:
        if file.exists():  # written after every point
            assert json.loads(file.read_text())["complete"] is False
        if config.batch_size == 4:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return measured(config, *arguments, **options)

    monkeypatch.setattr(throughput, "measure_point", one_runs_out)
    sizes = ["--batch-sizes", 1, 2, 4, "--resolutions", 32, 64]
    only_ours = ["--variants", "eager", "--rounds", 1]
    assert command("--out", file, "--sweep", *sizes, *only_ours) == 0
    record = json.loads(file.read_text())
    where = [(point["resolution"], point["batch_size"]) for point in record["points"]]
    assert where == [(32, 1), (32, 2), (32, 4), (64, 2)]  # the least work first
    assert "can't allocate memory" in record["points"][2]["left_out"]["all"]
    assert record["points"][2]["variants"] == {}
    assert record["complete"] is True
    assert [(row["along"], row["from"], row["to"]) for row in record["growth"]] == [
        ("batch_size", 1, 2),
        ("resolution", 32, 64),
    ]
    assert "grows" in capsys.readouterr().out

    pytest.importorskip("matplotlib")
    plot_throughput.plot(record, tmp_path / "sweep.png")
    assert size_of_picture(tmp_path / "sweep.png")[0] == 180 * 11  # two panels


def test_ctrl_c_keeps_the_points_that_are_complete(
    command, tmp_path: Path, monkeypatch, capsys
) -> None:
    file, measured = tmp_path / "result.json", throughput.measure_point

    def interrupted(config: Any, *arguments: Any, **options: Any) -> Any:
        if config.batch_size == 2:
            raise KeyboardInterrupt
        return measured(config, *arguments, **options)

    monkeypatch.setattr(throughput, "measure_point", interrupted)
    sizes = ["--batch-sizes", 1, "--resolutions", 32, "--variants", "floor", "--rounds", 1]
    assert command("--out", file, "--sweep", *sizes) == 130
    assert f"1 of 2 points, NOT complete: written to {file}" in capsys.readouterr().out
    record = json.loads(file.read_text())
    assert record["complete"] is False
    assert len(record["points"]) == 1
    assert "(incomplete)" in plot_throughput.title(record)


TINY = """
import sys
from bench import throughput
from cxrgan_fast.command import run_command
from cxrgan_fast.settings import config
config.PRESETS["small"] = {
    "base_channels": 8, "batch_size": 2, "r1_interval": 2, "latent_size": 8
}
throughput.TURN_SECONDS = 0.0
throughput.PHANTOM_IMAGES, throughput.PHANTOM_BATCHES = 8, 2
throughput.MAX_ROUNDS = 10_000
sys.exit(run_command(throughput.main))
"""


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("rounds", [0, 2])
def test_a_stop_within_a_point_keeps_what_it_has(tmp_path: Path, number: int, rounds: int) -> None:
    """A point is the run of a GPU: without its rounds there would be nothing."""
    file = tmp_path / "result.json"
    variants = ["reference", "eager", "floor"]
    flags = ["--resolution", "32", "--device", "cpu", "--rounds", "10000"]
    process = subprocess.Popen(
        [sys.executable, "-c", TINY, *flags, "--limit=1e9", "--out", file, "--variants", *variants],
        cwd=Path(throughput.__file__).parents[1],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )

    def there() -> bool:
        """Whether as many rounds are in the file; for none, the first steps of one variant."""
        if not file.exists():
            return False
        (point,) = json.loads(file.read_text())["points"]
        samples = [len(each["samples_ms"]) for each in point["variants"].values()]
        return bool(point["started"]) if not rounds else max(samples, default=0) >= rounds

    output = stop_once(there, process, number)
    record = json.loads(file.read_text())
    assert record["complete"] is False
    (point,) = record["points"]
    assert point["complete"] is False
    assert point["data"] == "phantom, 8 images"
    assert point["started"]["reference"]["first_step_s"] > 0
    if rounds:  # all variants in turns, so that ratios hold
        samples = {name: len(each["samples_ms"]) for name, each in point["variants"].items()}
        assert list(samples) == variants
        assert len(set(samples.values())) == 1
        assert point["variants"]["eager"]["times_reference"] > 0
    if number == signal.SIGINT:
        said = f"0 of 1 points and a part of the next, NOT complete: written to {file}"
        assert said in output
        assert not rounds or "images/s" in output

"""``python -m bench.kernels``, from flags to files and to the plot."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import kernels, plot_kernels
from commands import call, size_of_picture
from programs import run_module


@pytest.fixture
def command():
    """Run ``bench.kernels`` here: its exit code."""
    flags = ["--shapes", "3x2x4x4", "--seconds-per-case", "0.001", "--against", "eager"]
    return partial(call, kernels.main, *flags)


@pytest.mark.long
def test_the_whole_way_from_the_command_to_the_plot(tmp_path: Path) -> None:
    file, png = tmp_path / "new" / "result.json", tmp_path / "new" / "result.png"

    flags = "--ops bias_leaky_relu --shapes 3x2x4x4 --dtypes float32 --layouts channels_last"
    words = [*flags.split(), "--seconds-per-case", "0.001", "--threads", "1"]
    printed = run_module("bench.kernels", "--out", file, *words, OMP_NUM_THREADS="1")
    assert "bias_leaky_relu, forward + backward" in printed
    assert f"1 of 1 cases, complete: written to {file}" in printed
    record = json.loads(file.read_text())
    assert record["command"] == f"python -m bench.kernels {' '.join(words)}"
    assert record["complete"] is True
    assert record["environment"]["threads"] == 1
    # Set before the first tensor, and so for every variant.
    assert record["environment"]["allocator"] == "large tensors come from the heap"
    (case,) = record["cases"]
    assert (case["op"], case["shape"]) == ("bias_leaky_relu", [3, 2, 4, 4])
    assert (case["layout"], case["dtype"]) == ("channels_last", "float32")
    assert list(case["samples_us"]) == ["eager", "compiled", "fused", "copy"]
    for samples in case["samples_us"].values():
        assert len(samples) >= 15
        assert min(samples) > 0
    assert set(case["ratio_to_fused"]) == {"eager", "compiled"}
    assert case["peak_mb"].keys() == {"eager", "compiled", "fused"}
    assert record["summary"][0]["cases"] == 1
    sizes = [(row["op"], row["shape"], row["after_mb"]) for row in record["dispatch"]]
    assert sizes == [
        ("bias_leaky_relu", [2, 4, 1, 1], 0),
        ("bias_leaky_relu", [2, 4, 1, 1], 32),
        ("bias_leaky_relu", [3, 2, 4, 4], 0),
    ]
    for row in record["dispatch"]:
        assert row["overhead_us"] == pytest.approx(row["fused_us"] - row["leaky_relu_us"], abs=0.11)

    pytest.importorskip("matplotlib")
    assert run_module("bench.plot", file, png) == f"{png}\n"
    assert size_of_picture(png)[0] == 1620


@pytest.mark.long
def test_every_op_has_measurements(command, tmp_path: Path, capsys) -> None:
    file = tmp_path / "result.json"
    assert command("--out", file, "--dtypes", "bfloat16") == 0
    printed = capsys.readouterr().out
    record = json.loads(file.read_text())
    assert len(record["cases"]) == 2 * 2 + 2 * 5
    images = ["conditional_batch_norm_act", "bias_leaky_relu"]
    losses = ["discriminator_loss", "generator_loss"]
    measured = [row["op"] for row in record["dispatch"]]
    assert measured == [*images, *losses, *images, *losses, *images]
    for case in record["cases"]:
        assert case["dtype"] == "bfloat16"
        assert case["ratio_to_fused"].keys() == {"eager"}
        assert ("gb_per_s" in case) == (case["kind"] is None)
    for words in ("conditional_batch_norm_act, forward", "losses of 64 logits", "geometric means"):
        assert words in printed

    pytest.importorskip("matplotlib")
    plot_kernels.plot(record, tmp_path / "result.png")
    across, down, size = size_of_picture(tmp_path / "result.png")
    assert (across, down > 1000, size > 30_000) == (1620, True, True)


@pytest.mark.long
def test_ctrl_c_keeps_the_cases_that_are_complete(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    file, measured = tmp_path / "result.json", kernels.measure
    calls = 0

    def interrupted(*arguments: Any, **options: Any) -> dict[str, list[float]]:
        nonlocal calls
        calls += 1
        if calls == 5:  # three calls measure the overheads, one the first case
            raise KeyboardInterrupt
        return measured(*arguments, **options)

    monkeypatch.setattr(kernels, "measure", interrupted)
    assert command("--out", file, "--ops", "bias_leaky_relu") == 130
    captured = capsys.readouterr()
    assert f"1 of 4 cases, NOT complete: written to {file}" in captured.out
    assert captured.err.endswith("interrupted\n")
    record = json.loads(file.read_text())
    assert record["complete"] is False
    assert len(record["cases"]) == record["summary"][0]["cases"] == 1

    pytest.importorskip("matplotlib")
    assert "(incomplete)" in plot_kernels.title(record)

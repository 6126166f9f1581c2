"""``python -m bench.step_cost``, from flags to JSON and table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import step_cost
from commands import call

TINY = ["--resolutions", 32, "--batch-size", 2, "--base-channels", 8, "--precision", "fp32"]


@pytest.mark.long
def test_from_the_command_to_the_table(tmp_path: Path, capsys) -> None:
    file = tmp_path / "cost.json"
    arms = ["resnet", "resnet, minibatch std", "r3"]
    assert call(step_cost.main, file, "--arms", *arms, *TINY, "--rounds", 2) == 0
    record = json.loads(file.read_text())
    (point,) = record["points"]
    assert [row["arm"] for row in point["arms"]] == arms
    first, looking, r3 = point["arms"]
    assert first["times_first"] == first["r1_times_first"] == 1
    assert looking["weights"] > first["weights"]  # of one more channel
    assert r3["settings"] == {"family": "r3"}
    for row in point["arms"]:
        for kind in ("plain", "r1"):
            assert len(row[f"{kind}_samples_ms"]) == len(row[f"{kind}_wall_ms"]) == 2
            assert min(row[f"{kind}_samples_ms"]) > 0
            assert row[f"{kind}_bytes"] > 0
        assert row["held_bytes"] > 4 * row["weights"]
    assert capsys.readouterr().out.endswith(step_cost.report(record) + "\n")


def test_what_cannot_be_is_refused_before_anything_is_measured(tmp_path: Path, capsys) -> None:
    file = tmp_path / "cost.json"
    for flags, said in (
        (["--resolutions", 32, 48], "resolution should be one of 32, 64, 128, 256, 512, got 48"),
        (["--rounds", 0], "--rounds: got 0, expected 1 or more"),
        (["--arms", "vit"], "--arms: invalid choice: 'vit'"),
    ):
        assert call(step_cost.main, file, *flags) == 2
        assert said in capsys.readouterr().err
    assert not file.exists()

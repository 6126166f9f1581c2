"""bench.busy: trainings beside a busy process, and what is made of their measurements."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import busy
from commands import call


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_it_trains_beside_a_busy_process_and_on_one_core(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tiny = ("--resolution", "32", "--base-channels", "8", "--batch-size", "4")
    monkeypatch.setattr(busy, "TRAINING", (*busy.TRAINING, *tiny))
    variants = {
        "busy": busy.Variant("1", busy=1),
        "one core": busy.Variant("auto", one_core=True),
    }
    monkeypatch.setattr(busy, "TARGETS", {"ratio": ("busy", "one core", 0.5)})
    monkeypatch.setattr(busy, "VARIANTS", variants)
    out = tmp_path / "busy.json"
    assert call(busy.main, "--out", out, "--seconds", "1", "--rounds", "1") == 0
    record = json.loads(out.read_text())
    assert record["commit"]
    assert record["variants"].keys() == variants.keys()
    for name, measurements in record["variants"].items():
        (turn,) = measurements["turns"]
        assert turn["images_per_second"] == measurements["median_images_per_second"] > 0
        assert any("threads: " in line for line in turn["said"]), name
    (turn,) = record["variants"]["one core"]["turns"]
    assert turn["threads_at_the_end"] == 1  # of the two cores that this machine may have
    (turn,) = record["variants"]["busy"]["turns"]
    assert any("threads: 1 (--threads)" in line for line in turn["said"])
    assert record["ratios"]["ratio"]["ratio"] > 0


def test_ratios_are_of_medians_and_say_whether_the_target_is_reached() -> None:
    rates = {"alone": [100, 104, 1], "busy": [46, 44, 45], "one core": [5, 9, 8.9],
             "one core, one thread": [10, 10, 10]}  # fmt: skip
    rounds = {
        name: [{"images_per_second": each} for each in values] for name, values in rates.items()
    }
    assert busy.ratios(rounds) == {
        "busy_against_alone": {"ratio": 0.45, "target": 0.45, "reached": True},
        "one_core_against_one_thread": {"ratio": 0.89, "target": 0.9, "reached": False},
    }


def test_the_busy_process_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    spawn = busy.subprocess.Popen

    class Watched(spawn):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            started.append(self.pid)

    monkeypatch.setattr(busy.subprocess, "Popen", Watched)
    with busy.busy_processes(2):
        assert [os.kill(pid, 0) for pid in started] == [None, None]
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

"""A few kills, and a few damaged files of each kind: what the commands measure a thousand times."""

import json
import random
from pathlib import Path

import pytest

from bench import damaged_checkpoints
from bench.damaged_checkpoints import KINDS, damaged
from programs import run_module


@pytest.mark.slow
def test_kills_lose_nothing(tmp_path):
    """In a process of its own: it forks, which one that has threads must not."""
    out = tmp_path / "kills.json"
    run_module("bench.kills", "--kills", 2, "--seed", 3, "--out", out)
    written = json.loads(out.read_text())
    counts = written["counts"]
    assert written["failures"] == []
    assert counts["kills"] == 2
    assert counts["trainings"] > 0
    for name in ("files_that_were_not_whole", "calls_that_failed", "trainings_with_other_bits"):
        assert counts[name] == 0


@pytest.mark.long
def test_all_damage_is_noticed(tmp_path):
    measurements = damaged_checkpoints.measure(5 * len(KINDS), 1, tmp_path)
    for sort in ("checkpoints", "generators"):
        assert measurements[sort].keys() == set(KINDS)
        for outcomes in measurements[sort].values():
            assert sum(outcomes.values()) == 5
            said = {"named and passed over", "named and refused", "the same state"}
            assert set(outcomes) <= said


@pytest.mark.parametrize("kind", KINDS)
def test_damage_changes_a_file(kind):
    content = bytes(range(256)) * 40
    for seed in range(20):
        assert damaged(content, kind, random.Random(seed)) != content


@pytest.mark.long
def test_a_measurement_that_goes_unnoticed_is_counted_as_such(tmp_path, monkeypatch):
    """Without the comparison of digests the measurement tells of other states."""
    from cxrgan_fast.runs import checkpoint

    monkeypatch.setattr(checkpoint, "_check_digest", lambda file: True)
    measurements = damaged_checkpoints.measure(10 * len(KINDS), 1, tmp_path)
    assert "another state" in set().union(*measurements["checkpoints"].values())


def test_the_results_in_the_repository_have_no_loss():
    results = Path(__file__).parents[2] / "bench" / "results"
    measurements = json.loads((results / "damaged_checkpoints.json").read_text())
    kills = json.loads((results / "kills.json").read_text())
    lost = "files_that_were_not_whole", "calls_that_failed", "trainings_with_other_bits"
    assert [kills["counts"][name] for name in lost] == [0, 0, 0]
    outcomes = [
        name for sort in ("checkpoints", "generators")
        for counts in measurements[sort].values() for name in counts
    ]  # fmt: skip
    assert set(outcomes) <= {"named and passed over", "named and refused", "the same state"}

"""The simulation of intervals and p-values, and what it has to find."""

import json
import sys
from pathlib import Path

import pytest
import torch
from scipy import stats

from bench.page import with_tables
from cxrgan_fast.command import run_command
from research import certainty
from research.certainty import Case, outside, repeat, report, summary


def test_images_of_a_patient_are_alike_as_said_and_generated_ones_apart() -> None:
    real, features, fake, generated = Case(0.8, "apart", 2700).draw(0)
    assert (len(real), len(fake)) == (5400, 2700)
    assert fake.class_counts() == {"normal": 900, "bacterial": 1800}
    of_patient = features.vectors[real.labels == 1].view(-1, 3, 6)
    pairs = of_patient[:, :2, 0].T
    assert float(torch.corrcoef(pairs)[0, 1]) == pytest.approx(0.8, abs=0.04)
    step = generated.vectors.mean(0) - features.vectors.mean(0)
    assert float(step[0]) == pytest.approx(1.5, abs=0.1)
    assert step[1:].abs().max() < 0.1


def test_the_summary_counts_what_holds_the_truth() -> None:
    case = Case(0.0, "equal", 180)
    drawn = {"p_value_by_set": 0.2, "naive_p_value": 0.01, "floors": {"kid": (1.0, 0.5, 1.5)}}
    repetitions = [
        {**drawn, "p_value": 0.04, "intervals": {"kid": (0.1, -1.0, 2.0), "fid": (1.0, 0.0, 1.5)}},
        {**drawn, "p_value": 0.60, "intervals": {"kid": (0.2, 0.1, 2.0), "fid": (2.0, 1.8, 3.0)}},
    ]
    found = summary(case, repetitions)
    rows = {row["what"]: row for row in found["rows"]}
    assert (rows["kid"]["truth"], rows["kid"]["known"], rows["kid"]["held"]) == (0.0, True, 1)
    assert (rows["fid"]["truth"], rows["fid"]["known"], rows["fid"]["held"]) == (1.5, False, 1)
    assert rows["kid less the floor"]["held"] == 2
    assert found["p_values"]["p_value"] == [1, 1, 1]
    assert found["p_values"]["naive_p_value"] == [2, 2, 2]
    assert summary(Case(0.0, "apart", 180), repetitions)["p_values"] == {}


def test_a_share_that_chance_does_not_explain_has_a_remark() -> None:
    assert outside(95, 100) == ""
    assert outside(91, 100) == ""
    assert outside(85, 100) == "too narrow"
    assert outside(400, 400) == "too wide"


def test_the_command_writes_what_it_prints(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(certainty, "CORRELATIONS", (0.5,))
    out = tmp_path / "certainty.json"
    command = ["certainty", "--repetitions", "2", "--images", "180", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    assert run_command(certainty.main) == 0
    record = json.loads(out.read_text())
    assert [case["sets"] for case in record["cases"]] == ["equal", "apart"]
    for case in record["cases"]:
        rows = {row["what"]: row for row in case["rows"]}
        for name in ("precision", "recall", "nearest_neighbour"):
            for what in (name, f"{name} less the floor"):
                assert rows[what]["half_width"] > 0
                assert not rows[what]["known"]
        assert 0.4 < rows["recall"]["truth"] < 1
    equal, apart = ({r["what"]: r["mean"] for r in c["rows"]} for c in record["cases"])
    assert apart["nearest_neighbour"] > equal["nearest_neighbour"] + 0.1
    assert apart["precision"] < equal["precision"]
    assert report(record) in capsys.readouterr().out
    page = with_tables("<!-- certainty.json -->\n```text\n```\n", out)
    assert report(record) in page
    monkeypatch.setattr(sys, "argv", [*command, "--images", "30"])
    assert run_command(certainty.main) != 0
    assert "--images: got 30, expected 180 or more" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("sets", ["equal", "apart"])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_intervals_hold_the_truth_and_p_values_are_uniform(correlation: float, sets: str) -> None:
    """Of 100 repetitions. A right one is outside these bounds once in 10,000."""
    case = Case(correlation, sets, 360)
    found = summary(case, [repeat(case, 1000 + seed) for seed in range(100)])
    for row in found["rows"]:
        assert row["held"] >= stats.binom.ppf(1e-4, 100, 0.93), row
    for name in ("p_value", "p_value_by_set"):
        for level, below in zip(certainty.LEVELS, found["p_values"].get(name, []), strict=False):
            assert below <= stats.binom.ppf(1 - 1e-4, 100, level), (name, level)
    if sets == "equal" and correlation == 0.8:
        assert found["p_values"]["naive_p_value"][0] > 50  # of 1-NN without patients

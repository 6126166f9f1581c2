"""Warnings of a discriminator that guesses or is sure, both where they are due and where not."""

from __future__ import annotations

import json

import pytest

from cxrgan_fast.runs.logs import RunLog
from cxrgan_fast.runs.watch import DiscriminatorWatch

STEPS, EVERY = 4000, 50


def rows(r_t: list[float | None], steps: int = STEPS, every: int = EVERY) -> list[dict]:
    return [
        {"step": step, "share": step / steps, "r_t": value}
        for step, value in zip(range(every, every * len(r_t) + 1, every), r_t, strict=True)
    ]


def warned(rows: list[dict]) -> list[tuple[int, str]]:
    """The steps of warnings, with the words that tell them apart."""
    watch = DiscriminatorWatch()
    said = [(row["step"], watch.see(row)) for row in rows]
    return [(step, "blind" if "guessing" in text else "sure") for step, text in said if text]


@pytest.mark.parametrize(("r_t", "kind"), [(0.05, "blind"), (-0.8, "blind"), (0.95, "sure")])
def test_a_tenth_of_the_run_is_warned_of_once(r_t, kind):
    # From step 1000 on; the row of step 1050 is the first of it.
    assert warned(rows([0.5] * 20 + [r_t] * 60)) == [(1400, kind)]


@pytest.mark.parametrize("r_t", [0.11, 0.6, 0.89])
def test_what_is_neither_is_not_warned_of(r_t):
    assert warned(rows([r_t] * 80)) == []


@pytest.mark.parametrize("r_t", [0.0, 1.0])
def test_the_beginning_does_not_count(r_t):
    assert warned(rows([r_t] * 15 + [0.5] * 65)) == []
    (warning,) = warned(rows([r_t] * 80))
    assert warning[0] == 2 * STEPS // 10


def test_what_ends_in_time_is_not_warned_of():
    assert warned(rows(([0.0] * 7 + [0.5]) * 10)) == []
    assert warned(rows(([0.0] * 7 + [None]) * 10)) == []
    assert warned(rows(([0.0] * 7 + [float("nan")]) * 10)) == []
    assert warned(rows(([0.0] * 7 + [1.0] * 7) * 5)) == []


def test_each_kind_is_warned_of_by_itself():
    assert warned(rows([0.0] * 30 + [1.0] * 30 + [0.0] * 20)) == [(800, "blind"), (1900, "sure")]


def test_a_tenth_of_a_very_short_run_says_nothing():
    assert warned(rows([0.0] * 100, steps=100, every=1)) == [(100, "blind")]
    assert warned(rows([0.0] * 99, steps=99, every=1)) == []


def test_a_run_that_is_planned_anew_begins_to_count_anew():
    first = rows([0.5] * 20 + [0.0] * 6)
    later = [{**row, "share": row["share"] / 2, "r_t": 0.0} for row in rows([0.0] * 60)[26:]]
    assert warned(first + later) == [(1350 + 2 * STEPS // 10, "blind")]


def test_rows_that_are_none_are_passed_over():
    odd = [
        {"step": 1},
        {"step": "1", "share": 1.0, "r_t": 0.0},
        {"step": 9, "share": True, "r_t": 0},
    ]
    odd += [{"step": 10**400, "share": 1.0, "r_t": 0}, {"step": 500, "share": 1.0, "r_t": None}]
    assert warned(odd) == []


@pytest.mark.parametrize("lost", [("share",), ("r_t",), ("share", "r_t")])
def test_what_lasts_is_counted_from_the_first_row_that_tells(lost):
    """Older versions wrote neither; a run of theirs goes on with rows that have both."""
    all_rows = rows([0.0] * 80)
    old = [{k: v for k, v in row.items() if k not in lost} for row in all_rows[:40]]
    since = 2000 if lost == ("r_t",) else 2050
    assert warned(old + all_rows[40:]) == [(since + STEPS // 10, "blind")]


MEASURED = {"images": 4, "seconds": 1.0, "images_per_second": 4.0}


def logged(run, rows: list[dict], since: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The warnings of a run that writes these rows after a step."""
    log = RunLog(run, since, STEPS, "train")
    for row in rows:
        log.metrics({**row, **MEASURED})
    log.close()
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


@pytest.mark.parametrize("stop", [22, 27, 28, 40])
def test_a_run_that_goes_on_says_it_once_and_at_the_same_step(tmp_path, capsys, stop):
    all_rows = rows([0.5] * 20 + [0.0] * 60)
    before = logged(tmp_path, all_rows[:stop], 0, capsys)
    after = logged(tmp_path, all_rows[stop:], all_rows[stop - 1]["step"], capsys)
    assert (len(before), len(after)) == ((1, 0) if stop >= 28 else (0, 1))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [row["step"] for row in all_rows]


def test_what_is_said_after_a_checkpoint_is_said_again_by_the_run_that_goes_on_from_it(
    tmp_path, capsys
):
    """Its rows are written again, too."""
    all_rows = rows([0.5] * 20 + [0.95] * 20)
    assert len(logged(tmp_path, all_rows, 0, capsys)) == 1
    (line,) = logged(tmp_path, all_rows[25:], all_rows[24]["step"], capsys)
    assert "try --ada-target 0.6" in line

"""The report of a sweep: its pictures are opened, its page is read, its JSON compared."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState
from PIL import Image

from commands import size_of_picture
from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.confirmation import DEFAULT as DEFAULT_ARM
from cxrgan_fast.studies.confirmation import WINNER, Rerun, judge_confirmation
from cxrgan_fast.studies.figures import Scale
from cxrgan_fast.studies.outcomes import outcomes_of
from cxrgan_fast.studies.parameter_figures import draw_parameters, draw_slices
from cxrgan_fast.studies.progress_figure import draw_progress
from cxrgan_fast.studies.sweep_report import write_report
from cxrgan_fast.studies.sweep_summary import summarize
from sweep_studies import DEFAULT, add_trial, filled_study, new_study, record_of


def summary_of(study, **options):
    return summarize(
        study.study_name, outcomes_of(study), study.user_attrs["settings"],
        study.user_attrs["space"], redraws=2, progress=False, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def record():
    """A sweep with everything: failures, pruned trials, another sweep, a confirmation."""
    study = filled_study(20)
    add_trial(study, DEFAULT, None, TrialState.PRUNED, rungs={"0.1": 1.0, "0.5": 5.0})
    reason = "<b>d_loss</b> is not finite, $x_1$ at step 7"
    add_trial(study, DEFAULT, None, TrialState.PRUNED, reason=reason)
    add_trial(study, DEFAULT, None, TrialState.RUNNING)
    runs = [
        Rerun(arm, seed, 1.0 - gain * (1 + seed % 3), "", record_of(0, 1.0))
        for seed in range(1000, 1006) for arm, gain in ((WINNER, 0.2), (DEFAULT_ARM, 0.0))
    ]  # fmt: skip
    return summary_of(
        study,
        against=("blind", outcomes_of(filled_study(20, seed=5, name="blind"))),
        confirmation=judge_confirmation(8, range(1000, 1006), runs),
    )


def lines_of(axes, style: str) -> list[tuple[list[float], list[float]]]:
    """The points of the lines of an axes that have a marker or a line style."""
    return [
        ([*map(float, line.get_xdata())], [*map(float, line.get_ydata())])
        for line in axes.lines
        if style in (line.get_marker(), line.get_linestyle())
    ]


def test_the_default_is_marked_where_it_is(record) -> None:
    figure = draw_slices(record)
    default = record["trials"][0]
    assert default["default"]
    for axes, row in zip(figure.axes, record["parameters"], strict=False):
        assert axes.get_title(loc="left").split(" (")[0] == row["name"]
        dotted, stars = lines_of(axes, ":"), lines_of(axes, "*")
        if row["name"] == "momentum":  # which the default has no use for
            assert (dotted, stars) == ([], [])
            continue
        place = Scale(row).place(DEFAULT[row["name"]])
        assert dotted == [([place, place], [0.0, 1.0])]
        assert stars == [([place], [default["ratio"]])]
    names = [row["name"] for row in record["parameters"]]
    rate = figure.axes[names.index("g_lr")]
    # On a logarithmic scale, 3e-4 is at log10(30) of three decades.
    assert lines_of(rate, "*")[0][0][0] == pytest.approx(math.log10(30) / 3)


def test_history_shows_both_sweeps_and_the_best_so_far(record) -> None:
    axes = draw_progress(record).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    best = record["best"]
    assert labels == [
        "trial",
        "first",
        "blind",
        "pruned",
        "failed",
        f"best, trial {best}",
        "default",
    ]
    steps = {line.get_label(): [*line.get_ydata()] for line in axes.lines}
    assert steps["first"] == [row["best"] for row in record["history"]]
    assert steps["blind"] == [row["best"] for row in record["against"]["history"]]
    assert steps["blind"][-1] == min(row["ratio"] for row in record["against"]["history"])


def test_a_setting_that_was_not_drawn_leaves_a_gap(record) -> None:
    axes = next(each for each in draw_parameters(record).axes
                if each.get_title(loc="left").startswith("all trials"))  # fmt: skip
    place = [row["name"] for row in record["parameters"]].index("momentum")
    finished = [trial for trial in record["trials"] if trial["ratio"] is not None]
    drawn = sum("momentum" in trial["parameters"] for trial in finished)
    heights = [line.get_ydata()[place] for line in axes.lines
               if len(line.get_ydata()) == len(record["parameters"])]  # fmt: skip
    assert len(heights) == len(finished)
    assert np.isfinite(heights).sum() == drawn


def test_everything_is_written_and_an_earlier_report_is_replaced(record, tmp_path: Path) -> None:
    sweep, out = tmp_path / "sweep", tmp_path / "some" / "report"
    for number, gray in ((record["best"], 200), (0, 90)):
        folder = sweep / f"trial-{number:05d}" / "grids"
        folder.mkdir(parents=True)
        for step in (10, 20):
            Image.new("L", (40, 30), gray + step).save(folder / f"grid-{step:06d}.png")
    files = write_report(record, out, sweep)
    names = ["report.html", "report.json", "progress.png", "parameters.png", "slices.png",
             "confirmation.png", "images.png"]  # fmt: skip
    assert [file.name for file in files] == names
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert json.loads((out / "report.json").read_text()) == record
    for name in names[2:6]:
        across, down, size = size_of_picture(out / name)
        assert across >= 900, name
        assert down >= 400, name
        assert size > 15_000, name  # which no empty figure has
    with Image.open(out / "images.png") as images:  # each grid is the last one of its run
        assert [images.getpixel((20, 45))[0], images.getpixel((20, 105))[0]] == [220, 110]
    page = (out / "report.html").read_text()
    assert set(re.findall(r'src="([^"]+)"', page)) == set(names[2:])
    assert "stands: on 6 new seeds" in page
    assert "no difference shown" in page
    # A report of less leaves no picture of the one before.
    less = {**record, "confirmation": None, "luck": None, "name": "<script>1</script>"}
    write_report(less, out, None)
    assert sorted(path.name for path in out.iterdir()) == sorted(names[:5])
    page = (out / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("objective", ["fid", "fid,seconds"])
@pytest.mark.parametrize("finished", [0, 1, 2])
def test_few_trials_are_drawn_as_well(objective: str, finished: int, tmp_path: Path) -> None:
    study = new_study(objective=objective)
    add_trial(study, DEFAULT, None, TrialState.FAIL, reason="the disk is full", default=True)
    for value in range(finished):
        add_trial(study, DEFAULT, float(value))
    found = summary_of(study, confirmation=judge_confirmation(1, [1000], []))
    files = write_report(found, tmp_path / "report", tmp_path)
    assert all(file.stat().st_size for file in files)
    for figure in (draw_progress(found), draw_parameters(found)):
        figure.draw_without_rendering()
        for axes in figure.axes:  # each panel has its room
            assert axes.get_position().height > 0.2


def test_a_folder_that_is_none_is_refused(record, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        write_report(record, tmp_path / "file", None)
    with pytest.raises(UserError, match="file"):
        write_report(record, tmp_path / "file" / "report", None)


def test_a_grid_elsewhere_or_damaged_is_left_out(record, tmp_path: Path) -> None:
    trial = {**record["trials"][record["best"]], "folder": "../elsewhere"}
    damaged = {**record["trials"][0], "folder": "damaged"}
    for name in ("elsewhere", "sweep/damaged"):
        (tmp_path / name / "grids").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "elsewhere" / "grids" / "grid-000001.png")
    (tmp_path / "sweep" / "damaged" / "grids" / "grid-000001.png").write_bytes(b"\x89PNG")
    shown = {**record, "trials": [damaged, *record["trials"][1:]]}
    shown["trials"][record["best"]] = trial
    files = write_report(shown, tmp_path / "report", tmp_path / "sweep")
    assert "images.png" not in {file.name for file in files}

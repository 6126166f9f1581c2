"""Which generator is the best, and that it is kept through every kill."""

import json

import pytest
import torch
from safetensors.torch import load_file

from cxrgan_fast import train as command
from cxrgan_fast.runs import best, checkpoint, logs
from cxrgan_fast.runs.best import is_better, keep_best, restore_best
from cxrgan_fast.runs.checkpoint import best_generator_path, generator_path, saved_steps
from cxrgan_fast.runs.generator_file import load_generator
from cxrgan_fast.training import run

TINY = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
        "--latent-size", "8", "--batch-size", "4", "--phantom-images", "12",
        "--features", "pixels", "--eval-samples", "20"]  # fmt: skip


def row(step, fid, features="pixels-1024", version="1", n_real=12, n_fake=20):
    metrics = {"fid": {"value": fid, "n_real": n_real, "n_fake": n_fake}}
    return {"step": step, "features": features, "features_version": version, "metrics": metrics}


def test_the_lower_fid_is_the_better():
    assert is_better(row(2, 5.0), None)
    assert is_better(row(2, 4.9), row(1, 5.0))
    assert not is_better(row(2, 5.0), row(1, 5.0))  # the earlier stays
    assert not is_better(row(2, 5.1), row(1, 5.0))


@pytest.mark.parametrize(
    "other", [{"features": "cxr-256"}, {"version": "2"}, {"n_real": 13}, {"n_fake": 21}]
)
def test_a_fid_of_something_else_begins_the_search_anew(other):
    assert is_better(row(2, 50.0, **other), row(1, 5.0))


def test_the_best_is_the_generator_of_its_step_with_its_fid(make_run):
    folder = make_run(steps=(10, 20))
    keep_best(folder, row(10, 0.1 + 0.2))
    snapshot = load_generator(best_generator_path(folder))
    assert (snapshot.step, snapshot.images_seen) == (10, 10)
    assert snapshot.extra == {
        "fid": "0.30000000000000004",
        "fid_real_images": "12",
        "fid_generated_images": "20",
        "features": "pixels-1024",
        "features_version": "1",
        "features_family": "pixels",  # by the name: rows of earlier versions do not say
    }
    a, b = load_file(best_generator_path(folder)), load_file(generator_path(folder, 10))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_best_follows_from_the_lines_in_their_order(make_run):
    folder = make_run(steps=(10, 20, 30, 40))
    rows = [row(10, 3.0), row(20, 9.0, n_fake=30), row(30, 8.0, n_fake=30), row(40, 8.5, n_fake=30)]
    assert restore_best(folder, rows) == rows[2]
    assert load_generator(best_generator_path(folder)).step == 30


def test_an_evaluation_whose_generator_is_gone_is_not_the_best(make_run):
    folder = make_run(steps=(10, 20))
    rows = [row(5, 1.0), row(10, 3.0), row(20, 4.0)]
    assert restore_best(folder, rows) == rows[1]
    assert restore_best(folder, [row(5, 1.0)]) is None
    assert load_generator(best_generator_path(folder)).step == 10  # left as it was


# ------------------------------------------------------------------------------------ in a run


def lines(folder):
    """The evaluations of a run, without their seconds."""
    text = (folder / "evaluations.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture
def fids(monkeypatch):
    """Have the FIDs of a run be those of a list, one an evaluation."""
    values = []

    def chosen(self, step, stop):
        return {"images": 0, "omitted": {}, "seconds": 0.0, **row(step.step, values.pop(0))}

    monkeypatch.setattr("cxrgan_fast.evaluation.periodic.PeriodicEvaluation.__call__", chosen)
    return values


def test_the_best_checkpoint_is_never_pruned_while_it_is_the_best(train, tmp_path, fids):
    fids += [5.0, 3.0, 4.0, 3.0, 3.5]
    options = ["--checkpoint-every", 1, "--keep-checkpoints", 1, "--eval-every", 2, "--steps", 10]
    code, out, err = train(*TINY, *options, "--out", tmp_path)
    assert code == 0, err
    (folder,) = tmp_path.iterdir()
    assert [each["best"] for each in lines(folder)] == [True, True, False, False, False]
    assert saved_steps(folder) == [4, 10]
    assert load_generator(best_generator_path(folder)).step == 4
    assert f"best: {best_generator_path(folder)} (step 4)" in out.splitlines()

    fids += [3.2, 2.0]  # a resumed run knows
    assert train("--resume", folder, "--steps", 14)[0] == 0
    assert [each["best"] for each in lines(folder)[5:]] == [False, True]
    assert saved_steps(folder) == [14]
    assert load_generator(best_generator_path(folder)).extra["fid"] == "2.0"

    fids += [7.0]
    assert train("--resume", folder, "--steps", 15, "--eval-every", 0)[0] == 0
    assert saved_steps(folder) == [14, 15]  # spared without evaluations too
    assert train("--resume", folder, "--steps", 16, "--eval-every", 2)[0] == 0
    assert load_generator(best_generator_path(folder)).step == 14


class Killed(BaseException):
    """Ends a run where it stands, as kill -9 would: whatever was not written never is."""


def kill_in(monkeypatch, module, name, when=lambda *_: True, first=lambda *_: None):
    """Have a function kill the run at the third call that ``when`` lets through."""
    original, calls = getattr(module, name), []

    def killing(*arguments, **named):
        if when(*arguments):
            calls.append(1)
            if len(calls) == 3:
                first(*arguments)
                raise Killed
        return original(*arguments, **named)

    monkeypatch.setattr(module, name, killing)


def half_a_line(log, row, labels):
    with log.evaluations.open("a") as file:
        file.write(json.dumps(row)[:40])


PLACES = {
    "before its checkpoint": (checkpoint, "save_checkpoint"),
    "before its line": (logs.RunLog, "evaluation"),
    "within its line": (logs.RunLog, "evaluation", lambda *_: True, half_a_line),
    "before the best is written": (run, "keep_best"),
    "within the best": (best, "copy_generator"),
    "before the checkpoint that was the best is deleted":
        (checkpoint, "prune_checkpoints", lambda _, __, ___, best: best is not None),
}  # fmt: skip


OFTEN = ["--checkpoint-every", 1000, "--keep-checkpoints", 1, "--eval-every", 2, "--steps", 8]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a run that nobody killed."""
    out = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train", *map(str, [*TINY, *OFTEN, "--out", out])])
        command.main()
    return next(out.iterdir())


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("place", PLACES)
def test_a_kill_leaves_what_a_resumed_run_makes_whole(
    train, tmp_path, monkeypatch, straight, place
):
    with monkeypatch.context() as patch:
        kill_in(patch, *PLACES[place])
        with pytest.raises(Killed):
            train(*TINY, *OFTEN, "--out", tmp_path)
    (folder,) = tmp_path.iterdir()
    # What lies there is whole, and the best is one of the evaluated steps.
    best = load_generator(best_generator_path(folder))
    assert best.step in (2, 4, 6)
    assert best.step in saved_steps(folder)

    code, _, err = train("--resume", folder)
    assert code == 0, err
    assert lines(folder) == lines(straight)
    assert sum(each["best"] for each in lines(folder)) > 1
    assert saved_steps(folder) == saved_steps(straight)
    paths = (best_generator_path(run) for run in (folder, straight))
    assert len({path.read_bytes() for path in paths}) == 1

"""A metric whose file is put into the folder, and nothing else, is everywhere."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

FILE = '''
"""How far apart the mean grays of two sets are, and two more."""

from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.metrics.metric import Detail, Metric, Sets, register


def mean_gray(sets: Sets) -> Estimate:
    means = [images.float().mean().item() for images in (sets.images.real, sets.images.fake)]
    details = {"of_real": means[0]}
    return Estimate(abs(means[0] - means[1]), len(sets.real), len(sets.fake), 0.5, details)


register(
    Metric(
        name="mean_gray",
        title="mean gray",
        better="lower",
        takes="images",
        function=mean_gray,
        fewest=(3, 3),
        needs_equal_sizes=True,
        quick=True,
        details=(Detail("of_real", "of the real ones"),),
        place=15,
    )
)
register(
    Metric(
        name="certainty",
        title="certainty",
        better="higher",
        takes="probabilities",
        function=lambda sets: Estimate(sets.fake.probabilities.amax(1).mean().item(), 0, 1),
        quick=True,
    )
)
register(
    Metric(
        name="count",
        title="Count",
        better=7.0,
        takes="features",
        function=lambda sets: Estimate(float(len(sets.fake)), len(sets.real), len(sets.fake)),
    )
)
'''

# What a user does, in one process: the file is where cxrgan_fast/metrics has its own.
PROGRAM = """
import json, sys
from pathlib import Path
import cxrgan_fast.metrics
cxrgan_fast.metrics.__path__.append(sys.argv[1])
from cxrgan_fast import evaluate, train
from cxrgan_fast.command import run_command
from matplotlib.figure import Figure

def run(main, *words):
    print("#", words)
    sys.argv = ["it", *words]
    try:
        code = run_command(main)
    except SystemExit as end:  # of --help
        code = end.code
    assert not code, code

save = Figure.savefig

def noting(figure, *arguments, **named):
    axes = [[axis.get_title(), axis.get_ylabel()] for axis in figure.axes]
    Path("axes.json").write_text(json.dumps(axes))
    save(figure, *arguments, **named)

Figure.savefig = noting
run(evaluate.main, "--help")
run(train.main, *"--data phantom --phantom-images 12 --resolution 32 --base-channels 8"
    " --latent-size 8 --batch-size 4 --precision fp32 --device cpu --steps 2 --eval-every 1"
    " --eval-samples 21 --features cxr --out runs".split())
(folder,) = Path("runs").iterdir()
options = "--features cxr --device cpu --samples 12".split()
run(evaluate.main, str(folder), *options, "--metrics", "count", "certainty", "mean_gray", "fid")
run(evaluate.main, str(folder), *options, "--all-checkpoints")
run(evaluate.main, str(folder), "--features", "pixels", *options[2:], "--metrics", "certainty",
    "count", "--out", "pixels")
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What the commands have written and printed."""
    place = tmp_path_factory.mktemp("new metric")
    (place / "folder").mkdir()
    (place / "folder" / "mean_gray.py").write_text(FILE)
    command = [sys.executable, "-c", PROGRAM, str(place / "folder")]
    ended = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (run,) = (place / "runs").iterdir()
    outputs = ended.stdout.split("# (")[1:]
    names = ("help", "train", "evaluate", "checkpoints", "pixels")
    return SimpleNamespace(
        place=place, run=run, errors=ended.stderr, **dict(zip(names, outputs, strict=True))
    )


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_the_help_names_it_among_the_metrics(done):
    words = " ".join(done.help.replace("│", " ").split())
    assert "(default: fid mean_gray fid_infinity kid " in words
    assert "diversity power_spectrum memorisation certainty count)" in words
    assert "FID, mean gray, KID, precision, recall, certainty of every generator" in words


def test_the_record_and_the_table_have_it(done):
    whole = read(done.run / "evaluation" / "evaluation.json")["all classes"]
    found = whole["generated"]["metrics"]
    assert list(found) == ["fid", "mean_gray", "certainty", "count"]
    assert found["count"]["value"] == 12
    value, low_high = found["mean_gray"]["value"], found["mean_gray"]["interval"]
    assert low_high == pytest.approx([value - 0.98, value + 0.98], abs=1e-4)
    assert set(found) == set(whole["floors"]["other patients"]["metrics"])
    table = done.evaluate.splitlines()
    (gray, *_) = [line for line in table if line.startswith("mean gray")]
    assert gray.split()[:3] == ["mean", "gray", "lower"]
    assert f" {value:.4g} ± 0.98 (12/12) " in gray
    after = table[table.index(gray) + 1]
    assert after.startswith("  of the real ones")
    (count, *_) = [line for line in table if line.startswith("Count (cxr, 256-d)")]
    assert count.split()[3:5] == ["near", "7"]


def test_the_checkpoints_and_their_picture_have_it_where_it_is_quick(done):
    first, second = read(done.run / "evaluation" / "checkpoints.json")["checkpoints"]
    names = ["fid", "mean_gray", "kid", "precision", "recall", "certainty"]
    assert list(first["metrics"]) == list(second["metrics"]) == names
    axes = read(done.place / "axes.json")
    assert axes[1] == ["mean gray", "lower is better"]
    assert axes[-1] == ["certainty (cxr, 256-d)", "higher is better"]
    assert len(axes) == 6
    (header, better) = (
        next(line for line in done.checkpoints.splitlines() if line.startswith(start))
        for start in ("step ", "better ")
    )
    assert header.split()[:4] == ["step", "FID", "mean", "gray"]
    assert better.split() == ["better", "lower", "lower", "lower", "higher", "higher", "higher"]


def test_the_evaluations_of_a_training_have_it_where_it_is_quick(done):
    rows = [json.loads(line) for line in (done.run / "evaluations.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert set(row["metrics"]) == {
            "fid", "mean_gray", "kid", "precision", "recall", "certainty",
        }  # fmt: skip
        gray = row["metrics"]["mean_gray"]
        assert (gray["n_real"], gray["n_fake"]) == (12, 12)  # of equal sizes
        assert row["omitted"] == {}
        assert f"mean gray {gray['value']:.4g}, precision " in done.errors
    (events,) = done.run.glob("events.out.tfevents.*")
    records = EventFileLoader(str(events)).Load()
    shown = {v.tag: v.metadata for record in records for v in record.summary.value}
    assert shown["mean_gray/cxr-256"].display_name == "mean gray (cxr-256)"
    assert shown["mean_gray/cxr-256"].summary_description == "lower is better"


def test_it_is_left_out_with_its_reason_where_its_input_is_missing(done):
    record = read(done.place / "pixels" / "evaluation.json")["all classes"]["generated"]
    assert list(record["metrics"]) == ["count"]
    assert record["omitted"] == {"certainty": "these features come from no classifier"}
    assert "not computed: certainty: these features come from no classifier" in done.pixels

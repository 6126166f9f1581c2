"""Evaluations during a training that cannot be: what is said, and what is made before."""

import json
from unittest.mock import create_autospec

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation import periodic
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.runs.checkpoint import saved_steps
from cxrgan_fast.training import loop

PHANTOM = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
           "--latent-size", "8", "--batch-size", "4", "--phantom-images", "12"]  # fmt: skip
PIXELS = ["--features", "pixels", "--eval-samples", 21]


def only_run(root):
    (folder,) = root.iterdir()
    return folder


def evaluations(folder):
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--eval-every", -1], "--eval-every should be a whole number of at least 0, got -1"),
        (["--eval-every", 2, "--eval-samples", 1],
         "--eval-samples should be a whole number from 2 to 10000000, got 1"),
        (["--eval-samples", 50], "--eval-samples does nothing without --eval-every"),
        (["--features", "pixls"], "--features does nothing without --eval-every"),
        (["--eval-every", 2, "--features", "pixls"],
         "--features pixls: expected .*; did you mean 'pixels'?"),
        (["--eval-every", 2, "--inception-weights", "w.pth"],
         "--inception-weights does nothing without --features inception, got --features cxr"),
        (["--eval-every", 2, "--phantom-images", 2, "--per-class"],
         "--eval-every: FID needs 2 real images or more, normal has 1; add images, or leave it"),
        (["--eval-every", 2, "--phantom-images", 1, "--classes", "normal"],
         "--eval-every: FID needs 2 real images or more, phantom has 1; add images, or leave it"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused_before_anything_is_made(
    fails, tmp_path, options, said
):
    line = fails(*PHANTOM, *options, "--out", tmp_path / "runs")
    assert all(part in line for part in said.split(".*"))
    assert not (tmp_path / "runs").exists()


def test_a_fid_that_cannot_be_computed_ends_the_run_with_its_reason(fails, tmp_path, monkeypatch):
    omitted = Comparison(omitted={"fid": "no two of them differ"})
    double = create_autospec(periodic.compare, return_value=omitted)
    monkeypatch.setattr(periodic, "compare", double)
    line = fails(*PHANTOM, *PIXELS, "--eval-every", 2, "--steps", 3, "--out", tmp_path)
    assert line == "error: --eval-every needs FID: no two of them differ"
    assert saved_steps(only_run(tmp_path)) == [2]


def test_the_weights_of_an_extractor_reach_it(fails, tmp_path, monkeypatch):
    def load(name, device, *, inception_weights, features_weights):
        raise UserError(f"{name} on {device} from {inception_weights or features_weights}")

    double = create_autospec(loop.load_extractor, side_effect=load)
    monkeypatch.setattr(loop, "load_extractor", double)
    options = ["--eval-every", 2, "--features", "inception", "--inception-weights", "w.pth"]
    line = fails(*PHANTOM, *options, "--out", tmp_path / "runs")
    assert line == "error: inception on cpu from w.pth"
    options = ["--eval-every", 2, "--features", "dinov2", "--features-weights", "w"]
    line = fails(*PHANTOM, *options, "--out", tmp_path / "runs")
    assert line == "error: dinov2 on cpu from w"


@pytest.mark.parametrize(
    ("features", "weights"), [("inception", "inception_weights"), ("xrv", "features_weights")]
)
def test_a_resumed_run_may_go_over_to_features_without_weights(train, tmp_path, features, weights):
    assert train(*PHANTOM, *PIXELS, "--eval-every", 2, "--steps", 2, "--out", tmp_path)[0] == 0
    folder = only_run(tmp_path)
    text = (folder / "config.yaml").read_text()
    for line, other in ("features: pixels", features), (f"{weights}: null", "/no/weights"):
        assert text.count(f" {line}") == 1
        text = text.replace(line, f"{line.partition(':')[0]}: {other}")
    (folder / "config.yaml").write_text(text)
    code, _, err = train("--resume", folder, "--steps", 4)
    assert code == 2
    assert "/no/weights" in err
    assert train("--resume", folder, *PIXELS, "--steps", 4)[0] == 0
    assert [row["step"] for row in evaluations(folder)] == [2, 4]

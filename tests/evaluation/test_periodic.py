"""Evaluations during a training: the right images, and a training that does not notice."""

import json
import os
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation import periodic
from cxrgan_fast.evaluation.periodic import PeriodicEvaluation, describe
from cxrgan_fast.metrics import extract_features, load_extractor
from cxrgan_fast.metrics.fid import fid
from cxrgan_fast.runs.checkpoint import checkpoint_path, saved_steps
from cxrgan_fast.runs.logs import RunLog
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.sampling.generation import generate_images
from cxrgan_fast.sampling.latents import latents_for
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.executors import GraphExecutor
from cxrgan_fast.training.step import TrainingStep
from recorded_graph import stand_in_for_cuda_graphs

TINY = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
        "--latent-size", "8", "--batch-size", "4"]  # fmt: skip
PHANTOM = [*TINY, "--phantom-images", "12"]
PIXELS = ["--features", "pixels", "--eval-samples", 21]
CPU = torch.device("cpu")


def only_run(root):
    (folder,) = root.iterdir()
    return folder


def evaluations(folder):
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


def untimed(rows):
    timed = ("seconds", "images_per_second", "peak_memory")
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


def class_folders(root, **counts):
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def fid_of(images, data):
    pixels = load_extractor("pixels", CPU)
    vectors = [extract_features(pixels, each, CPU).vectors for each in (data.images, images)]
    return fid(*vectors).value


# ------------------------------------------------------------------------------ what is written


def test_an_evaluation_is_of_the_saved_generator_and_of_all_real_images(train, tmp_path):
    data = class_folders(tmp_path / "set", ill=7, well=2)
    options = ["--data", data, *PIXELS, "--eval-every", 2, "--seed", 3, "--steps", 5]
    code, _, err = train(*TINY, *options, "--out", tmp_path / "runs")
    assert code == 0, err
    folder = only_run(tmp_path / "runs")
    rows = evaluations(folder)
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert [row["images"] for row in rows] == [8, 16, 20]
    assert {(row["features"], row["features_version"]) for row in rows} == {("pixels-1024", "1")}
    assert {row["seconds"] < 60 for row in rows} == {True}
    dataset = load_dataset(data, resolution=32)
    for row in rows:
        # 21 images in the frequencies 7 to 2: 16.3 and 4.7.
        generated = [
            generate_images(
                source,
                latents_for(3, f"evaluations of {source.class_name}", range(n), 8),
                torch.full((n,), source.label),
            )
            for source, n in zip(load_sources(folder, str(row["step"])), (16, 5), strict=True)
        ]
        value = fid_of(torch.cat(generated), dataset)
        # An image may stand elsewhere in its group here, and a last bit make a level of 255.
        assert row["metrics"]["fid"]["value"] == pytest.approx(value, rel=1e-3)
        assert row["metrics"]["fid"]["n_real"] == row["metrics"]["kid"]["n_real"] == 9
        assert row["metrics"]["fid"]["n_fake"] == row["metrics"]["kid"]["n_fake"] == 21
        for name in ("precision", "recall"):
            assert 0 <= row["metrics"][name]["value"] <= 1
            assert row["metrics"][name]["n_real"] == row["metrics"][name]["n_fake"] == 9
    assert len({row["metrics"]["fid"]["value"] for row in rows}) == 3


def test_every_number_is_shown_with_its_features_and_counts(train, tmp_path):
    code, _, err = train(*PHANTOM, *PIXELS, "--eval-every", 2, "--steps", 2, "--out", tmp_path)
    assert code == 0
    folder = only_run(tmp_path)
    (row,) = evaluations(folder)
    (line,) = (line for line in err.splitlines() if "FID" in line)
    assert line == describe(row)
    assert line.startswith(f"step 2: FID {row['metrics']['fid']['value']:.4g}, KID ")
    assert " of 12 real and 21 generated images; precision " in line
    assert " of 12 real and 12 generated images (pixels-1024, " in line
    assert line.endswith(" s); the best so far")
    (events,) = folder.glob("events.out.tfevents.*")
    records = EventFileLoader(str(events)).Load()
    shown = {v.tag: v for r in records for v in r.summary.value if v.tag.endswith("/pixels-1024")}
    titles = {tag: (v.metadata.display_name, v.metadata.summary_description)
              for tag, v in shown.items()}  # fmt: skip
    assert titles == {
        "fid/pixels-1024": ("FID (pixels-1024)", "lower is better"),
        "kid/pixels-1024": ("KID (pixels-1024)", "lower is better"),
        "precision/pixels-1024": ("precision (pixels-1024)", "higher is better"),
        "recall/pixels-1024": ("recall (pixels-1024)", "higher is better"),
    }
    assert {tag: v.tensor.float_val[0] for tag, v in shown.items()} == {
        f"{name}/pixels-1024": pytest.approx(metric["value"], rel=1e-6)
        for name, metric in row["metrics"].items()
    }


def test_each_gan_of_a_class_is_evaluated_against_its_class(train, tmp_path):
    data = class_folders(tmp_path / "set", ill=7, well=5)
    options = ["--data", data, "--per-class", *PIXELS, "--eval-every", 1, "--steps", 2]
    assert train(*TINY, *options, "--out", tmp_path / "runs")[0] == 0
    folder = only_run(tmp_path / "runs")
    for name, count in (("ill", 7), ("well", 5)):
        rows = evaluations(folder / name)
        assert [row["metrics"]["fid"]["n_real"] for row in rows] == [count, count]
    best = load_sources(folder, "best")
    assert [source.class_name for source in best] == ["ill", "well"]
    for source in best:
        rows = evaluations(folder / source.class_name)
        lowest = min(rows, key=lambda row: row["metrics"]["fid"]["value"])
        assert source.snapshot.step == lowest["step"]
        assert float(source.snapshot.extra["fid"]) == lowest["metrics"]["fid"]["value"]


# ------------------------------------------------------------------- the training does not notice


def leaves(value, name=""):
    if isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f"{name}.{key}")
    else:
        yield name, value


def differences(first, second):
    """What is not the same to the bit in two states."""
    a, b = dict(leaves(first)), dict(leaves(second))
    assert a.keys() == b.keys()
    tensors = [name for name in a if isinstance(a[name], torch.Tensor)]
    assert len(tensors) > 20
    return [name for name in a if not (
        torch.equal(a[name], b[name]) if name in tensors else a[name] == b[name]
    )]  # fmt: skip


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "bf16", "--mirror", "--deterministic"],
        ["--resident-share", 0, "--spectral-norm", "--generator-norm", "none", "--per-class"],
    ],
)
def test_evaluations_change_no_bit_of_a_training(train, tmp_path, options):
    often = ["--eval-every", 2, *PIXELS]
    for out, more in (("without", []), ("with", often)):
        done = train(*PHANTOM, *options, *more, "--steps", 7, "--out", tmp_path / out)
        assert done[0] == 0, done[2]
    folders = only_run(tmp_path / "without"), only_run(tmp_path / "with")
    parts = ("normal", "bacterial") if "--per-class" in options else (".",)
    for part in parts:
        assert len(evaluations(folders[1] / part)) == 4
        paths = [checkpoint_path(folder / part, 7) for folder in folders]
        without, with_ = (torch.load(path, weights_only=True)["training"] for path in paths)
        assert differences(with_, without) == []


@pytest.fixture
def dataset():
    images = torch.randint(0, 256, (23, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    names = [str(i) for i in range(23)]
    labels = (torch.arange(23) % 3 == 0).long()
    return ImageDataset(images.to(torch.uint8), labels, ("a", "b"), names, names, "made")


CONFIG = override(TrainConfig(), {
    "resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4, "precision": "fp32",
    "eval_every": 1, "eval_samples": 40, "features": "pixels",
})  # fmt: skip


def evaluation_of(dataset):
    return PeriodicEvaluation(CONFIG, dataset, load_extractor("pixels", CPU), CPU)


@pytest.mark.long
def test_evaluations_between_replays_of_a_graph_change_nothing(dataset, monkeypatch):
    stand_in_for_cuda_graphs(monkeypatch)
    plain, evaluated = (TrainingStep(CONFIG, dataset, CPU) for _ in range(2))
    unwatched, watched = GraphExecutor(plain), GraphExecutor(evaluated)
    evaluation = evaluation_of(dataset)
    before = torch.get_rng_state()
    rows = []
    for _ in range(6):
        unwatched()
        watched()
        rows.append(evaluation(evaluated.averaged_generator(), []))
    assert watched.name == "graph"
    assert watched.graphs
    assert len({row["metrics"]["fid"]["value"] for row in rows}) == 6
    assert differences(evaluated.state_dict(), plain.state_dict()) == []
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_generator_gives_the_same_numbers(dataset):
    step, evaluation = TrainingStep(CONFIG, dataset, CPU), evaluation_of(dataset)
    step()
    first, second = untimed(
        [
            evaluation(step.averaged_generator(), []),
            evaluation_of(dataset)(step.averaged_generator(), []),
        ]
    )
    assert first == second


def test_a_generator_that_produces_no_numbers_is_named(dataset):
    step, evaluation = TrainingStep(CONFIG, dataset, CPU), evaluation_of(dataset)
    with torch.no_grad():
        next(step.ema.module.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"^the generator of step 0 produces values that are not"):
        evaluation(step.averaged_generator(), [])


def slow(monkeypatch, seconds):
    compare = periodic.compare

    def slowly(*arguments, **named):
        time.sleep(seconds)
        return compare(*arguments, **named)

    monkeypatch.setattr(periodic, "compare", slowly)


def test_evaluations_do_not_count_in_images_per_second(train, tmp_path, monkeypatch):
    slow(monkeypatch, 0.5)
    options = [*PIXELS, "--eval-every", 2, "--log-every", 3, "--steps", 6, "--out", tmp_path]
    assert train(*PHANTOM, *options)[0] == 0
    text = (only_run(tmp_path) / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    training = sum(12 / row["images_per_second"] for row in rows)
    before_last = [row["seconds"] for row in evaluations(only_run(tmp_path))[:2]]
    assert rows[-1]["seconds"] - training == pytest.approx(sum(before_last), abs=0.2)
    assert sum(before_last) > 1


def test_evaluations_count_in_max_minutes(train, tmp_path, monkeypatch):
    slow(monkeypatch, 1.0)
    options = [*PIXELS, "--eval-every", 1, "--max-minutes", 1 / 60, "--out", tmp_path]
    assert train(*PHANTOM, *options)[0] == 0
    assert [row["step"] for row in evaluations(only_run(tmp_path))] == [1]


def test_metrics_need_no_deterministic_algorithms(train, tmp_path, monkeypatch):
    seen = []
    compare, advance = periodic.compare, RunLog.advance

    def noting(original):
        def noted(*arguments, **named):
            seen.append(torch.is_deterministic_algorithms_warn_only_enabled())
            return original(*arguments, **named)

        return noted

    monkeypatch.setattr(periodic, "compare", noting(compare))
    monkeypatch.setattr(RunLog, "advance", noting(advance))
    options = [*PIXELS, "--eval-every", 1, "--deterministic", "--steps", 2, "--out", tmp_path]
    assert train(*PHANTOM, *options)[0] == 0
    assert seen == [False, True, False, True]


# ------------------------------------------------------------------------ ends and resumptions


def test_ctrl_c_gives_the_evaluation_up_and_a_resumed_run_makes_up_for_it(
    train, tmp_path, monkeypatch
):
    options = [*PIXELS, "--eval-samples", 100, "--eval-every", 2, "--steps", 6]
    assert train(*PHANTOM, *options, "--out", tmp_path / "straight")[0] == 0
    original, generated = periodic.run_generator, []

    def interrupted(*arguments):
        generated.append(len(arguments[1]))
        if len(generated) == 3:  # the first of two batches of the second evaluation
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(periodic, "run_generator", interrupted)
        code, out, err = train(*PHANTOM, *options, "--out", tmp_path / "parts")
    assert code == 130
    assert generated == [64, 36, 64]
    folder = only_run(tmp_path / "parts")
    assert f"saved {checkpoint_path(folder, 4)}" in out
    assert "Traceback" not in err
    assert [row["step"] for row in evaluations(folder)] == [2]
    assert train("--resume", folder)[0] == 0
    straight = only_run(tmp_path / "straight")
    assert untimed(evaluations(folder)) == untimed(evaluations(straight))
    assert saved_steps(folder) == saved_steps(straight)


def test_a_finished_run_is_evaluated_when_asked(train, tmp_path):
    assert train(*PHANTOM, "--steps", 3, "--out", tmp_path)[0] == 0
    folder = only_run(tmp_path)
    assert not (folder / "evaluations.jsonl").exists()
    ask = ["--resume", folder, *PIXELS, "--eval-every", 2]
    code, out, _ = train(*ask)
    assert code == 0
    assert f"best: {folder / 'best_generator.safetensors'} (step 3)" in out
    assert [row["step"] for row in evaluations(folder)] == [3]
    assert "has all of its 3 steps" in train(*ask)[1]
    # What the run keeps of the evaluations is no mistake where it goes on without them.
    assert train("--resume", folder, "--eval-every", 0, "--steps", 4)[0] == 0
    assert [row["step"] for row in evaluations(folder)] == [3]


def test_lines_after_the_checkpoint_are_dropped(train, tmp_path):
    options = [*PIXELS, "--eval-every", 2, "--steps", 4]
    assert train(*PHANTOM, *options, "--out", tmp_path)[0] == 0
    folder = only_run(tmp_path)
    before = evaluations(folder)
    newest = checkpoint_path(folder, 4)
    newest.write_bytes(newest.read_bytes()[:-1000])
    code, out, err = train("--resume", folder, "--steps", 4)
    assert code == 0, err
    assert f"passed over {newest}: it is damaged (" in out
    assert untimed(evaluations(folder)) == untimed(before)

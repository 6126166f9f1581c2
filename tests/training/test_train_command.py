"""``python -m cxrgan_fast.train`` as a user meets it: results, resuming and bad input."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxrgan_fast.runs.checkpoint import checkpoint_path, saved_steps
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.training.child import is_of_settings

TINY = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
        "--latent-size", "8", "--batch-size", "4"]  # fmt: skip
PHANTOM = [*TINY, "--phantom-images", "12"]


def only_run(root: Path) -> Path:
    (run,) = root.iterdir()
    return run


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def class_folders(root: Path, size: int = 32, each: int = 4) -> Path:
    rng = np.random.default_rng(0)
    for name in ("ill", "well"):
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 256, (size, size), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_a_run_folder_holds_all_that_is_promised(train, tmp_path):
    code, out, err = train(
        *PHANTOM, "--steps", 8, "--log-every", 2, "--grid-every", 4, "--checkpoint-every", 2,
        "--mark-every", 4, "--keep-checkpoints", 1, "--out", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    run = only_run(tmp_path)
    assert run.name == "00000-phantom-32-resnet"
    assert out.splitlines()[-1] == f"samples: {run / 'grids' / 'grid-000008.png'}"
    assert [row["step"] for row in rows(run)] == [2, 4, 6, 8]
    assert rows(run)[-1].keys() >= {
        "images", "seconds", "images_per_second", "d_loss", "g_loss", "d_real_accuracy",
        "d_fake_accuracy", "noise_std", "r_t", "share", "peak_memory",
    }  # fmt: skip
    assert 2**26 < rows(run)[0]["peak_memory"] <= rows(run)[-1]["peak_memory"] < 2**40
    assert rows(run)[-1]["images"] == 32
    assert saved_steps(run) == [4, 8]  # 4 is marked, 8 the newest
    assert len(list((run / "checkpoints").iterdir())) == 4
    assert (run / "generator.safetensors").exists()
    assert (run / "config.yaml").exists()
    assert list(run.glob("events.out.tfevents.*"))
    assert sorted(p.name for p in (run / "grids").iterdir()) == [
        "grid-000000.png", "grid-000004.png", "grid-000008.png",
    ]  # fmt: skip
    with Image.open(run / "progress.gif") as gif:
        assert gif.n_frames == 3
    again = train(*PHANTOM, "--steps", 1, "--out", tmp_path)
    assert again[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir())[1] == "00001-phantom-32-resnet"


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("every", [(3, 1000), (1000, 3), (1000, 1000), (2, 1), (3, 3)])
def test_a_run_ends_with_a_grid_and_a_checkpoint_of_its_last_step(train, tmp_path, every):
    checkpoint_every, grid_every = every
    options = ["--checkpoint-every", checkpoint_every, "--grid-every", grid_every]
    code, out, err = train(*PHANTOM, *options, "--steps", 3, "--out", tmp_path)
    assert code == 0, err
    run = only_run(tmp_path)
    grid = run / "grids" / "grid-000003.png"
    assert out.splitlines()[-1] == f"samples: {grid}"
    assert saved_steps(run)[-1] == 3
    with Image.open(run / "progress.gif") as gif:
        assert gif.n_frames == len(list(grid.parent.iterdir()))
    assert grid.exists()


def test_the_executor_that_is_asked_for_runs_and_may_be_another_when_resuming(train, tmp_path):
    code, _, err = train(*PHANTOM, "--executor", "graph", "--steps", 2, "--out", tmp_path)
    assert code == 0
    said = [line for line in err.splitlines() if line.startswith("executor: ")]
    assert said == [
        "executor: a CUDA graph needs an NVIDIA GPU, and this is a cpu; the step runs op by op"
    ]
    run = only_run(tmp_path)
    code, _, err = train("--resume", run, "--executor", "eager", "--steps", 4)
    assert code == 0
    assert "executor: " not in err
    assert saved_steps(run)[-1] == 4


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(
    ("family", "precision"),
    [("resnet", "fp32"), ("dcgan", "fp32"), ("resnet", "bf16"), ("r3", "bf16")],
)
@pytest.mark.parametrize("steps", [20, pytest.param(40, marks=pytest.mark.long)])
def test_resumed_equals_straight_to_the_bit(train, tmp_path, family, precision, steps):
    own = ["--blocks-per-size", 1] if family == "r3" else []
    options = [*PHANTOM, "--family", family, *own, "--precision", precision, "--noise-std", 0.2,
               "--noise-decay-steps", 30, "--log-every", 5, "--checkpoint-every", 100]  # fmt: skip
    assert train(*options, "--steps", steps, "--out", tmp_path / "straight")[0] == 0
    assert train(*options, "--steps", steps // 2, "--out", tmp_path / "parts")[0] == 0
    straight, parts = only_run(tmp_path / "straight"), only_run(tmp_path / "parts")
    code, _, err = train("--resume", parts, "--steps", steps)
    assert code == 0, err
    a, b = (torch.load(checkpoint_path(r, steps), weights_only=True) for r in (straight, parts))
    assert equal(a["training"], b["training"])

    def measured(run: Path) -> list[dict]:
        # The share is that of what was planned to be the run.
        others = ("seconds", "images_per_second", "peak_memory", "share")
        return [{k: v for k, v in row.items() if k not in others} for row in rows(run)]

    assert measured(straight) == measured(parts)
    assert (straight / "generator.safetensors").read_bytes() == (
        parts / "generator.safetensors"
    ).read_bytes()


def test_lines_after_the_checkpoint_are_written_anew(train, tmp_path):
    assert train(*PHANTOM, "--steps", 4, "--log-every", 1, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    with (run / "metrics.jsonl").open("a") as file:  # as kill -9 leaves it
        file.write('{"step": 5, "d_loss": 1}\n{"step": 6, "d_lo')
    assert train("--resume", run, "--steps", 6, "--log-every", 1)[0] == 0
    assert [row["step"] for row in rows(run)] == [1, 2, 3, 4, 5, 6]
    assert "g_loss" in rows(run)[4]


def test_a_damaged_checkpoint_is_passed_over(train, tmp_path):
    options = ["--checkpoint-every", 2, "--steps", 4]
    assert train(*PHANTOM, *options, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    newest = checkpoint_path(run, 4)
    newest.write_bytes(newest.read_bytes()[:-1000])
    code, out, err = train("--resume", run, "--steps", 5)
    assert code == 0, err
    assert f"passed over {newest}: it is damaged (" in out
    assert saved_steps(run)[-1] == 5


def test_no_pickle_is_executed(fails, train, tmp_path):
    assert train(*PHANTOM, "--steps", 1, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"format": Trap()}, checkpoint_path(run, 1))
    assert "is damaged or not a checkpoint" in fails("--resume", run, "--steps", 2)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.long
def test_per_class_trains_one_gan_a_class_and_resumes(train, tmp_path):
    data = class_folders(tmp_path / "set")
    options = ["--data", data, "--per-class", "--out", tmp_path / "runs"]
    assert train(*TINY, *options, "--steps", 2)[0] == 0
    run = only_run(tmp_path / "runs")
    for name in ("ill", "well"):
        assert saved_steps(run / name) == [2]
        assert (run / name / "generator.safetensors").exists()
    assert train("--resume", run, "--steps", 3)[0] == 0
    straight = [*options[:-1], tmp_path / "straight"]
    assert train(*TINY, *straight, "--steps", 3)[0] == 0
    for name in ("ill", "well"):
        parts = (only_run(tmp_path / "straight") / name, run / name)
        a, b = (torch.load(checkpoint_path(part, 3), weights_only=True) for part in parts)
        assert equal(a["training"], b["training"])


def test_per_class_trains_pairs_of_each_class(train, tmp_path):
    """Each discriminator then has one class, and every pair is of it."""
    options = ["--per-class", "--loss", "relativistic", "--r2-gamma", 1, "--r1-interval", 2]
    options += ["--log-every", 1, "--out", tmp_path]
    code, _, err = train(*PHANTOM, *options, "--steps", 3)
    assert code == 0, err
    parts = [only_run(tmp_path) / name for name in ("normal", "bacterial")]
    for part in parts:
        assert [row["step"] for row in rows(part)] == [1, 2, 3]
        for row in rows(part):
            assert 0 <= row["d_pair_accuracy"] <= 1
            assert row["d_loss"] > 0
            assert row["g_loss"] > 0
        assert rows(part)[0]["r2"] > 0
    one, other = ((part / "generator.safetensors").read_bytes() for part in parts)
    assert one != other
    code, _, err = train("--resume", only_run(tmp_path), "--steps", 4)
    assert code == 0, err
    sources = load_sources(only_run(tmp_path))
    assert {source.class_name for source in sources} == {"normal", "bacterial"}


def test_per_class_needs_no_way_to_tell_classes_apart(train, tmp_path):
    options = ["--per-class", "--generator-norm", "none", "--steps", 1, "--out", tmp_path]
    code, out, err = train(*PHANTOM, *options)
    assert code == 0, err
    assert [line.split("/")[-3] for line in out.splitlines()[-2:]] == ["normal", "bacterial"]


def test_max_minutes_stops_and_saves(train, tmp_path):
    assert train(*PHANTOM, "--steps", 10**6, "--max-minutes", 0.001, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    (step,) = saved_steps(run)
    assert 0 < step < 1000
    # The limit is that of a call: the next one goes on, although the time was used up.
    assert train("--resume", run)[0] == 0
    assert saved_steps(run)[-1] > step


def test_a_finished_run_says_so_and_goes_on_when_asked(train, tmp_path):
    assert train(*PHANTOM, "--steps", 2, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    code, out, _ = train("--resume", run)
    assert code == 0
    assert "has all of its 2 steps; --steps 4 would go on" in out
    assert train("--resume", run, "--steps", 4)[0] == 0
    assert "steps: 4\n" in (run / "config.yaml").read_text()


def test_resume_refuses_other_settings_other_data_and_no_run(fails, train, tmp_path):
    data = class_folders(tmp_path / "set")
    options = ["--data", data, "--out", tmp_path / "runs", "--steps", 1]
    assert train(*TINY, *options)[0] == 0
    run = only_run(tmp_path / "runs")
    line = fails("--resume", run, "--steps", 2, "--batch-size", 5, "--loss", "hinge")
    assert "--batch-size 5 (config.yaml has 4)" in line
    assert "--loss hinge (config.yaml has non_saturating)" in line
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace("g_lr: 0.0005", "g_lr: 0.5"))
    line = fails("--resume", run, "--steps", 2)
    assert "--g-lr 0.5 (step-00000001.pt has 0.0005)" in line
    (run / "config.yaml").write_text(settings)
    moved = data.rename(tmp_path / "moved")
    assert train("--resume", run, "--steps", 2, "--data", moved)[0] == 0
    data = moved.rename(data)
    (data / "ill" / "0.png").unlink()
    assert "are not those that" in fails("--resume", run, "--data", data, "--steps", 3)
    assert "name a run folder" in fails("--resume", tmp_path / "nowhere")


def test_bad_data_is_one_line_that_says_what_to_do(fails, train, tmp_path):
    options = [*TINY, "--steps", 1, "--out", tmp_path / "runs"]
    assert str(tmp_path / "nowhere") in fails(*options, "--data", tmp_path / "nowhere")
    (tmp_path / "nothing").mkdir()
    assert str(tmp_path / "nothing") in fails(*options, "--data", tmp_path / "nothing")

    data = class_folders(tmp_path / "set")
    (data / "empty").mkdir()
    assert "empty" in fails(*options, "--data", data)
    (data / "empty").rmdir()
    assert "wel" in fails(*options, "--data", data, "--classes", "wel")

    whole = (data / "ill" / "1.png").read_bytes()
    (data / "ill" / "1.png").write_bytes(whole[: len(whole) // 2])
    line = fails(*options, "--data", data)
    assert "1.png" in line
    assert "--skip-bad" in line
    code, out, _ = train(*options, "--data", data, "--skip-bad")
    assert code == 0
    assert "1.png" in out
    assert not any("nowhere" in run.name for run in (tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--resolution", "48"], "--resolution should be one of 32, 64, 128, 256, 512, got 48"),
        (["--batch-size", "0"], "--batch-size should be a whole number from 1 to 65536, got 0"),
        (["--image-channels", "2"], "--image-channels should be one of 1, 3, got 2"),
        (["--device", "cuda:97"], "--device cuda:97 cannot be used here"),
        (["--device", "meta"], "--device meta cannot be used here"),
        (
            ["--seed", 2**63],
            "--seed should be a whole number from 0 to 2^63 - 1, got 9223372036854775808",
        ),
        (
            ["--batch-size", 10**10],
            "--batch-size should be a whole number from 1 to 65536, got 10000000000",
        ),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_settings_that_cannot_work_end_in_one_line(fails, tmp_path, arguments, said):
    assert said in fails(*PHANTOM, "--out", tmp_path / "runs", *arguments)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_flag_names_the_nearest(fails):
    assert "--bach-size, 3; did you mean '--batch-size'?" in fails("--bach-size", 3)


def test_an_out_that_cannot_be_a_folder_is_refused(fails, tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = fails(*PHANTOM, "--steps", 1, "--out", tmp_path / "file" / "runs")
    assert "file" in line
    assert "choose another folder" in line


def test_memory_that_does_not_suffice_is_one_line(fails, tmp_path):
    line = fails(*PHANTOM, "--latent-size", 10**11, "--out", tmp_path)
    assert "the memory of cpu does not suffice for --batch-size 4" in line
    assert is_of_settings(line)  # by which a sweep learns
    assert "--latent-size 100000000000; make one of them smaller" in line

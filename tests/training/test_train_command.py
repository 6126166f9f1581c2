"""``python -m cxrgan_fast.train`` as a user meets it: results, interruptions and bad input."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxrgan_fast import train as command
from cxrgan_fast.command import run_command
from cxrgan_fast.training.checkpoint import checkpoint_path, saved_steps

TINY = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
        "--latent-size", "8", "--batch-size", "4", "--phantom-images", "12"]  # fmt: skip


@pytest.fixture
def train(monkeypatch, capsys):
    """Run the command in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        code = run_command(command.main)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def fails(train):
    """Run the command, hold that it ends as bad input should, and give its one line."""

    def run(*arguments: str | Path) -> str:
        code, _, err = train(*arguments)
        assert code == 2, err
        line = err.strip().splitlines()[-1]
        assert line.startswith("error: ")
        assert "Traceback" not in err
        return line

    return run


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
        *TINY, "--steps", 8, "--log-every", 2, "--grid-every", 4, "--checkpoint-every", 2,
        "--mark-every", 4, "--keep-checkpoints", 1, "--out", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    run = only_run(tmp_path)
    assert run.name == "00000-phantom-32-resnet"
    assert out.splitlines()[-1] == f"samples: {run / 'grids' / 'grid-000008.png'}"
    assert [row["step"] for row in rows(run)] == [2, 4, 6, 8]
    assert rows(run)[-1].keys() >= {
        "images", "seconds", "images_per_second", "d_loss", "g_loss", "d_real_accuracy",
        "d_fake_accuracy", "noise_std",
    }  # fmt: skip
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
    again = train(*TINY, "--steps", 1, "--out", tmp_path)
    assert again[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir())[1] == "00001-phantom-32-resnet"


@pytest.mark.parametrize("family", ["resnet", "dcgan"])
def test_resumed_equals_straight_to_the_bit(train, tmp_path, family):
    options = [*TINY, "--family", family, "--noise-std", 0.2, "--noise-decay-steps", 30,
               "--log-every", 5, "--checkpoint-every", 100]  # fmt: skip
    assert train(*options, "--steps", 40, "--out", tmp_path / "straight")[0] == 0
    assert train(*options, "--steps", 20, "--out", tmp_path / "parts")[0] == 0
    straight, parts = only_run(tmp_path / "straight"), only_run(tmp_path / "parts")
    code, _, err = train("--resume", parts, "--steps", 40)
    assert code == 0, err
    a, b = (torch.load(checkpoint_path(r, 40), weights_only=True) for r in (straight, parts))
    assert equal(a["training"], b["training"])

    def measured(run: Path) -> list[dict]:
        timed = ("seconds", "images_per_second")
        return [{k: v for k, v in row.items() if k not in timed} for row in rows(run)]

    assert measured(straight) == measured(parts)
    assert (straight / "generator.safetensors").read_bytes() == (
        parts / "generator.safetensors"
    ).read_bytes()


def test_lines_after_the_checkpoint_are_written_anew(train, tmp_path):
    assert train(*TINY, "--steps", 4, "--log-every", 1, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    with (run / "metrics.jsonl").open("a") as file:  # as kill -9 leaves it
        file.write('{"step": 5, "d_loss": 1}\n{"step": 6, "d_lo')
    assert train("--resume", run, "--steps", 6, "--log-every", 1)[0] == 0
    assert [row["step"] for row in rows(run)] == [1, 2, 3, 4, 5, 6]
    assert "g_loss" in rows(run)[4]


def test_a_damaged_checkpoint_is_passed_over(train, tmp_path):
    options = ["--checkpoint-every", 2, "--steps", 4]
    assert train(*TINY, *options, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    newest = checkpoint_path(run, 4)
    newest.write_bytes(newest.read_bytes()[:-1000])
    code, out, err = train("--resume", run, "--steps", 5)
    assert code == 0, err
    assert f"passed over {newest}: it is damaged" in out
    assert saved_steps(run)[-1] == 5


def test_no_pickle_is_executed(fails, train, tmp_path):
    assert train(*TINY, "--steps", 1, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"format": Trap()}, checkpoint_path(run, 1))
    assert "is damaged or not a checkpoint" in fails("--resume", run, "--steps", 2)
    assert not (tmp_path / "sprung").exists()


def test_per_class_trains_one_gan_a_class_and_resumes(train, tmp_path):
    data = class_folders(tmp_path / "set")
    options = ["--data", data, "--per-class", "--out", tmp_path / "runs"]
    assert train(*TINY, *options, "--steps", 2)[0] == 0
    run = only_run(tmp_path / "runs")
    for name in ("ill", "well"):
        assert saved_steps(run / name) == [2]
        assert (run / name / "generator.safetensors").exists()
    assert train("--resume", run, "--steps", 3)[0] == 0
    assert saved_steps(run / "ill")[-1] == saved_steps(run / "well")[-1] == 3


def test_max_minutes_stops_and_saves(train, tmp_path):
    assert train(*TINY, "--steps", 10**6, "--max-minutes", 0.001, "--out", tmp_path)[0] == 0
    (step,) = saved_steps(only_run(tmp_path))
    assert 0 < step < 1000


def test_divergence_names_step_loss_and_last_good_checkpoint(fails, tmp_path):
    line = fails(
        *TINY, "--optimizer", "sgd", "--loss", "least_squares", "--no-spectral-norm",
        "--d-lr", 1, "--r1-gamma", 0, "--steps", 60, "--log-every", 1, "--checkpoint-every", 1,
        "--out", tmp_path,
    )  # fmt: skip
    run = only_run(tmp_path)
    assert "is not finite; the last good checkpoint is" in line
    assert line.startswith("error: step 2: g_loss")
    good = checkpoint_path(run, saved_steps(run)[-1])
    assert str(good) in line
    state = torch.load(good, weights_only=True)["training"]
    for part in ("generator", "discriminator"):
        assert all(torch.isfinite(value).all() for value in state[part].values())


def start(*arguments: str | Path, **options: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "cxrgan_fast.train", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def wait_for_checkpoint(root: Path, process: subprocess.Popen) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if root.exists() and any(saved_steps(run) for run in root.iterdir()):
            return only_run(root)
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no checkpoint within two minutes: {process.communicate()}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_exits_130(train, tmp_path, number):
    process = start(*TINY, "--steps", 10**6, "--checkpoint-every", 3, "--out", tmp_path)
    run = wait_for_checkpoint(tmp_path, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    step = saved_steps(run)[-1]
    assert f"saved {checkpoint_path(run, step)}" in out
    assert train("--resume", run, "--steps", step + 1)[0] == 0


def test_kill_9_leaves_a_run_that_goes_on(train, tmp_path):
    """Killed while it writes a checkpoint at every step, at moments that differ."""
    for attempt in range(3):
        root = tmp_path / str(attempt)
        process = start(*TINY, "--steps", 10**6, "--checkpoint-every", 1, "--out", root)
        run = wait_for_checkpoint(root, process)
        time.sleep(0.3 + 0.17 * attempt)
        process.kill()
        process.communicate()
        for path in run.glob("checkpoints/step-*.pt"):
            torch.load(path, weights_only=True)
        step = saved_steps(run)[-1]
        code, out, err = train("--resume", run, "--steps", step + 1)
        assert code == 0, err
        assert "passed over" not in out
        assert saved_steps(run)[-1] == step + 1


def test_resume_refuses_other_settings_other_data_and_no_run(fails, train, tmp_path):
    data = class_folders(tmp_path / "set")
    options = ["--data", data, "--out", tmp_path / "runs", "--steps", 1]
    assert train(*TINY, *options)[0] == 0
    run = only_run(tmp_path / "runs")
    line = fails("--resume", run, "--steps", 2, "--batch-size", 5, "--loss", "hinge")
    assert "--batch-size 5 (the run has 4)" in line
    assert "--loss hinge (the run has non_saturating)" in line
    (data / "ill" / "0.png").unlink()
    assert "are not those that" in fails("--resume", run, "--steps", 2)
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
        (["--resolution", "48"], "resolution"),
        (["--batch-size", "0"], "--batch-size should be at least 1, got 0"),
        (["--image-channels", "2"], "image_channels"),
        (["--device", "cuda:97"], "--device cuda:97 cannot be used here"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_settings_that_cannot_work_end_in_one_line(fails, tmp_path, arguments, said):
    assert said in fails(*TINY, "--out", tmp_path / "runs", *arguments)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_flag_names_the_nearest(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "--bach-size", "3"])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 2
    assert "--batch-size" in capsys.readouterr().err


def test_an_out_that_cannot_be_a_folder_is_refused(fails, tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = fails(*TINY, "--steps", 1, "--out", tmp_path / "file" / "runs")
    assert "file" in line
    assert "choose another folder" in line


def test_measurements_that_do_not_fit_the_disk_stop_the_run(fails, train, tmp_path, monkeypatch):
    assert train(*TINY, "--steps", 1, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    opened = Path.open

    def full(path: Path, mode: str = "r", *args: object, **options: object) -> object:
        if path.name == "metrics.jsonl" and mode == "a":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    line = fails("--resume", run, "--steps", 3, "--log-every", 1)
    assert f"cannot write {run / 'metrics.jsonl'}: the disk is full" in line
    assert saved_steps(run) == [1]


def test_a_checkpoint_that_does_not_fit_leaves_the_older_one(tmp_path):
    """A file-size limit stands in for a disk that fills up in the middle of a write."""
    options = [*TINY, "--steps", "400", "--log-every", "1000", "--out", tmp_path]
    process = start(*options, "--checkpoint-every", "2")
    run = wait_for_checkpoint(tmp_path, process)
    process.kill()
    process.communicate()
    steps = saved_steps(run)
    size = checkpoint_path(run, steps[-1]).stat().st_size

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    process = start("--resume", run, preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert err.strip().splitlines()[-1].startswith("error: cannot write ")
    assert saved_steps(run) == steps
    assert not list((run / "checkpoints").glob(".*"))

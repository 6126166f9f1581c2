"""Trainings that end before their time: divergence, signals, kill -9 and full disks."""

import errno
import json
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from cxrgan_fast.files import write_error
from cxrgan_fast.runs import logs
from cxrgan_fast.runs.checkpoint import best_generator_path, checkpoint_path, saved_steps
from cxrgan_fast.runs.generator_file import load_generator
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.config_file import read_config_file
from cxrgan_fast.training import loop
from cxrgan_fast.training import run as run_module
from cxrgan_fast.training.child import is_of_settings

PHANTOM = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
           "--latent-size", "8", "--batch-size", "4", "--phantom-images", "12"]  # fmt: skip


def only_run(root: Path) -> Path:
    (run,) = root.iterdir()
    return run


def test_divergence_names_step_loss_and_last_good_checkpoint(fails, tmp_path):
    line = fails(
        *PHANTOM, "--optimizer", "sgd", "--loss", "least_squares", "--no-spectral-norm",
        "--d-lr", 1, "--r1-gamma", 0, "--steps", 60, "--log-every", 1, "--checkpoint-every", 1,
        "--out", tmp_path,
    )  # fmt: skip
    run = only_run(tmp_path)
    assert "is not finite; the last good checkpoint is" in line
    assert is_of_settings(line)  # by which a sweep learns
    assert line.startswith("error: step 2: g_loss")
    good = checkpoint_path(run, saved_steps(run)[-1])
    assert str(good) in line
    state = torch.load(good, weights_only=True)["training"]
    for part in ("generator", "discriminator"):
        assert all(torch.isfinite(value).all() for value in state[part].values())


def start(*arguments: str | Path, **options: object) -> subprocess.Popen:
    options.setdefault("preexec_fn", _heed_signals)
    return subprocess.Popen(
        [sys.executable, "-m", "cxrgan_fast.train", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def _heed_signals() -> None:
    """Undo what a child inherits of tests that run under nohup, or behind a shell's &."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for_checkpoint(root: Path, process: subprocess.Popen) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if root.exists() and any(saved_steps(run) for run in root.iterdir()):
            return only_run(root)
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no checkpoint within two minutes: {process.communicate()}")


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_saves_and_exits_130(train, tmp_path, number):
    process = start(*PHANTOM, "--steps", 10**6, "--checkpoint-every", 3, "--out", tmp_path)
    run = wait_for_checkpoint(tmp_path, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    step = saved_steps(run)[-1]
    assert f"saved {checkpoint_path(run, step)}" in out
    assert train("--resume", run, "--steps", step + 1)[0] == 0


@pytest.mark.long
@pytest.mark.parametrize("numbers", [
    (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM),
    (signal.SIGHUP, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM, signal.SIGINT),
])  # fmt: skip
def test_several_signals_in_a_row_lose_nothing(tmp_path, numbers):
    """A wrapper forwards the Ctrl-C that the terminal has sent already."""
    process = start(*PHANTOM, "--steps", 10**6, "--checkpoint-every", 20, "--out", tmp_path)
    run = wait_for_checkpoint(tmp_path, process)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.02)
    out, err = process.communicate(timeout=60)
    step = saved_steps(run)[-1]
    assert f"saved {checkpoint_path(run, step)}" in out, err
    assert "Traceback" not in err
    # 130, or what ended it when all was saved and said.
    assert process.returncode in (130, -signal.SIGTERM, -signal.SIGHUP)


@pytest.mark.long
def test_a_hangup_that_is_ignored_stops_nothing(tmp_path):
    """As under nohup."""
    process = start(*PHANTOM, "--steps", 10**6, "--checkpoint-every", 3, "--out", tmp_path,
                    preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # fmt: skip
    run = wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGHUP)
    before = saved_steps(run)[-1]
    deadline = time.monotonic() + 60
    while saved_steps(run)[-1] <= before + 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    process.kill()
    process.communicate()
    assert saved_steps(run)[-1] > before + 10


OUTPUTS = {
    "the reader goes away": "{} 2>&1 >&- | head -n 2 >/dev/null; exit ${{PIPESTATUS[0]}}",
    "both readers go away": "{} 2>&1 | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}",
    "a full disk": "{} >/dev/full 2>/dev/full",
    "closed": "{} >&- 2>&-",
    "all closed": "{} <&- >&- 2>&-",
}


@pytest.mark.long
@pytest.mark.parametrize("shell", OUTPUTS.values(), ids=OUTPUTS)
def test_output_that_cannot_be_written_is_no_reason_to_stop(tmp_path, shell):
    options = ["--steps", 12, "--log-every", 1, "--checkpoint-every", 5, "--out", tmp_path]
    words = [sys.executable, "-u", "-m", "cxrgan_fast.train", *map(str, [*PHANTOM, *options])]
    result = subprocess.run(["bash", "-c", shell.format(shlex.join(words))], timeout=120)
    assert result.returncode == 0
    run = only_run(tmp_path)
    assert saved_steps(run) == [5, 10, 12]
    assert [path for path in run.rglob("*") if path.is_file() and not reads(path)] == []


def test_an_error_between_two_steps_is_raised_when_the_state_is_saved(tmp_path, monkeypatch):
    """In a program that uses the loop and has no protected output."""
    settings = {"steps": 9, "resolution": 32, "base_channels": 8, "latent_size": 8, "log_every": 4,
                "batch_size": 4, "phantom_images": 12, "precision": "fp32", "out": tmp_path,
                "preset": "small", "device": "cpu"}  # fmt: skip

    def fail(log: logs.RunLog, row: dict) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(logs.RunLog, "metrics", fail)
    with pytest.raises(RuntimeError, match="something else"):
        loop.train(override(TrainConfig(), settings), torch.device("cpu"))
    assert saved_steps(only_run(tmp_path)) == [4]


@pytest.mark.parametrize("what", ["write_grid", "keep_best", "animate"])
def test_what_cannot_be_written_beside_a_checkpoint_loses_no_step(
    fails, tmp_path, monkeypatch, what
):
    """The disk is full for a moment: at a sample grid, the best generator or the animation."""
    write, times, done = getattr(run_module, what), [], []

    def full_once(path: Path, *rest: object) -> None:
        if path.name != "grid-000000.png" and not times:
            times.append(1)
            raise write_error(path, OSError(errno.ENOSPC, "No space left on device"))
        write(path, *rest)

    started = run_module.Run.train

    def slow(run: run_module.Run) -> None:
        started(run)
        done.append(run.training_step.steps_done)
        if run.training_step.steps_done == 4:  # until it has failed
            deadline = time.monotonic() + 60
            while not times and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.1)

    monkeypatch.setattr(run_module, what, full_once)
    monkeypatch.setattr(run_module.Run, "train", slow)
    options = ["--steps", 9, "--log-every", 9, "--grid-every", 3, "--eval-every", 3]
    few = ["--features", "pixels", "--eval-samples", 8]
    assert "the disk is full" in fails(*PHANTOM, *options, *few, "--out", tmp_path)
    assert done[-1] < 9
    assert saved_steps(only_run(tmp_path))[-1] == done[-1]


def reads(path: Path) -> bool:
    """Whether a file of a run folder is whole, or is a hidden one that was not finished."""
    if path.name.startswith("."):
        return True
    if path.suffix == ".pt":
        return "training" in torch.load(path, weights_only=True)
    if path.suffix == ".safetensors":
        return load_generator(path).step > 0
    if path.suffix in (".png", ".gif"):
        with Image.open(path) as image:
            image.load()
        return True
    if path.suffix == ".yaml":
        return "steps" in read_config_file(path)
    if path.suffix == ".json":
        return "fingerprint" in json.loads(path.read_text())
    # What is appended to is whole but for its last line or record, which readers pass over.
    return path.suffix == ".jsonl" or ".tfevents." in path.name


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("after", [0.3, 0.47, 0.64])
def test_kill_9_leaves_a_run_that_goes_on(train, tmp_path, after):
    """Killed while it writes a checkpoint at every step, at moments that differ."""
    options = ["--checkpoint-every", 1, "--grid-every", 1, "--log-every", 1, "--out", tmp_path]
    process = start(*PHANTOM, "--steps", 10**6, *options)
    run = wait_for_checkpoint(tmp_path, process)
    time.sleep(after)
    process.kill()
    process.communicate()
    unreadable = [path for path in run.rglob("*") if path.is_file() and not reads(path)]
    assert unreadable == []
    step = saved_steps(run)[-1]
    code, out, err = train("--resume", run, "--steps", step + 1)
    assert code == 0, err
    assert "passed over" not in out
    assert saved_steps(run)[-1] == step + 1


@pytest.mark.long
def test_kill_9_amid_evaluations_leaves_none_out(train, tmp_path):
    """Killed while it evaluates every step: a resumed run has each once, and the best of them."""
    options = ["--eval-every", 1, "--eval-samples", 20, "--features", "pixels"]
    options += ["--keep-checkpoints", 1, "--steps", 10**6, "--out", tmp_path]
    process = start(*PHANTOM, *options)
    run = wait_for_checkpoint(tmp_path, process)
    time.sleep(0.5)
    process.kill()
    process.communicate()
    unreadable = [path for path in run.rglob("*") if path.is_file() and not reads(path)]
    assert unreadable == []
    step = saved_steps(run)[-1]
    code, out, err = train("--resume", run, "--steps", step + 1)
    assert code == 0, err
    assert "passed over" not in out
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, step + 2))
    lowest = min(rows, key=lambda row: row["metrics"]["fid"]["value"])
    best = load_generator(best_generator_path(run))
    assert best.step == lowest["step"]
    assert float(best.extra["fid"]) == lowest["metrics"]["fid"]["value"]
    assert saved_steps(run) == sorted({best.step, step + 1})


def test_a_disk_that_is_full_for_the_event_file_is_one_line(fails, tmp_path, monkeypatch):
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logs, "SummaryWriter", full)
    assert "the disk is full" in fails(*PHANTOM, "--steps", 1, "--out", tmp_path)


def test_measurements_that_do_not_fit_the_disk_stop_the_run(fails, train, tmp_path, monkeypatch):
    assert train(*PHANTOM, "--steps", 1, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    opened = Path.open

    def full(path: Path, mode: str = "r", *args: object, **options: object) -> object:
        if path.name == "metrics.jsonl" and mode == "a":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    line = fails("--resume", run, "--steps", 3, "--log-every", 1)
    assert f"cannot write {run / 'metrics.jsonl'}: the disk is full" in line
    assert saved_steps(run) == [1, 2]  # what had been trained is saved where there is room for it


@pytest.mark.long
def test_a_checkpoint_that_does_not_fit_leaves_the_older_one(tmp_path):
    """A file-size limit stands in for a disk that fills up in the middle of a write."""
    options = [*PHANTOM, "--steps", "400", "--log-every", "1000", "--out", tmp_path]
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

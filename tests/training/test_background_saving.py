"""Trainings while their checkpoints and grids are being written by the other thread."""

import errno
import functools
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from cxrgan_fast.runs import checkpoint, generator_file
from cxrgan_fast.runs.checkpoint import checkpoint_path, saved_steps
from cxrgan_fast.runs.generator_file import load_generator
from cxrgan_fast.runs.logs import RunLog
from cxrgan_fast.sampling import grid
from cxrgan_fast.training import run
from cxrgan_fast.training.run import Run
from cxrgan_fast.training.writer import BackgroundWriter

PHANTOM = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
           "--latent-size", "8", "--batch-size", "4", "--phantom-images", "12"]  # fmt: skip
SECONDS = 60


def only_run(root: Path) -> Path:
    (folder,) = root.iterdir()
    return folder


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def at_step(monkeypatch):
    """Do something to a run when it is about to ``call`` at a step."""

    def patch(call: str, step: int, action: Callable[[Run, BackgroundWriter], object]) -> None:
        original = getattr(Run, call)

        @functools.wraps(original)
        def acting(self: Run, writer: BackgroundWriter, *arguments: object) -> object:
            if self.training_step.steps_done == step:
                action(self, writer)
            return original(self, writer, *arguments)

        monkeypatch.setattr(Run, call, acting)

    return patch


def poison(run: Run, _: BackgroundWriter) -> None:
    with torch.no_grad():
        next(run.training_step.networks["generator"].parameters())[0] = float("nan")


def same_training(first: Path, second: Path) -> None:
    """Hold that two checkpoints agree to the bit."""
    states = (torch.load(path, weights_only=True) for path in (first, second))
    a, b = (dict(leaves(state["training"])) for state in states)
    assert a.keys() == b.keys()
    differ = [name for name in a if not same(a[name], b[name])]
    assert differ == []


def same(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f"{name}.{key}")
    else:
        yield name, value


# ---------------------------------------------------------------------------- order and pace


def test_steps_go_on_while_a_disk_is_slow(train, tmp_path, monkeypatch):
    """The write of step 10 ends when step 25 is done: a loop that waited for it would not end."""
    reached = threading.Event()
    steps = []
    advance, save = RunLog.advance, torch.save

    def counting(log: RunLog) -> None:
        advance(log)
        steps.append(len(steps) + 1)
        if len(steps) == 25:
            reached.set()

    def slow(*arguments: object) -> None:
        assert reached.wait(SECONDS)
        save(*arguments)

    monkeypatch.setattr(RunLog, "advance", counting)
    monkeypatch.setattr(torch, "save", slow)
    options = ["--checkpoint-every", 10, "--log-every", 5, "--grid-every", 1000]
    code, _, err = train(*PHANTOM, *options, "--steps", 30, "--out", tmp_path)
    assert code == 0, err
    assert saved_steps(only_run(tmp_path)) == [10, 20, 30]


def test_files_are_written_in_the_order_that_a_crash_allows(train, tmp_path, monkeypatch):
    written: list[tuple[str, list[int]]] = []

    def spy(write: Callable, path: Path, content: object) -> None:
        folder = path.parent if path.name.startswith("step-") else path.parent / "checkpoints"
        written.append((path.name, saved_steps(folder.parent)))
        write(path, content)

    for module in (checkpoint, grid, run, generator_file):
        original = module.write_atomic
        monkeypatch.setattr(module, "write_atomic", functools.partial(spy, original))
    options = ["--checkpoint-every", 2, "--grid-every", 2, "--keep-checkpoints", 1]
    assert train(*PHANTOM, *options, "--steps", 4, "--out", tmp_path)[0] == 0
    names = [name for name, _ in written]
    assert names == [
        "grid-000000.png",
        *["grid-000002.png", "generator-00000002.safetensors", "generator.safetensors",
          "step-00000002.pt", "progress.gif"],
        *["grid-000004.png", "generator-00000004.safetensors", "generator.safetensors",
          "step-00000004.pt", "progress.gif"],
    ]  # fmt: skip
    # The older checkpoint is deleted when the newer one is there.
    kept = dict(written)
    assert kept["progress.gif"] == [4]


def test_a_checkpoint_is_of_its_step_however_late_it_is_written(train, tmp_path, monkeypatch):
    """Slow writes leave the copies alone: they are what a run that saves once has saved."""
    options = [*PHANTOM, "--log-every", 7, "--grid-every", 1000]
    once = [*options, "--checkpoint-every", 1000, "--steps", 4, "--out", tmp_path / "once"]
    assert train(*once)[0] == 0
    save = torch.save

    def slow(*arguments: object) -> None:
        time.sleep(0.2)
        save(*arguments)

    monkeypatch.setattr(torch, "save", slow)
    often = [*options, "--checkpoint-every", 4, "--keep-checkpoints", 9, "--steps", 16]
    assert train(*often, "--out", tmp_path / "often")[0] == 0
    runs = only_run(tmp_path / "once"), only_run(tmp_path / "often")
    assert saved_steps(runs[1]) == [4, 8, 12, 16]
    same_training(*(checkpoint_path(run, 4) for run in runs))
    generators = [(run / "checkpoints/generator-00000004.safetensors") for run in runs]
    assert generators[0].read_bytes() == generators[1].read_bytes()


# ----------------------------------------------------------------------------------- failures


def test_a_disk_that_fills_up_while_steps_go_on_stops_them(fails, tmp_path, monkeypatch):
    write = checkpoint.write_atomic

    def no_space(file: object) -> None:
        file.write(bytes(1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    def full(path: Path, content: Callable) -> None:
        number = re.search(r"[0-9]{8}", path.name)
        write(path, no_space if number and int(number[0]) >= 6 else content)

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    line = fails(*PHANTOM, "--checkpoint-every", 3, "--steps", 10**6, "--out", tmp_path)
    folder = only_run(tmp_path)
    assert f"cannot write {checkpoint_path(folder, 6)}: the disk is full" in line
    assert saved_steps(folder) == [3]
    assert not list((folder / "checkpoints").glob(".*"))


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(("call", "folder"), [("save", "checkpoints"), ("save_grid", "grids")])
def test_a_folder_that_vanishes_stops_the_run(fails, tmp_path, at_step, call, folder):
    def vanish(run: Run, writer: BackgroundWriter) -> None:
        writer.drain()  # rmtree fails where a file comes or goes meanwhile
        shutil.rmtree(run.folder / folder)

    at_step(call, 6, vanish)
    options = ["--checkpoint-every", 3, "--grid-every", 3, "--steps", 10**6]
    line = fails(*PHANTOM, *options, "--out", tmp_path)
    assert f"cannot write {only_run(tmp_path) / folder}/" in line
    assert "choose another folder" in line


def test_a_failure_is_noticed_at_the_next_step(fails, tmp_path, at_step, monkeypatch):
    """Not only when there is something to write again, here after six seconds."""
    steps = []
    monkeypatch.setattr(RunLog, "advance", steps.append)
    at_step("save_grid", 0, lambda run, _: shutil.rmtree(run.folder / "grids"))
    seldom = [f"--{name}-every={10**7}" for name in ("log", "grid", "checkpoint")]
    line = fails(*PHANTOM, *seldom, "--max-minutes", 0.1, "--steps", 10**6, "--out", tmp_path)
    assert "grid-000000.png" in line
    assert len(steps) < 100


def test_a_failure_of_the_last_write_is_no_success(fails, tmp_path, at_step):
    at_step("save", 2, lambda run, _: shutil.rmtree(run.folder / "checkpoints"))
    assert "cannot write" in fails(*PHANTOM, "--steps", 2, "--out", tmp_path)


def test_a_defect_in_the_other_thread_is_not_swallowed(train, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "save_generator", lambda *arguments, **options: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        train(*PHANTOM, "--checkpoint-every", 2, "--steps", 10**6, "--out", tmp_path)


# --------------------------------------------------------------------------- what is not finite


def test_broken_weights_are_not_saved(fails, tmp_path, at_step):
    at_step("save", 6, poison)
    line = fails(*PHANTOM, "--checkpoint-every", 3, "--steps", 9, "--out", tmp_path)
    folder = only_run(tmp_path)
    assert line.startswith("error: step 6: weights of the generator is not finite; ")
    assert f"the last good checkpoint is {checkpoint_path(folder, 3)};" in line
    assert saved_steps(folder) == [3]
    assert load_generator(folder / "generator.safetensors").step == 3
    assert not checkpoint.generator_path(folder, 6).exists()


def test_no_grid_is_saved_of_broken_weights(fails, tmp_path, at_step):
    at_step("save_grid", 2, poison)
    line = fails(*PHANTOM, "--grid-every", 2, "--steps", 9, "--out", tmp_path)
    folder = only_run(tmp_path)
    assert "not finite; there is no checkpoint yet" in line
    assert [path.name for path in (folder / "grids").iterdir()] == ["grid-000000.png"]


def test_the_last_good_checkpoint_may_still_be_on_its_way(fails, tmp_path, at_step, monkeypatch):
    save = torch.save
    noticed = threading.Event()

    def slow(*arguments: object) -> None:
        assert noticed.wait(SECONDS)
        time.sleep(0.2)  # so that what does not wait comes too early
        save(*arguments)

    def break_it(run: Run, writer: BackgroundWriter) -> None:
        poison(run, writer)
        noticed.set()

    monkeypatch.setattr(torch, "save", slow)
    at_step("check_finite", 4, break_it)
    options = ["--checkpoint-every", 3, "--log-every", 4, "--steps", 9]
    line = fails(*PHANTOM, *options, "--out", tmp_path)
    good = checkpoint_path(only_run(tmp_path), 3)
    assert line.startswith("error: step 4: weights of the generator")
    assert f"the last good checkpoint is {good};" in line
    assert good.exists()


# ---------------------------------------------------------------------------------- interruptions

# The program with a disk that stops in the middle of the checkpoint of step 20. It tells so by a
# file. Then it waits for another one ("wait"), or kills the program five steps later ("die"), or
# writes slowly ("crawl").
STALLED = """
import os, signal, sys, time
from pathlib import Path
from cxrgan_fast import train
from cxrgan_fast.command import run_command
from cxrgan_fast.runs import checkpoint
from cxrgan_fast.training import signals
from cxrgan_fast.runs.logs import RunLog

signs, mode = Path(sys.argv.pop(1)), sys.argv.pop(1)
steps, write, advance = [], checkpoint.write_atomic, RunLog.advance

class Crawling:
    def write(self, data):
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass
        return len(data)

    def flush(self):
        pass

def counting(log):
    advance(log)
    steps.append(1)

def stalling(path, content):
    def slowly(file):
        file.write(bytes(1000))
        file.flush()
        (signs / "stalled").touch()
        since = len(steps)
        while not (signs / "go").exists():
            if mode == "crawl":
                content(Crawling())
            time.sleep(0.01)
            if mode == "die" and len(steps) > since + 5:
                os.kill(os.getpid(), signal.SIGKILL)
        file.seek(0)
        file.truncate()
        content(file)

    write(path, slowly if path.name == "step-00000020.pt" else content)

RunLog.advance, checkpoint.write_atomic = counting, stalling
signals.AGAIN_SECONDS = 0.3  # instead of ten
sys.exit(run_command(train.main))
"""


@pytest.fixture
def stalled(tmp_path):
    """Start that program and wait until its disk stalls: (process, run folder)."""
    processes = []

    def start(*arguments: object, mode: str = "wait") -> tuple[subprocess.Popen, Path]:
        signs, out = tmp_path / "signs", tmp_path / "stalled"
        signs.mkdir()
        options = [signs, mode, *PHANTOM, *arguments, "--out", out]
        process = subprocess.Popen(
            [sys.executable, "-c", STALLED, *map(str, options)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        wait_until(lambda: (signs / "stalled").exists() or process.poll() is not None)
        return process, only_run(out)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


LONG = ["--checkpoint-every", 10, "--steps", 10**6]


@pytest.mark.long
def test_kill_9_during_a_write_goes_on_to_the_same_bits(train, tmp_path, stalled):
    options = ["--checkpoint-every", 10, "--log-every", 5, "--steps", 40]
    process, folder = stalled(*options, mode="die")
    process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGKILL
    assert saved_steps(folder) == [10]
    half = [path for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")]
    assert len(half) == 1
    code, out, err = train("--resume", folder)
    assert code == 0, err
    assert "passed over" not in out
    assert train(*PHANTOM, *options, "--out", tmp_path / "straight")[0] == 0
    straight = only_run(tmp_path / "straight")
    same_training(checkpoint_path(folder, 40), checkpoint_path(straight, 40))
    files = "generator.safetensors", "grids/grid-000040.png", "progress.gif"
    assert all((folder / f).read_bytes() == (straight / f).read_bytes() for f in files)
    assert not half[0].exists()  # replaced by the next write of that step


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_during_a_write_ends_when_all_is_written(tmp_path, stalled, number):
    process, folder = stalled(*LONG)
    process.send_signal(number)
    time.sleep(0.5)
    assert process.poll() is None  # it waits
    (tmp_path / "signs" / "go").touch()
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    *_, before_last, last = saved_steps(folder)
    assert before_last >= 20
    assert f"saved {checkpoint_path(folder, last)}" in out
    assert load_generator(folder / "generator.safetensors").step == last
    assert not list((folder / "checkpoints").glob(".*"))


@pytest.mark.long
@pytest.mark.parametrize("mode", ["wait", "crawl"])
def test_a_second_ctrl_c_does_not_wait_for_a_disk(train, stalled, mode):
    process, folder = stalled(*LONG, mode=mode)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert "saved" not in out
    assert saved_steps(folder) == [10]
    assert train("--resume", folder, "--steps", 21)[0] == 0
    assert saved_steps(folder)[-1] == 21

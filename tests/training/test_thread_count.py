"""The number of threads of a training: chosen, adapted to other work, recorded and kept."""

import functools
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.ops import use_backend
from cxrgan_fast.runs.checkpoint import checkpoint_path
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.threads import free_cores
from cxrgan_fast.training import loop, thread_count
from cxrgan_fast.training.thread_count import StepThreads, choose_threads

CPU = torch.device("cpu")
PHANTOM = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
           "--latent-size", "8", "--batch-size", "4", "--phantom-images", "12"]  # fmt: skip


class Machine:
    """Cores, other work on them, and a training on what is left.

    Threads that are more than the free cores wait for each other: they make a fifth of the images
    of one thread, as was measured on two cores shared with other work.
    """

    def __init__(self, cores: int, busy: int = 0) -> None:
        self.cores, self.busy = cores, busy
        self.now = self.processor = 0.0
        self.steps = 0
        self.probes = 0
        self.step_seconds = 0.5  # of one thread with a core to itself

    def cores_of(self, threads: int) -> float:
        """A fair scheduler's."""
        return min(1.0, self.cores / (threads + self.busy)) * threads

    def free(self, threads: int) -> float:
        self.probes += 1
        return self.cores_of(threads)

    def step(self) -> None:
        threads = torch.get_num_threads()
        starved = threads > 1 and self.cores_of(threads) < 0.85 * threads
        took = self.step_seconds * (5 if starved else 1 / threads)
        self.now += took
        self.processor += took * self.cores_of(threads)
        self.steps += 1

    def training(self, adapts: bool = True) -> StepThreads:
        return StepThreads(
            adapts, 32, self.cores, wall=lambda: self.now, processor=lambda: self.processor,
            free=self.free,
        )  # fmt: skip

    def run(self, training: StepThreads, seconds: float) -> list[str]:
        """Train for so long; what was said."""
        end, said = self.now + seconds, []
        while self.now < end:
            line = training.run(self.step)
            said += [line] if line else []
        return said


def choose(free: float = 2.0, recorded: int | None = None, **settings: object):
    probe = create_autospec(free_cores, return_value=free)
    return choose_threads(override(TrainConfig(), settings), CPU, 2, recorded, probe)


@pytest.fixture(autouse=True)
def _two_threads(set_threads: Callable[[int], None]) -> None:
    set_threads(2)


def test_a_quiet_machine_is_left_alone():
    machine = Machine(2)
    assert machine.run(machine.training(), 600) == []
    assert torch.get_num_threads() == 2
    assert machine.steps > 2300


def test_threads_follow_other_work_that_comes_and_goes():
    machine = Machine(2)
    training = machine.training()
    machine.run(training, 60)
    machine.busy = 1
    (line,) = machine.run(training, 60)
    assert re.match(
        r"threads: 1 instead of 2, which got 1\.\d cores; .* images/s became 64\.0", line
    )
    assert torch.get_num_threads() == 1
    before = machine.steps
    assert machine.run(training, 60) == []  # it does not try two again and again
    assert machine.steps - before > 115
    machine.busy = 0
    (line,) = machine.run(training, 60)
    assert "threads: 2 instead of 1, since cores are free again; 64.0 images/s became 128.0" in line
    assert torch.get_num_threads() == 2


def test_many_cores_lose_no_more_than_other_work_takes(set_threads):
    machine = Machine(8, busy=3)
    set_threads(8)
    training = machine.training()
    machine.run(training, 300)
    assert torch.get_num_threads() in (5, 6)


def test_a_change_that_does_not_help_is_taken_back_and_retried_ever_less_often(monkeypatch):
    """Two threads stay twice as fast here, whatever processor time they get."""
    machine = Machine(2, busy=1)
    monkeypatch.setattr(machine, "step", functools.partial(as_fast_as_threads, machine))
    training = machine.training()
    assert machine.run(training, 600) == []
    assert torch.get_num_threads() == 2
    assert machine.steps > 0.95 * 600 / 0.25


def as_fast_as_threads(machine: Machine) -> None:
    threads = torch.get_num_threads()
    took = 0.5 / threads
    machine.now += took
    machine.processor += took * machine.cores_of(threads)
    machine.steps += 1


def test_small_ops_that_leave_cores_alone_are_no_other_work(monkeypatch):
    """Little processor time alone changes nothing, and is not probed at every window."""
    machine = Machine(2)

    def step() -> None:
        assert torch.get_num_threads() == 2
        machine.now += 0.5
        machine.processor += 0.5
        machine.steps += 1

    monkeypatch.setattr(machine, "step", step)
    assert machine.run(machine.training(), 600) == []
    assert machine.probes <= 60


def test_what_processor_time_hides_is_seen_by_the_images(monkeypatch):
    """Another virtual machine's work: steps are slow, and the processor time says nothing of it."""
    machine = Machine(2)
    training = machine.training()
    machine.run(training, 20)
    machine.busy = 1
    monkeypatch.setattr(machine, "cores_of", float)
    slow = {1: 0.5, 2: 2.5}

    def step() -> None:
        took = slow[torch.get_num_threads()]
        machine.now += took
        machine.processor += took * torch.get_num_threads()

    monkeypatch.setattr(machine, "step", step)
    monkeypatch.setattr(machine, "free", lambda threads: 1.0)
    training._free = machine.free
    said = machine.run(training, 20)
    assert len(said) == 1
    assert "threads: 1 instead of 2" in said[0]


def test_a_fixed_number_is_kept_and_advice_is_given_once():
    machine = Machine(2, busy=1)
    (line,) = machine.run(machine.training(adapts=False), 600)
    assert "2 threads get 1.3 of them; --threads 1 may be faster" in line
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("free", "threads"), [(2.0, 2), (1.75, 2), (1.5, 1), (0.4, 1)])
def test_auto_begins_with_the_free_cores(free, threads):
    start = choose(free)
    assert (start.threads, start.adapts) == (threads, True)


def test_deterministic_runs_and_numbers_asked_for_never_adapt():
    for start in (choose(0.5, deterministic=True), choose(0.5, threads=2)):
        assert (start.threads, start.adapts) == (2, False)
    assert choose(threads=7).threads == 7


def test_a_resumed_run_keeps_what_is_recorded_unless_told_otherwise():
    for free in (0.3, 2.0):
        start = choose(free, recorded=5)
        assert (start.threads, start.adapts) == (5, False)
        assert "to the bit" in start.reason
    assert "computed with 2, so the weights will differ" in choose(recorded=2, threads=1).reason
    assert choose(recorded=1, threads=1, deterministic=True).threads == 1
    with pytest.raises(UserError, match=r"--threads 1: a deterministic run keeps .* which was 2"):
        choose(recorded=2, threads=1, deterministic=True)


def test_a_gpu_run_measures_nothing():
    probe = create_autospec(free_cores, side_effect=AssertionError)
    start = choose_threads(TrainConfig(), torch.device("cuda"), 2, None, probe)
    assert (start.threads, start.adapts) == (2, False)


def only_run(root: Path) -> Path:
    (run,) = root.iterdir()
    return run


@pytest.fixture
def counted(monkeypatch) -> Iterator[None]:
    """The number of threads is set and read, and the ops of this process still run on one.

    Several would wait for each other, on a machine with other work for minutes.
    """
    count = [torch.get_num_threads()]

    def set_number(number: int) -> None:
        # A writer's own number is its own.
        if threading.current_thread() is threading.main_thread():
            count[0] = number

    def number() -> int:
        return count[0]

    torch.set_num_threads(1)
    setting = create_autospec(torch.set_num_threads, side_effect=set_number)
    monkeypatch.setattr(torch, "set_num_threads", setting)
    monkeypatch.setattr(
        torch, "get_num_threads", create_autospec(torch.get_num_threads, side_effect=number)
    )
    with use_backend("reference"):  # the native ops would start as many as are counted
        yield


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("count", [2, 1])
def test_the_command_records_the_threads_and_a_resumed_run_says_them(
    train, tmp_path, counted, count
):
    torch.set_num_threads(3)
    options = [*PHANTOM, "--threads", count, "--steps", 2, "--log-every", 2, "--out", tmp_path]
    code, out, err = train(*options)
    assert code == 0, err
    assert f"threads: {count} (--threads)" in out
    assert torch.get_num_threads() == 3  # as it was before
    run = only_run(tmp_path)
    assert torch.load(checkpoint_path(run, 2), weights_only=True)["threads"] == count
    (row,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert row["threads"] == count
    code, out, err = train("--resume", run, "--threads", "auto", "--steps", 3)
    assert code == 0, err
    assert f"threads: {count} (as the checkpoint was computed, to go on to the bit)" in out
    assert torch.load(checkpoint_path(run, 3), weights_only=True)["threads"] == count
    other = 3 - count
    code, out, err = train("--resume", run, "--threads", other, "--steps", 4)
    assert code == 0, err
    assert f"threads: {other} (--threads; the checkpoint was computed with {count}" in out


@pytest.fixture
def simulated(monkeypatch, counted) -> Machine:
    """A machine whose time passes with each step of the command."""
    machine = Machine(2)

    def training(adapts: bool, images_per_step: int, most: int) -> StepThreads:
        threads = StepThreads(
            adapts, images_per_step, most, wall=lambda: machine.now,
            processor=lambda: machine.processor, free=machine.free,
        )  # fmt: skip
        run = threads.run
        monkeypatch.setattr(threads, "run", lambda step: run(lambda: (step(), machine.step())[0]))
        return threads

    def choose(*arguments: object) -> thread_count.Start:
        return choose_threads(*arguments, free=machine.free)

    monkeypatch.setattr(loop, "StepThreads", create_autospec(StepThreads, side_effect=training))
    monkeypatch.setattr(loop, "choose_threads", choose)
    return machine


@pytest.mark.long
@pytest.mark.parametrize("more", [[], ["--per-class"]])
def test_the_command_follows_other_work_up_and_down(train, tmp_path, simulated, more, monkeypatch):
    """It begins beside other work, and other work ends and comes again, with each of the GANs."""
    step, of_training = simulated.step, 60

    def step_beside_others() -> None:
        simulated.busy = int(not 15 <= (simulated.steps + 1) % of_training < 40)
        step()

    simulated.busy = 1
    monkeypatch.setattr(simulated, "step", step_beside_others)
    options = ["--steps", of_training, "--log-every", 5, "--out", tmp_path, *more]
    code, out, err = train(*PHANTOM, *options)
    assert code == 0, err
    trainings = 2 if more else 1
    assert (
        out.count("threads: 1 (other work takes the rest of 2 cores; adapted to it)") == trainings
    )
    assert err.count("threads: 2 instead of 1, since cores are free again") == trainings
    assert err.count("threads: 1 instead of 2, which got 1.") == trainings
    for folder in [only_run(tmp_path)] if not more else only_run(tmp_path).glob("*/"):
        if (folder / "metrics.jsonl").exists():
            rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
            counts = [row["threads"] for row in rows]
            assert (counts[0], max(counts), counts[-1]) == (1, 2, 1)
            state = torch.load(checkpoint_path(folder, of_training), weights_only=True)
            assert state["threads"] == 1


@pytest.mark.parametrize("threads", ["0", "-1", "100000"])
def test_a_number_that_cannot_be_is_refused(fails, tmp_path, threads):
    line = fails(*PHANTOM, "--threads", threads, "--out", tmp_path / "runs")
    assert f"--threads should be auto or a whole number from 1 to 1024, got {threads}" in line


def test_a_run_that_its_time_ends_says_how_far_it_came_and_has_logged(train, tmp_path):
    options = ["--steps", 10**6, "--max-minutes", 0.001, "--log-every", 10**5]
    code, out, err = train(*PHANTOM, *options, "--out", tmp_path)
    assert code == 0, err
    run = only_run(tmp_path)
    (row,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert row["images"] == 4 * row["step"]
    assert row["d_loss"] > 0
    assert f"at step {row['step']} of 1000000; --resume {run} goes on" in out
    assert "after 0.001 minutes (--max-minutes)" in out


@pytest.mark.long
def test_the_last_line_of_a_stopped_run_leaves_a_resumed_one_as_it_was(train, tmp_path):
    """The line at 3 is gone then, and that at 4 is of all four steps."""
    options = [*PHANTOM, "--log-every", 4]
    assert train(*options, "--steps", 8, "--out", tmp_path / "straight")[0] == 0
    assert train(*options, "--steps", 3, "--out", tmp_path / "parts")[0] == 0
    straight, parts = only_run(tmp_path / "straight"), only_run(tmp_path / "parts")
    assert len((parts / "metrics.jsonl").read_text().splitlines()) == 1
    assert train("--resume", parts, "--steps", 8)[0] == 0

    def measured(run: Path) -> list[dict]:
        rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        timed = ("seconds", "images_per_second", "peak_memory")
        return [{k: v for k, v in row.items() if k not in timed} for row in rows]

    assert measured(straight) == measured(parts)
    assert [row["step"] for row in measured(parts)] == [4, 8]

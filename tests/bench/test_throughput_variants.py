"""What a variant costs beside its time: steps with R1 in their places, memory, launches."""

from __future__ import annotations

import sys
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch

from bench import throughput_variants
from bench.throughput_variants import Running, count_launches
from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config import TrainConfig, override

CPU = torch.device("cpu")
CONFIG = override(TrainConfig(), {"r1_interval": 4})
MEGABYTE = 1 << 20


class Allocating:
    """A step that allocates a megabyte and, with R1, two more; it keeps half of one."""

    def __init__(self) -> None:
        self.kept = torch.zeros(MEGABYTE // 2, dtype=torch.uint8)
        self.steps = 0

    def __call__(self) -> None:
        megabytes = 3 if self.steps % 4 == 0 else 1
        torch.zeros(megabytes * MEGABYTE, dtype=torch.uint8)
        self.steps += 1


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch):
    """Start a variant of that name which is the given step."""
    build = create_autospec(throughput_variants.build)
    monkeypatch.setattr(throughput_variants, "build", build)

    def run(step: Any, name: str = "reference", config: TrainConfig = CONFIG) -> Running:
        build.side_effect = lambda *_: step()
        return Running.start(name, config, None, CPU)

    return run


def test_the_peak_is_of_a_step_with_r1_beside_what_is_kept(start) -> None:
    running = start(Allocating)
    for steps_before in range(4):  # wherever in the cycle it comes
        running.run(steps_before)
        costs = running.costs()
        assert costs["resident_mb"] == pytest.approx(MEGABYTE / 2 / 1e6, rel=0.1)
        assert costs["peak_mb"] == pytest.approx(3.5 * MEGABYTE / 1e6, rel=0.1)


def test_what_is_counted_is_a_step_without_r1(start) -> None:
    class Step(Allocating):
        def __call__(self) -> None:
            with_r1 = self.steps % 4 == 0
            super().__call__()
            if with_r1:
                torch.zeros(1)

    running = start(Step)
    without = running.costs()["dispatched_ops"]
    for steps_before in range(4):
        running.run(steps_before)
        assert running.costs()["dispatched_ops"] == without
        assert running.done == running.step.steps


def test_a_turn_is_so_many_steps_after_one_that_is_not_timed(start) -> None:
    running = start(Allocating)
    before = running.step.steps
    seconds, host = running.turn(8)
    assert running.step.steps == before + 9 == running.done
    assert seconds > 0
    assert host >= 0
    assert running.cycle == 4
    assert start(Allocating, config=override(CONFIG, {"r1_gamma": 0.0})).cycle == 1


def test_an_executor_that_runs_as_another_is_refused_with_its_reason(start, capsys) -> None:
    class FallsBack(Allocating):
        name = "graph"

        def __call__(self) -> None:  # as a failed capture does: at the first step
            if self.name == "graph":
                said = "executor: this cannot be captured (a; b); it runs op by op"
                print("AUTOTUNE mm(8x8, 8x8)", said, sep="\n", file=sys.stderr)
                self.name = "eager"

    with pytest.raises(UserError, match=r"^this cannot be captured \(a; b\)$"):
        start(FallsBack, name="graph")
    assert capsys.readouterr().err == ""


def test_the_memory_of_graphs_counts_where_they_have_been_captured(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = [
        {"segment_pool_id": (0, 0), "total_size": 900, "allocated_size": 100},
        {"segment_pool_id": (0, 1), "total_size": 80, "allocated_size": 30},
    ]
    gpu = torch.device("cuda")

    def answers(module: Any, name: str, answer: Any) -> None:
        real = getattr(module, name)
        monkeypatch.setattr(module, name, create_autospec(real, side_effect=lambda *_: answer))

    answers(torch.cuda, "memory_snapshot", segments)
    answers(torch.cuda, "memory_allocated", 1000)
    answers(throughput_variants, "wait", None)
    answers(throughput_variants, "seconds_of", 0.1)
    answers(throughput_variants, "peak_bytes", 4000)

    class Captures(Allocating):
        def __init__(self) -> None:
            super().__init__()
            segments.append({"segment_pool_id": (0, 2), "total_size": 700, "allocated_size": 200})
            segments.append({"segment_pool_id": (0, 2), "total_size": 60, "allocated_size": 0})

    throughput_variants.build.side_effect = lambda *_: Captures()
    running = Running.start("eager_with_pool", CONFIG, None, gpu)
    assert running.pools == {(0, 2)}
    assert running._peak_of_a_step() == 4000 + 500 + 60


def test_launches_are_counted_on_the_device_and_on_the_host() -> None:
    kinds = torch.autograd.DeviceType

    def event(name: str, device: Any, annotation: bool = False) -> Any:
        made = create_autospec(torch.autograd._KinetoEvent, instance=True)
        made.name.return_value, made.device_type.return_value = name, device
        made.is_user_annotation.return_value = annotation
        return made

    events = [
        event("aten::add", kinds.CPU),
        event("cudaLaunchKernel", kinds.CPU),
        event("cuLaunchKernelEx", kinds.CPU),
        event("cudaGraphLaunch", kinds.CPU),
        event("cudaMemcpyAsync", kinds.CPU),
        event("cudaStreamSynchronize", kinds.CPU),
        event("add_kernel", kinds.CUDA),
        event("Memset (Device)", kinds.CUDA),
        event("Optimizer.step#Adam.step", kinds.CUDA, annotation=True),
    ]
    assert count_launches(events) == {"launches": 2, "host_launches": 4}

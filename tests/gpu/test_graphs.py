"""Steps captured as CUDA graphs: a replay gives what a call gives, to the bit."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch

from cxrgan_fast.ops import discriminator_loss, generator_loss
from cxrgan_fast.ops.adversarial_loss import LOSS_KINDS
from op_cases import CASES, DTYPES, LAYOUTS, Shape, Tensors, batch_norm_case

SHAPES = [(5, 3, 100, 70), (64, 512, 4, 4)]


def captured(function: Callable[[], Tensors]) -> tuple[torch.cuda.CUDAGraph, Tensors]:
    """A graph of a call, warmed up as PyTorch asks for, and what it computes into."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph, results


def assert_same_bits(got: Tensors, expected: Tensors) -> None:
    assert got.keys() == expected.keys()
    for name, value in got.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_replay_is_a_call(
    device: str, shape: Shape, dtype: torch.dtype, layout: str, op: str
) -> None:
    case = CASES[op](shape, dtype=dtype, layout=layout, device=device)
    graph, results = captured(case.results)
    for number in range(3):  # on other images each time
        for image in (case.variables["input"], case.grad):
            image.copy_(torch.randn(image.shape) + number)
        for each in results.values():
            each.fill_(torch.nan)
        graph.replay()
        assert_same_bits(results, case.results())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_running_statistics_go_on_from_replay_to_replay(
    device: str, shape: Shape, layout: str
) -> None:
    case = batch_norm_case(shape, layout=layout, device=device)
    state = {name: each.clone() for name, each in case.state.items()}
    graph, _ = captured(lambda: {"output": case.call(case.variables, state)})
    for name, each in case.state.items():  # warming up has moved them
        state[name].copy_(each)
    for _ in range(4):
        graph.replay()
        case.call(case.variables, case.state)
    assert_same_bits(state, case.state)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", LOSS_KINDS)
@pytest.mark.parametrize("count", [64, 57600])
def test_replayed_losses(device: str, count: int, kind: str, dtype: torch.dtype) -> None:
    real, fake = torch.randn(2, count).to(device, dtype).unbind()
    real.requires_grad_()
    fake.requires_grad_()

    def losses() -> Tensors:
        d, g = discriminator_loss(real, fake, kind=kind), generator_loss(fake, kind=kind)
        of_real, of_fake = torch.autograd.grad(d, (real, fake))
        (of_generator,) = torch.autograd.grad(g, fake)
        results = {"d": d, "g": g, "real": of_real, "fake": of_fake, "generator": of_generator}
        return {name: each.detach() for name, each in results.items()}

    graph, results = captured(losses)
    for number in range(3):
        with torch.no_grad():
            real.copy_(torch.randn(count) + number)
            fake.copy_(torch.randn(count) - number)
        graph.replay()
        assert_same_bits(results, losses())


def allocated_outside(pool: tuple[int, int]) -> int:
    """Bytes in use of PyTorch's memory that are not in a graph's pool."""
    return sum(
        segment["allocated_size"]
        for segment in torch.cuda.memory_snapshot()
        if tuple(segment["segment_pool_id"]) != tuple(pool)
    )


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_captured_step_takes_memory_from_its_pool_alone(
    device: str, layout: str, op: str
) -> None:
    case = CASES[op]((64, 512, 4, 4), layout=layout, device=device)
    pool = torch.cuda.graph_pool_handle()
    for _ in range(3):
        case.results()
    # While any graph lives PyTorch 2.11 keeps two small tensors of its own, its random generator's,
    # outside of all pools: here they are there before.
    kept = torch.cuda.CUDAGraph()
    with torch.cuda.graph(kept):
        torch.zeros(1, device=device)
    gc.collect()  # as the next capture does, too late for what is read here
    before = allocated_outside(pool)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        results = case.results()
    assert allocated_outside(pool) == before  # and what launchers took themselves would fail
    graph.replay()
    assert allocated_outside(pool) == before
    assert all(each.isfinite().all() for each in results.values())

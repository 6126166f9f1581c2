"""Launches go to the current stream of the tensors' device, and the host does not wait for them."""

from __future__ import annotations

import pytest
import torch

from cxrgan_fast.ops import discriminator_loss
from op_cases import CASES, LAYOUTS, Tensors

LONG = 200_000_000
"""Cycles, about 0.1 s."""


def assert_same_bits(got: Tensors, expected: Tensors) -> None:
    for name, value in got.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_side_stream_is_waited_for(device: str, layout: str, op: str) -> None:
    """What is on the default stream instead reads the images before they are there."""
    case = CASES[op]((8, 24, 16, 15), layout=layout, device=device)
    expected = case.results()
    there = {name: each.clone() for name, each in case.variables.items()}
    for each in case.variables.values():
        each.fill_(torch.nan)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(LONG)
        for name, each in case.variables.items():
            each.copy_(there[name])
        got = case.results()
    stream.synchronize()
    assert_same_bits(got, expected)


def test_a_loss_waits_for_a_side_stream(device: str) -> None:
    there = torch.randn(2, 640).to(device)
    logits = torch.full_like(there, torch.nan)
    expected = discriminator_loss(*there)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(LONG)
        logits.copy_(there)
        got = discriminator_loss(*logits)
    stream.synchronize()
    assert torch.equal(got, expected)


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_host_does_not_wait(device: str, layout: str, op: str) -> None:
    case = CASES[op]((8, 24, 16, 15), layout=layout, device=device)
    case.results()
    case.results()
    torch.cuda.synchronize()
    before = torch.cuda.Event()
    torch.cuda.set_sync_debug_mode("error")  # what PyTorch itself would wait for
    try:
        torch.cuda._sleep(LONG)
        before.record()
        case.results()
        still_busy = not before.query()  # and what a launcher would
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert still_busy


@pytest.mark.parametrize("op", CASES)
def test_tensors_on_a_device_that_is_not_the_current_one(device: str, op: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU only")
    case = CASES[op]((8, 24, 16, 15), device="cuda:1")
    with torch.cuda.device(1):
        expected = case.results()
    with torch.cuda.device(0):
        got = case.results()
        assert torch.cuda.current_device() == 0
    assert got["output"].device == torch.device("cuda:1")
    assert_same_bits(got, expected)

"""Copies of a state: equal, apart from their source, and in form what was copied."""

import io
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor

from cxrgan_fast.training.host_copy import copy_to_host

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    ),
]


def tensors_in(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [t for item in items for t in tensors_in(item)] if is_nest(value) else []


def is_nest(value: object) -> bool:
    return isinstance(value, dict | list | tuple)


@pytest.fixture(params=DEVICES)
def device(request) -> str:
    return request.param


@pytest.fixture
def state(device) -> dict:
    image = torch.randn(2, 3, 4, 5, device=device).to(memory_format=torch.channels_last)
    return {
        "nested": {"list": [torch.arange(3, device=device), 1], "tuple": (image, None, "a", 0.5)},
        "half": torch.randn(7, device=device).to(torch.bfloat16),
        "scalar": torch.tensor(3.0, device=device),
        "empty": torch.empty(0, 4, device=device),
        "transposed": torch.randn(3, 4, device=device).t(),
        "part": torch.randn(100, device=device)[10:12],
        "parameter": torch.nn.Parameter(torch.randn(2, device=device)),
        "bool": torch.tensor([True, False], device=device),
        "host": torch.randn(4),  # beside a GPU's, as a generator's state is
        "betas": (0.5, 0.99),
        "flag": True,
    }


def test_a_copy_is_equal_in_values_dtypes_layouts_and_form(state):
    copied = copy_to_host(state).wait()
    assert copied.keys() == state.keys()
    assert copied["nested"]["list"][1] == 1
    assert copied["nested"]["tuple"][1:] == (None, "a", 0.5)
    assert (copied["betas"], copied["flag"]) == ((0.5, 0.99), True)
    pairs = list(zip(tensors_in(copied), tensors_in(state), strict=True))
    assert len(pairs) == 10
    for copy, source in pairs:
        assert copy.device.type == "cpu"
        assert copy.dtype == source.dtype
        assert copy.stride() == source.stride()
        assert torch.equal(copy, source.detach().cpu())
        assert not copy.requires_grad


def test_what_is_done_to_the_source_next_is_not_in_the_copy(state, device):
    sources = tensors_in(state)
    before = [source.detach().cpu().clone() for source in sources]
    if device == "cuda":  # so much to do that the copy cannot be done before the source changes
        busy = torch.randn(4096, 4096, device=device)
        for _ in range(20):
            busy = busy @ busy
    copy = copy_to_host(state)
    with torch.no_grad():
        for source in sources:
            source.zero_()
    state["nested"]["list"].append("more")
    copied = copy.wait()
    assert len(copied["nested"]["list"]) == 2
    for value, expected in zip(tensors_in(copied), before, strict=True):
        assert torch.equal(value, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_caller_does_not_wait_for_the_gpu():
    weights = torch.ones(1000, 1000, device="cuda")
    copy_to_host([weights]).wait()  # pinned memory is there
    torch.cuda.synchronize()
    done = torch.cuda.Event()
    torch.cuda._sleep(2_000_000_000)  # cycles: about a second
    done.record()
    copy = copy_to_host([weights])
    assert not done.query()
    (copied,) = copy.wait()
    assert done.query()
    assert torch.equal(copied, torch.ones(1000, 1000))


def test_a_copy_owns_no_more_memory_than_it_shows():
    """torch.save writes all of a tensor's memory, also what is not shown of it."""
    (copied,) = copy_to_host([torch.randn(1000)[:2]]).wait()
    assert copied.untyped_storage().nbytes() == 8


def test_a_copied_state_is_saved_as_the_same_file():
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    module(torch.randn(3, 1, 4, 4)).sum().backward()
    optimizer.step()
    state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": 1}
    copied = copy_to_host(state).wait()
    assert type(copied["module"]) is OrderedDict
    assert copied["module"]._metadata == state["module"]._metadata
    files = io.BytesIO(), io.BytesIO()
    torch.save(state, files[0])
    torch.save(copied, files[1])
    assert files[0].getvalue() == files[1].getvalue()


@pytest.mark.parametrize("value", [np.zeros(2), {1, 2}, bytearray(b"a"), object()])
def test_what_could_change_meanwhile_is_refused(value):
    with pytest.raises(TypeError, match=f"plain values, got {type(value).__name__}"):
        copy_to_host({"nested": [value]})

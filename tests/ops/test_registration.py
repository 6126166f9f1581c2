"""The registered ops keep what PyTorch asks of them, and save no more than they must."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from op_cases import CASES, DTYPES, FUSED, LAYOUTS, Case, ConditionalBatchNormCase

pytestmark = pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)


class Recorder(TorchDispatchMode):
    """Keeps the calls of this package's registered ops: op and arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "cxrgan_fast":
            assert not kwargs
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


def recorded(case: Case) -> list[tuple[Any, tuple[Any, ...]]]:
    """The calls of a forward pass, its derivative and that one's derivative."""
    variables = {name: each.detach().requires_grad_() for name, each in case.variables.items()}
    state = {name: each.clone() for name, each in case.state.items()}
    grad = case.grad.clone().requires_grad_()
    with Recorder() as recorder:
        output = case.call(variables, state)
        first = torch.autograd.grad(output, list(variables.values()), grad, create_graph=True)
        torch.autograd.grad([each.sum() for each in first], grad)
    return recorder.calls


REGISTERED = {
    "conditional_batch_norm_act-training": {
        "conditional_batch_norm_act",
        "conditional_batch_norm_backward",
    },
    "conditional_batch_norm_act-evaluation": {
        "conditional_batch_norm_act",
        "conditional_batch_norm_backward",
    },
    "bias_leaky_relu": {"bias_leaky_relu", "bias_leaky_relu_backward", "bias_leaky_relu_gate"},
    "bias_leaky_relu-no_bias": {"bias_leaky_relu", "bias_leaky_relu_gate"},
}


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(backend: str, device: str, layout: str, op: str) -> None:
    calls = recorded(CASES[op]((3, 5, 4, 4), layout=layout, device=device))
    suffix = "_triton" if backend == "triton" else ""
    assert {func._opname for func, _ in calls} == {name + suffix for name in REGISTERED[op]}
    for func, args in calls:
        fresh = [each.detach().clone() if isinstance(each, Tensor) else each for each in args]
        for each, argument in zip(fresh, func._schema.arguments, strict=True):
            # The others are an op's own outputs, which go on to its derivative as constants.
            if argument.name in ("input", "weight", "bias", "grad") and each is not None:
                each.requires_grad_()
        torch.library.opcheck(func, tuple(fresh))


def saved_by(case: Case) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
    variables = {name: each.detach().requires_grad_() for name, each in case.variables.items()}
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    state = {name: each.clone() for name, each in case.state.items()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = case.call(variables, state)
    return variables, output, saved


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bias_leaky_relu_saves_its_output_alone(
    device: str, dtype: torch.dtype, layout: str
) -> None:
    case = CASES["bias_leaky_relu"]((2, 3, 4, 5), dtype=dtype, layout=layout, device=device)
    _, output, saved = saved_by(case)
    assert [each.data_ptr() for each in saved] == [output.data_ptr()]
    assert saved[0].shape == output.shape


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_conditional_batch_norm_saves_its_input_and_what_is_small(
    device: str, training: bool, dtype: torch.dtype, layout: str
) -> None:
    op = f"conditional_batch_norm_act-{'training' if training else 'evaluation'}"
    case = CASES[op]((4, 8, 16, 16), dtype=dtype, layout=layout, device=device)
    assert isinstance(case, ConditionalBatchNormCase)
    variables, output, saved = saved_by(case)
    input = variables["input"]
    large = [each for each in saved if each.numel() >= input.numel()]
    assert [each.data_ptr() for each in large] == [input.data_ptr()]
    # Beside x: the labels, γ, β, and a few rows of (C,) for the statistics.
    small = sum(each.nbytes for each in saved) - input.nbytes
    statistics = 4 * 4 * input.shape[1]
    parameters = sum(variables[name].nbytes for name in ("weight", "bias"))
    assert small <= case.labels.nbytes + parameters + statistics
    # What is saved is enough: the derivative is the same.
    gradients = torch.autograd.grad(output, list(variables.values()), case.grad)
    expected = case.results()
    for name, value in zip(variables, gradients, strict=True):
        assert torch.equal(value, expected[f"grad_{name}"]), name

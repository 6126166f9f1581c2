"""The fused image ops under autocast, without autograd, in inference mode and under torch.func."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from op_cases import CASES, DTYPES, LAYOUTS, Case, Tensors

every_op = pytest.mark.parametrize("op", CASES)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def call(case: Case, variables: Tensors) -> Tensors:
    """The output and what the call leaves of the state."""
    state = {name: each.clone() for name, each in case.state.items()}
    return {"output": case.call(variables, state), **state}


def assert_same(got: Tensors, expected: Tensors) -> None:
    for name, value in got.items():
        assert torch.equal(value, expected[name]), name


@every_op
@every_layout
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_changes_nothing(
    device: str, autocast: torch.dtype, dtype: torch.dtype, layout: str, op: str
) -> None:
    """Low-precision images and float32 parameters go in; the image dtype comes out."""
    case = CASES[op]((4, 12, 6, 7), dtype=dtype, layout=layout, device=device)
    expected = case.results()
    with torch.autocast(device, dtype=autocast):
        got = case.results()
    assert got["output"].dtype == dtype
    assert all(got[name].dtype == expected[name].dtype for name in got)
    assert_same(got, expected)


@every_op
@every_layout
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_autograd(
    device: str, mode: type, dtype: torch.dtype, layout: str, op: str
) -> None:
    case = CASES[op]((4, 12, 6, 7), dtype=dtype, layout=layout, device=device)
    expected = case.results()
    variables = {name: each.requires_grad_() for name, each in case.variables.items()}
    with mode():
        got = call(case, variables)
    assert not got["output"].requires_grad
    assert got["output"].is_inference() == (mode is torch.inference_mode)
    assert_same(got, expected)
    # The same tensors train afterwards.
    assert_same(case.results(), expected)


@pytest.mark.parametrize(
    ("op", "frozen"),
    [
        *itertools.product([op for op in CASES if "batch_norm" in op], ["input", "weight", "bias"]),
        *itertools.product(["bias_leaky_relu"], ["input", "bias"]),
    ],
)
def test_what_needs_no_gradient_gets_none(device: str, frozen: str, op: str) -> None:
    case = CASES[op]((4, 12, 6, 7), device=device)
    expected = case.results()
    variables = {name: each.requires_grad_(name != frozen) for name, each in case.variables.items()}
    learned = [name for name in variables if name != frozen]
    output = call(case, variables)["output"]
    gradients = torch.autograd.grad(output, [variables[name] for name in learned], case.grad)
    for name, gradient in zip(learned, gradients, strict=True):
        assert torch.equal(gradient, expected[f"grad_{name}"]), name
    assert variables[frozen].grad is None


@every_op
@every_layout
def test_functional_gradient_is_that_of_autograd(device: str, layout: str, op: str) -> None:
    case = CASES[op]((4, 12, 6, 7), layout=layout, device=device)

    def loss(variables: Tensors, state: Tensors) -> torch.Tensor:
        return (case.call(variables, state) * case.grad).sum()

    # What a function given to torch.func changes in place has to be an argument of it.
    state = {name: each.clone() for name, each in case.state.items()}
    gradients = torch.func.grad(loss)(case.variables, state)
    expected = case.results()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[f"grad_{name}"])


@every_op
def test_vmap_is_a_loop(device: str, op: str) -> None:
    """Over inputs, and over the gradients that come back, as for a Jacobian."""
    case = CASES[op]((2, 6, 3, 2), device=device)
    if op == "conditional_batch_norm_act-training":
        case.state = {}  # a running statistic is one tensor, which a batch of calls cannot update
    inputs = torch.stack([case.variables["input"], case.grad])  # (2, N, C, H, W)

    def function(input: torch.Tensor) -> torch.Tensor:
        return call(case, {**case.variables, "input": input})["output"]

    got = torch.func.vmap(function)(inputs)
    assert torch.equal(got, torch.stack([function(each) for each in inputs]))

    def gradient(grad: torch.Tensor) -> torch.Tensor:
        (result,) = torch.func.vjp(function, inputs[0])[1](grad)
        return result

    got = torch.func.vmap(gradient)(inputs)
    torch.testing.assert_close(got, torch.stack([gradient(each) for each in inputs]))


@every_op
def test_gradient_checkpointing(device: str, op: str) -> None:
    case = CASES[op]((4, 12, 6, 7), device=device)
    expected = case.results()

    def checkpointed(variables: Tensors, state: Tensors) -> torch.Tensor:
        def function(input: torch.Tensor) -> torch.Tensor:
            return call(case, {**variables, "input": input})["output"]

        return checkpoint(function, variables["input"], use_reentrant=False)

    got = case.results(function=checkpointed)
    for name in ("output", "grad_input"):
        assert torch.equal(got[name], expected[name]), name

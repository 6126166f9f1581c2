"""First and second derivatives of the fused image ops, on every backend."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cxrgan_fast.ops import use_backend
from op_cases import (
    CASES,
    DTYPES,
    LAYOUTS,
    REFERENCE,
    Case,
    Function,
    Tensors,
    relative_error,
)


# The definition takes float64, in which derivatives can be told from differences. The kernels are
# compared to the definition.
@pytest.mark.parametrize("target", REFERENCE, indirect=True, ids=str)
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_derivatives_of_the_definition(device: str, slope: float, op: str) -> None:
    case = CASES[op]((3, 2, 3, 2), device=device, slope=slope)
    z = replace(case, slope=1.0).truth()["output"]
    assert z.abs().min() > 1e-3  # the kink has no derivative
    variables = [each.double().requires_grad_() for each in case.variables.values()]

    def function(*variables: Tensor) -> Tensor:
        state = {name: each.double() for name, each in case.state.items()}
        return case.call(dict(zip(case.variables, variables, strict=True)), state)

    assert torch.autograd.gradcheck(function, variables)
    assert torch.autograd.gradgradcheck(function, variables)


def second_derivatives(
    case: Case, directions: Tensors, function: Function, dtype: torch.dtype | None = None
) -> Tensors:
    """The gradients of Σ direction·(first derivative), also by the gradient that came back."""
    variables = {
        name: each.detach().to(dtype or each.dtype).requires_grad_()
        for name, each in {**case.variables, "grad": case.grad}.items()
    }
    state = {name: each.to(dtype or each.dtype, copy=True) for name, each in case.state.items()}
    output = function({name: variables[name] for name in case.variables}, state)
    inputs = [variables[name] for name in directions]
    first = torch.autograd.grad(output, inputs, variables["grad"], create_graph=True)
    second = torch.autograd.grad(
        first,
        list(variables.values()),
        [directions[name].to(each.dtype) for name, each in zip(directions, first, strict=True)],
        materialize_grads=True,
    )
    return dict(zip(variables, second, strict=True))


@pytest.mark.parametrize(
    ("op", "of"),
    [
        *itertools.product(CASES, [("input", "weight", "bias"), ("input",)]),
        *((op, ("bias",)) for op in CASES if "no_bias" not in op),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_second_derivatives(
    device: str, of: tuple[str, ...], dtype: torch.dtype, layout: str, op: str
) -> None:
    case = CASES[op]((4, 8, 5, 5), dtype=dtype, layout=layout, device=device)
    directions = {
        name: torch.randn(each.shape).to(device, each.dtype)
        for name, each in case.variables.items()
        if name in of
    }
    got = second_derivatives(case, directions, case.call)
    eager = second_derivatives(case, directions, case.eager)
    with use_backend("reference"):
        truth = second_derivatives(case, directions, case.call, torch.float64)
    for name, value in got.items():
        assert value.dtype == (dtype if name in ("input", "grad") else torch.float32), name
        if not truth[name].any():
            assert not value.any(), name
            continue
        allowed = 2e-6
        if dtype != torch.float32:
            allowed = max(allowed, 1.1 * relative_error(eager[name], truth[name]))
        assert relative_error(value, truth[name]) < allowed, name

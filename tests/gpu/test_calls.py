"""Calls on a GPU: agreement of the backends, labels out of range, autocast, errors."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from cxrgan_fast.ops import (
    available_backends,
    bias_leaky_relu,
    conditional_batch_norm_act,
    use_backend,
)
from op_cases import (
    CASES,
    DTYPES,
    LAYOUTS,
    Shape,
    Tensors,
    batch_norm_case,
    relative_error,
)
from programs import run_program

SHAPES = [(64, 512, 4, 4), (5, 3, 100, 70), (33, 5, 1, 1)]
# Of tensors in a dtype: sums of float32 in another order, and now and then another rounding.
BOUNDS = {torch.float32: 5e-6, torch.bfloat16: 1e-3, torch.float16: 2e-4}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backends_agree(shape: Shape, dtype: torch.dtype, layout: str, op: str) -> None:
    backends = [name for name, status in available_backends().items() if "cuda" in status.runs_on]
    if len(backends) < 2:
        pytest.skip(f"only {backends} can run on this GPU")
    case = CASES[op](shape, dtype=dtype, layout=layout, device="cuda")
    results: dict[str, Tensors] = {}
    for backend in backends:
        with use_backend(backend):
            results[backend] = case.results()
    expected = results.pop("reference")
    for backend, got in results.items():
        for name, value in got.items():
            assert value.dtype == expected[name].dtype
            # Not by strides: those of an extent of 1 mean nothing, and differ.
            for each in LAYOUTS.values() if value.dim() == 4 else ():
                dense = [one.is_contiguous(memory_format=each) for one in (value, expected[name])]
                assert dense[0] == dense[1], f"{backend}: {name}, {each}"
            error = relative_error(value, expected[name])
            assert error <= BOUNDS[value.dtype], f"{backend}: {name} is {error} off"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(64, 512, 4, 4), (5, 3, 100, 70)], ids=str)
def test_a_label_out_of_range_spoils_its_own_sample_only(
    device: str, shape: Shape, dtype: torch.dtype, layout: str, training: bool
) -> None:
    case = batch_norm_case(
        shape, dtype=dtype, layout=layout, device=device, classes=3, training=training
    )
    # As if nothing came back to that sample: so it adds to the gradients of no class.
    grad = case.grad.clone()
    grad[2] = 0
    expected = replace(case, grad=grad).results()
    others = [sample for sample in range(shape[0]) if sample != 2]
    for label in (-1, 3, 2**40, -(2**63)):
        case.labels[2] = label
        got = case.results()
        assert got["output"][2].isnan().all()
        assert got["grad_input"][2].isnan().all()
        assert torch.equal(got["output"][others], expected["output"][others])
        for name in ("grad_input", "grad_weight", "grad_bias"):
            of = others if name == "grad_input" else slice(None)
            error = relative_error(got[name][of], expected[name][of])
            assert error <= BOUNDS[got[name].dtype], f"{name}, label {label}"
        for name in case.state:
            assert torch.equal(got[name], expected[name])
    torch.cuda.synchronize()  # no kernel has failed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_between_convolutions_under_autocast(
    device: str, backend: str, layout: str, dtype: torch.dtype
) -> None:
    """16-bit images come from a convolution, float32 parameters from a module."""
    # Without biases: the gradient of one in front of a batch norm is 0, but for rounding.
    convolutions = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(3))
    convolutions.to(device, memory_format=LAYOUTS[layout])
    image = torch.randn(8, 16, 12, 12, device=device).contiguous(memory_format=LAYOUTS[layout])
    labels = torch.arange(8, device=device) % 3
    parameters = torch.randn(2, 3, 16, device=device).unbind()
    bias = torch.randn(16, device=device)
    leaves = [each.detach().requires_grad_() for each in (*parameters, bias)]

    def step(name: str) -> list[torch.Tensor]:
        with use_backend(name), torch.autocast("cuda", dtype=dtype):
            h = conditional_batch_norm_act(convolutions[0](image), labels, *leaves[:2])
            assert h.dtype == dtype
            h = bias_leaky_relu(convolutions[1](h), leaves[2])
            assert h.dtype == dtype
            loss = convolutions[2](h).float().square().mean()
        return [loss, *torch.autograd.grad(loss, [*leaves, *convolutions.parameters()])]

    for got, expected in zip(step(backend), step("reference"), strict=True):
        assert got.dtype == torch.float32
        assert relative_error(got, expected) < 2e-2


FAIL = """
import os
import torch
from cxrgan_fast.ops import use_backend
from op_cases import CASES

case = CASES["{op}"]((4, 6, 8, 7), device="cuda")
stream = torch.cuda.Stream()
with use_backend("native"), torch.no_grad(), torch.cuda.stream(stream):
    case.call(case.variables, case.state)
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin()
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        pass  # not while a stream is captured: from here on it takes no launch
    try:
        case.call(case.variables, case.state)
    except RuntimeError as error:
        print("error:", error, flush=True)
os._exit(0)  # with a capture left unfinished
"""


@pytest.mark.parametrize("op", ["conditional_batch_norm_act-training", "bias_leaky_relu"])
def test_a_launch_that_fails_names_the_op_and_the_shape(backend: str, op: str) -> None:
    if backend != "native":
        pytest.skip("the errors of Triton's launches are Triton's own")
    output = run_program(FAIL.format(op=op))
    assert "error:" in output
    assert op.partition("-")[0] in output
    assert re.search(r"\b4\D+6\D+(8\D+7|56)\b", output), output

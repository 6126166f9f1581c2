"""The steps of conditional_batch_norm_act, on every backend: processes share a batch by them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cxrgan_fast.ops import conditional_batch_norm_steps as steps
from op_cases import (
    DTYPES,
    FUSED,
    LAYOUTS,
    TARGETS,
    ConditionalBatchNormCase,
    Target,
    batch_norm_case,
    relative_error,
)

EPS, SLOPE = 1e-5, 0.2
SHAPES = [(6, 24, 9, 9), (6, 3, 40, 30), (6, 33, 1, 1)]
on_every_backend = pytest.mark.parametrize("target", TARGETS, indirect=True, ids=str)
on_kernels = pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)


def given(case: ConditionalBatchNormCase) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    names = case.variables
    return names["input"], case.labels, names["weight"], names["bias"]


def merged(parts: list[Tensor], counts: list[int]) -> Tensor:
    """Statistics of all processes, (3, C), in the order of ranks (Chan, Golub & LeVeque 1979)."""
    total, mean, square = 0, torch.zeros(()), torch.zeros(())
    for count, (part_mean, part_var, _) in zip(counts, parts, strict=True):
        part = part_mean.double()
        share = count / (total + count)
        square = square + count * part_var.double() + (part - mean) ** 2 * total * share
        mean = mean + (part - mean) * share
        total += count
    var = square / total
    return torch.stack((mean, var, (var + EPS).rsqrt())).float()


def shared(case: ConditionalBatchNormCase, sizes: list[int]) -> dict[str, Tensor]:
    """What processes with so many samples each compute of a batch, between them."""
    image, labels, weight, bias = given(case)
    pixels = image.shape[2] * image.shape[3]
    parts = list(zip(*(each.split(sizes) for each in (case.grad, image, labels)), strict=True))
    counts = [size * pixels for size in sizes]
    statistics = merged([steps.statistics(x, EPS) for _, x, _ in parts], counts)
    output = [steps.apply(x, k, weight, bias, statistics, SLOPE) for _, x, k in parts]
    sums = [steps.backward_reduce(dy, x, k, weight, bias, statistics, SLOPE) for dy, x, k in parts]
    grad_weight, grad_bias = (sum(each[1:], each[0]) for each in zip(*sums, strict=True))
    grad_input = [
        steps.backward_apply(
            dy, x, k, weight, bias, statistics, grad_weight, grad_bias, sum(counts), SLOPE
        )
        for dy, x, k in parts
    ]
    return {
        "output": torch.cat(output),
        "grad_input": torch.cat(grad_input),
        "grad_weight": grad_weight,
        "grad_bias": grad_bias,
    }


@on_every_backend
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sizes", [[1], [2, 1], [1, 0, 2]], ids=str)
def test_processes_that_share_a_batch_have_the_whole_batch(
    device: str, sizes: list[int], shape: tuple[int, int, int, int], layout: str
) -> None:
    case = batch_norm_case(shape, layout=layout, device=device)
    sizes = [size * shape[0] // sum(sizes) for size in sizes]
    truth = case.truth()
    for name, value in shared(case, sizes).items():
        assert relative_error(value, truth[name]) < 1e-6, name


@on_every_backend
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_process_has_the_results_of_the_op(
    target: Target, device: str, dtype: torch.dtype, layout: str
) -> None:
    case = batch_norm_case((6, 24, 9, 9), dtype=dtype, layout=layout, device=device)
    expected = case.results()
    for name, value in shared(case, [6]).items():
        assert value.dtype == expected[name].dtype
        assert value.is_contiguous() == expected[name].is_contiguous(), name
        error = relative_error(value, expected[name])
        assert error < (1e-6 if dtype == torch.float32 else 1e-3), name


@on_every_backend
@pytest.mark.parametrize("layout", LAYOUTS)
def test_constant_statistics_have_no_correction(device: str, layout: str) -> None:
    case = batch_norm_case((4, 6, 5, 5), layout=layout, device=device, training=False)
    truth = case.truth()
    inputs = given(case)
    mean, var = case.state["running_mean"], case.state["running_var"]
    statistics = torch.stack((mean, var, (var + EPS).rsqrt()))
    sums = steps.backward_reduce(case.grad, *inputs, statistics, SLOPE)
    for name, value in zip(("weight", "bias"), sums, strict=True):
        assert relative_error(value, truth[f"grad_{name}"]) < 1e-6
    infinite = [torch.full_like(each, torch.inf) for each in sums]
    dx = steps.backward_apply(case.grad, *inputs, statistics, *infinite, 0, SLOPE)
    assert relative_error(dx, truth["grad_input"]) < 1e-6


@on_every_backend
def test_a_class_without_samples_has_no_part(device: str) -> None:
    case = batch_norm_case((4, 6, 5, 5), device=device, classes=2)
    image, labels, weight, bias = given(case)
    truth = case.truth()
    one = [torch.cat((each, torch.full_like(each[:1], torch.inf))) for each in (weight, bias)]
    statistics = steps.statistics(image, EPS)
    sums = steps.backward_reduce(case.grad, image, labels, *one, statistics, SLOPE)
    assert all(not each[2].any() for each in sums)
    dx = steps.backward_apply(case.grad, image, labels, *one, statistics, *sums, 100, SLOPE)
    assert relative_error(dx, truth["grad_input"]) < 1e-6


@on_every_backend
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4)], ids=str)
def test_of_no_values(device: str, shape: tuple[int, int, int, int]) -> None:
    image = torch.empty(shape, device=device)
    labels = torch.zeros(shape[0], dtype=torch.int64, device=device)
    weight, bias = torch.randn(2, 2, 3, device=device)
    statistics = steps.statistics(image, EPS)
    assert not statistics[:2].any()
    torch.testing.assert_close(statistics[2], torch.full_like(statistics[2], EPS**-0.5))
    inputs = image, labels, weight, bias, statistics
    assert steps.apply(*inputs, SLOPE).shape == shape
    sums = steps.backward_reduce(image, *inputs, SLOPE)
    assert not any(each.any() for each in sums)
    assert steps.backward_apply(image, *inputs, *sums, 7, SLOPE).shape == shape


def arguments(layout: str, device: str) -> dict[str, tuple[Any, ...]]:
    case = batch_norm_case((3, 5, 4, 4), layout=layout, device=device)
    inputs = *given(case), steps.statistics(case.variables["input"], EPS)
    sums = steps.backward_reduce(case.grad, *inputs, SLOPE)
    return {
        "statistics": (inputs[0], EPS),
        "apply": (*inputs, SLOPE),
        "backward_reduce": (case.grad, *inputs, SLOPE),
        "backward_apply": (case.grad, *inputs, *sums, 48, SLOPE),
    }


@on_kernels
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(backend: str, device: str, layout: str) -> None:
    suffix = "_triton" if backend == "triton" else ""
    for step, inputs in arguments(layout, device).items():
        op = getattr(torch.ops.cxrgan_fast, f"conditional_batch_norm_{step}{suffix}")
        torch.library.opcheck(op.default, inputs)


@on_kernels
def test_compiled_whole(device: str) -> None:
    for step, inputs in arguments("channels_last", device).items():
        function = getattr(steps, step)
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*inputs), function(*inputs), rtol=0, atol=0)


@on_kernels
def test_a_step_has_no_derivative(device: str) -> None:
    """Rather than one that is silently missing."""
    for step, inputs in arguments("contiguous", device).items():
        image = inputs[0].clone().requires_grad_()
        result = getattr(steps, step)(image, *inputs[1:])
        of = result[0] if isinstance(result, tuple) else result
        with pytest.raises(RuntimeError, match=f"conditional_batch_norm_{step} is a step without"):
            of.sum().backward()


@on_every_backend
def test_what_does_not_fit_is_refused_by_name(device: str) -> None:
    for step, inputs in arguments("contiguous", device).items():
        function = getattr(steps, step)
        with pytest.raises(ValueError, match=r"(input|grad) must have shape"):
            function(inputs[0][0], *inputs[1:])
    with pytest.raises(ValueError, match=r"count must be at least 0, .* got -1"):
        function(*inputs[:-2], -1, SLOPE)

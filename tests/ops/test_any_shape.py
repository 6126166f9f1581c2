"""The fused image ops on shapes, strides, dtypes, labels and slopes that Hypothesis finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from op_cases import (
    DTYPES,
    BiasLeakyReluCase,
    Case,
    ConditionalBatchNormCase,
    Shape,
    batch_norm_case,
    bias_leaky_relu_case,
)
from properties import on_examples, on_few_examples

extents = st.integers(1, 9)
shapes = st.tuples(st.integers(0, 9), st.integers(1, 70), extents, extents)
slopes = st.sampled_from([0.0, 0.2, 1.0]) | st.floats(0, 2, width=32)
seeds = st.integers(0, 2**31)

# What an image may look like in memory, each with the values of the one given.
ARRANGEMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "cut": lambda x: torch.nn.functional.pad(x, (1, 2, 3, 0))[:, :, 3:, 1:-2],
    "every other channel": lambda x: torch.stack([x, x + 1], 2).flatten(1, 2)[:, ::2],
    "rows last": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "samples last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
}
arrangements = st.sampled_from(list(ARRANGEMENTS))


def arranged(case: Case, input: str, grad: str, expanded: bool) -> None:
    """Put the input and the gradient into memory as named; or one gradient for all elements."""
    case.variables["input"] = ARRANGEMENTS[input](case.variables["input"])
    case.grad = ARRANGEMENTS[grad](case.grad)
    if expanded and case.grad.numel():
        case.grad = case.grad.flatten()[:1].view(1, 1, 1, 1).expand(case.grad.shape)


def check(case: Case, scales: dict[str, Tensor]) -> None:
    """Compare to the definition in float64; scales are those of the terms of each result."""
    got, truth = case.results(), case.truth()
    dtype = case.variables["input"].dtype
    assert got["output"].dtype == got["grad_input"].dtype == dtype
    for name, value in got.items():
        error, size = (value.double() - truth[name]).norm(), truth[name].norm()
        rounding = torch.finfo(value.dtype).eps  # of the result; arithmetic is float32
        allowed = rounding * size + 2e-6 * scales.get(name, size)
        # Subnormal halves are rounded to multiples of their smallest.
        smallest = torch.finfo(value.dtype).smallest_normal * rounding * value.numel() ** 0.5
        assert error <= allowed + smallest, (name, error.item(), allowed.item())


BIAS_LEAKY_RELU = {
    "shape": shapes,
    "dtype": st.sampled_from(DTYPES),
    "slope": slopes,
    "input": arrangements,
    "grad": arrangements,
    "expanded": st.booleans(),
    "with_bias": st.booleans(),
    "seed": seeds,
}


@pytest.mark.filterwarnings("ignore:var_mean")  # of an empty batch, by the reference
def bias_leaky_relu_property(
    device: str,
    shape: Shape,
    dtype: torch.dtype,
    slope: float,
    input: str,
    grad: str,
    expanded: bool,
    with_bias: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    case: BiasLeakyReluCase = bias_leaky_relu_case(
        shape, dtype=dtype, slope=slope, with_bias=with_bias, device=device
    )
    arranged(case, input, grad, expanded and slope == 1)  # an expanded one would pass the kink
    # Where x and the bias cancel, the sum is as exact as they are.
    x, d = case.variables["input"].double(), case.grad.double()
    bias = case.variables["bias"].double()[:, None, None] if with_bias else torch.zeros(())
    scales = {"output": (x.abs() + bias.abs()).norm(), "grad_bias": d.abs().sum((0, 2, 3)).norm()}
    check(case, scales)


test_bias_leaky_relu = on_examples(BIAS_LEAKY_RELU, bias_leaky_relu_property)
test_bias_leaky_relu_on_few_examples = on_few_examples(BIAS_LEAKY_RELU, bias_leaky_relu_property)


CONDITIONAL_BATCH_NORM = {
    "shape": shapes,
    "dtype": st.sampled_from(DTYPES),
    "slope": slopes,
    "input": arrangements,
    "grad": arrangements,
    "expanded": st.booleans(),
    "classes": st.integers(0, 4),
    "training": st.booleans(),
    "seed": seeds,
}


@pytest.mark.filterwarnings("ignore:var_mean")
def conditional_batch_norm_act_property(
    device: str,
    shape: Shape,
    dtype: torch.dtype,
    slope: float,
    input: str,
    grad: str,
    expanded: bool,
    classes: int,
    training: bool,
    seed: int,
) -> None:
    samples, _, height, width = shape
    assume(not training or samples * height * width != 1)  # which is refused
    torch.manual_seed(seed)
    case: ConditionalBatchNormCase = batch_norm_case(
        shape,
        dtype=dtype,
        slope=slope,
        classes=classes,
        training=training,
        device=device,
        kink_margin=1e-2,
    )
    arranged(case, input, grad, expanded and slope == 1)
    check(case, batch_norm_scales(case))


test_conditional_batch_norm_act = on_examples(
    CONDITIONAL_BATCH_NORM, conditional_batch_norm_act_property
)
test_conditional_batch_norm_act_on_few_examples = on_few_examples(
    CONDITIONAL_BATCH_NORM, conditional_batch_norm_act_property
)


def batch_norm_scales(case: ConditionalBatchNormCase) -> dict[str, Tensor]:
    """Norms of the terms that each result is a sum of: terms may cancel, their errors do not.

    x̂ = (x−μ)·r is off by the rounding of x and μ times r, which is large where few values or
    nearly equal ones are normalised.
    """
    x, d = case.variables["input"].double(), case.grad.double()
    if not x.numel():
        return {}
    running_mean, running_var = (each.double() for each in case.state.values())
    mean, var = running_mean, running_var
    if case.training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    r = (var + 1e-5).rsqrt()  # (C,)
    x_hat = (x.abs() + mean.abs()[:, None, None]) * r[:, None, None]
    gamma, beta = (case.variables[name].double().abs() for name in ("weight", "bias"))  # (K, C)
    z = gamma[case.labels][:, :, None, None] * x_hat + beta[case.labels][:, :, None, None]
    d_norm = d.square().sum((0, 2, 3)).sqrt()
    return {
        "output": z.norm(),
        "grad_input": (gamma.amax(0) * r * d_norm * (1 + x_hat.amax((0, 2, 3)))).norm(),
        "grad_weight": (d.abs() * x_hat).sum((0, 2, 3)).norm(),
        "grad_bias": d.abs().sum((0, 2, 3)).norm(),
        "running_mean": (x.abs().mean((0, 2, 3)) + running_mean.abs()).norm(),
        "running_var": (x.square().mean((0, 2, 3)) + running_var).norm(),
    }

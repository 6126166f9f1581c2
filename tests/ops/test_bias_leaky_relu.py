"""What is particular to bias_leaky_relu: its bias, its rounding, its slopes, refusals.

Values and derivatives on every shape, dtype and layout are tested with those of the other ops.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast.ops import bias_leaky_relu
from op_cases import DTYPES, LAYOUTS, bias_leaky_relu_case, relative_error


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_bias_it_is_leaky_relu_to_the_bit(
    device: str, dtype: torch.dtype, layout: str
) -> None:
    case = bias_leaky_relu_case(
        (2, 30, 7, 5), dtype=dtype, layout=layout, device=device, with_bias=False
    )
    got, eager = case.results(), case.results(function=case.eager)
    for name, value in got.items():
        assert torch.equal(value, eager[name]), name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_sum_is_rounded_once(device: str, dtype: torch.dtype, layout: str) -> None:
    case = bias_leaky_relu_case((2, 30, 7, 5), dtype=dtype, layout=layout, device=device)
    got, truth = case.results(), case.truth()
    for name in ("output", "grad_input"):
        rounding = relative_error(truth[name].to(dtype), truth[name])
        assert relative_error(got[name], truth[name]) < 1.001 * rounding, name
    assert relative_error(got["grad_bias"], truth["grad_bias"]) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_bias_of_the_image_dtype(device: str, dtype: torch.dtype) -> None:
    x, bias = torch.randn(2, 3, 4, 4).to(device, dtype), torch.randn(3).to(device, dtype)
    short, long = bias.requires_grad_(), bias.detach().float().requires_grad_()
    outputs = bias_leaky_relu(x, short), bias_leaky_relu(x, long)
    assert torch.equal(*outputs)
    gradients = [
        torch.autograd.grad(output.sum(), each)[0]
        for output, each in zip(outputs, (short, long), strict=True)
    ]
    assert gradients[0].dtype == dtype
    assert torch.equal(gradients[0], gradients[1].to(dtype))


def test_a_bias_may_be_strided(device: str) -> None:
    x, bias = torch.randn(2, 3, 4, 4).to(device), torch.randn(3, 2).to(device)
    assert torch.equal(bias_leaky_relu(x, bias[:, 1]), bias_leaky_relu(x, bias[:, 1].contiguous()))


@pytest.mark.filterwarnings("ignore:var_mean")
@pytest.mark.parametrize("shape", [(0, 3, 5, 5), (2, 3, 0, 5), (2, 3, 5, 0), (2, 0, 4, 4)], ids=str)
def test_no_values(device: str, shape: tuple[int, int, int, int]) -> None:
    got = bias_leaky_relu_case(shape, device=device).results()
    assert got["output"].shape == got["grad_input"].shape == shape
    assert got["grad_bias"].shape == shape[1:2]
    assert not got["grad_bias"].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slope_zero_is_relu(device: str, layout: str) -> None:
    """Where y is 0 its sign says nothing of z's: the gradient has to be 0 all the same."""
    case = bias_leaky_relu_case((2, 30, 7, 5), layout=layout, device=device, slope=0.0)
    got = case.results()
    z = case.variables["input"] + case.variables["bias"][:, None, None]
    assert torch.equal(got["output"], F.relu(z))
    assert torch.equal(got["grad_input"], case.grad * (z > 0))


def test_zero_takes_the_slope(device: str) -> None:
    """At the kink, as F.leaky_relu does: y = z if z > 0 else slope·z."""
    x = torch.tensor([0.0, -0.0]).view(1, 1, 1, 2).to(device).requires_grad_()
    (gradient,) = torch.autograd.grad(bias_leaky_relu(x).sum(), x)
    assert gradient.flatten().tolist() == pytest.approx([0.2, 0.2])


IMAGE = torch.zeros(1, 3, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0],), TypeError, "input must be a Tensor, got list"),
        ((IMAGE.long(),), TypeError, "input must be float32.*int64"),
        ((IMAGE[0],), ValueError, r"input must have shape \(N, C, H, W\).*\(3, 2, 2\)"),
        ((IMAGE, torch.zeros(2)), ValueError, r"bias must have shape \(3,\), got \(2,\)"),
        ((IMAGE, torch.zeros(1, 3)), ValueError, r"bias must have shape \(3,\), got \(1, 3\)"),
        ((IMAGE, torch.zeros(3).double()), TypeError, "bias must be float32, got float64"),
        ((IMAGE, torch.zeros(3, device="meta")), ValueError, "bias must be on .* got meta"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    device: str, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    moved = [
        each.to(device) if isinstance(each, Tensor) and each.device.type != "meta" else each
        for each in arguments
    ]
    with pytest.raises(error, match=message):
        bias_leaky_relu(*moved)


@pytest.mark.parametrize("slope", [-0.1, float("nan")])
def test_slope_that_would_hide_the_sign_is_refused(device: str, slope: float) -> None:
    with pytest.raises(ValueError, match="negative_slope must be at least 0"):
        bias_leaky_relu(IMAGE.to(device), negative_slope=slope)

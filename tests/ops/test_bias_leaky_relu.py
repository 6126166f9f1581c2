"""What is particular to bias_leaky_relu: its bias, rounding, slopes, gain and shapes, refusals.

Values and derivatives on every shape, dtype and layout are tested with those of the other ops.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast.ops import bias_leaky_relu, use_backend
from op_cases import (
    DTYPES,
    FUSED,
    LAYOUTS,
    REFERENCE,
    Target,
    bias_leaky_relu_case,
    relative_error,
)


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
        ((IMAGE[0, 0, 0],), ValueError, r"input must have shape \(N, C\) or.*got \(2,\)"),
        ((IMAGE[0, 0, 0, 0],), ValueError, r"input must have shape \(N, C\) or.*got \(\)"),
        ((IMAGE[0], torch.zeros(3)), ValueError, r"bias must have shape \(2,\), got \(3,\)"),
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


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf")])
def test_gain_that_would_hide_the_sign_is_refused(device: str, gain: float) -> None:
    with pytest.raises(ValueError, match="gain must be a finite number above 0"):
        bias_leaky_relu(IMAGE.to(device), gain=gain)


# --- The gain -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [2**0.5, 0.3])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gain(device: str, dtype: torch.dtype, layout: str, with_bias: bool, gain: float) -> None:
    case = bias_leaky_relu_case(
        (2, 30, 7, 5), dtype=dtype, layout=layout, device=device, with_bias=with_bias
    )
    case = replace(case, gain=gain)
    got, truth = case.results(), case.truth()
    for name, value in got.items():
        allowed = 1e-6
        if value.dtype != torch.float32:
            allowed = 1.01 * relative_error(truth[name].to(dtype), truth[name])
        assert relative_error(value, truth[name]) < allowed, name


@pytest.mark.parametrize("target", REFERENCE, indirect=True, ids=str)
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (2, 3, 2, 2), (2, 3, 2, 1, 2)], ids=str)
def test_derivatives_of_the_definition(device: str, shape: tuple[int, ...]) -> None:
    x, bias = torch.randn(shape).to(device).double(), torch.randn(3).to(device).double()
    assert (x + bias.reshape(-1, *[1] * (len(shape) - 2))).abs().min() > 1e-3  # the kink
    variables = x.requires_grad_(), bias.requires_grad_()

    def function(x: Tensor, bias: Tensor) -> Tensor:
        return bias_leaky_relu(x, bias, gain=1.7)

    assert torch.autograd.gradcheck(function, variables)
    assert torch.autograd.gradgradcheck(function, variables)


def derivatives(x: Tensor, bias: Tensor, grad: Tensor) -> list[Tensor]:
    """Output, first and second derivatives, in the dtype of ``x``."""
    x, bias, grad = (each.to(x.dtype).detach().requires_grad_() for each in (x, bias, grad))
    y = bias_leaky_relu(x, bias, gain=1.7)
    first = torch.autograd.grad(y, (x, bias), grad, create_graph=True)
    second = torch.autograd.grad(sum(each.square().sum() for each in first), grad)
    return [y, *first, *second]


@pytest.mark.parametrize("shape", [(40, 17), (6, 17, 9), (4, 17, 7, 5), (3, 17, 2, 5, 3)], ids=str)
def test_second_derivatives_with_gain(device: str, shape: tuple[int, ...]) -> None:
    arguments = torch.randn(shape).to(device), torch.randn(17).to(device), torch.randn(shape)
    x, bias, grad = arguments[0], arguments[1], arguments[2].to(device)
    z = x + bias.reshape(-1, *[1] * (len(shape) - 2))
    grad = grad.masked_fill(z.abs() < 1e-4, 0)
    with use_backend("reference"):
        truth = derivatives(x.double(), bias, grad)
    for value, exact in zip(derivatives(x, bias, grad), truth, strict=True):
        assert relative_error(value, exact) < 1e-6


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
def test_opcheck_with_gain(target: Target, device: str) -> None:
    suffix = "_triton" if target.backend == "triton" else ""
    x, bias = torch.randn(3, 5, 4, 4).to(device), torch.randn(5).to(device)
    for name, tensors in (
        ("bias_leaky_relu", (x, bias)),
        ("bias_leaky_relu_gate", (x, bias, -x)),
        ("bias_leaky_relu_backward", (x, -x)),
    ):
        fresh = [each.clone().requires_grad_() for each in tensors]
        if name != "bias_leaky_relu":
            fresh[-1].requires_grad_(
                False
            )  # an output, which goes on to a derivative as a constant
        torch.library.opcheck(
            getattr(torch.ops.cxrgan_fast, name + suffix).default, (*fresh, 0.2, 1.7)
        )


# --- Other shapes than images ---------------------------------------------------------------------

SHAPES = {
    "(N, C)": torch.randn(6, 5),
    "(N, C) with strides": torch.randn(5, 6).t(),
    "(N, C, L)": torch.randn(4, 5, 7),
    "(N, C, L), channels last": torch.randn(4, 7, 5).transpose(1, 2),
    "(N, C, D, H, W)": torch.randn(2, 5, 3, 4, 2),
    "channels_last_3d": torch.randn(2, 5, 3, 4, 2).contiguous(memory_format=torch.channels_last_3d),
    "with strides": torch.randn(2, 5, 3, 4, 4)[..., ::2],
    "(N, C, A, B, D, E)": torch.randn(2, 5, 3, 2, 2, 2),
    "nothing": torch.randn(0, 5, 3, 4, 2),
    "no pixels": torch.randn(2, 5, 0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_any_shape_is_as_that_of_images(device: str, name: str) -> None:
    x, bias = SHAPES[name].to(device), torch.randn(5).to(device)
    pixels = x.numel() // max(x.shape[0] * 5, 1)
    results = []
    for input in (x, x.reshape(x.shape[0], 5, pixels, 1)):
        variables = input.detach().requires_grad_(), bias.detach().requires_grad_()
        y = bias_leaky_relu(*variables)
        grads = torch.autograd.grad(y.square().sum(), variables)
        results.append((y.reshape(-1), grads[0].reshape(-1), grads[1]))
        assert y.shape == input.shape
        if "strides" not in name:
            assert y.stride() == input.stride()  # no copy of x, and none of y
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 7), (2, 5, 3, 4, 2)], ids=str)
def test_any_shape_compiles(device: str, shape: tuple[int, ...]) -> None:
    torch.compiler.reset()
    compiled = torch.compile(bias_leaky_relu, fullgraph=True, backend="aot_eager", dynamic=True)
    x, bias = torch.randn(shape).to(device), torch.randn(5).to(device)
    got = [each(x, bias, gain=1.7) for each in (compiled, bias_leaky_relu)]
    torch.testing.assert_close(*got)
    assert got[0].stride() == got[1].stride()

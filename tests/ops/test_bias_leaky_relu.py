"""bias_leaky_relu against its definition in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast.ops.bias_leaky_relu import bias_leaky_relu

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def relative_error(value: Tensor, truth: Tensor) -> float:
    return ((value.double() - truth).norm() / truth.norm()).item()


def inputs(dtype: torch.dtype, layout: torch.memory_format) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 7, 6).to(dtype).contiguous(memory_format=layout)
    return x.requires_grad_(), torch.randn(5, requires_grad=True), torch.randn(3, 5, 7, 6).to(dtype)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_and_gradients(dtype, layout, slope) -> None:
    x, bias, dy = inputs(dtype, layout)
    y = bias_leaky_relu(x, bias, negative_slope=slope)
    dx, db = torch.autograd.grad(y, (x, bias), dy)
    assert y.dtype == dx.dtype == dtype
    assert db.dtype == torch.float32
    assert y.is_contiguous(memory_format=layout)

    x64, bias64 = x.detach().double().requires_grad_(), bias.detach().double().requires_grad_()
    z64 = x64 + bias64[:, None, None]
    y64 = torch.where(z64 > 0, z64, slope * z64)
    dx64, db64 = torch.autograd.grad(y64, (x64, bias64), dy.double())

    # What rounding the result once to the image dtype costs, with a margin of 1.1.
    limit = 1e-6 if dtype == torch.float32 else 1.1 * relative_error(y64.to(dtype), y64)
    assert relative_error(y, y64) <= limit
    assert relative_error(dx, dx64) <= max(1e-6, 1.1 * relative_error(dx64.to(dtype), dx64))
    assert relative_error(db, db64) <= (1e-6 if dtype == torch.float32 else 4e-3)


def test_without_bias_and_with_a_bias_of_the_image_dtype() -> None:
    x = torch.randn(2, 3, 4, 4).bfloat16()
    torch.testing.assert_close(bias_leaky_relu(x), F.leaky_relu(x, 0.2))
    bias = torch.randn(3).bfloat16()
    torch.testing.assert_close(bias_leaky_relu(x, bias), bias_leaky_relu(x, bias.float()))


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_first_and_second_derivatives(slope: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    assert (x + bias[:, None, None]).abs().min() > 1e-3  # the kink has no derivative
    arguments = (x.requires_grad_(), bias.requires_grad_())

    def op(x: Tensor, bias: Tensor) -> Tensor:
        return bias_leaky_relu(x, bias, negative_slope=slope)

    assert torch.autograd.gradcheck(op, arguments)
    assert torch.autograd.gradgradcheck(op, arguments)


@given(
    shape=st.tuples(*[st.integers(0, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)]),
    slope=st.floats(0, 2),
    stride=st.integers(1, 2),
)
def test_any_shape_and_stride(shape, slope, stride) -> None:
    x = torch.randn(*shape[:3], shape[3] * stride)[..., ::stride]
    bias = torch.randn(shape[1])
    z = x.double() + bias.double()[:, None, None]
    expected = torch.where(z > 0, z, slope * z)
    y = bias_leaky_relu(x, bias, negative_slope=slope)
    torch.testing.assert_close(y.double(), expected, rtol=1e-6, atol=1e-6)


def test_repeats_to_the_bit() -> None:
    x, bias, dy = inputs(torch.float32, torch.channels_last)
    first, second = (torch.autograd.grad(bias_leaky_relu(x, bias), (x, bias), dy) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0],), TypeError, "input must be a Tensor, got list"),
        ((torch.zeros(1, 3, 2, 2, dtype=torch.int64),), TypeError, "input must be float32.*int64"),
        ((torch.zeros(3, 2, 2),), ValueError, r"input must have shape \(N, C, H, W\).*\(3, 2, 2\)"),
        ((torch.zeros(1, 3, 2, 2), torch.zeros(2)), ValueError, r"bias.*\(3,\), got \(2,\)"),
        ((torch.zeros(1, 3, 2, 2), torch.zeros(3).double()), TypeError, "bias.*float32.*float64"),
        ((torch.zeros(1, 3, 2, 2), torch.zeros(3, device="meta")), ValueError, "bias.*cpu.*meta"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        bias_leaky_relu(*arguments)


@pytest.mark.parametrize("slope", [-0.1, float("nan")])
def test_slope_that_would_hide_the_sign_is_refused(slope: float) -> None:
    with pytest.raises(ValueError, match="negative_slope must be at least 0"):
        bias_leaky_relu(torch.zeros(1, 1, 1, 1), negative_slope=slope)

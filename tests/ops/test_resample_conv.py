"""The resampling convolutions against resampling and convolving one after the other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cxrgan_fast.ops import reference
from cxrgan_fast.ops.resample_conv import conv2d_downsample, upsample_conv2d
from op_cases import DTYPES, LAYOUTS, relative_error

OPS = [
    pytest.param(upsample_conv2d, reference.upsample_conv2d, id="up"),
    pytest.param(conv2d_downsample, reference.conv2d_downsample, id="down"),
]


def arguments(dtype: torch.dtype = torch.float64, bias: bool = True) -> tuple[Tensor | None, ...]:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 6, dtype=dtype, requires_grad=True)
    weight = torch.randn(5, 3, 3, 3, dtype=dtype, requires_grad=True)
    return x, weight, torch.randn(5, dtype=dtype, requires_grad=True) if bias else None


@pytest.mark.parametrize(("op", "definition"), OPS)
@pytest.mark.parametrize("bias", [True, False])
def test_exact_in_float64_to_the_second_derivative(op, definition, bias) -> None:
    x, weight, b = arguments(bias=bias)
    inputs = (x, weight, b) if bias else (x, weight)
    results = []
    for function in (op, definition):
        y = function(x, weight, b)
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        results.append((y, *first, *second))
    for value, truth in zip(*results, strict=True):
        assert relative_error(value, truth) < 1e-13


@pytest.mark.parametrize(("op", "definition"), OPS)
def test_gradgradcheck(op, definition) -> None:
    assert torch.autograd.gradcheck(op, arguments())
    assert torch.autograd.gradgradcheck(op, arguments())


@pytest.mark.parametrize(("op", "definition"), OPS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_less_accurate_than_the_two_steps(op, definition, layout, dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 32, 8, 8).to(dtype).contiguous(memory_format=LAYOUTS[layout])
    weight, bias = torch.randn(16, 32, 3, 3) / 17, torch.randn(16)
    y = op(x, weight, bias)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=LAYOUTS[layout])
    truth = definition(x.double(), weight.double(), bias.double())
    eager = relative_error(definition(x, weight.to(dtype), bias.to(dtype)), truth)
    assert relative_error(y, truth) <= max(1e-6, 1.1 * eager)


@pytest.mark.parametrize(("op", "definition"), OPS)
@pytest.mark.parametrize("weight_layout", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_output_has_the_layout_of_the_input_not_the_weight(
    op, definition, layout, weight_layout
) -> None:
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=LAYOUTS[layout])
    weight = torch.randn(8, 8, 3, 3).contiguous(memory_format=LAYOUTS[weight_layout])
    assert op(x, weight).is_contiguous(memory_format=LAYOUTS[layout])


@pytest.mark.parametrize(("op", "definition"), OPS)
def test_autocast_rounds_the_summed_kernel_once(op, definition) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 8, 8)
    weight = torch.randn(8, 16, 3, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = op(x, weight)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, op(x.bfloat16(), weight))
    (gradient,) = torch.autograd.grad(y.float().square().sum(), weight)
    assert gradient.dtype == torch.float32
    truth = definition(x.double(), weight.double())
    (expected,) = torch.autograd.grad(truth.square().sum(), weight)
    assert relative_error(gradient, expected) < 1e-2


@pytest.mark.parametrize(("op", "definition"), OPS)
@given(
    shape=st.tuples(*[st.integers(0, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)]),
    out_channels=st.integers(1, 4),
)
def test_any_shape(op, definition, shape, out_channels) -> None:
    n, c, h, w = shape
    x = torch.randn(n, c, 2 * h, 2 * w, dtype=torch.float64)
    weight = torch.randn(out_channels, c, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(op(x, weight), definition(x, weight))


def test_upsampling_takes_odd_sizes_and_strided_images() -> None:
    x = torch.randn(2, 3, 5, 14, dtype=torch.float64)[..., ::2]
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(upsample_conv2d(x, weight), reference.upsample_conv2d(x, weight))


@pytest.mark.parametrize("size", [(5, 4), (4, 5)])
def test_downsampling_refuses_odd_sizes(size) -> None:
    with pytest.raises(ValueError, match=f"even height and width, got {size[0]}x{size[1]}"):
        conv2d_downsample(torch.zeros(1, 1, *size), torch.zeros(1, 1, 3, 3))


IMAGE, WEIGHT = torch.zeros(1, 2, 4, 4), torch.zeros(3, 2, 3, 3)


@pytest.mark.parametrize(("op", "definition"), OPS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((IMAGE.long(), WEIGHT), TypeError, "input must be float32.*int64"),
        ((IMAGE[0], WEIGHT), ValueError, r"input must have shape \(N, C, H, W\)"),
        ((IMAGE, WEIGHT[0]), ValueError, r"weight must have shape \(O, I, 3, 3\), got \(2, 3, 3\)"),
        ((IMAGE, None), ValueError, "weight.*NoneType"),
        ((IMAGE, torch.zeros(3, 2, 5, 5)), ValueError, r"weight.*\(3, 2, 3, 3\), got.*5, 5"),
        ((IMAGE, torch.zeros(3, 4, 3, 3)), ValueError, r"weight.*\(3, 2, 3, 3\), got \(3, 4"),
        ((IMAGE, WEIGHT.half()), TypeError, "weight must be float32, got float16"),
        ((IMAGE, WEIGHT, torch.zeros(2)), ValueError, r"bias must have shape \(3,\), got \(2,\)"),
        ((IMAGE, WEIGHT.to("meta")), ValueError, "weight must be on cpu like input, got meta"),
    ],
)
def test_arguments_that_do_not_fit_are_named(op, definition, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        op(*arguments)

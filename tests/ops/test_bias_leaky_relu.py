"""bias_leaky_relu on every backend against its definition in float64."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast.ops import bias_leaky_relu, use_backend

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]

every_backend = pytest.mark.usefixtures("backend")


def relative_error(value: Tensor, truth: Tensor) -> float:
    return ((value.double() - truth).norm() / truth.norm()).item()


def inputs(dtype: torch.dtype, layout: torch.memory_format) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 7, 6).to(dtype).contiguous(memory_format=layout)
    return x.requires_grad_(), torch.randn(5, requires_grad=True), torch.randn(3, 5, 7, 6).to(dtype)


@every_backend
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


@every_backend
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape",
    [
        (2, 33, 5, 7),  # a vector and a tail
        (3, 100, 1, 1),  # one pixel: both layouts are the same
        (1, 2, 150, 130),  # planes larger than a task
        (2, 130, 40, 30),  # strips of every width, several tasks
        (0, 4, 3, 3),
    ],
    ids=str,
)
def test_shapes_that_take_every_path(shape, layout) -> None:
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    bias, dy = torch.randn(shape[1], requires_grad=True), torch.randn(shape)
    dx, db = torch.autograd.grad(bias_leaky_relu(x, bias), (x, bias), dy)
    z = x.detach().double() + bias.detach().double()[:, None, None]
    dz = torch.where(z > 0, dy.double(), 0.2 * dy.double())
    torch.testing.assert_close(dx.double(), dz, rtol=1e-6, atol=0)
    torch.testing.assert_close(db.double(), dz.sum((0, 2, 3)), rtol=1e-5, atol=1e-4)


@every_backend
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_second_derivative(dtype, layout) -> None:
    """Of s = Σ v·dx + Σ w·dbias with respect to dy: (v + w[c])·(1 if z > 0 else slope)."""
    x, bias, dy = inputs(dtype, layout)
    v, w = torch.randn(x.shape).to(dtype), torch.randn(5)
    dy.requires_grad_()
    gradients = torch.autograd.grad(bias_leaky_relu(x, bias), (x, bias), dy, create_graph=True)
    (second,) = torch.autograd.grad(gradients, dy, (v, w), retain_graph=True)
    positive = (x.detach().double() + bias.detach().double()[:, None, None]) > 0
    total = v.double() + w.double()[:, None, None]
    expected = torch.where(positive, total, 0.2 * total)
    rounding = relative_error(expected.to(dtype), expected)
    assert relative_error(second, expected) <= max(1e-6, 1.1 * rounding)
    (of_bias_alone,) = torch.autograd.grad(gradients[1], dy, w)
    expected = torch.where(positive, 1.0, 0.2) * w.double()[:, None, None]
    assert relative_error(of_bias_alone, expected) <= max(
        1e-6, 1.1 * relative_error(expected.to(dtype), expected)
    )


@every_backend
def test_not_a_number_and_infinity_go_through() -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0]).view(1, 1, 2, 2)
    y = bias_leaky_relu(x, torch.ones(1)).flatten()
    assert torch.isnan(y[0])
    assert y[1:].tolist() == [float("inf"), -float("inf"), 2.0]


def test_only_the_output_is_saved() -> None:
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    bias = torch.randn(3, requires_grad=True)
    saved: list[Tensor] = []
    with (
        use_backend("native"),
        torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t),
    ):
        y = bias_leaky_relu(x, bias)
    assert [each.data_ptr() for each in saved] == [y.data_ptr()]


def test_the_registered_ops_keep_their_promises() -> None:
    ops = torch.ops.cxrgan_fast
    x, bias, _ = inputs(torch.float32, torch.channels_last)
    y = bias_leaky_relu(x, bias).detach()
    v = torch.randn_like(y).requires_grad_()
    torch.library.opcheck(ops.bias_leaky_relu, (x, bias, 0.2))
    torch.library.opcheck(ops.bias_leaky_relu, (x, None, 0.2))
    torch.library.opcheck(ops.bias_leaky_relu_gate, (v, bias, y, 0.2))
    torch.library.opcheck(ops.bias_leaky_relu_backward, (v, y, 0.2))


def test_compiles_whole() -> None:
    x, bias, dy = inputs(torch.float32, torch.channels_last)

    def function(x: Tensor, bias: Tensor) -> Tensor:
        return bias_leaky_relu(x * 2, bias).sin()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(function(x, bias), (x, bias), dy)
    for value, true in zip(torch.autograd.grad(compiled(x, bias), (x, bias), dy), expected,
                           strict=True):  # fmt: skip
        torch.testing.assert_close(value, true)


@every_backend
def test_without_bias_and_with_a_bias_of_the_image_dtype() -> None:
    x = torch.randn(2, 3, 4, 4).bfloat16()
    torch.testing.assert_close(bias_leaky_relu(x), F.leaky_relu(x, 0.2))
    bias = torch.randn(3).bfloat16()
    torch.testing.assert_close(bias_leaky_relu(x, bias), bias_leaky_relu(x, bias.float()))


# float64 is the reference's own; the native kernels' second derivative is tested above.
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


@every_backend
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the backend stays the same
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


@every_backend
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

"""The convolution of cheap second derivatives: F.conv2d's values, and both of its derivatives."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast.ops.conv2d import conv2d

SIZES = [  # input channels, output channels, groups, kernel, stride, padding
    (6, 4, 2, 3, 1, 1),
    (4, 8, 4, 3, 1, 1),
    (3, 5, 1, 1, 1, 0),
    (4, 4, 2, 4, 2, 1),
]


def operands(sizes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    in_channels, out_channels, groups, kernel = sizes[:4]
    torch.manual_seed(0)
    shapes = (2, in_channels, 6, 6), (out_channels, in_channels // groups, kernel, kernel)
    tensors = [torch.randn(*shape, dtype=dtype) for shape in (*shapes, (out_channels,))]
    return [tensor.requires_grad_() for tensor in tensors]


def options(sizes: tuple[int, ...]) -> dict[str, int]:
    return {"groups": sizes[2], "stride": sizes[4], "padding": sizes[5]}


@pytest.mark.parametrize("sizes", SIZES)
def test_derivatives(sizes: tuple[int, ...]) -> None:
    def convolve(*tensors: Tensor) -> Tensor:
        return conv2d(*tensors, **options(sizes))

    tensors = operands(sizes)
    assert torch.equal(convolve(*tensors), F.conv2d(*tensors, **options(sizes)))
    assert torch.autograd.gradcheck(convolve, tensors)
    assert torch.autograd.gradgradcheck(convolve, tensors)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    "wanted", [w for n in (1, 2) for w in itertools.combinations(range(3), n)], ids=str
)
def test_derivatives_where_only_some_are_wanted(sizes, wanted) -> None:
    got = []
    for function in (conv2d, F.conv2d):
        tensors = operands(sizes)
        for index, tensor in enumerate(tensors):
            tensor.requires_grad_(index in wanted)
        value = function(*tensors, **options(sizes)).square().sum()
        got.append(torch.autograd.grad(value, [tensors[index] for index in wanted]))
    torch.testing.assert_close(*got)


def penalty_gradients(function, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """R1's, of two layers, for their weights and the first bias."""
    images, weight, bias = operands((6, 6, 2, 3), torch.float32)
    weight.data *= 0.1  # or float16 overflows
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        hidden = F.leaky_relu(function(images, weight, bias, padding=1, groups=2), 0.2)
        output = function(hidden, weight, None, padding=1, groups=2)
    (gradient,) = torch.autograd.grad(output.float().square().sum(), images, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), (weight, bias))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05), (torch.float16, 0.01)]
)
def test_the_gradients_of_r1_are_those_of_pytorch(dtype, tolerance) -> None:
    exact = penalty_gradients(F.conv2d, torch.float32)
    for value, expected in zip(penalty_gradients(conv2d, dtype), exact, strict=True):
        assert value.dtype == torch.float32
        assert (value - expected).norm() < tolerance * expected.norm()


def test_r1s_first_derivative_asks_nothing_of_the_weights(monkeypatch) -> None:
    """Its cost is that of the images' gradient alone; the weights' would be thrown away."""
    wanted = []
    real = torch.ops.aten.convolution_backward.default

    class Recorded(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is real:
                wanted.append(tuple(args[-1]))
            return function(*args, **(kwargs or {}))

    images, weight, bias = operands(SIZES[0])
    output = conv2d(images, weight, bias, **options(SIZES[0]))
    with Recorded():
        torch.autograd.grad(output.square().sum(), images, create_graph=True)
    assert wanted == [(True, False, False)]


@pytest.mark.parametrize("setup", [torch.no_grad, torch.inference_mode])
def test_without_gradients_it_is_pytorchs(setup) -> None:
    with setup():
        tensors = [tensor.detach() for tensor in operands(SIZES[0])]
        assert torch.equal(
            conv2d(*tensors, **options(SIZES[0])), F.conv2d(*tensors, **options(SIZES[0]))
        )


def test_a_shape_that_does_not_fit_is_refused_as_pytorch_does() -> None:
    images, weight, _ = operands(SIZES[0])
    with pytest.raises(RuntimeError, match="groups=3"):
        conv2d(images, weight, groups=3)

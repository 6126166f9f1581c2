"""The power iteration, its modes, its precision and its derivatives."""

import pytest
import torch
from torch import Tensor

from cxrgan_fast.nn.layers import Conv2d
from cxrgan_fast.nn.spectral_norm import SpectralNorm


def weight_of(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=dtype)
    return weight.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else weight


def largest_singular_value(weight: Tensor) -> float:
    return torch.linalg.svdvals(weight.flatten(1))[0].item()


@pytest.mark.parametrize("shape", [(8, 5), (1, 64), (16, 8, 3, 3), (4, 1, 3, 3), (8, 8, 1, 1)])
def test_converges_to_spectral_norm_one(shape) -> None:
    weight = weight_of(shape)
    norm = SpectralNorm(weight)
    assert largest_singular_value(norm(weight)) == pytest.approx(1, abs=0.1)
    for _ in range(200):
        normalised = norm(weight)
    assert largest_singular_value(normalised) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(normalised, weight / largest_singular_value(weight))
    assert normalised.stride() == weight.stride()


def test_follows_a_weight_that_changes() -> None:
    weight = weight_of((8, 5))
    norm = SpectralNorm(weight)
    weight = torch.randn(8, 5) * 10
    for _ in range(200):
        normalised = norm(weight)
    assert largest_singular_value(normalised) == pytest.approx(1, abs=1e-4)


def test_evaluation_changes_nothing() -> None:
    weight = weight_of((8, 5))
    norm = SpectralNorm(weight)
    trained = norm(weight)
    state = {name: value.clone() for name, value in norm.state_dict().items()}
    torch.testing.assert_close(norm.eval()(weight), trained, rtol=0, atol=0)
    norm(weight * 2 + 1)
    for name, value in norm.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 3, 3)])
def test_first_and_second_derivatives(shape) -> None:
    weight = weight_of(shape, torch.float64).requires_grad_()
    norm = SpectralNorm(weight).double().eval()
    assert torch.autograd.gradcheck(norm, (weight,))
    assert torch.autograd.gradgradcheck(norm, (weight,))


def test_gradients_of_two_calls_do_not_disturb_each_other() -> None:
    weight = weight_of((8, 5)).requires_grad_()
    norm = SpectralNorm(weight)
    expected = torch.zeros_like(weight)
    outputs = []
    for _ in range(2):
        outputs.append(norm(weight).square().sum())
        (gradient,) = torch.autograd.grad(outputs[-1], weight, retain_graph=True)
        expected += gradient
    (both,) = torch.autograd.grad(sum(outputs), weight)
    torch.testing.assert_close(both, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_it(dtype: torch.dtype) -> None:
    weight = weight_of((16, 8, 3, 3))
    plain, cast = SpectralNorm(weight), SpectralNorm(weight)
    cast.load_state_dict(plain.state_dict())
    with torch.autocast("cpu", dtype=dtype):
        normalised = cast(weight)
    assert normalised.dtype == torch.float32
    assert torch.equal(normalised, plain(weight))
    assert torch.equal(cast.u, plain.u)


def test_a_layer_divides_its_own_weight() -> None:
    torch.manual_seed(0)
    layer = Conv2d(4, 8, spectral_norm=True).eval()
    x = torch.randn(1, 4, 6, 6)
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(3)
    torch.testing.assert_close(layer(x), before)  # the scale is divided out
    assert {"weight", "bias", "spectral_norm.u", "spectral_norm.v"} == set(layer.state_dict())

"""The power iteration, its modes, its precision and its derivatives."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from cxrgan_fast.nn.layers import Conv2d
from cxrgan_fast.nn.spectral_norm import SpectralNorm, normalize, owners

SHAPES = [(8, 5), (1, 64), (16, 8, 3, 3), (4, 1, 3, 3), (8, 8, 1, 1)]


def weight_of(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=dtype)
    return weight.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else weight


def largest_singular_value(weight: Tensor) -> float:
    return torch.linalg.svdvals(weight.flatten(1))[0].item()


@pytest.mark.parametrize("shape", SHAPES)
def test_converges_to_spectral_norm_one(shape) -> None:
    weight = weight_of(shape)
    norm = SpectralNorm(weight)
    assert largest_singular_value(norm(weight)) == pytest.approx(1, abs=0.1)
    for _ in range(200):
        normalized = norm(weight)
    assert largest_singular_value(normalized) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(normalized, weight / largest_singular_value(weight))
    assert normalized.stride() == weight.stride()


def test_follows_a_weight_that_changes() -> None:
    weight = weight_of((8, 5))
    norm = SpectralNorm(weight)
    weight = torch.randn(8, 5) * 10
    for _ in range(200):
        normalized = norm(weight)
    assert largest_singular_value(normalized) == pytest.approx(1, abs=1e-4)


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
        normalized = cast(weight)
    assert normalized.dtype == torch.float32
    assert torch.equal(normalized, plain(weight))
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


def as_linear(weight: Tensor, norm: SpectralNorm) -> nn.Linear:
    """PyTorch's spectral norm of the same matrix, from the same vectors."""
    matrix = weight.permute(0, 2, 3, 1).flatten(1) if weight.dim() == 4 else weight
    linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    linear.weight = nn.Parameter(matrix.detach().clone())
    # PyTorch moves first the vector as long as dimension ``dim``: here that is v.
    parametrizations.spectral_norm(linear, dim=1, n_power_iterations=1)
    parametrization = linear.parametrizations.weight[0]
    parametrization._u.copy_(norm.v)
    parametrization._v.copy_(norm.u)
    return linear


@pytest.mark.parametrize("training", [True, False])
def test_equals_that_of_pytorch_over_several_calls(training: bool) -> None:
    weights = [weight_of(shape).requires_grad_() for shape in SHAPES]
    norms = [SpectralNorm(weight) for weight in weights]
    references = [as_linear(*pair).train(training) for pair in zip(weights, norms, strict=True)]
    for _ in range(4):
        outputs = normalize(norms, weights, owners(norms), training=training)
        directions = [torch.randn_like(output) for output in outputs]
        gradients = torch.autograd.grad(outputs, weights, directions)
        for i, reference in enumerate(references):
            expected = reference.weight
            original = reference.parametrizations.weight.original
            direction, output, gradient = (
                (each.permute(0, 2, 3, 1) if each.dim() == 4 else each).flatten(1)
                for each in (directions[i], outputs[i], gradients[i])
            )
            torch.testing.assert_close(output, expected, rtol=2e-6, atol=1e-7)
            (expected_gradient,) = torch.autograd.grad(expected, original, direction)
            torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
            parametrization = reference.parametrizations.weight[0]
            torch.testing.assert_close(norms[i].v, parametrization._u, rtol=2e-6, atol=1e-7)
            torch.testing.assert_close(norms[i].u, parametrization._v, rtol=2e-6, atol=1e-7)
            change = 0.1 * torch.randn_like(gradient)
            with torch.no_grad():  # as an optimizer would
                original.add_(change)
                weight = weights[i]
                if weight.dim() == 4:
                    out, channels, *size = weight.shape
                    change = change.view(out, *size, channels).permute(0, 3, 1, 2)
                weight.add_(change)


def test_derivatives_of_several_weights_at_once() -> None:
    weights = [weight_of(s, torch.float64).requires_grad_() for s in [(4, 3), (3, 2, 3, 3), (1, 2)]]
    norms = [SpectralNorm(weight) for weight in weights]
    numbers = owners(norms)

    def resting(*weights: Tensor) -> tuple[Tensor, ...]:
        return normalize(norms, weights, numbers, training=False)

    assert torch.autograd.gradcheck(resting, weights)
    assert torch.autograd.gradgradcheck(resting, weights)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_weights_of_any_scale(scale: float) -> None:
    weight = weight_of((16, 8, 3, 3))
    plain, scaled = SpectralNorm(weight), SpectralNorm(weight)
    scaled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(scaled(weight * scale), plain(weight))
    torch.testing.assert_close(scaled.u, plain.u)


def test_one_weight_that_is_not_finite_leaves_the_others_alone() -> None:
    weights = [weight_of(shape) for shape in SHAPES]
    norms = [SpectralNorm(weight) for weight in weights]
    weights[2] = torch.full_like(weights[2], torch.nan)
    finite = [
        bool(each.isfinite().all())
        for each in normalize(norms, weights, owners(norms), training=True)
    ]
    assert finite == [True, True, False, True, True]


def test_without_gradients_the_iteration_goes_on() -> None:
    weight = weight_of((8, 5)).requires_grad_()
    norm = SpectralNorm(weight)
    before = norm.u.clone()
    with torch.no_grad():
        assert not norm(weight * 2 + 1).requires_grad
    assert not torch.equal(norm.u, before)


def test_a_contiguous_weight_keeps_its_layout() -> None:
    weight = torch.randn(8, 4, 3, 3)
    norm = SpectralNorm(weight).eval()
    assert norm(weight).stride() == weight.stride()
    other = weight.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(norm(other), norm(weight))


def test_gradients_of_each_sample() -> None:
    torch.manual_seed(0)
    layer = Conv2d(3, 4, spectral_norm=True).double().eval()
    images = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    parameters = dict(layer.named_parameters())

    def energy(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (image[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(energy), in_dims=(None, 0))(parameters, images)
    for i, image in enumerate(images):
        energy(parameters, image).backward()
        for name, parameter in parameters.items():
            torch.testing.assert_close(each[name][i], parameter.grad)
            parameter.grad = None


def test_second_derivatives_and_vmap_of_torch_func() -> None:
    weights = torch.randn(3, 4, 5, dtype=torch.float64)
    norm = SpectralNorm(weights[0]).eval()

    def energy(weight: Tensor) -> Tensor:
        return norm(weight).pow(3).sum()

    hessian = torch.func.jacrev(torch.func.grad(energy))
    expected = [torch.autograd.functional.hessian(energy, weight) for weight in weights]
    torch.testing.assert_close(hessian(weights[0]), expected[0])
    torch.testing.assert_close(torch.func.vmap(hessian)(weights), torch.stack(expected))
    torch.testing.assert_close(
        torch.func.grad(lambda stack: torch.func.vmap(energy)(stack).sum())(weights),
        torch.func.vmap(torch.func.grad(energy))(weights),
    )

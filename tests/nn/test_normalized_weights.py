"""The spectral norms of a whole discriminator: as layer by layer, with far fewer operations."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cxrgan_fast.nn import NetworkConfig, build_discriminator
from cxrgan_fast.nn.layers import NormalizedWeights

NETWORKS = [
    {"family": family, "conditioning": conditioning}
    for family in ("resnet", "dcgan")
    for conditioning in ("projection", "concat")
]


def build(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    small = {"resolution": 32, "base_channels": 8, "spectral_norm": True, "extra_layers": 1}
    return build_discriminator(NetworkConfig(**{**small, **options}), 2)


def batch(n: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(n, 1, 32, 32) * 2 - 1, torch.arange(n) % 2


def layer_by_layer(discriminator: nn.Module) -> nn.Module:
    """The same network, in which each layer normalises its own weight."""
    twin = copy.deepcopy(discriminator)
    twin.normalized_weights = NormalizedWeights(nn.Identity())
    return twin


@pytest.mark.parametrize("options", NETWORKS)
def test_equals_layer_by_layer(options: dict[str, str]) -> None:
    together = build(**options)
    apart = layer_by_layer(together)
    images, labels = batch()
    for training in (True, True, False):
        results = []
        for network in (together.train(training), apart.train(training)):
            x = images.clone().requires_grad_()
            logits = network(x, labels)
            (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
            loss = logits.square().sum() + slope.square().sum()  # as with the R1 penalty
            parameters = dict(network.named_parameters())
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            results.append([logits, *(g for g in gradients if g is not None)])
        for value, expected in zip(*results, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    for name, buffer in together.named_buffers():
        if name != "normalized_weights.owners":
            torch.testing.assert_close(buffer, apart.get_buffer(name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", NETWORKS)
def test_a_state_dict_names_what_each_layer_has(options: dict[str, str]) -> None:
    discriminator = build(**options)
    weights = {name for name, value in discriminator.named_parameters() if value.dim() > 1}
    vectors = {
        name.removesuffix("weight") + f"spectral_norm.{which}" for name in weights for which in "uv"
    }
    biases = {name for name, value in discriminator.named_parameters() if value.dim() == 1}
    assert set(discriminator.state_dict()) == weights | vectors | biases


def test_a_copy_normalizes_its_own_weights() -> None:
    discriminator, inputs = build().eval(), batch()
    expected = discriminator(*inputs)
    twin = copy.deepcopy(discriminator)
    assert torch.equal(twin(*inputs), expected)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(torch.randn_like(weight))
    twin.train()(*inputs)
    assert not torch.allclose(twin.eval()(*inputs), expected)
    assert torch.equal(discriminator(*inputs), expected)


def test_weights_given_to_a_functional_call_are_normalized() -> None:
    discriminator, inputs = build(), batch()
    parameters = {
        name: value.detach() * (3 if value.dim() > 1 else 1)
        for name, value in discriminator.named_parameters()
    }
    buffers = {name: value.clone() for name, value in discriminator.named_buffers()}
    before = {name: value.clone() for name, value in discriminator.named_buffers()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        state = (parameters, buffers)
        return torch.func.functional_call(discriminator, state, inputs).square().sum()

    value = loss(parameters)
    for name, buffer in discriminator.named_buffers():
        assert torch.equal(buffer, before[name])
    expected = discriminator(*inputs).square().sum()  # the scale is divided out
    torch.testing.assert_close(value, expected)
    discriminator.eval()
    gradients = torch.func.grad(loss)(parameters)
    (expected := discriminator(*inputs).square().sum()).backward()
    for name, parameter in discriminator.named_parameters():
        scale = 3 if parameter.dim() > 1 else 1
        torch.testing.assert_close(gradients[name] * scale, parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("aot_eager", NETWORKS[0]),
        ("aot_eager", NETWORKS[3]),
        ("inductor", {"family": "dcgan", "extra_layers": 0}),
    ],
)
def test_compiles_whole(options: dict[str, Any], backend: str) -> None:
    discriminator, (images, labels) = build(**options), batch()
    compiled = torch.compile(twin := copy.deepcopy(discriminator), fullgraph=True, backend=backend)
    for _ in range(2):
        results = []
        for network, module in ((compiled, twin), (discriminator, discriminator)):
            logits = network(images, labels)
            gradients = torch.autograd.grad(logits.square().sum(), list(module.parameters()))
            results.append([logits, *gradients])
        for value, expected in zip(*results, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5)
    for value, expected in zip(twin.buffers(), discriminator.buffers(), strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("frozen", [True, False])
def test_compiles_where_weights_need_no_gradient(frozen: bool) -> None:
    """As a generator's update calls a discriminator, or an evaluation."""
    discriminator, (images, labels) = build(family="dcgan").requires_grad_(not frozen), batch()
    compiled = torch.compile(copy.deepcopy(discriminator), fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(frozen):
        torch.testing.assert_close(compiled(images, labels), discriminator(images, labels))


class Operations(TorchDispatchMode):
    """Counts the operations that compute something: views move no data."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += not func.is_view
        return func(*args, **(kwargs or {}))


def operations(function: Callable[[], Any]) -> tuple[Any, Counter[str]]:
    with Operations() as seen:
        result = function()
    return result, seen.counts


def passes(**options: Any) -> tuple[Counter[str], Counter[str]]:
    """The operations of one pass forward and of one backward."""
    network, inputs = build(**options), batch()
    loss, forward = operations(lambda: network(*inputs).sum())
    _, backward = operations(loss.backward)
    return forward, backward


@pytest.mark.parametrize("extra_layers", [0, 3])
def test_few_operations_a_layer(extra_layers: int) -> None:
    """Two a layer and 20 forward, three a layer and 6 backward; layer by layer 14 and 9 a layer."""
    names = build(extra_layers=extra_layers).state_dict()
    layers = sum(name.endswith("spectral_norm.u") for name in names)
    with_norm, without = (
        passes(extra_layers=extra_layers, spectral_norm=which) for which in (True, False)
    )
    forward, backward = (a - b for a, b in zip(with_norm, without, strict=True))
    assert forward["aten.mv.default"] == 2 * layers
    assert forward.total() <= 2 * layers + 20, forward
    assert backward.total() <= 3 * layers + 6, backward
    # None copies a weight to flatten it, and none waits for the device.
    for seen in (forward, backward):
        assert not {"aten.copy_.default", "aten._to_copy.default"} & seen.keys()
        assert "aten._local_scalar_dense.default" not in seen
        assert seen["aten.clone.default"] <= 1  # of the σ

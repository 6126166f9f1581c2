"""torch.compile(fullgraph=True): every public op and whole networks, with the same gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from cxrgan_fast.nn import NetworkConfig, build_discriminator, build_generator
from cxrgan_fast.ops import (
    conv2d_downsample,
    discriminator_loss,
    generator_loss,
    upsample_conv2d,
)
from cxrgan_fast.ops.adversarial_loss import LossKind
from cxrgan_fast.settings.config import override
from op_cases import (
    CASES,
    FUSED,
    LAYOUTS,
    NATIVE_CPU,
    Case,
    Target,
    Tensors,
    batch_norm_case,
)


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()  # one line of code below stands for many ops: not a recompilation
    yield
    torch.compiler.reset()


def model(case: Case, variables: Tensors, state: Tensors) -> Tensor:
    """The op, and something before and after it."""
    return case.call({**variables, "input": variables["input"] * 2}, state) + 1


def assert_same(case: Case, compiled: Callable[[Case, Tensors, Tensors], Tensor]) -> None:
    got = case.results(function=partial(compiled, case))
    expected = case.results(function=partial(model, case))
    for name, value in got.items():
        assert value.stride() == expected[name].stride(), name
        torch.testing.assert_close(value, expected[name])


@pytest.mark.first_tier(3)
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_output_gradients_and_running_statistics(
    device: str, dtype: torch.dtype, layout: str, op: str
) -> None:
    # aot_eager traces forward and backward as the default does, and compiles no C++.
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_same(CASES[op]((4, 6, 8, 7), dtype=dtype, layout=layout, device=device), compiled)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("op", CASES)
def test_one_graph_for_many_shapes(target: Target, device: str, op: str) -> None:
    shapes = ((3, 6, 5, 9), (2, 9, 12, 4))
    if target.backend == "triton" and not target.emulated:
        # torch.compile looks into its kernels, of which C, H and W choose the constants.
        shapes = ((3, 6, 8, 7), (2, 6, 8, 7))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    assert_same(CASES[op]((4, 6, 8, 7), device=device), compiled)
    with torch.compiler.set_stance("fail_on_recompile"):
        for shape in shapes:
            assert_same(CASES[op](shape, device=device), compiled)


@pytest.mark.parametrize("target", [NATIVE_CPU], indirect=True, ids=str)
def test_a_label_out_of_range_is_refused(device: str) -> None:
    case = batch_norm_case((4, 6, 8, 7), device=device)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    case.labels[1] = 3
    with pytest.raises(IndexError, match=r"labels\[1\] is 3, expected 0 <= label < 3"):
        compiled(case, case.variables, case.state)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.parametrize("op", CASES)
def test_inductor(device: str, op: str) -> None:
    compiled = torch.compile(model, fullgraph=True)
    assert_same(CASES[op]((4, 6, 8, 7), layout="channels_last", device=device), compiled)


KINDS: tuple[LossKind, ...] = get_args(LossKind)


def discriminator(x: Tensor, *, kind: LossKind) -> Tensor:
    return discriminator_loss(x, x * 2, kind=kind)


OPS: dict[str, Callable[[Tensor], Tensor]] = {
    "upsample_conv2d": lambda x: upsample_conv2d(x, torch.ones(2, 4, 3, 3, device=x.device)),
    "conv2d_downsample": lambda x: conv2d_downsample(x, torch.ones(2, 4, 3, 3, device=x.device)),
    **{f"discriminator_loss-{kind}": partial(discriminator, kind=kind) for kind in KINDS},
    **{f"generator_loss-{kind}": partial(generator_loss, kind=kind) for kind in KINDS},
}


@pytest.mark.first_tier(6)
@pytest.mark.parametrize("name", OPS)
def test_other_ops(device: str, name: str) -> None:
    x = torch.randn(3, 4, 6, 6).to(device).requires_grad_()

    def function(x: Tensor) -> Tensor:
        return OPS[name](x.sin()).square().sum()

    value, expected = torch.compile(function, fullgraph=True, backend="aot_eager")(x), function(x)
    torch.testing.assert_close(value, expected)
    (gradient,), (true,) = torch.autograd.grad(value, x), torch.autograd.grad(expected, x)
    torch.testing.assert_close(gradient, true)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("family", ["resnet", "dcgan", "r3"])
def test_networks_with_their_losses(device: str, family: str) -> None:
    check_networks(device, family, "aot_eager")


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
def test_networks_with_their_losses_by_inductor(device: str) -> None:
    check_networks(device, "dcgan", "inductor")


def check_networks(device: str, family: Any, compiler: str) -> None:
    """A step of both networks: losses, gradients of every parameter, and buffers are the same."""
    config = NetworkConfig(family=family, resolution=32, base_channels=8, latent_size=16)
    if family == "r3":
        config = override(config, {"blocks_per_size": 1})
    networks = [build(config, 2).to(device) for build in (build_generator, build_discriminator)]
    twins = copy.deepcopy(networks)
    latents, labels = torch.randn(4, 16).to(device), torch.tensor([0, 1, 1, 0]).to(device)
    real = torch.randn(4, 1, 32, 32).to(device).clamp(-1, 1)

    def losses(networks: list[nn.Module]) -> tuple[Tensor, Tensor]:
        generator, discriminator = networks
        fake = generator(latents, labels)
        of_fake = discriminator(fake, labels)
        return discriminator_loss(discriminator(real, labels), of_fake), generator_loss(of_fake)

    def step(networks: list[nn.Module], losses: Callable[..., tuple[Tensor, Tensor]]) -> Tensors:
        parameters = {
            f"{index}.{name}": each
            for index, network in enumerate(networks)
            for name, each in network.named_parameters()
        }
        of_discriminator, of_generator = losses(networks)
        results = {"discriminator": of_discriminator, "generator": of_generator}
        for name, loss in list(results.items()):
            gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
            results |= {f"{name}.{key}": g for key, g in zip(parameters, gradients, strict=True)}
        for index, network in enumerate(networks):
            results |= {f"{index}.{name}": each.clone() for name, each in network.named_buffers()}
        return results

    function = torch.compile(losses, fullgraph=True, backend=compiler)
    got, expected = step(networks, function), step(twins, losses)
    assert len(got) > 40
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-6, msg=name)

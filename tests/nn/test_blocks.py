"""What the families share: minibatch statistics, parts of the latent, its scale, residuals."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn import (
    NetworkConfig,
    build_discriminator,
    build_generator,
    samples_see_each_other,
)
from cxrgan_fast.nn.blocks import MinibatchStd
from cxrgan_fast.nn.conditional_batch_norm import ConditionalBatchNorm2d
from cxrgan_fast.nn.families.resnet import DiscriminatorBlock
from cxrgan_fast.settings.config import override

FAMILIES = ["resnet", "dcgan"]


def small(**options: Any) -> NetworkConfig:
    return override(NetworkConfig(resolution=32, base_channels=8, latent_size=16), options)


def images_of(n: int = 8) -> Tensor:
    return torch.randn(n, 1, 32, 32, generator=torch.Generator().manual_seed(0))


# --------------------------------------------------------- the minibatch's standard deviation


def karras_2018(features: Tensor, group_size: int) -> Tensor:
    """The layer as its authors wrote it, for one statistic: samples i and i + N/G are a group."""
    n, c, h, w = features.shape
    y = features.reshape(group_size, n // group_size, c, h, w)
    y = y - y.mean(0, keepdim=True)
    y = (y.square().mean(0) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)  # (N / G, 1, 1, 1)
    return torch.cat([features, y.tile(group_size, 1, h, w)], dim=1)


@pytest.mark.parametrize("group_size", [1, 2, 4, 8])
def test_minibatch_std_is_that_of_the_paper(group_size: int) -> None:
    features = torch.randn(8, 3, 4, 5)
    torch.testing.assert_close(
        MinibatchStd(group_size)(features), karras_2018(features, group_size)
    )


@pytest.mark.parametrize(("samples", "used"), [(6, 3), (7, 1), (3, 3), (1, 1), (4, 4)])
def test_a_batch_that_the_group_does_not_divide_has_smaller_groups(samples: int, used: int) -> None:
    features = torch.randn(samples, 3, 4, 4)
    torch.testing.assert_close(MinibatchStd(4)(features), karras_2018(features, used))
    assert MinibatchStd(4)(features[:0]).shape == (0, 4, 4, 4)


def test_minibatch_std_has_both_derivatives_and_is_exact_in_16_bits() -> None:
    features = torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MinibatchStd(2), features)
    assert torch.autograd.gradgradcheck(MinibatchStd(2), features)
    near = (1 + 1e-3 * torch.randn(4, 8, 4, 4)).half()  # whose squared differences are below 6e-8
    expected = karras_2018(near.double(), 4)[:, -1]
    torch.testing.assert_close(
        MinibatchStd(4)(near)[:, -1].double(), expected, rtol=2e-3, atol=1e-6
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_discriminator_with_minibatch_std_says_that_it_looks(family: str) -> None:
    torch.manual_seed(0)
    network = build_discriminator(small(family=family, minibatch_std=4), 2)
    assert samples_see_each_other(network)
    assert not samples_see_each_other(build_discriminator(small(family=family), 2))
    images, labels = images_of(4), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        logits = network(images, labels)
        with_others = network(torch.cat((images[:2], 9 * images[2:])), labels)
    assert (with_others[:2] - logits[:2]).abs().min() > 1e-4


# ---------------------------------------------------------------------- parts of the latent


@pytest.mark.parametrize("conditioning", ["projection", "concat"])
@pytest.mark.parametrize("extra_layers", [0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_norm_adds_what_is_linear_in_its_part_of_the_latent(
    family: str, extra_layers: int, conditioning: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = small(
        family=family, latent_chunks=True, extra_layers=extra_layers, conditioning=conditioning
    )
    generator = build_generator(config, 2)
    norms = [each for each in generator.modules() if isinstance(each, ConditionalBatchNorm2d)]
    classes = 1 if conditioning == "concat" else 2
    for norm in norms:  # at first the latent changes little, and the classes are equal
        assert torch.equal(norm.weight[:classes], torch.ones(classes, norm.weight.shape[1]))
        assert 0 < norm.weight[classes:].abs().mean() < 0.1
    chunks = generator.input.chunks
    assert min(chunks) > 0
    assert max(chunks) - min(chunks) <= 1
    embedded = 0 if generator.input.embedding is None else 32
    assert generator.input.linear.weight.shape[1] - embedded + sum(chunks) == 16

    seen: list[Tensor] = []
    plain = ConditionalBatchNorm2d.forward

    def look(self: ConditionalBatchNorm2d, input: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels)
        return plain(self, input, labels)

    monkeypatch.setattr(ConditionalBatchNorm2d, "forward", look)
    latents, labels = torch.randn(3, 16), torch.tensor([0, 1, 1])
    generator(latents, labels)
    assert len(seen) == len(norms)
    of_class = torch.ones(3, 1) if classes == 1 else torch.eye(2)[labels]
    parts = []
    for each in seen:
        assert torch.equal(each[:, :classes], of_class)
        parts.append(each[:, classes:])
    # The norms of a block share theirs. In their order the parts are the end of the latent.
    distinct = {tuple(part.flatten().tolist()): part for part in parts}
    assert [part.shape[1] for part in distinct.values()] == chunks
    assert torch.equal(torch.cat(tuple(distinct.values()), 1), latents[:, 16 - sum(chunks) :])


@pytest.mark.parametrize("family", FAMILIES)
def test_too_short_a_latent_has_no_parts(family: str) -> None:
    with pytest.raises(
        UserError, match=r"^latent_size should be at least 4 with latent_chunks.* 3$"
    ):
        build_generator(small(family=family, latent_chunks=True, latent_size=3), 2)
    build_generator(small(family=family, latent_chunks=True, latent_size=4), 2)


def test_parts_of_the_latent_need_a_norm() -> None:
    config = small(latent_chunks=True, generator_norm="none", conditioning="concat")
    with pytest.raises(UserError, match="leaves latent_chunks no batch norm"):
        build_generator(config, 2)


# -------------------------------------------------------------------- scale of the latents


@pytest.mark.parametrize("family", [*FAMILIES, "r3"])
def test_normalized_latents_have_no_length(family: str) -> None:
    latents, labels = torch.randn(4, 16), torch.tensor([0, 1, 0, 1])
    generators = []
    for normalize in (True, False):
        torch.manual_seed(0)
        generators.append(build_generator(small(family=family, normalize_latents=normalize), 2))
    images = generators[0](latents, labels)
    torch.testing.assert_close(generators[0](7 * latents, labels), images, rtol=1e-4, atol=1e-5)
    scaled = latents / latents.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(generators[1](scaled, labels), images, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(generators[1](7 * latents, labels), images, atol=1e-2)


# ------------------------------------------------------------------------ scale of residuals


def test_scaled_residuals_are_smaller_by_the_root_of_a_half() -> None:
    features = torch.randn(2, 8, 8, 8)
    outputs = []
    for scaled in (True, False):
        torch.manual_seed(0)
        block = DiscriminatorBlock(small(scale_residuals=scaled), 8, 16, hidden_channels=8)
        outputs.append(block(features, {}))
    torch.testing.assert_close(outputs[0], outputs[1] * 0.5**0.5)


def test_scaled_residuals_keep_the_variance_through_the_network() -> None:
    spreads: dict[bool, list[float]] = {}
    for scaled in (True, False):
        torch.manual_seed(0)
        network = build_discriminator(small(scale_residuals=scaled, extra_layers=4), 2)
        spreads[scaled] = []

        def look(
            module: nn.Module, inputs: Any, output: Tensor, into: list[float] = spreads[scaled]
        ) -> None:
            into.append(output.std().item())

        for block in network.blocks:
            block.register_forward_hook(look)
        network(images_of(), torch.zeros(8, dtype=torch.int64))
    assert spreads[False][-1] > 2 * spreads[True][-1]

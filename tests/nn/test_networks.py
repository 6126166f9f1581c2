"""All families of networks: shapes, options, precision, labels, gradients and compilation."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrgan_fast.nn import NetworkConfig, build_discriminator, build_generator
from cxrgan_fast.nn.family import FAMILIES as REGISTERED
from cxrgan_fast.settings.config import flatten, override

FAMILIES = list(REGISTERED)


def small(**options: Any) -> NetworkConfig:
    return override(NetworkConfig(resolution=32, base_channels=8, latent_size=16), options)


def build(
    config: NetworkConfig, n_classes: int = 2, *, as_built: bool = False
) -> tuple[nn.Module, nn.Module]:
    """Both networks; no convolution is zero, which would hide those before it, unless as_built."""
    networks = []
    for builder in (build_generator, build_discriminator):
        torch.manual_seed(0)
        networks.append(builder(config, n_classes))
        with torch.no_grad():
            for parameter in () if as_built else networks[-1].parameters():
                if parameter.dim() == 4 and not parameter.any():
                    parameter.normal_(0, 0.2)
    return networks[0], networks[1]


def batch(config: NetworkConfig, n: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, config.latent_size), torch.arange(n) % 2


def images_like(config: NetworkConfig, n: int = 4) -> Tensor:
    torch.manual_seed(2)
    return torch.rand(n, config.image_channels, config.resolution, config.resolution) * 2 - 1


@pytest.mark.parametrize("image_channels", [1, 3])
@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_resolution(family: str, resolution: int, image_channels: int) -> None:
    config = small(family=family, resolution=resolution, image_channels=image_channels)
    generator, discriminator = build(config)
    latents, labels = batch(config, 2)
    images = generator(latents, labels)
    assert images.shape == (2, image_channels, resolution, resolution)
    assert images.dtype == torch.float32
    logits = discriminator(images, labels)
    assert logits.shape == (2,)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    for name, parameter in (*generator.named_parameters(), *discriminator.named_parameters()):
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# Option, another value than the default's, and which networks it changes.
OPTIONS = [
    ("family", "dcgan", "GD"),
    ("image_channels", 3, "GD"),
    ("latent_size", 24, "G"),
    ("base_channels", 16, "GD"),
    ("extra_layers", 1, "GD"),
    ("activation", "relu", "GD"),
    ("negative_slope", 0.1, "GD"),
    ("output", "sigmoid", "G"),
    ("spectral_norm", True, "D"),
    ("conditioning", "concat", "GD"),
    ("generator_norm", "none", "G"),
    ("minibatch_std", 4, "D"),
    ("latent_chunks", True, "G"),
    ("normalize_latents", True, "G"),
    ("scale_residuals", True, "D"),
    ("upsampling", "transposed", "G"),
    ("blocks_per_size", 1, "GD"),
    ("expansion", 4.0, "GD"),
    ("group_size", 0, "GD"),
    ("resolution", 64, "GD"),
]


ELSEWHERE = {  # which a run of the family refuses
    "r3": {"spectral_norm", "generator_norm", "minibatch_std", "latent_chunks", "scale_residuals"},
    "dcgan": {"scale_residuals"},
    "resnet": set(),
}


def test_every_option_is_tested() -> None:
    assert {name for name, _, _ in OPTIONS} == set().union(
        *(flatten(NetworkConfig(family=family)) for family in FAMILIES)
    )


@pytest.mark.parametrize(
    ("family", "option", "value", "changed"),
    [
        (family, *option)
        for family in FAMILIES
        for option in OPTIONS
        if option[0] in flatten(NetworkConfig(family=family))
        and option[:2] != ("family", family)
        and option[0] not in ELSEWHERE[family]
    ],
)
def test_every_option_changes_what_it_says(family, option, value, changed) -> None:
    base: dict[str, Any] = {"family": family}
    if option == "generator_norm":
        base["conditioning"] = "concat"
    if (family, option) == ("r3", "conditioning"):
        changed = "D"  # the generator has the class in its input either way
    before, after = (small(**each) for each in (base, {**base, option: value}))
    for network, inputs in ((0, batch), (1, lambda c: (images_like(c), batch(c)[1]))):
        outputs = [build(config)[network](*inputs(config)) for config in (before, after)]
        same = outputs[0].shape == outputs[1].shape and torch.equal(*outputs)
        if network == 1 and option == "resolution":
            continue  # logits of other images: nothing to compare
        assert same == ("GD"[network] not in changed), "GD"[network]


@pytest.mark.parametrize("family", FAMILIES)
def test_extra_layers_add_up(family: str) -> None:
    for network in (0, 1):
        configs = [small(family=family, extra_layers=n) for n in (0, 1, 2)]
        counts = [sum(p.numel() for p in build(c)[network].parameters()) for c in configs]
        assert counts[2] - counts[1] == counts[1] - counts[0] > 0


@pytest.mark.parametrize(("output", "low", "high"), [("tanh", -1, 1), ("sigmoid", 0, 1)])
@pytest.mark.parametrize("family", FAMILIES)
def test_images_fill_the_range_of_the_output(family, output, low, high) -> None:
    config = small(family=family, output=output)
    images = build(config)[0](*batch(config, 16))
    assert low <= images.min() < low + 0.45 * (high - low)
    assert low + 0.55 * (high - low) < images.max() <= high


CONDITIONED = [
    {"conditioning": "projection"},
    {"conditioning": "concat"},
    {"conditioning": "concat", "generator_norm": "none"},
]


@pytest.mark.parametrize("options", CONDITIONED)
@pytest.mark.parametrize("family", FAMILIES)
def test_labels_matter_and_mix(family: str, options: dict[str, Any]) -> None:
    config = small(family=family, **options)
    generator, discriminator = (network.eval() for network in build(config))
    with torch.no_grad():
        for parameter in generator.parameters():  # γ and β of the classes start out equal
            parameter.add_(0.1 * torch.randn_like(parameter))
    latents, labels = batch(config)
    for network, inputs in ((generator, latents), (discriminator, images_like(config))):
        output = network(inputs, labels)
        assert not torch.allclose(output, network(inputs, 1 - labels))
        weights = F.one_hot(labels, 2).float()
        torch.testing.assert_close(network(inputs, weights), output, rtol=1e-4, atol=1e-5)
        mixed = network(inputs, torch.full((len(labels), 2), 0.5))
        assert not torch.allclose(mixed, output)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_beyond_the_classes_are_refused(family: str) -> None:
    config = small(family=family)
    generator, discriminator = build(config)
    latents, labels = batch(config)
    for network, inputs in ((generator, latents), (discriminator, images_like(config))):
        with pytest.raises(IndexError):
            network(inputs, labels + 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_discriminator_judges_each_image_alone(family: str) -> None:
    config = small(family=family)
    discriminator = build(config)[1].eval()  # the power iteration rests
    images, labels = images_like(config), batch(config)[1]
    together = discriminator(images, labels)
    alone = torch.cat([discriminator(images[i : i + 1], labels[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_autocast(family: str, dtype: torch.dtype) -> None:
    config = small(family=family)
    generator, discriminator = build(config)
    latents, labels = batch(config, 8)
    seen: set[torch.dtype] = set()
    for module in discriminator.modules():
        module.register_forward_hook(lambda m, i, output: seen.add(output.dtype))
    with torch.autocast("cpu", dtype=dtype):
        images = generator(latents, labels)
        logits = discriminator(images, labels)
    assert images.dtype == logits.dtype == torch.float32
    assert dtype in seen  # the layers between do run in the low precision
    logits.square().sum().backward()
    for parameter in (*generator.parameters(), *discriminator.parameters()):
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
    with torch.no_grad():
        exact = copy.deepcopy(generator)(latents, labels)
    assert (images - exact).abs().mean() < 0.02


@pytest.mark.parametrize("family", FAMILIES)
def test_features_stay_channels_last(family: str) -> None:
    config = small(family=family)
    generator, discriminator = build(config)
    layouts = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[1] > 1:
            layouts.append(output.is_contiguous(memory_format=torch.channels_last))

    for module in (*generator.modules(), *discriminator.modules()):
        module.register_forward_hook(look)
    latents, labels = batch(config)
    discriminator(generator(latents, labels), labels)
    assert len(layouts) > 8
    assert all(layouts)


@pytest.mark.parametrize(
    ("family", "spectral_norm"),
    [(family, sn) for family in FAMILIES for sn in (False, True)[: 1 if family == "r3" else 2]],
)
def test_gradient_of_the_r1_penalty(family: str, spectral_norm: bool) -> None:
    config = small(family=family, spectral_norm=spectral_norm)
    discriminator = build(config)[1].double().eval()
    images, labels = images_like(config, 2).double().requires_grad_(), torch.tensor([0, 1])
    parameters = list(discriminator.parameters())
    direction = [torch.randn_like(p) for p in parameters]

    def penalty() -> Tensor:
        logits = discriminator(images, labels)
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradient.square().sum()

    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    analytic = sum(
        (g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None
    )
    step = 1e-7
    values = []
    for sign in (step, -2 * step):
        torch._foreach_add_([p.data for p in parameters], direction, alpha=sign)
        values.append(penalty().detach())
    numeric = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(analytic, numeric, rtol=1e-4, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_state_round_trip_and_deepcopy(family: str) -> None:
    config = small(family=family)
    latents, labels = batch(config)
    images = images_like(config)
    for index, inputs in ((0, latents), (1, images)):
        network = build(config)[index]
        for _ in range(2):
            network(inputs, labels)  # moves running statistics, u and v
        other = (build_generator, build_discriminator)[index](config, 2)
        other.load_state_dict(network.state_dict())
        twin = copy.deepcopy(network)
        expected = network.eval()(inputs, labels)
        assert torch.equal(other.eval()(inputs, labels), expected)
        assert torch.equal(twin.eval()(inputs, labels), expected)
        with torch.no_grad():
            next(twin.parameters()).add_(1)
        assert torch.equal(network(inputs, labels), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_global_seed_decides_the_weights(family: str) -> None:
    config = small(family=family)
    for first, second in zip(build(config), build(config), strict=True):
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("family", FAMILIES)
def test_compiles_whole(family: str) -> None:
    config = small(family=family, base_channels=8)
    generator, discriminator = build(config)
    latents, labels = batch(config)

    def play(generator: nn.Module, discriminator: nn.Module) -> tuple[Tensor, ...]:
        images = generator(latents, labels)
        loss = F.softplus(-discriminator(images, labels)).mean()
        parameters = (*generator.parameters(), *discriminator.parameters())
        return images, loss, *torch.autograd.grad(loss, parameters)

    twins = copy.deepcopy(generator), copy.deepcopy(discriminator)
    compiled = [torch.compile(twin, fullgraph=True, backend="aot_eager") for twin in twins]
    for value, expected in zip(play(*compiled), play(generator, discriminator), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    # Buffers that the forward pass writes: running statistics, u and v.
    for twin, network in zip(twins, (generator, discriminator), strict=True):
        for value, expected in zip(twin.buffers(), network.buffers(), strict=True):
            torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_short_game_moves_both_networks(family: str) -> None:
    config = small(family=family)
    generator, discriminator = build(config, as_built=True)
    latents, labels = batch(config, 8)
    real = images_like(config, 8) * 0.1 + 0.7
    optimizers = [torch.optim.Adam(n.parameters(), 2e-3) for n in (generator, discriminator)]
    for _ in range(30):
        fake = generator(latents, labels)
        loss = F.softplus(-discriminator(real, labels)) + F.softplus(
            discriminator(fake.detach(), labels)
        )
        optimizers[1].zero_grad()
        loss.mean().backward()
        optimizers[1].step()
        loss = F.softplus(-discriminator(fake, labels)).mean()
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
    # Bright images are real ones: the generator has followed the discriminator there.
    assert generator(latents, labels).mean() > 0.3

"""What configurations are refused, and the widths that they give."""

from typing import Any

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn import NetworkConfig, build_discriminator, build_generator


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("family", "stylegan", "resnet, dcgan"),
        ("resolution", 48, "32, 64, 128, 256"),
        ("image_channels", 2, "1, 3"),
        ("latent_size", 0, "at least 1"),
        ("base_channels", 0, "multiple of 8"),
        ("base_channels", 20, "multiple of 8"),
        ("extra_layers", -1, "at least 0"),
        ("activation", "gelu", "leaky_relu, relu"),
        ("negative_slope", -0.2, "from 0 to 1"),
        ("negative_slope", float("nan"), "from 0 to 1"),
        ("output", "linear", "tanh, sigmoid"),
        ("conditioning", "none", "projection, concat"),
        ("generator_norm", "layer", "batch, none"),
        ("upsampling", "bilinear", "resize, transposed"),
    ],
)
def test_a_bad_value_is_refused_by_field(field: str, value: Any, expected: str) -> None:
    with pytest.raises(UserError, match=f"^{field} must be .*{expected}.*, got {value}$"):
        NetworkConfig(**{field: value})


def test_resnet_has_no_transposed_convolutions() -> None:
    with pytest.raises(UserError, match="upsampling='transposed' needs family='dcgan'"):
        NetworkConfig(family="resnet", upsampling="transposed")


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_projection_needs_a_norm_to_condition(build) -> None:
    config = NetworkConfig(generator_norm="none", base_channels=8, resolution=32)
    with pytest.raises(UserError, match=r"generator_norm='none'.*use conditioning='concat'"):
        build(config, 2)
    build(config, 1)  # nothing to condition on
    with pytest.raises(UserError, match="n_classes must be at least 1, got 0"):
        build(config, 0)


def test_widths_double_towards_8_pixels_within_bounds() -> None:
    sizes = (256, 128, 64, 32, 16, 8, 4)
    small, base = NetworkConfig(base_channels=32), NetworkConfig(base_channels=64)
    assert [small.channels_at(size) for size in sizes] == [16, 16, 32, 64, 128, 256, 256]
    assert [base.channels_at(size) for size in sizes] == [32, 32, 64, 128, 256, 512, 512]
    assert NetworkConfig(base_channels=128).channels_at(8) == 512


def test_relu_has_slope_zero_and_the_output_sets_the_range() -> None:
    assert NetworkConfig(activation="relu").slope == 0
    assert NetworkConfig(negative_slope=0.1).slope == 0.1
    assert NetworkConfig().image_range == (-1, 1)
    assert NetworkConfig(output="sigmoid").image_range == (0, 1)

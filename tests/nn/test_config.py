"""What configurations are refused, and the widths that they give."""

import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn import NetworkConfig, build_discriminator, build_generator, families
from cxrgan_fast.nn.families.dcgan import DCGANSettings
from cxrgan_fast.nn.family import FAMILIES, FamilySettings, register


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("family", "stylegan", "resnet, dcgan, r3"),
        ("resolution", 48, "32, 64, 128, 256, 512"),
        ("image_channels", 2, "1, 3"),
        ("latent_size", 0, "from 1 to 2.40"),
        ("base_channels", 0, "multiple of 8"),
        ("base_channels", 20, "multiple of 8"),
        ("extra_layers", -1, "from 0 to 128"),
        ("activation", "gelu", "leaky_relu, relu"),
        ("negative_slope", -0.2, "from 0 to 1"),
        ("negative_slope", float("nan"), "from 0 to 1"),
        ("output", "linear", "tanh, sigmoid"),
        ("conditioning", "none", "projection, concat"),
        ("generator_norm", "layer", "batch, none"),
    ],
)
def test_a_bad_value_is_refused_by_field(field: str, value: Any, expected: str) -> None:
    with pytest.raises(UserError, match=f"^{field} should be .*{expected}.*, got {value!r}(;|$)"):
        NetworkConfig(**{field: value})


def test_a_bad_value_of_a_family_is_refused_by_field() -> None:
    with pytest.raises(UserError, match=r"^upsampling should be one of resize, .*'x'"):
        NetworkConfig(family="dcgan", own=DCGANSettings(upsampling="x"))  # type: ignore[arg-type]


def test_a_family_brings_its_own_settings() -> None:
    config = NetworkConfig(family="dcgan", own=DCGANSettings(upsampling="transposed"))
    assert dataclasses.replace(config, base_channels=16).own == config.own
    assert dataclasses.replace(config, family="resnet").own == FamilySettings()
    assert NetworkConfig(family="dcgan").own == DCGANSettings()


def test_the_choices_of_family_are_those_that_are_registered() -> None:
    assert get_args(get_type_hints(NetworkConfig)["family"]) == ("resnet", "dcgan", "r3")
    files = (Path(families.__file__).parent).glob("[a-z]*.py")
    assert {path.stem for path in files} == set(FAMILIES)


def test_two_families_share_no_name() -> None:
    resnet = FAMILIES["resnet"]
    with pytest.raises(ValueError, match="there is a family 'resnet' already"):
        register(resnet)
    with pytest.raises(ValueError, match="setting 'upsampling' of family 'new' is one of 'dcgan'"):
        register(dataclasses.replace(resnet, name="new", settings=DCGANSettings))
    assert set(FAMILIES) == {"resnet", "dcgan", "r3"}


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

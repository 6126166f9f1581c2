"""Settings of one family: its flags and keys, and what is said where another family was chosen."""

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn.families.dcgan import DCGANSettings
from cxrgan_fast.nn.families.r3 import R3Settings
from cxrgan_fast.nn.family import FAMILIES, FamilySettings
from cxrgan_fast.settings.checks import check
from cxrgan_fast.settings.config import TrainConfig, flatten, override
from cxrgan_fast.settings.config_file import read_config, read_config_file, write_config
from cxrgan_fast.train import parse


@pytest.mark.parametrize("family", FAMILIES)
def test_the_help_of_a_family_shows_its_own_settings_alone(family, capsys):
    with pytest.raises(SystemExit):
        parse(["--family", family, "--help"])
    said = capsys.readouterr().out
    assert ("--upsampling" in said) == (family == "dcgan")
    assert ("--blocks-per-size" in said) == ("--group-size" in said) == (family == "r3")


@pytest.mark.parametrize("flags", [["--spectral-norm"], ["--generator-norm", "none"]])
def test_what_does_nothing_in_a_network_without_normalization_is_refused(flags):
    flags = [*flags, "--conditioning", "concat", "--device", "cpu"]
    check(parse(flags)[0])
    said = f"^{flags[0]} does nothing with --family r3; leave it out$"
    with pytest.raises(UserError, match=said):
        check(parse(["--family", "r3", *flags])[0])


def test_a_flag_of_another_family_is_refused_by_name():
    said = r"^--upsampling is a setting of --family dcgan, got --family resnet; leave it out$"
    for flags in (["--upsampling", "transposed"], ["--upsampling=resize"]):
        with pytest.raises(UserError, match=said):
            parse([*flags, "--device", "cpu"])


def test_flags_and_files_reach_the_family(tmp_path):
    flags = ["--family", "dcgan", "--upsampling", "transposed", "--device", "cpu"]
    config, _ = parse(flags)
    assert config.network.own == DCGANSettings("transposed")
    file = tmp_path / "config.yaml"
    for text in (write_config(config), "family: dcgan\nupsampling: transposed\n"):
        file.write_text(text)
        again, _ = parse(["--config", str(file), "--device", "cpu"])
        assert again.network.own == DCGANSettings("transposed")
    file.write_text("upsampling: transposed\n")
    assert parse(["--config", str(file), "--family", "dcgan", "--device", "cpu"])[
        0
    ].network.own == DCGANSettings("transposed")
    with pytest.raises(UserError, match="a setting of --family dcgan, got --family resnet"):
        parse(["--config", str(file), "--device", "cpu"])


def test_a_run_of_before_that_names_the_settings_of_all_families_goes_on(tmp_path):
    path = tmp_path / "config.yaml"
    old = "network:\n  family: {}\n  upsampling: {}\n"
    for family, value in (("resnet", "resize"), ("dcgan", "transposed")):
        path.write_text(old.format(family, value))
        config = override(TrainConfig(), read_config_file(path))
        assert config.network.family == family
        assert flatten(config).get("upsampling") == (value if family == "dcgan" else None)
    with pytest.raises(UserError, match="--upsampling is a setting of --family dcgan"):
        override(TrainConfig(), read_config(old.format("resnet", "transposed"), path))


def test_another_family_brings_its_own_settings():
    config = override(TrainConfig(), {"family": "dcgan", "upsampling": "transposed"})
    assert config.network.own == DCGANSettings("transposed")
    assert override(config, {"steps": 3}).network.own == config.network.own
    assert override(config, {"family": "resnet"}).network.own == FamilySettings()


def test_the_default_of_a_cpu_has_no_groups_and_flags_have_their_way():
    usual = R3Settings()
    assert (usual.group_size, usual.expansion) == (16, 2.0)

    def own(*flags):
        return parse(["--family", "r3", *flags])[0].network.own

    assert own("--device", "cpu") == own("--preset", "small") == R3Settings(2, 0.75, 0)
    assert own("--device", "cpu", "--preset", "base") == usual
    assert own("--device", "cpu", "--group-size", "16", "--expansion", "2") == usual

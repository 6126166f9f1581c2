"""A generator survives its file, and a file that is not one is refused in a line."""

import dataclasses
import json
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn import NetworkConfig, build_generator
from cxrgan_fast.nn.families.dcgan import DCGANSettings
from cxrgan_fast.nn.families.r3 import R3Settings
from cxrgan_fast.runs.generator_file import copy_generator, load_generator, save_generator

NETWORK = NetworkConfig(resolution=32, base_channels=8, latent_size=8, output="sigmoid")
CLASSES = ("normal", "bacterial")
HEADER = "cxrgan_fast.generator"


@pytest.fixture
def generator():
    generator = build_generator(NETWORK, len(CLASSES))
    with torch.no_grad():
        for tensor in generator.state_dict().values():
            if tensor.is_floating_point():  # running statistics too
                tensor.copy_(torch.rand_like(tensor) + 0.1)
    return generator


@pytest.fixture
def saved(tmp_path, generator):
    path = tmp_path / "generator.safetensors"
    extra = {"data": "phantom"}
    save_generator(
        path, generator.state_dict(), NETWORK, CLASSES, step=7, images_seen=56, extra=extra
    )
    return path


def rewrite(path: Path, **changes: object) -> None:
    """Write the file again with other header fields."""
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
    save_file(load_file(path), path, {HEADER: json.dumps({**header, **changes})})


def test_a_copy_has_more_in_its_header_and_the_same_weights(saved, tmp_path):
    copy = tmp_path / "copy.safetensors"
    before = torch.get_rng_state()
    copy_generator(saved, copy, {"fid": "1.5"})
    assert torch.equal(torch.get_rng_state(), before)  # no network was made
    a, b = load_generator(saved), load_generator(copy)
    assert (b.step, b.images_seen, b.network, b.class_names) == (7, 56, NETWORK, CLASSES)
    assert b.extra == {"data": "phantom", "fid": "1.5"}
    weights = a.generator.state_dict(), b.generator.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    saved.write_bytes(saved.read_bytes()[:-10])
    with pytest.raises(UserError, match=rf"^{saved} is damaged"):
        copy_generator(saved, copy, {})
    assert load_generator(copy).step == 7


def test_all_that_was_saved_comes_back(saved, generator):
    snapshot = load_generator(saved)
    assert snapshot.network == NETWORK
    assert snapshot.class_names == CLASSES
    assert (snapshot.step, snapshot.images_seen) == (7, 56)
    assert snapshot.extra == {"data": "phantom"}
    assert not snapshot.generator.training
    assert not any(parameter.requires_grad for parameter in snapshot.generator.parameters())
    latents, labels = torch.randn(4, 8), torch.tensor([0, 1, 0, 1])
    expected = generator.eval()(latents, labels)
    assert torch.equal(snapshot.generator(latents, labels), expected)


def test_every_setting_of_the_network_is_kept(tmp_path):
    network = NetworkConfig(
        family="dcgan", resolution=64, image_channels=3, latent_size=6, base_channels=16,
        extra_layers=1, activation="relu", negative_slope=0.1, output="sigmoid",
        spectral_norm=True, conditioning="concat", generator_norm="none",
        minibatch_std=4, normalize_latents=True, scale_residuals=True,
        own=DCGANSettings(upsampling="transposed"),
    )  # fmt: skip
    r3 = R3Settings(blocks_per_size=1, expansion=1.5, group_size=8)
    networks = (  # parts of the latent need a norm
        network,
        dataclasses.replace(network, generator_norm="batch", latent_chunks=True),
        NetworkConfig(family="r3", own=r3, resolution=32, base_channels=8),
    )
    for setting in dataclasses.fields(network):
        default = getattr(NetworkConfig(), setting.name)
        assert setting.name == "resolution" or any(
            getattr(each, setting.name) != default for each in networks[:2]
        )
    path = tmp_path / "generator.safetensors"
    for each in networks:
        weights = build_generator(each, 3).state_dict()
        save_generator(path, weights, each, "abc", step=0, images_seen=0)
        assert load_generator(path).network == each


def test_the_same_generator_gives_the_same_bytes(saved, generator):
    before = saved.read_bytes()
    save_generator(
        saved, generator.to(memory_format=torch.channels_last).state_dict(), NETWORK,
        list(CLASSES), step=7, images_seen=56, extra={"data": "phantom"},
    )  # fmt: skip
    assert saved.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not safetensors", bytes(1000)])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "generator.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path} is damaged or not a safetensors file"):
        load_generator(path)


@pytest.mark.parametrize("length", [4, 100, -1])
def test_a_truncated_file_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(UserError, match=rf"^{saved} is damaged"):
        load_generator(saved)


def test_a_pickle_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "generator.safetensors"
    torch.save(Bomb(), path)
    with pytest.raises(UserError, match="damaged or not a safetensors file"):
        load_generator(path)
    assert not (tmp_path / "executed").exists()


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"gone\.safetensors: there is no such file"):
        load_generator(tmp_path / "gone.safetensors")
    with pytest.raises(UserError, match=rf"^cannot read {tmp_path}: "):
        load_generator(tmp_path)


def test_safetensors_of_another_program_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"is not a generator of cxrgan_fast"):
        load_generator(path)


def test_a_newer_format_is_refused(saved):
    rewrite(saved, version=99)
    with pytest.raises(UserError, match=r"is in format 99 .* reads format 3"):
        load_generator(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"depth": 3}},
        {"network": None},
        {"step": "many"},
        {"class_names": None},
        {"extra": 5},
    ],
)
def test_a_header_of_the_wrong_form_is_refused(saved, changes):
    rewrite(saved, **changes)
    with pytest.raises(UserError, match=rf"^{saved} has a damaged header"):
        load_generator(saved)


def test_a_network_that_cannot_be_is_refused_by_field(saved):
    rewrite(saved, network={**dataclasses.asdict(NETWORK), "resolution": 48})
    with pytest.raises(
        UserError, match="resolution should be one of 32, 64, 128, 256, 512, got 48"
    ):
        load_generator(saved)


def test_weights_of_another_network_are_refused(saved):
    rewrite(saved, network={**dataclasses.asdict(NETWORK), "resolution": 64})
    with pytest.raises(UserError, match="does not hold the weights of the network"):
        load_generator(saved)


@pytest.mark.parametrize("names", [["", "a"], [1, "a"], ["a\x1b[2J", "b"], "ab", [], ["a", "a"]])
def test_class_names_that_cannot_be_worked_with_are_refused(saved, names):
    rewrite(saved, class_names=names)
    with pytest.raises(UserError, match="has a damaged header: ") as caught:
        load_generator(saved)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("names", [("../..", "a"), ("N/A", "No Lung Opacity / Not Normal")])
def test_class_names_that_name_no_folder_are_read(tmp_path, generator, names):
    path = tmp_path / "generator.safetensors"
    save_generator(path, generator.state_dict(), NETWORK, names, step=7, images_seen=56)
    assert load_generator(path).class_names == names

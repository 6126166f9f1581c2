"""Interpolation sheets go from one thing to the other and say so."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from cxrgan_fast.nn import NetworkConfig
from cxrgan_fast.sampling import interpolation
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.sampling.generation import generate_images
from cxrgan_fast.sampling.interpolation import interpolation_sheets, slerp
from cxrgan_fast.sampling.latents import latents_for

T = torch.linspace(0, 1, 9)


# -------------------------------------------------------------------------------- latents


def test_slerp_begins_and_ends_at_its_ends():
    a, b = torch.randn(2, 128)
    path = slerp(a, b, T)
    assert path.shape == (9, 128)
    assert torch.allclose(path[0], a, atol=1e-5)
    assert torch.allclose(path[-1], b, atol=1e-5)


def test_slerp_turns_evenly_and_keeps_the_length():
    a, b = torch.nn.functional.normalize(torch.randn(2, 128, dtype=torch.float64))
    path = slerp(a, b, T.double())
    assert torch.allclose(path.norm(dim=1), torch.ones(9, dtype=torch.float64))
    steps = (path[1:] * path[:-1]).sum(1).acos()
    assert torch.allclose(steps, steps[0].expand(8))
    assert (a + b).norm() / 2 < 0.9  # a straight line would not have kept it


@pytest.mark.parametrize("scale", [1.0, 2.0, -1.0])
def test_slerp_of_parallel_latents_is_a_line(scale):
    a = torch.randn(128)
    assert torch.allclose(slerp(a, a * scale, T)[4], a * (1 + scale) / 2, atol=1e-5)


# --------------------------------------------------------------------------------- sheets


@pytest.fixture
def sheets(monkeypatch):
    """What the sheets are drawn from: images, names of the rows and of the columns."""
    drawn = {}
    write_grid = interpolation.write_grid

    def spy(path, images, rows, columns):
        drawn[path.name] = (images.view(len(rows), len(columns), *images.shape[1:]), rows, columns)
        write_grid(path, images, rows, columns)

    monkeypatch.setattr(interpolation, "write_grid", spy)
    return drawn


def write_interpolations(sources, out, seed: int = 0) -> list[Path]:
    for name, write in interpolation_sheets(sources, seed).items():
        write(out / name)
    return [out / name for name in interpolation_sheets(sources, seed)]


def close(images: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal but for values on the edge between two bytes."""
    assert expected.float().std() > 5
    return (images.int() - expected.int()).abs().max() <= 1


def images_of(source, count: int, seed: int = 0) -> torch.Tensor:
    latents = latents_for(seed, source.class_name, range(count), 8)
    return generate_images(source, latents, torch.full((count,), source.label))


def test_the_latent_sheet_joins_the_images_of_the_set(make_run, tmp_path, sheets):
    sources = load_sources(make_run())
    write_interpolations(sources, tmp_path, seed=3)
    images, rows, columns = sheets["latent_interpolation.png"]
    assert rows == [f"{name} {pair}" for name in ("normal", "bacterial")
                    for pair in ("0 to 1", "2 to 3", "4 to 5")]  # fmt: skip
    assert columns == ["0", "0.125", "0.25", "0.375", "0.5", "0.625", "0.75", "0.875", "1"]
    for source, block in zip(sources, images.split(3), strict=True):
        expected = images_of(source, 6, seed=3)
        assert close(block[:, 0], expected[0::2])
        assert close(block[:, -1], expected[1::2])
    assert (images[:, 4] != images[:, 0]).any()


def test_the_class_sheet_goes_from_class_to_class_with_the_same_latents(make_run, tmp_path, sheets):
    sources = load_sources(make_run())
    write_interpolations(sources, tmp_path)
    images, rows, columns = sheets["class_interpolation_normal_to_bacterial.png"]
    assert rows == [f"latent {i}" for i in range(6)]
    assert (columns[0], columns[4], columns[-1]) == ("normal", "0.5", "bacterial")
    latents = latents_for(0, "normal", range(6), 8)
    for column, label in ((0, 0), (-1, 1)):
        expected = generate_images(sources[label], latents, torch.full((6,), label))
        assert close(images[:, column], expected)
    away = [(images[:, 0].float() - images[:, i].float()).abs().mean() for i in range(9)]
    assert away == sorted(away)
    assert away[-1] > 1


def test_there_is_a_class_sheet_for_each_two_neighbors_of_the_classes_asked_for(make_run, tmp_path):
    run = make_run(class_names=["a", "b", "c"])
    latent = tmp_path / "latent_interpolation.png"
    written = write_interpolations(load_sources(run), tmp_path)
    assert [path.name for path in written[1:]] == [
        "class_interpolation_a_to_b.png", "class_interpolation_b_to_c.png",
    ]  # fmt: skip
    assert written[0] == latent
    for path in written:
        with Image.open(path) as sheet:
            assert sheet.width > 9 * 128
    written = write_interpolations(load_sources(run, None, ["c", "a"]), tmp_path)
    assert written == [latent, tmp_path / "class_interpolation_c_to_a.png"]


def test_between_generators_of_one_class_each_there_are_no_class_sheets(make_run, tmp_path):
    make_run("run/normal", ["normal"])
    make_run("run/bacterial", ["bacterial"])
    written = write_interpolations(load_sources(tmp_path / "run"), tmp_path)
    assert [path.name for path in written] == ["latent_interpolation.png"]


@pytest.mark.parametrize("conditioning", ["projection", "concat"])
def test_both_ways_of_conditioning_can_be_mixed(make_run, tmp_path, sheets, conditioning):
    network = NetworkConfig(
        resolution=32, base_channels=8, latent_size=8, conditioning=conditioning
    )
    write_interpolations(load_sources(make_run(network=network)), tmp_path)
    images, _, _ = sheets["class_interpolation_normal_to_bacterial.png"]
    assert (images[:, 0] != images[:, -1]).any()

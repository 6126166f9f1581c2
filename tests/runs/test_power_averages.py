"""The averages of a run: found, summed up, dropped, refused."""

from pathlib import Path

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn import NetworkConfig, build_generator
from cxrgan_fast.nn.power_ema import fit_profile
from cxrgan_fast.runs.generator_file import save_generator
from cxrgan_fast.runs.power_averages import (
    average_path,
    drop_averages_after,
    make_average,
    saved_averages,
)

NETWORK = NetworkConfig(resolution=32, base_channels=8, latent_size=8)
CLASSES = ("normal", "bacterial")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with averages of two steps, whose every weight is a number of its own."""
    (tmp_path / "averages").mkdir()
    generator = build_generator(NETWORK, len(CLASSES))
    for number, (step, width) in enumerate(((4, "0.05"), (4, "0.1"), (9, "0.05"), (9, "0.1")), 1):
        with torch.no_grad():
            for tensor in generator.state_dict().values():
                tensor.fill_(number)
        path = average_path(tmp_path, width, step)
        weights = generator.state_dict()
        save_generator(path, weights, NETWORK, CLASSES, step=step, images_seen=8 * step)
    (tmp_path / "averages" / "power-mine.safetensors").touch()
    return tmp_path


def test_an_average_is_the_sum_that_fits_with_the_newest_statistics(run):
    stored = [(step, width) for step, width, _ in saved_averages(run)]
    assert stored == [(4, 0.05), (4, 0.1), (9, 0.05), (9, 0.1)]
    for width in (0.05, 0.07, 0.2):
        made = make_average(run, width)
        factors, error = fit_profile(stored, 9, width)
        expected = sum(
            factor * number for factor, number in zip(factors, (1, 2, 3, 4), strict=True)
        )
        for parameter in made.generator.parameters():
            torch.testing.assert_close(parameter, torch.full_like(parameter, expected))
        assert all(float(b.flatten()[0]) == 4 for b in made.generator.buffers() if b.numel())
        assert (made.step, made.images_seen, made.class_names) == (9, 72, CLASSES)
        assert made.extra["sigma_rel"] == f"{width:g}"
        assert float(made.extra["profile_error"]) == pytest.approx(error, abs=1e-6)


def test_what_a_run_makes_again_is_dropped(run):
    drop_averages_after(run, 4)
    assert [step for step, *_ in saved_averages(run)] == [4, 4]
    assert (run / "averages" / "power-mine.safetensors").exists()


def test_what_cannot_be_is_refused_by_name(run, tmp_path):
    for width in (0.0, 0.5, float("nan")):
        with pytest.raises(UserError, match=r"^--ema should be a number above 0 and at most 0.28"):
            make_average(run, width)
    with pytest.raises(UserError, match=r"has kept no averages .* with --power-ema-every N"):
        make_average(tmp_path / "other", 0.05)
    path = average_path(run, "0.05", 4)
    other = NetworkConfig(resolution=32, base_channels=16, latent_size=8)
    weights = build_generator(other, 2).state_dict()
    save_generator(path, weights, other, CLASSES, step=4, images_seen=32)
    with pytest.raises(UserError, match=r"power-0.05-00000004.safetensors is of another network"):
        make_average(run, 0.07)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(UserError, match=r"power-0.05-00000004.safetensors"):
        make_average(run, 0.07)

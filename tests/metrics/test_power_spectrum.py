"""Power-spectrum distance: a slow transform as the definition, closed forms, and what it sees."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Images, Resamples
from cxrgan_fast.metrics.extractor import Features
from cxrgan_fast.metrics.metric import Sets, all_metrics
from cxrgan_fast.metrics.power_spectrum import (
    power_spectrum_distance,
    radial_spectra,
    ring_frequencies,
)


def _noise(n: int, size: int | tuple[int, int] = 16, channels: int = 1) -> Tensor:
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8)


def _by_definition(images: np.ndarray) -> np.ndarray:
    """Every frequency by its own sum over pixels, put into rings one by one."""
    height, width = images.shape[2:]
    gray = images.astype(float).mean(1) / 255
    gray -= gray.mean((1, 2), keepdims=True)
    of_rows = np.exp(-2j * np.pi * np.outer(np.arange(height), np.arange(height)) / height)
    of_columns = np.exp(-2j * np.pi * np.outer(np.arange(width), np.arange(width)) / width)
    power = np.abs(of_rows @ gray @ of_columns) ** 2 / (height * width)
    rings: dict[int, list[np.ndarray]] = {}
    for u in range(height):
        for v in range(width):
            f = np.hypot(min(u, height - u) / height, min(v, width - v) / width)
            rings.setdefault(round(f * max(height, width)), []).append(power[:, u, v])
    kept = [np.mean(rings[ring], 0) for ring in sorted(rings) if ring > 0]
    return 10 * np.log10(np.stack(kept, 1) + 1 / (12 * 255**2))


@pytest.mark.parametrize("size", [8, 15, (6, 10)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_definition(size: int | tuple[int, int], channels: int) -> None:
    real, fake = _noise(5, size, channels), _noise(70, size, channels) // 2
    expected = [_by_definition(side.numpy()) for side in (real, fake)]
    np.testing.assert_allclose(radial_spectra(fake).numpy(), expected[1], rtol=1e-9)
    difference = expected[1].mean(0) - expected[0].mean(0)
    found = power_spectrum_distance(real, fake)
    assert found.value == pytest.approx(np.sqrt((difference**2).mean()))
    assert found.details["difference"] == pytest.approx(difference.tolist())
    assert len(found.details["frequencies"]) == len(difference)


def test_half_the_contrast_is_six_decibels_everywhere() -> None:
    real = (_noise(4, 12) // 2) * 2
    found = power_spectrum_distance(real, real // 2)
    assert found.value == pytest.approx(20 * np.log10(2), abs=2e-3)  # but for the rounding's power
    assert found.details["difference"] == pytest.approx([-found.value] * 8, abs=2e-3)
    assert power_spectrum_distance(real, real).value == 0
    # The exposure is no detail.
    assert power_spectrum_distance(real // 2, real // 2 + 100).value == pytest.approx(0, abs=1e-9)


def test_power_is_found_at_its_frequency() -> None:
    stripes = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    wave = 100 + 50 * torch.cos(2 * torch.pi * 6 / 32 * torch.arange(32))
    stripes[:] = wave.round().to(torch.uint8)
    found = power_spectrum_distance(torch.full_like(stripes, 100), stripes)
    assert found.details["worst_frequency"] == 6 / 32
    assert max(found.details["difference"]) == found.details["difference"][5] > 20
    # The pattern of a transposed convolution, beyond half a cycle a pixel.
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 20 + 100
    grid = board.to(torch.uint8).expand(2, 1, 32, 32)
    found = power_spectrum_distance(torch.full_like(grid, 100), grid)
    assert found.details["worst_frequency"] == 23 / 32  # √2/2, rounded to a ring
    assert ring_frequencies(32, 32)[-1] == 23 / 32


def test_constant_images_have_the_power_of_rounding() -> None:
    flat = torch.full((2, 1, 8, 8), 7, dtype=torch.uint8)
    assert radial_spectra(flat).numpy() == pytest.approx(10 * np.log10(1 / (12 * 255**2)))


def test_standard_errors_are_those_of_fresh_draws() -> None:
    values, errors = [], []
    for draw in range(60):
        real, fake = _noise(40, 8), (_noise(40, 8).float() * 0.8).to(torch.uint8)
        resamples = Resamples.draw(40, 40, seed=draw) if draw < 10 else None
        found = power_spectrum_distance(real, fake, resamples=resamples)
        values.append(found.value)
        if resamples is not None:
            errors.append(found.standard_error)
    ratio = np.mean(errors) / np.std(values, ddof=1)
    assert 0.7 < ratio < 1.5, ratio


def test_what_it_cannot_be_computed_of() -> None:
    with pytest.raises(UserError, match="got 0 real and 2 generated"):
        power_spectrum_distance(_noise(0), _noise(2))
    with pytest.raises(UserError, match="more than one pixel, got 1 x 1"):
        power_spectrum_distance(_noise(2, 1), _noise(2, 1))
    with pytest.raises(ValueError, match="expected"):
        power_spectrum_distance(_noise(2, 8), _noise(2, 9))


def test_the_record_takes_images() -> None:
    real, fake = _noise(6), _noise(5)
    vectors = [Features(torch.zeros(len(side), 1)) for side in (real, fake)]
    metric = all_metrics()["power_spectrum"]
    found = metric.compute(Sets(*vectors, Images(real, fake, real)))
    assert found == power_spectrum_distance(real, fake)
    with pytest.raises(UserError, match="only their features are at hand"):
        metric.compute(Sets(*vectors))

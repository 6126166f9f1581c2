"""Power-function averages against sums of recorded weights."""

import numpy as np
import pytest
import torch
from torch import nn

from cxrgan_fast.nn.power_ema import WIDTHS, PowerEMA, exponent_of, fit_profile

STEPS, EVERY = 240, 20


def counts(step: int, width: float) -> np.ndarray:
    """What the weights of steps 1 to ``step`` count: each the profile's part of its step."""
    power = exponent_of(width) + 1
    edges = (np.arange(step + 1) / step) ** power
    return np.diff(edges)


@pytest.fixture(scope="module")
def recorded() -> tuple[np.ndarray, dict[tuple[int, float], np.ndarray]]:
    """A random walk of weights, a row a step; and what the tracks were every so many steps."""
    random = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(30, 20), nn.BatchNorm1d(20))
    tracks = PowerEMA(network)
    rows, stored = [], {}
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            for tensor in (*network.parameters(), network[1].running_mean):
                tensor.add_(torch.randn(tensor.shape, generator=random))
        tracks.update(network, torch.tensor(step - 1))
        rows.append(nn.utils.parameters_to_vector(network.parameters()).detach().double().numpy())
        if step % EVERY == 0:
            for width, module in zip(WIDTHS, tracks.modules, strict=True):
                vector = nn.utils.parameters_to_vector(module.parameters())
                stored[step, width] = vector.double().numpy()
    for module in tracks.modules:
        assert torch.equal(module[1].running_mean, network[1].running_mean)
    return np.stack(rows), stored


def test_the_exponents_are_those_of_the_paper():
    assert exponent_of(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent_of(0.10) == pytest.approx(6.94, abs=0.005)
    for width in (0.01, 0.05, 0.2, 0.28):
        gamma = exponent_of(width)
        assert (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5 == pytest.approx(width)
    for width in (0.0, -0.1, 0.29, float("nan")):
        with pytest.raises(ValueError, match=r"width must be above 0 and at most 0.28"):
            exponent_of(width)


def test_the_tracks_are_the_sums_of_all_weights_so_far(recorded):
    weights, stored = recorded
    for (step, width), average in stored.items():
        expected = counts(step, width) @ weights[:step]
        np.testing.assert_allclose(average, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


# 0.25 takes weights from before the first of the 12 snapshots.
WANTED = {
    0.04: 0.02,
    0.05: 1e-5,
    0.06: 0.01,
    0.08: 0.01,
    0.1: 1e-5,
    0.15: 0.01,
    0.2: 0.02,
    0.25: 0.03,
}


@pytest.mark.parametrize("width", WANTED)
def test_any_width_is_made_of_what_was_stored(recorded, width):
    weights, stored = recorded
    factors, error = fit_profile(list(stored), STEPS, width)
    made = sum(factor * each for factor, each in zip(factors, stored.values(), strict=True))
    wanted = counts(STEPS, width)
    average = wanted @ weights
    # How far it is from the last weights, which a fit that did nothing would leave.
    far = np.linalg.norm(average - weights[-1])
    assert np.linalg.norm(made - average) < WANTED[width] * far
    # What the fit says of itself is what the profiles of single steps say.
    profile = sum(
        factor * np.pad(counts(*key), (0, STEPS - key[0]))
        for factor, key in zip(factors, stored, strict=True)
    )
    found = np.linalg.norm(profile - wanted) / np.linalg.norm(wanted)
    assert found == pytest.approx(error, abs=0.01)


def test_forty_files_give_every_usual_width_to_within_a_percent():
    stored = [(500 * k, width) for k in range(1, 41) for width in WIDTHS]
    errors = [fit_profile(stored, 20_000, width)[1] for width in np.linspace(0.03, 0.2, 35)]
    assert 0.001 < max(errors) < 0.01


def test_a_fit_says_when_it_is_poor(recorded):
    _, stored = recorded
    few = [key for key in stored if key[0] in (120, 240)]
    assert fit_profile(few, STEPS, 0.01)[1] > 0.3
    assert fit_profile(few, STEPS, 0.05)[1] < 1e-6
    assert fit_profile(list(stored), STEPS, 0.07)[1] < fit_profile(few, STEPS, 0.07)[1] + 1e-9


def test_the_state_goes_on_to_the_bit():
    network = nn.Linear(3, 2)
    straight, first, second = (PowerEMA(network) for _ in range(3))
    for step in range(6):
        with torch.no_grad():
            network.weight.add_(torch.randn(2, 3))
        straight.update(network, torch.tensor(step))
        if step == 3:
            second.load_state_dict(first.state_dict())
        (first if step < 3 else second).update(network, torch.tensor(step))
    for a, b in zip(straight.modules, second.modules, strict=True):
        assert torch.equal(a.weight, b.weight)
    assert not torch.equal(straight.modules[0].weight, straight.modules[1].weight)

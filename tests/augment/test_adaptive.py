"""The control by itself: its rule, against a few lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cxrgan_fast.augment.adaptive import INTERVAL, AdaptiveProbability, amount_of_a_move


def observed(start: float, target: float, amount: float, sequence: list[float]) -> list[float]:
    """The probability after each of a sequence of r_t."""
    probability = torch.tensor(start)
    control = AdaptiveProbability(probability, target, amount)
    after = []
    for r_t in sequence:
        control.observe(torch.tensor(r_t))
        after.append(float(probability))
    return after


@pytest.mark.parametrize(("start", "target"), [(0.0, 0.6), (1.0, 0.6), (0.3, 0.2)])
def test_the_rule_is_the_papers(start, target):
    random = np.random.default_rng(0)
    drift = np.concatenate([np.full(100, 0.9), np.full(250, -0.2), np.linspace(0, 1, 250)])
    sequence = np.clip(drift + random.normal(0, 0.3, 600), -1, 1)
    p, expected = start, []
    for step in range(600):
        if step % 4 == 3:
            p = np.clip(p + 0.01 * np.sign(sequence[step - 3 : step + 1].mean() - target), 0, 1)
        expected.append(p)
    np.testing.assert_allclose(
        observed(start, target, 0.01, sequence.tolist()), expected, atol=1e-5
    )
    assert len(set(expected)) > 20
    assert {0.0, 1.0} & set(expected)  # an end was met


def test_what_is_no_number_moves_nothing():
    assert observed(0.5, 0.6, 0.1, [float("nan")] * 4 + [1.0] * 4)[-5:] == pytest.approx(
        [0.5, 0.5, 0.5, 0.5, 0.6]
    )


def test_the_target_itself_moves_nothing():
    assert observed(0.5, 0.5, 0.1, [0.5] * 8) == [0.5] * 8


@pytest.mark.parametrize(("ramp", "updates"), [(0.02, 2000), (0.5, 64), (1.0, 4)])
def test_so_much_of_a_run_takes_the_probability_from_0_to_1(ramp, updates):
    after = observed(0.0, 0.6, amount_of_a_move(ramp, updates), [1.0] * updates)
    first = next(step for step, p in enumerate(after, 1) if p > 1 - 1e-4)
    assert first == ramp * updates
    assert len(set(after[:first])) == first / INTERVAL + (INTERVAL > 1)  # in equal moves


def test_its_tensors_stay_where_they_are_and_are_all_there_is():
    one = AdaptiveProbability(torch.tensor(0.2), 0.6, 0.1)
    addresses = [each.data_ptr() for each in one.state().values()]
    for r_t in (0.9, 0.8):
        one.observe(torch.tensor(r_t))
    other = AdaptiveProbability(torch.tensor(0.7), 0.6, 0.1)
    for name, tensor in other.state().items():
        tensor.copy_(one.state()[name])
    for r_t in (0.1, 0.4, 0.9, 0.9, 0.9, 0.9):
        one.observe(torch.tensor(r_t))
        other.observe(torch.tensor(r_t))
        assert torch.equal(one.probability, other.probability)
    assert [each.data_ptr() for each in one.state().values()] == addresses

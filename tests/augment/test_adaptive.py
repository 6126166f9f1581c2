"""The control by itself: its rule, against a few lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cxrgan_fast.augment.adaptive import FARTHEST, INTERVAL, AdaptiveProbability


def observed(start: float, target: float, ramp: float, sequence: list[float]) -> list[float]:
    """The probability after each step of a run with such r_t."""
    probability = torch.tensor(start)
    control = AdaptiveProbability(probability, target, ramp)
    after = []
    for step, r_t in enumerate(sequence, 1):
        share = torch.tensor(step / len(sequence), dtype=torch.float64)
        control.observe(torch.tensor(r_t), share)
        after.append(float(probability))
    return after


@pytest.mark.parametrize(("start", "target"), [(0.0, 0.6), (1.0, 0.6), (0.3, 0.2)])
def test_the_rule_is_the_papers(start, target):
    random = np.random.default_rng(0)
    drift = np.concatenate([np.full(100, 0.9), np.full(250, -0.2), np.linspace(0, 1, 250)])
    sequence = np.clip(drift + random.normal(0, 0.3, 600), -1, 1)
    p, amount, expected = start, 4 / (0.5 * 600), []
    for step in range(600):
        if step % 4 == 3:
            p = np.clip(p + amount * np.sign(sequence[step - 3 : step + 1].mean() - target), 0, 1)
        expected.append(p)
    np.testing.assert_allclose(observed(start, target, 0.5, sequence.tolist()), expected, atol=1e-5)
    assert len(set(expected)) > 20
    assert {0.0, 1.0} & set(expected)  # an end was met


def test_what_is_no_number_moves_nothing():
    after = observed(0.5, 0.6, 5.0, [float("nan")] * 4 + [1.0] * 4)
    assert after[-5:] == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.6])


def test_the_target_itself_moves_nothing():
    assert observed(0.5, 0.5, 0.1, [0.5] * 8) == [0.5] * 8


@pytest.mark.parametrize(("ramp", "steps"), [(0.02, 2000), (0.5, 128), (1.0, 40)])
def test_so_much_of_a_run_takes_the_probability_from_0_to_1(ramp, steps):
    after = observed(0.0, 0.6, ramp, [1.0] * steps)
    first = next(step for step, p in enumerate(after, 1) if p > 1 - 1e-4)
    assert first == ramp * steps
    moves = np.diff([0.0, *after[INTERVAL - 1 : first : INTERVAL]])
    np.testing.assert_allclose(moves, INTERVAL / first, rtol=1e-4)


def test_a_move_of_a_very_short_run_goes_no_farther_than_a_tenth():
    assert observed(0.0, 0.6, 0.02, [1.0] * 12)[3::4] == pytest.approx([0.1, 0.2, 0.3])
    assert FARTHEST == 0.1


def test_a_run_that_is_planned_anew_goes_on_from_where_it_is():
    probability = torch.tensor(0.5)
    control = AdaptiveProbability(probability, 0.6, 1.0)

    def four_steps(*, share: float) -> float:
        before = float(probability)
        for _ in range(INTERVAL):
            control.observe(torch.tensor(1.0), torch.tensor(share, dtype=torch.float64))
        return float(probability) - before

    assert four_steps(share=0.5) == pytest.approx(FARTHEST)
    assert four_steps(share=0.2) == 0.0  # of twice as many steps, say
    assert four_steps(share=0.25) == pytest.approx(0.05)


def test_its_tensors_stay_where_they_are_and_are_all_there_is():
    one = AdaptiveProbability(torch.tensor(0.2), 0.6, 0.5)
    addresses = [each.data_ptr() for each in one.state().values()]
    shares = torch.linspace(0.01, 0.12, 12, dtype=torch.float64)
    sequence = (0.9, 0.8, 0.9, 0.9, 0.9, 0.8, 0.1, 0.4, 0.9, 0.9, 0.9, 0.9)
    for r_t, share in zip(sequence[:6], shares[:6], strict=True):
        one.observe(torch.tensor(r_t), share)
    other = AdaptiveProbability(torch.tensor(0.7), 0.6, 0.5)
    for name, tensor in other.state().items():
        tensor.copy_(one.state()[name])
    for r_t, share in zip(sequence[6:], shares[6:], strict=True):
        one.observe(torch.tensor(r_t), share)
        other.observe(torch.tensor(r_t), share)
        assert torch.equal(one.probability, other.probability)
    assert float(one.probability) == pytest.approx(0.2 + (4 - 4 + 4) / 50)
    assert [each.data_ptr() for each in one.state().values()] == addresses

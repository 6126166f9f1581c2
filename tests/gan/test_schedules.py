"""Schedules: one function for the host's numbers and the device's tensors."""

import pytest
import torch

from cxrgan_fast.gan.schedules import generator_loss_kind, linear_decay, noise_std
from cxrgan_fast.settings.config import TrainConfig, override


@pytest.mark.parametrize("over", [0, 1, 7, 100])
def test_a_tensor_gives_the_bits_of_a_number(over):
    for done in (0, 1, 3, 6, 7, 99, 100, 10**9):
        number = linear_decay(0.3, over, float(done))
        tensor = linear_decay(0.3, over, torch.tensor(done, dtype=torch.float64))
        assert tensor.dtype == torch.float64
        assert tensor.item() == number


def test_the_noise_of_the_device_falls_as_the_one_that_is_logged():
    config = override(TrainConfig(), {"noise_std": 0.4, "noise_decay_steps": 100})
    for step in (0, 25, 99, 100, 500):
        on_device = noise_std(config.objective, torch.tensor(step).double())
        assert float(on_device) == pytest.approx(noise_std(config.objective, step))
    constant = override(TrainConfig(), {"noise_std": 0.4})
    assert float(noise_std(constant.objective, torch.tensor(10**6).double())) == pytest.approx(0.4)


def test_noise_falls_linearly_to_nothing():
    config = override(TrainConfig(), {"noise_std": 0.4, "noise_decay_steps": 100})
    stds = [noise_std(config.objective, step) for step in (0, 25, 100, 500)]
    assert stds == pytest.approx([0.4, 0.3, 0.0, 0.0])
    constant = override(TrainConfig(), {"noise_std": 0.4})
    assert noise_std(constant.objective, 10**6) == 0.4


def test_the_saturating_loss_begins_with_the_other():
    config = override(TrainConfig(), {"loss": "minimax", "early_steps": 10})
    assert generator_loss_kind(config.objective, 9) == "non_saturating"
    assert generator_loss_kind(config.objective, 10) == "minimax"

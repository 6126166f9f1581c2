"""Schedules: one function for the host's numbers and the device's tensors."""

from itertools import pairwise

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.gan.schedules import (
    Progress,
    generator_loss_kind,
    linear_decay,
    noise_std,
    scheduled,
)
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.checks import check
from cxrgan_fast.settings.config import TrainConfig, override


def at_step(done: int) -> Progress[float]:
    return Progress(done, done / 1000)


def on_device(progress: Progress[float]) -> Progress[torch.Tensor]:
    steps, share = torch.tensor(progress.steps), torch.tensor(progress.share).double()
    return Progress(steps, share)


@pytest.mark.parametrize("text", ["3:1", "0.1:0.7:cosine", "2:5:linear:0.3", "5e-4:0:cosine:0.7"])
def test_a_schedule_is_the_same_for_a_tensor_and_exact_at_both_ends(text):
    schedule = Schedule.read(text)
    assert scheduled(schedule, 0.0) == schedule.start
    for share in (schedule.share, (1 + schedule.share) / 2, 1.0):
        assert scheduled(schedule, share) == schedule.end
    for share in (0.0, 0.1, 0.25, 0.29999, 0.5, 0.7, 0.99, 1.0):
        number = scheduled(schedule, share)
        tensor = scheduled(schedule, torch.tensor(share, dtype=torch.float64))
        assert (tensor.dtype, tensor.shape) == (torch.float64, ())
        assert tensor.item() == pytest.approx(number, rel=1e-14, abs=1e-18)
        if schedule.shape == "linear":
            assert tensor.item() == number


def test_a_cosine_is_half_a_wave():
    line, wave = (Schedule(4, 2, shape, 0.8) for shape in ("linear", "cosine"))
    for way, height in ((0.25, 0.1464466), (0.5, 0.5), (0.75, 0.8535534)):
        assert scheduled(line, way * 0.8) == pytest.approx(4 - 2 * way)
        assert scheduled(wave, way * 0.8) == pytest.approx(4 - 2 * height, rel=1e-6)
    steps = [scheduled(wave, k / 100) for k in range(101)]
    assert all(b <= a for a, b in pairwise(steps))


def test_a_plain_number_stays_a_number_on_the_device():
    assert scheduled(0.3, 0.5) == 0.3
    assert scheduled(0.3, torch.tensor(0.5).double()) == 0.3


def test_noise_follows_its_schedule_by_the_share_and_takes_no_second_one():
    config = override(TrainConfig(), {"noise_std": Schedule(0.4, 0.2)})
    for progress in (Progress(0, 0.25), on_device(Progress(0, 0.25))):
        assert float(noise_std(config.objective, progress)) == pytest.approx(0.35)
    both = override(config, {"noise_decay_steps": 5})
    with pytest.raises(UserError, match=r"^--noise-decay-steps 5 does nothing with --noise-std 0"):
        check(both)


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
        device = noise_std(config.objective, on_device(at_step(step)))
        assert device.dtype == torch.float64
        assert device.item() == noise_std(config.objective, at_step(step))
    constant = override(TrainConfig(), {"noise_std": 0.4})
    assert noise_std(constant.objective, on_device(at_step(10**6))).item() == 0.4


def test_noise_falls_linearly_to_nothing():
    config = override(TrainConfig(), {"noise_std": 0.4, "noise_decay_steps": 100})
    stds = [noise_std(config.objective, at_step(step)) for step in (0, 25, 100, 500)]
    assert stds == pytest.approx([0.4, 0.3, 0.0, 0.0])
    constant = override(TrainConfig(), {"noise_std": 0.4})
    assert noise_std(constant.objective, at_step(10**6)) == 0.4


def test_the_saturating_loss_begins_with_the_other():
    config = override(TrainConfig(), {"loss": "minimax", "early_steps": 10})
    assert generator_loss_kind(config.objective, 9) == "non_saturating"
    assert generator_loss_kind(config.objective, 10) == "minimax"

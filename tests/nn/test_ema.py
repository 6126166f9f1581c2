"""The moving average against its formula."""

import pytest
import torch
from torch import nn

from cxrgan_fast.nn import EMA, ConditionalBatchNorm2d


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), ConditionalBatchNorm2d(2, 2))


@torch.no_grad()
def change(module: nn.Module) -> None:
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.add_(torch.randn_like(tensor))


@pytest.mark.parametrize(
    ("ramp", "images_seen", "half_life"),
    [(None, 0, 500), (0.05, 1_000, 50), (0.05, 1_000_000, 500)],
)
def test_update_follows_the_formula(ramp, images_seen, half_life) -> None:
    generator = network()
    ema = EMA(generator, half_life_images=500, ramp=ramp)
    before = [p.clone() for p in ema.module.parameters()]
    change(generator)
    ema.update(generator, images_seen, batch_size=32)
    decay = 0.5 ** (32 / half_life)
    for old, new, averaged in zip(
        before, generator.parameters(), ema.module.parameters(), strict=True
    ):
        torch.testing.assert_close(averaged, decay * old + (1 - decay) * new)
    for new, copied in zip(generator.buffers(), ema.module.buffers(), strict=True):
        assert torch.equal(new, copied)


@pytest.mark.parametrize(("half_life", "ramp"), [(0, None), (500, 0.05)])
def test_without_a_half_life_it_is_the_generator(half_life, ramp) -> None:
    generator = network()
    ema = EMA(generator, half_life, ramp)
    change(generator)
    ema.update(generator, images_seen=0, batch_size=32)
    for new, averaged in zip(generator.parameters(), ema.module.parameters(), strict=True):
        torch.testing.assert_close(averaged, new)


def test_a_half_life_later_an_old_weight_counts_half() -> None:
    generator = nn.Linear(1, 1, bias=False)
    nn.init.ones_(generator.weight)
    ema = EMA(generator, half_life_images=320, ramp=None)
    nn.init.zeros_(generator.weight)
    for step in range(10):
        ema.update(generator, step * 32, batch_size=32)
    assert ema.module.weight.item() == pytest.approx(0.5)


def test_the_copy_is_apart_in_evaluation_mode_and_without_gradients() -> None:
    generator = network()
    ema = EMA(generator, 500)
    assert not ema.module.training
    assert generator.training
    assert not any(p.requires_grad for p in ema.module.parameters())
    assert all(p.requires_grad for p in generator.parameters())
    ema.update(generator, 0, 1)
    assert not ema.module.training


def test_state_round_trip() -> None:
    generator = network()
    ema, other = EMA(generator, 500), EMA(generator, 500)
    change(generator)
    ema.update(generator, 1_000, 32)
    other.load_state_dict(ema.state_dict())
    for name, value in ema.module.state_dict().items():
        assert torch.equal(value, other.module.state_dict()[name])
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


@pytest.mark.parametrize(
    ("half_life", "ramp", "message"),
    [(-1, None, "half_life_images must be at least 0, got -1"), (1, 0, "ramp must be above 0")],
)
def test_bad_arguments_are_named(half_life, ramp, message) -> None:
    with pytest.raises(ValueError, match=message):
        EMA(network(), half_life, ramp)

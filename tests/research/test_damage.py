"""Damages: each does what its strength says, and nothing at strength 0."""

import math

import pytest
import torch

from research.damage import (
    BLUR_DEVIATION,
    CONTRAST_LOSS,
    KINDS,
    NOISE_DEVIATION,
    OCCLUDED_AREA,
    damage,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(n: int = 3, size: int = 64) -> torch.Tensor:
    steps = torch.linspace(0, 3 * math.pi, size)
    wave = 0.5 + 0.2 * torch.sin(steps)[:, None] * torch.cos(steps)[None, :]
    return wave.expand(n, 1, size, size).clone()


@pytest.mark.parametrize("kind", KINDS)
def test_strength_nought_leaves_the_image(kind):
    images = torch.rand(3, 1, 32, 32, generator=generator(1))
    torch.testing.assert_close(damage(images, kind, 0.0, generator()), images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 128])
def test_more_strength_is_more_change_and_the_same_seed_the_same_damage(kind, size):
    images = smooth(8, size)
    images += 0.05 * torch.randn(images.shape, generator=generator(1))
    images.clamp_(0, 1)
    kept = images.clone()
    spoilt = [damage(images, kind, strength, generator(2)) for strength in (0.25, 0.5, 0.75, 1.0)]
    changes = [float((s - images).square().mean()) for s in spoilt]
    assert changes == sorted(changes)
    assert changes[1] > 1e-6  # the weakest blur of 32 pixels is within a quarter of a pixel
    assert changes[-1] > 1e-4
    assert torch.equal(images, kept)
    assert all(0 <= s.min() <= s.max() <= 1 for s in spoilt)
    assert torch.equal(spoilt[-1], damage(images, kind, 1.0, generator(2)))


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_has_its_own_strength(kind):
    images = smooth(4) + 0.1 * torch.rand(4, 1, 64, 64, generator=generator(1))
    strengths = torch.tensor([0.0, 1.0, 0.0, 0.5])
    change = (damage(images, kind, strengths, generator()) - images).abs().amax((1, 2, 3))
    assert (change > 1e-3).tolist() == [False, True, False, True]


def test_blur_is_a_gaussian_of_its_deviation():
    """The second moment of a blurred point is the deviation's square."""
    size = 129
    point = torch.zeros(1, 1, size, size)
    point[..., size // 2, size // 2] = 1
    spread = damage(point, "blur", 0.8, generator())[0, 0]
    offsets = torch.arange(size) - size // 2
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    moment = float((spread.sum(0) * offsets.square()).sum())
    # A kernel cut at 3.75 deviations (3 of the strongest) loses 1 % of its second moment.
    assert moment == pytest.approx((0.8 * BLUR_DEVIATION * size) ** 2, rel=0.01)


def test_noise_has_its_deviation():
    gray = torch.full((4, 1, 64, 64), 0.5)
    noise = damage(gray, "noise", 0.5, generator()) - gray
    # 16,384 values: the deviation of a deviation is 1/sqrt(2n) of it.
    assert float(noise.std()) == pytest.approx(0.5 * NOISE_DEVIATION, rel=5 / math.sqrt(2 * 16384))


def test_occlusion_covers_its_area_in_one_gray():
    images = torch.full((50, 1, 128, 128), 2.0)  # no gray that could be drawn
    covered = damage(images.clamp(max=1), "occlusion", 1.0, generator()) != 1
    shares = covered.float().mean((1, 2, 3))
    assert float((shares - OCCLUDED_AREA).abs().max()) < 2 / 128
    spoilt = damage(smooth(1), "occlusion", 1.0, generator(3))
    _, counts = spoilt.flatten().unique(return_counts=True)
    assert counts.max() > 0.2 * 64 * 64


def test_contrast_shrinks_about_the_mean():
    images = smooth(2)
    spoilt = damage(images, "contrast", 1.0, generator())
    torch.testing.assert_close(spoilt.mean((2, 3)), images.mean((2, 3)))
    torch.testing.assert_close(spoilt.std((2, 3)), images.std((2, 3)) * (1 - CONTRAST_LOSS))


def test_warping_moves_smoothly():
    """Where things go differs from pixel to pixel by far less than they go."""
    size = 64
    ramp = torch.linspace(0, 1, size).expand(1, 1, size, size)
    moved = damage(ramp, "warping", 1.0, generator())[0, 0]
    shift = (moved - ramp[0, 0])[8:-8, 8:-8] * (size - 1)  # in pixels
    assert 0.5 < float(shift.abs().max()) < size / 4
    assert float(shift.diff(dim=0).abs().max()) < 1


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strengths_outside_the_range(strength):
    with pytest.raises(ValueError, match="expected 0 to 1"):
        damage(smooth(1), "blur", strength, generator())


def test_an_unknown_damage():
    with pytest.raises(ValueError, match="expected one of blur, noise"):
        damage(smooth(1), "rust", 0.5, generator())

"""Resampling by itself, against other people's programs, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast.augment.geometry import SMALLEST, Placement, resample


def placed(n: int, generator: torch.Generator, smallest: float = 1.0) -> Placement:
    """Any rotation, a scale from ``smallest`` to 1.5, and a shift that is no whole number."""
    numbers = torch.rand(n, 4, dtype=torch.float64, generator=generator)
    like = numbers[:, 0]
    return (
        Placement.identity(like)
        .rotated((2 * numbers[:, 0] - 1) * math.pi)
        .scaled(smallest + numbers[:, 1] * (1.5 - smallest))
        .shifted(4 * numbers[:, 2] - 2, 4 * numbers[:, 3] - 2)
    )


def images(n: int, height: int, width: int, channels: int = 1) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(n, channels, height, width, dtype=torch.float64) * 2 - 1


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("size", [(12, 12), (9, 14)])
def test_is_scipys_affine_transform(generator, size):
    x, placement = images(16, *size, channels=2), placed(16, generator)
    y = resample(x, placement, 0.25)
    center = (np.array(size) - 1) / 2
    for sample in range(16):
        a, b = placement.turn_real[sample].item(), placement.turn_imaginary[sample].item()
        matrix = np.array([[a, -b], [b, a]])
        shift = np.array([placement.down[sample].item(), placement.right[sample].item()])
        offset = shift + center - matrix @ center
        for channel in range(2):
            expected = ndimage.affine_transform(
                x[sample, channel].numpy(), matrix, offset, order=1, mode="grid-constant", cval=0.25
            )
            np.testing.assert_allclose(y[sample, channel].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("sizes", [(32, 24), (30, 20), (31, 29)])
def test_becoming_smaller_is_antialiased_as_in_pytorch(sizes):
    """As `interpolate` makes it, apart from the rim, where that one knows no outside."""
    large, small = sizes
    x = images(4, large, large)
    factor = torch.full((4,), small / large, dtype=torch.float64)
    y = resample(x, Placement.identity(factor).scaled(factor), 0.0)
    expected = F.interpolate(x, (small, small), mode="bilinear", antialias=True)
    margin = (large - small) // 2
    if (large - small) % 2:
        pytest.fail("the centers of both have to be one")
    middle = y[..., margin : margin + small, margin : margin + small]
    rim = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(middle[rim], expected[rim])


def test_no_detail_is_skipped_where_images_become_smaller():
    """Of stripes of one pixel, which bilinear interpolation would make broad ones of."""
    x = torch.ones(1, 1, 64, 64, dtype=torch.float64)
    x[..., ::2] = -1.0
    factor = torch.tensor([0.75], dtype=torch.float64)
    y = resample(x, Placement.identity(factor).scaled(factor), 0.0)[..., 10:-10, 10:-10]
    assert y.abs().max() < 0.34
    nearest = F.interpolate(x, scale_factor=0.75, mode="bilinear", antialias=False)
    assert nearest.abs().max() > 0.6


def test_a_constant_stays_one(generator):
    x = torch.full((64, 1, 16, 16), 0.7, dtype=torch.float64)
    torch.testing.assert_close(resample(x, placed(64, generator, SMALLEST), 0.7), x)


def test_whole_pixels_keep_their_bits():
    x, shift = torch.rand(3, 2, 7, 10), torch.tensor([0.0, 2.0, -3.0])
    y = resample(x, Placement.identity(shift).shifted(shift, -shift), 0.0)
    assert torch.equal(y[0], x[0])
    assert torch.equal(y[1, :, :5, 2:], x[1, :, 2:, :8])
    assert not y[1, :, 5:].any()
    assert not y[1, :, :, :2].any()
    assert torch.equal(y[2, :, 3:, :7], x[2, :, :4, 3:])


def test_changes_are_made_in_their_order(generator):
    """A shift, then a quarter turn, is the shift turned; both without interpolation."""
    x = images(1, 9, 9)
    none, quarter = (
        torch.zeros(1, dtype=torch.float64),
        torch.full((1,), math.pi / 2, dtype=torch.float64),
    )
    shifted = resample(x, Placement.identity(none).shifted(none + 2, none), 0.0)
    both = Placement.identity(none).shifted(none + 2, none).rotated(quarter)
    torch.testing.assert_close(
        resample(x, both, 0.0), torch.rot90(shifted, -1, (2, 3)), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("smallest", [1.0, SMALLEST])
def test_derivatives_of_any_order(generator, smallest):
    x, placement = images(2, 3, 4, channels=2).requires_grad_(), placed(2, generator, smallest)

    def third(x: Tensor) -> Tensor:
        """A function whose own first derivative goes through a resampling twice."""
        y = resample(x, placement, 0.3)
        (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        return gradient

    assert torch.autograd.gradcheck(lambda x: resample(x, placement, 0.3).square(), (x,))
    assert torch.autograd.gradgradcheck(lambda x: resample(x, placement, 0.3).square(), (x,))
    assert torch.autograd.gradgradcheck(third, (x,))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(generator, dtype, layout):
    placement = placed(8, generator, SMALLEST)
    single = Placement(*(each.float() for each in vars(placement).values()))
    x = images(8, 16, 16, channels=3).to(dtype).contiguous(memory_format=layout)
    y = resample(x, single, 0.3)
    assert y.dtype == dtype
    expected = resample(x.double(), placement, 0.3)
    epsilon = torch.finfo(dtype).eps
    assert (y.double() - expected).abs().max() < max(epsilon / 2, 2e-5)

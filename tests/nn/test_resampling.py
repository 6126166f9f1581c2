"""Resampling by [1, 2, 1]: against the definition, and the two against each other."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast.nn.resampling import binomial_downsample, binomial_upsample


def smoothed(images: Tensor) -> Tensor:
    """[1, 2, 1] / 4 in both directions, zeros beyond the image, from shifted copies."""
    for dim in (2, 3):
        behind, before = (torch.zeros_like(images) for _ in range(2))
        size = images.shape[dim] - 1
        behind.narrow(dim, 1, size).copy_(images.narrow(dim, 0, size))
        before.narrow(dim, 0, size).copy_(images.narrow(dim, 1, size))
        images = (behind + 2 * images + before) / 4
    return images


def images_of(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, 6, 8, generator=generator, dtype=torch.float64)


def test_halved_images_are_every_second_pixel_of_smoothed_ones() -> None:
    images = images_of()
    torch.testing.assert_close(binomial_downsample(images), smoothed(images)[:, :, ::2, ::2])


def test_doubled_images_have_the_pixels_and_between_them_their_means() -> None:
    images = images_of()
    spread = torch.zeros(2, 3, 12, 16, dtype=images.dtype)
    spread[:, :, ::2, ::2] = 4 * images
    doubled = binomial_upsample(images)
    torch.testing.assert_close(doubled, smoothed(spread))
    torch.testing.assert_close(doubled[:, :, ::2, ::2], images)
    torch.testing.assert_close(
        doubled[:, :, 1:-1:2, ::2], (images[:, :, :-1] + images[:, :, 1:]) / 2
    )


def test_they_are_transposes_up_to_a_factor() -> None:
    small, large = images_of(), torch.randn(2, 3, 12, 16, dtype=torch.float64)
    torch.testing.assert_close(
        (binomial_upsample(small) * large).sum(), 4 * (small * binomial_downsample(large)).sum()
    )


@pytest.mark.parametrize("resample", [binomial_upsample, binomial_downsample])
def test_derivatives(resample) -> None:
    images = images_of(2).requires_grad_()
    assert torch.autograd.gradcheck(resample, images)
    assert torch.autograd.gradgradcheck(resample, images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("resample", [binomial_upsample, binomial_downsample])
def test_dtype_and_layout_are_kept(resample, layout, dtype) -> None:
    images = images_of(16).to(dtype).contiguous(memory_format=layout)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # which says nothing here
        got = resample(images)
    assert got.dtype == dtype
    assert got.is_contiguous(memory_format=layout)
    exact = resample(images.double())
    torch.testing.assert_close(got, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-3)
    assert F.mse_loss(got.double(), exact) > 0 or dtype == torch.float64  # it did round

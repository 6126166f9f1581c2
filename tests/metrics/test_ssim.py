"""SSIM of all pairs, against an implementation of one pair after the other with SciPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import ssim
from cxrgan_fast.metrics.ssim import largest_ssim, pairwise_ssim


def slow_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Of two (H, W) arrays of bytes, in float64, on the same windows."""
    a, b = first / 255, second / 255

    def mean(values: np.ndarray) -> np.ndarray:
        # The filter centres its window on a pixel: the first whole one is centred on pixel 3.
        return uniform_filter(values, 7)[3:-3, 3:-3][::4, ::4]

    mean_a, mean_b = mean(a), mean(b)
    covariance = mean(a * b) - mean_a * mean_b
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (variances + 9e-4)
    return float((luminance * structure).mean())


def some_images(n: int, height: int, width: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    """Noise, blurred more in some of them; flat, black and white ones first."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, channels, height, width)).astype(np.float64)
    for row in range(n):
        images[row] = uniform_filter(images[row], (1, 1 + row % 5, 1 + row % 3))
    images[0], images[1], images[2] = 0, 255, 128
    return torch.from_numpy(images.round().astype(np.uint8))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 48), (9, 8), (7, 7)])
def test_all_pairs_equal_the_slow_ones(height: int, width: int) -> None:
    first, second = some_images(9, height, width), some_images(6, height, width, seed=1)
    second[4] = first[5]
    second[5] = 255 - first[6]
    expected = [[slow_ssim(a, b) for b in second[:, 0].numpy()] for a in first[:, 0].numpy()]
    found = pairwise_ssim(first, second)
    assert found.shape == (9, 6)
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), atol=1e-6, rtol=0)
    assert found[6, 5] < 0  # the negative of an image


def test_an_image_is_alike_to_itself_and_order_does_not_matter() -> None:
    images = some_images(12, 64, 64)
    similarity = pairwise_ssim(images, images)
    torch.testing.assert_close(similarity.diagonal(), torch.ones(12))
    torch.testing.assert_close(similarity, similarity.T)
    assert similarity.max() <= 1


def test_blocks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = some_images(11, 16, 16), some_images(7, 16, 16, seed=1)
    whole = pairwise_ssim(first, second)
    monkeypatch.setattr(ssim, "_SET_BLOCK", 5)
    monkeypatch.setattr(ssim, "_ROW_BLOCK", 2)
    torch.testing.assert_close(pairwise_ssim(first, second), whole, atol=1e-6, rtol=0)
    largest = whole.amax(1)
    torch.testing.assert_close(largest_ssim(first, second), largest, atol=1e-6, rtol=0)


def test_large_and_colored_images_are_reduced_and_made_gray() -> None:
    small = some_images(4, 64, 64)
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    # Enlarged in blocks, then reduced with antialiasing: nearly the small ones, not shifted.
    assert pairwise_ssim(large, large.expand(-1, 3, -1, -1)).diagonal().min() > 0.999999
    exact = pairwise_ssim(small, small)
    assert (pairwise_ssim(large, large) - exact).abs().max() < 0.1
    colored = torch.cat([small, small, small], 1)
    torch.testing.assert_close(pairwise_ssim(colored, small), exact, atol=1e-6, rtol=0)


def test_empty_sets() -> None:
    assert pairwise_ssim(some_images(3, 8, 8)[:0], some_images(3, 8, 8)).shape == (0, 3)
    assert pairwise_ssim(some_images(3, 8, 8), some_images(3, 8, 8)[:0]).shape == (3, 0)


def test_images_that_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="32x32 and 64x64 pixels"):
        pairwise_ssim(some_images(3, 32, 32), some_images(3, 64, 64))
    with pytest.raises(UserError, match="images of 6x9 pixels are smaller than its window of 7"):
        pairwise_ssim(some_images(3, 6, 9), some_images(3, 6, 9))
    with pytest.raises(TypeError, match="uint8"):
        pairwise_ssim(some_images(3, 8, 8).float(), some_images(3, 8, 8))
    with pytest.raises(ValueError, match="expected"):
        pairwise_ssim(some_images(3, 8, 8)[0], some_images(3, 8, 8))

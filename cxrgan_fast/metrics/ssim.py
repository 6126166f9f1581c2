"""Structural similarity (SSIM) of every image of one set with every image of another.

For two images and one window, with the means μ, variances σ² and the covariance σ₁₂ of the pixels
in it (Wang, Bovik, Sheikh and Simoncelli 2004, "Image quality assessment: from error visibility
to structural similarity", Eq. 13):

    SSIM = (2·μ₁·μ₂ + C₁)·(2·σ₁₂ + C₂) / ((μ₁² + μ₂² + C₁)·(σ₁² + σ₂² + C₂))

with C₁ = 0.01² and C₂ = 0.03² for pixels from 0 to 1; the SSIM of the images is its mean over the
windows. A window here is a square of 7 x 7 pixels, all of equal weight (biased moments), and one is
taken every 4 pixels, so that they overlap: Wang et al. take a Gaussian of 11 x 11 at every pixel,
which is too dear for the millions of pairs that a set has. The covariance is then one small matrix
product over all pairs for each window.

Within `shared_images` the similarity of each pair is computed once for all comparisons.

Images larger than 64 pixels are first reduced to 64, antialiased. Not to less: at 32 pixels chest
X-rays of different patients often reach 0.8, at 64 pixels they do not.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.extractor import extractor_input
from cxrgan_fast.metrics.shared_images import of_pairs

SIDE = 64
"""Largest side in pixels at which images are compared."""

WINDOW = 7
STRIDE = 4
C1 = 0.01**2
C2 = 0.03**2

_SET_BLOCK = 1024  # images of either set whose windows are in memory: 46 MB at 64 pixels
_ROW_BLOCK = 128  # of them at a time, so that the factors stay in the cache


def pairwise_ssim(first: Tensor, second: Tensor) -> Tensor:
    """Compute the SSIM of all pairs of images.

    Args:
        first: (N, 1 or 3, H, W) uint8; the gray mean of three channels is compared.
        second: (M, 1 or 3, H, W) uint8, on the same device.

    Returns:
        (N, M) float32, -1 to 1; 1 for equal images.

    Raises:
        TypeError: images that are not uint8.
        ValueError: images of another shape.
        UserError: images of different sizes, or too small for a window.
    """
    _check(first, second)
    kept = of_pairs(_all_pairs, first, second)
    return _all_pairs(first, second) if kept is None else kept


def largest_ssim(first: Tensor, second: Tensor) -> Tensor:
    """Compute the SSIM of each image with the one of a set that is most like it.

    Args:
        first: (N, 1 or 3, H, W) uint8.
        second: (M, 1 or 3, H, W) uint8, on the same device, M of 1 or more.

    Returns:
        (N,) float32. As `pairwise_ssim(first, second).amax(1)`, in memory that does not grow with
        N times M.

    Raises:
        TypeError, ValueError, UserError: as `pairwise_ssim`.
    """
    _check(first, second)
    kept = of_pairs(_all_pairs, first, second)
    if kept is not None:
        return kept.amax(1)
    largest = torch.full((len(first),), -1.0, device=first.device)
    for rows, _, block in _blocks(first, second):
        largest[rows] = torch.maximum(largest[rows], block.amax(1))
    return largest


def _all_pairs(first: Tensor, second: Tensor) -> Tensor:
    similarity = torch.empty(len(first), len(second), device=first.device)
    for rows, columns, block in _blocks(first, second):
        similarity[rows, columns] = block
    return similarity


def _check(first: Tensor, second: Tensor) -> None:
    if first.ndim == 4 and second.ndim == 4 and first.shape[2:] != second.shape[2:]:
        raise UserError(
            f"SSIM: expected images of one size, got {_size(first)} and {_size(second)} pixels; "
            "resize one set"
        )
    if first.ndim == 4 and min(first.shape[2:]) < WINDOW:
        raise UserError(
            f"SSIM: images of {_size(first)} pixels are smaller than its window of {WINDOW} pixels"
        )


def _blocks(first: Tensor, second: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """The matrix of all pairs in blocks, each with its rows and columns."""
    for above in range(0, len(first), _SET_BLOCK):
        rows = slice(above, above + _SET_BLOCK)
        left = _windows_of(first[rows])
        for before in range(0, len(second), _SET_BLOCK):
            columns = slice(before, before + _SET_BLOCK)
            yield rows, columns, _block(left, _windows_of(second[columns]))


def _size(images: Tensor) -> str:
    return "x".join(str(side) for side in images.shape[2:])


class _Windows(NamedTuple):
    """What is known of each window of N images before they are compared.

    Attributes:
        centered: (W, N, 49), the pixels less their mean, over 7 = √49, so that the product of two
            windows' is their covariance.
        mean: (W, N).
        variance: (W, N).
    """

    centered: Tensor
    mean: Tensor
    variance: Tensor


def _block(first: _Windows, second: _Windows) -> Tensor:
    """The mean SSIM over the windows of (N,) and (M,) images, (N, M)."""
    windows, n = first.mean.shape
    # In float32 the sum of 225 windows would be off by more than 1e-6.
    total = first.mean.new_zeros(n, second.mean.shape[1], dtype=torch.float64)
    for start in range(0, n, _ROW_BLOCK):
        rows = slice(start, start + _ROW_BLOCK)
        # What depends on one image of a pair only is spread over the pairs by broadcasting.
        means, variances = first.mean[:, rows, None], first.variance[:, rows, None]
        doubled, squares = 2 * means, means.square() + C1
        covariances, contrast = 2 * first.centered[:, rows], variances + C2
        other_squares = second.mean.square()
        factor = total.new_empty(total[rows].shape, dtype=torch.float32)
        for window in range(windows):
            ssim = torch.mm(covariances[window], second.centered[window].T).add_(C2)
            ssim.mul_(torch.mul(doubled[window], second.mean[window], out=factor).add_(C1))
            ssim.div_(torch.add(squares[window], other_squares[window], out=factor))
            ssim.div_(torch.add(contrast[window], second.variance[window], out=factor))
            total[rows] += ssim
    return total.div_(windows).clamp_(-1, 1).float()  # rounding may pass 1 by 1e-7


def _windows_of(images: Tensor) -> _Windows:
    size = SIDE if max(images.shape[2:]) > SIDE else None
    pixels = torch.nn.functional.unfold(extractor_input(images, size, 1), WINDOW, stride=STRIDE)
    pixels = pixels.permute(2, 0, 1).contiguous()  # (W, N, 49)
    mean = pixels.mean(2)
    centered = pixels.sub_(mean[:, :, None]).div_(WINDOW)
    return _Windows(centered, mean, centered.square().sum(2))

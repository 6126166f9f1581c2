"""Creativity, inheritance and diversity of generated images, by the images themselves.

Guan and Loew 2019, "Evaluation of Generative Adversarial Network Performance Based on Direct
Analysis of Generated Images" (AIPR; preprint of 2020: arXiv:2002.12345, versions 1 to 3), ask of
generated images that they are no copies (creativity), have the style of the real ones
(inheritance) and differ from each other (diversity):

    creativity  = |R| / |G|                           R: those of G without a duplicate among the
                                                      real ones, SSIM ≥ 0.8 being a duplicate
    inheritance = 1 - |c(real) - c(R)| / max(both)    c: mean contrast of gray levels
    diversity   = -Σᵢ pᵢ·log pᵢ / log |R|             pᵢ: share of group i of R, groups being
                                                      images with SSIM ≥ 0.8 with their first

and the index is their product; each is from 0 to 1. This is our reading of a paper that leaves
room, and these parts of it are our own: SSIM as in `ssim` (reduced to 64 pixels, windows of 7);
the contrast Σ (i - j)²·P(i, j) of the gray-level co-occurrence matrix P (Haralick, Shanmugam and
Dinstein 1973) over all 256 levels, the mean of the four directions at distance 1; the division by
log |R|, which makes 1 of images that are all different; groups in the order of the images; 0 for
inheritance and diversity where nothing is left, and for the diversity of one image.
Figures of other programs are therefore not comparable with these.

The threshold of 0.8 is theirs. It means copies at 64 pixels and more; images of 32 pixels reach it
by looking alike. Inheritance sees nothing but contrast: it is a check of texture, not of anatomy.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.metric import Metric, Sets, register
from cxrgan_fast.metrics.shared_images import of_each
from cxrgan_fast.metrics.ssim import largest_ssim, pairwise_ssim

DUPLICATE_SSIM = 0.8
FEWEST = 1, 2  # real and generated images
_BLOCK = 512  # images at a time whose contrast is taken


@dataclass(frozen=True)
class CID:
    """Creativity, inheritance and diversity, each from 0 to 1 and best at 1."""

    creativity: Estimate
    inheritance: Estimate
    diversity: Estimate

    @property
    def index(self) -> float:
        """Multiply the three."""
        return self.creativity.value * self.inheritance.value * self.diversity.value


def creativity_inheritance_diversity(
    real_images: Tensor,
    fake_images: Tensor,
    *,
    originals: Tensor | None = None,
    resamples: Resamples | None = None,
) -> CID:
    """Measure how new, alike in texture and different from each other images are.

    Args:
        real_images: (N, C, H, W) uint8, whose texture the generated ones are to have.
        fake_images: (M, C, H, W) uint8, on the same device.
        originals: (T, C, H, W) uint8, those that must not be copied: all training images. None
            where these are `real_images`.
        resamples: for the standard errors. The real images stay those that a duplicate is
            looked for among; only their mean contrast is resampled.

    Raises:
        UserError: no real image, fewer than two generated ones, or sizes that differ.
    """
    n, m = len(real_images), len(fake_images)
    if n < FEWEST[0] or m < FEWEST[1]:
        raise UserError(
            f"creativity, inheritance, diversity: {n} real and {m} generated images came, at "
            f"least {FEWEST[0]} and {FEWEST[1]} are needed"
        )
    originals = real_images if originals is None else originals
    if not len(originals):
        raise UserError("creativity: there are no training images that might be copied")
    nearest = largest_ssim(fake_images, originals)  # (M,)
    new = nearest < DUPLICATE_SSIM
    left = int(new.sum())
    kept_images = fake_images[new]
    groups = _groups(pairwise_ssim(kept_images, kept_images) >= DUPLICATE_SSIM)
    contrasts = [of_each(gray_level_contrast, each) for each in (real_images, fake_images)]

    kept = new.double()[None]  # (1, M), weights of the images that are left
    creativity = kept.mean(1)
    inheritance = _inheritance(contrasts[0].mean()[None], contrasts[1], kept)
    diversity = _diversity(kept[:, new], groups)
    errors: list[float | None] = [None] * 3
    if resamples is not None:
        # Images may be elsewhere than the features that the resamples are beside.
        real, fake = resamples.real.to(kept.device), resamples.fake.to(kept.device)
        weights = fake * kept  # (B, M)
        real_contrast = real @ contrasts[0] / real.sum(1)  # (B,)
        errors = [
            standard_error(weights.sum(1) / fake.sum(1)),
            standard_error(_inheritance(real_contrast, contrasts[1], weights)),
            standard_error(_diversity(weights[:, new], groups)),
        ]
    return CID(
        Estimate(
            float(creativity),
            len(originals),
            m,
            errors[0],
            {
                "duplicates": m - left,
                "threshold": DUPLICATE_SSIM,
                "median_nearest_ssim": float(nearest.median()),
                "largest_ssim": float(nearest.max()),
            },
        ),
        Estimate(
            float(inheritance),
            n,
            left,
            errors[1],
            {
                "real_contrast": float(contrasts[0].mean()),
                "fake_contrast": float(contrasts[1][new].mean()) if left else None,
            },
        ),
        Estimate(
            float(diversity),
            0,
            left,
            errors[2],
            {
                "groups": len(groups.unique()),
                "largest_group": int(groups.bincount().max()) if left else 0,
                "threshold": DUPLICATE_SSIM,
            },
        ),
    )


def gray_level_contrast(images: Tensor) -> Tensor:
    """Compute the contrast of each image's gray-level co-occurrence matrix.

    Σ (i - j)²·P(i, j) is the mean squared difference of the pixels that P counts, neighbours
    to the right, below and on both diagonals, so that no matrix is needed.

    Args:
        images: (N, C, H, W) uint8, at least 2 x 2 pixels; the gray mean of the channels is taken.

    Returns:
        (N,) float64, in squared gray levels, the mean of the four directions.
    """
    blocks = []
    for block in images.split(_BLOCK):
        gray = block.float().mean(1)  # (B, H, W)
        if block.shape[1] > 1:
            gray = gray.round_()
        pairs = (
            (gray[:, :, 1:], gray[:, :, :-1]),
            (gray[:, 1:], gray[:, :-1]),
            (gray[:, 1:, 1:], gray[:, :-1, :-1]),
            (gray[:, 1:, :-1], gray[:, :-1, 1:]),
        )
        blocks.append(sum((a - b).square_().double().mean((1, 2)) for a, b in pairs) / len(pairs))
    return torch.cat(blocks)


def _inheritance(real_contrast: Tensor, fake_contrasts: Tensor, weights: Tensor) -> Tensor:
    """(B,) of the reals' mean contrast (B,), the fakes' (M,) and how often each counts (B, M)."""
    total = weights.sum(1)
    mean = weights @ fake_contrasts / total.clamp(min=1)
    larger = torch.maximum(real_contrast, mean)
    # Flat images on both sides have the same contrast, 0.
    ratio = torch.where(larger > 0, (real_contrast - mean).abs() / larger, 0)
    return torch.where(total > 0, 1 - ratio, 0)


def _groups(alike: Tensor) -> Tensor:
    """The group of each of M images, (M,) int64, of which are alike, (M, M) bool.

    The first image that has no group yet takes with it all images like it that have none.
    """
    rows = alike.cpu().numpy()
    groups = np.full(len(rows), -1)
    for row in range(len(rows)):
        if groups[row] < 0:
            groups[rows[row] & (groups < 0)] = row
            groups[row] = row
    return torch.from_numpy(groups).to(alike.device)


def _diversity(weights: Tensor, groups: Tensor) -> Tensor:
    """Normalized entropy (B,) of the groups' shares, the images (M,) counting (B, M) times."""
    total = weights.sum(1, keepdim=True)  # (B, 1)
    sums = weights.new_zeros(weights.shape).index_add_(1, groups, weights)  # (B, M), at the first
    entropy = torch.special.entr(sums / total.clamp(min=1)).sum(1)
    m = weights.shape[1]
    return entropy / math.log(m) if m > 1 else torch.zeros_like(entropy)


def _of_sets(sets: Sets) -> CID:
    assert sets.images is not None  # else the record's `takes` has refused
    return creativity_inheritance_diversity(
        sets.images.real,
        sets.images.fake,
        originals=sets.images.originals,
        resamples=sets.resamples,
    )


register(
    Metric(
        name="creativity",
        title="creativity",
        better="higher",
        takes="images",
        function=lambda sets: sets.once(_of_sets).creativity,
        fewest=FEWEST,
        of_pairs_of_images=True,
        place=90,
    )
)
register(
    Metric(
        name="inheritance",
        title="inheritance",
        better="higher",
        takes="images",
        function=lambda sets: sets.once(_of_sets).inheritance,
        fewest=FEWEST,
        of_pairs_of_images=True,
        place=100,
    )
)
register(
    Metric(
        name="diversity",
        title="diversity",
        better="higher",
        takes="images",
        function=lambda sets: sets.once(_of_sets).diversity,
        fewest=FEWEST,
        of_pairs_of_images=True,
        place=110,
    )
)

"""Squared maximum mean discrepancy with a Gaussian kernel, as CMMD has it.

    k(x, y) = exp(−‖x − y‖² / 2σ²)
    MMD² = mean of k(x, x') + mean of k(y, y') − 2 mean of k(x, y)

x ≠ x' are real, y ≠ y' generated: the unbiased estimator (Gretton et al., "A kernel two-sample
test", JMLR 2012, lemma 6). S. Jayasumana, S. Ramalingam, A. Veit, D. Glasner, A. Chakrabarti and
S. Kumar, "Rethinking FID: towards a better evaluation metric for image generation", CVPR 2024, take
it of CLIP's embeddings. The kernel knows all moments, where FID knows two and supposes Gaussians,
and it is unbiased, so that it may be negative.

σ is the median distance of two real images (Gretton et al. 2012, section 8): features of any scale
have a bandwidth that suits them. It is in the details. The number of the paper needs vectors of
unit length and σ = 10, and is 1,000 times the discrepancy: that is in the details too, as `cmmd`.
At unit length ‖x − y‖ is 2 at most, so that this kernel is nearly linear and compares little but
means. The paper's program takes the biased estimator (x = x' as well), which adds (1 − mean k)/n of
each set; here it is unbiased throughout.
"""

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Detail, Metric, register
from cxrgan_fast.metrics.neighbors import squared_distance_blocks

MIN_IMAGES = 2  # for a pair of different images
CMMD_BANDWIDTH, CMMD_SCALE = 10.0, 1000.0
_MOST_FOR_BANDWIDTH = 2000  # images, whose 2 million distances know a median to a thousandth


def mmd(real: Tensor, fake: Tensor, *, resamples: Resamples | None = None) -> Estimate:
    """Compute the unbiased squared discrepancy of two sets of features.

    Args:
        real: (N, D) features of real images.
        fake: (M, D) features of generated images.
        resamples: for the standard error. Pairs of an image with its own copy are left out, as in
            `kid`, whose error behaves alike.

    Returns:
        The discrepancy, without unit, 2 at most. `details`: `bandwidth`, σ in the features' unit;
        `cmmd`, 1,000 times that of the vectors at unit length with σ = 10; `dimension`.

    Raises:
        UserError: a set has fewer than 2 images or features that are not finite, or more than half
            of the pairs of real images are equal, so that σ would be 0.
        ValueError: the shapes do not go together.
    """
    require_vectors("MMD", real, fake, least=MIN_IMAGES)
    bandwidth = median_distance(real)
    if bandwidth == 0:
        raise UserError(
            "MMD: half of the pairs of real images or more have equal features, which gives the "
            "kernel no width; leave repeated images out"
        )
    of_real, of_fake = (
        torch.ones(1, len(side), dtype=torch.float64, device=real.device) for side in (real, fake)
    )
    value = float(_discrepancies(real, fake, of_real, of_fake, bandwidth)[0])
    units = [torch.nn.functional.normalize(side.double()) for side in (real, fake)]
    of_units = _discrepancies(units[0], units[1], of_real, of_fake, CMMD_BANDWIDTH)
    error = None
    if resamples is not None:
        drawn = [c.to(real.device, torch.float64) for c in (resamples.real, resamples.fake)]
        error = standard_error(_discrepancies(real, fake, drawn[0], drawn[1], bandwidth))
    details = {
        "bandwidth": bandwidth,
        "cmmd": CMMD_SCALE * float(of_units[0]),
        "dimension": real.shape[1],
    }
    return Estimate(value, len(real), len(fake), error, details)


def median_distance(vectors: Tensor) -> float:
    """Return the median distance of two different vectors, (N, D); of 2,000 of them at most."""
    chosen = vectors
    if len(vectors) > _MOST_FOR_BANDWIDTH:
        order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
        chosen = vectors[order[:_MOST_FOR_BANDWIDTH].to(vectors.device)]
    parts = []
    for first, _, squared, error in squared_distance_blocks(chosen, chosen):
        squared[squared <= error] = 0  # equal, but for rounding
        parts.append(squared[torch.ones_like(squared, dtype=torch.bool).triu(first + 1)])
    return float(torch.cat(parts).median().sqrt())


def _discrepancies(
    real: Tensor, fake: Tensor, real_counts: Tensor, fake_counts: Tensor, bandwidth: float
) -> Tensor:
    """MMD² for each row of counts, (B, N) and (B, M); NaN where they leave no pair of images."""
    between = _sums(real, fake, real_counts, fake_counts, bandwidth)
    total = -2 * between / (real_counts.sum(1) * fake_counts.sum(1))
    for vectors, counts in ((real, real_counts), (fake, fake_counts)):
        squares = counts.square().sum(1)  # an image with itself: the kernel is 1
        pairs = counts.sum(1).square() - squares
        within = _sums(vectors, vectors, counts, counts, bandwidth) - squares
        total = total + torch.where(pairs > 0, within / pairs, torch.nan)
    return total


def _sums(
    first: Tensor, second: Tensor, first_counts: Tensor, second_counts: Tensor, bandwidth: float
) -> Tensor:
    """Σ Σ cᵢ k(xᵢ, yⱼ) cⱼ for each row of counts, (B,)."""
    total = first.new_zeros(len(first_counts), dtype=torch.float64)
    for start, end, squared, _ in squared_distance_blocks(first, second):
        kernel = squared.clamp_(min=0).mul_(-0.5 / bandwidth**2).exp_()  # (block, M)
        total += ((first_counts[:, start:end] @ kernel) * second_counts).sum(1)
    return total


register(
    Metric(
        name="mmd",
        title="MMD, Gaussian kernel",
        better="lower",
        takes="features",
        function=lambda sets: mmd(*sets.vectors, resamples=sets.resamples),
        fewest=(MIN_IMAGES, MIN_IMAGES),
        details=(Detail("cmmd", "as CMMD: unit length, σ = 10, × 1,000", "lower"),),
        place=35,
    )
)

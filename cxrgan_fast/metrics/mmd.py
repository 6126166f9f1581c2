"""Squared maximum mean discrepancy with a Gaussian kernel, as CMMD has it.

    k(x, y) = exp(−‖x − y‖² / 2σ²)
    MMD² = mean of k(x, x') + mean of k(y, y') − 2 mean of k(x, y)

x ≠ x' are real, y ≠ y' generated: the unbiased estimator, in which classes and patients count as in
`discrepancy`, of which this is the Gaussian kernel. S. Jayasumana, S. Ramalingam, A. Veit, D.
Glasner, A. Chakrabarti and S. Kumar, "Rethinking FID: towards a better evaluation metric for image
generation", CVPR 2024, take it of CLIP's embeddings. The kernel knows all moments, where FID knows
two and supposes Gaussians, and it is unbiased, so that it may be negative.

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
from cxrgan_fast.metrics.discrepancy import Kernel, discrepancy
from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Detail, Metric, register
from cxrgan_fast.metrics.neighbors import squared_distance_blocks
from cxrgan_fast.metrics.strata import Strata

MIN_IMAGES = 2  # for a pair of different images
CMMD_BANDWIDTH, CMMD_SCALE = 10.0, 1000.0
_MOST_FOR_BANDWIDTH = 2000  # images, whose 2 million distances know a median to a thousandth


def mmd(
    real: Tensor,
    fake: Tensor,
    *,
    resamples: Resamples | None = None,
    strata: Strata | None = None,
) -> Estimate:
    """Compute the unbiased squared discrepancy of two sets of features.

    Args:
        real: (N, D) features of real images.
        fake: (M, D) features of generated images.
        resamples: resamples of these images, for the standard error and the interval, which is
            that of a squared distance (`second_order`).
        strata: classes and patients of these images.

    Returns:
        The discrepancy, without unit, 2 at most. `details`: `bandwidth`, σ in the features' unit;
        `cmmd`, 1,000 times that of the vectors at unit length with σ = 10; `dimension`;
        with resamples, `resamples` and `error_if_equal` as in `kid`.

    Raises:
        UserError: a set has fewer than 2 images, images of one patient only or features that are
            not finite, or more than half of the pairs of real images are equal: σ would be 0.
        ValueError: the shapes do not go together.
    """
    require_vectors("MMD", real, fake, least=MIN_IMAGES)
    bandwidth = median_distance(real)
    if bandwidth == 0:
        raise UserError(
            "MMD: half of the pairs of real images or more have equal features, which gives the "
            "kernel no width; leave repeated images out"
        )
    found = discrepancy(
        "MMD", real, fake, _gaussian(bandwidth, real), strata=strata, resamples=resamples
    )
    units = [torch.nn.functional.normalize(side.double()) for side in (real, fake)]
    of_units = discrepancy(
        "MMD", units[0], units[1], _gaussian(CMMD_BANDWIDTH, units[0]), strata=strata
    )
    details: dict[str, float | int] = {
        "bandwidth": bandwidth,
        "cmmd": CMMD_SCALE * of_units.value,
        "dimension": real.shape[1],
    }
    spread = found.spread
    if spread is None:
        return Estimate(found.value, len(real), len(fake), None, details)
    details |= {"resamples": spread.freedom + 1, "error_if_equal": spread.error_if_equal}
    bounds = spread.interval(found.value)
    return Estimate(found.value, len(real), len(fake), spread.standard_error, details, bounds)


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


def _gaussian(bandwidth: float, real: Tensor) -> Kernel:
    """exp(−‖x − y‖² / 2σ²) of all pairs, from differences to the mean of the real images."""
    center = real.double().mean(0)  # far from 0 the squares would cancel

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        first, second = first - center, second - center
        norms = first.square().sum(1)[:, None] + second.square().sum(1)
        squared = torch.addmm(norms, first, second.T, alpha=-2).clamp_(min=0)
        return squared.mul_(-0.5 / bandwidth**2).exp_()

    return kernel


register(
    Metric(
        name="mmd",
        title="MMD, Gaussian kernel",
        better="lower",
        takes="features",
        function=lambda sets: mmd(*sets.vectors, resamples=sets.resamples, strata=sets.strata),
        fewest=(MIN_IMAGES, MIN_IMAGES),
        details=(Detail("cmmd", "as CMMD: unit length, σ = 10, × 1,000", "lower"),),
        place=35,
    )
)

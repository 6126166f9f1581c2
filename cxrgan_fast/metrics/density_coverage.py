"""Density and coverage: how crowded with real images a place is, how many real ones are reached.

M. F. Naeem, S. J. Oh, Y. Uh, Y. Choi and J. Yoo, "Reliable fidelity and diversity metrics for
generative models", ICML 2020, equations 6 and 8. About each real image X_i of N lies a ball as
large as the distance to its k-th nearest neighbor among the real ones, itself left out; Y_j are
the M generated images:

    density = number of pairs (i, j) with Y_j in the ball of X_i, divided by kM
    coverage = share of the X_i whose ball holds at least one Y_j

Both look at balls of real images only. So one odd generated image makes no large ball, as it does
for recall, and one odd real image counts once in kM for density. Density can be above 1; two sets
of one distribution have 1 in expectation. Their coverage does not depend on the distribution:

    1 − (N − 1) ⋯ (N − k) / ((M + N − 1) ⋯ (M + N − k))

which is 0.97 for k = 5 and many images, as many of both.

As in `precision_recall`, the surface belongs to the ball, so that a copy of a real image that the
set holds several times is inside. The authors' program leaves the surface out; the two differ where
distances are equal only.
"""

import torch
from torch import Tensor

from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Metric, Sets, register
from cxrgan_fast.metrics.neighbors import (
    count_balls,
    nearest_drawn,
    nearest_neighbors,
    squared_distance_blocks,
)

K = 5  # the neighbor that sets the radius, in the paper
_RESAMPLED_PAIRS = 10**8  # in all resamples together: about half a second
_FEWEST_RESAMPLES = 10


def density_coverage(
    real: Tensor, fake: Tensor, *, k: int = K, resamples: Resamples | None = None
) -> tuple[Estimate, Estimate]:
    """Compute density and coverage (Naeem et al. 2020, equations 6 and 8).

    In a resample only the real images drawn have balls, which reach to the k-th neighbor among the
    images drawn, copies counting once; generated images are inside as often as they were drawn. The
    errors were found to be 0.7 to 1.1 of the deviation over fresh sets of Gaussians, and that of a
    coverage of 0.9999 (one real image in ten sets of 1,000) 1.1 to 1.7.

    Args:
        real: (N, D) features of real images, float32.
        fake: (M, D) features of generated images, float32.
        k: the neighbor that sets the radius; 5 in the paper.
        resamples: for the standard errors; all of them at 1,000 images a set, fewer of more images.

    Returns:
        Density, then coverage. `details`: k; of coverage also `expected`, that of two sets of one
        distribution, of as many images.

    Raises:
        UserError: a set has k images or fewer, or features that are not finite.
        ValueError: k is below 1, or the shapes do not go together.
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    require_vectors(f"density and coverage of {k} neighbors", real, fake, least=k + 1)
    n_real, n_fake = len(real), len(fake)
    # So many that k of them are in almost every resample, of which an image is in 63 of 100.
    listed = k if resamples is None else 5 * k // 2 + 10
    neighbors = nearest_neighbors(real, real, min(listed, n_real - 1), leave_one_out=True)
    radii = neighbors.distances[:, k - 1]
    to_fake = nearest_neighbors(real, fake, min(listed, n_fake))
    density = float(count_balls(fake, real, radii).double().mean()) / k
    coverage = float((to_fake.distances[:, 0] <= radii).double().mean())
    density_error = coverage_error = None
    if resamples is not None:
        used = max(_FEWEST_RESAMPLES, _RESAMPLED_PAIRS // (n_real * n_fake))
        weights = [(r > 0, f) for r, f in zip(resamples.real, resamples.fake, strict=True)][:used]
        of_resamples = [
            nearest_drawn(neighbors, k, drawn).where(drawn, -1.0) for drawn, _ in weights
        ]
        covered = [
            (drawn & (nearest_drawn(to_fake, 1, counts > 0) <= radius)).sum() / drawn.sum()
            for (drawn, counts), radius in zip(weights, of_resamples, strict=True)
        ]
        coverage_error = standard_error(torch.stack(covered))
        fake_counts = torch.stack([counts for _, counts in weights])
        density_error = standard_error(_densities(real, fake, of_resamples, fake_counts) / k)
    kept = 1.0
    for step in range(1, k + 1):
        kept *= (n_real - step) / (n_real + n_fake - step)
    return (
        Estimate(density, n_real, n_fake, density_error, {"k": k}),
        Estimate(coverage, n_real, n_fake, coverage_error, {"k": k, "expected": 1 - kept}),
    )


def _densities(real: Tensor, fake: Tensor, radii: list[Tensor], counts: Tensor) -> Tensor:
    """The mean number of balls that hold a generated image, in each resample, (B,)."""
    squares = [torch.where(radius < 0, -torch.inf, radius.square()) for radius in radii]
    totals = counts.new_zeros(len(radii))
    for first, last, squared, _ in squared_distance_blocks(fake, real):
        for place, square in enumerate(squares):
            held = (squared <= square).sum(1)  # (block,)
            totals[place] += held.double() @ counts[place, first:last]
    return totals / counts.sum(1)


def _of_sets(sets: Sets) -> tuple[Estimate, Estimate]:
    return density_coverage(*sets.vectors, resamples=sets.resamples)


register(
    Metric(
        name="density",
        title="density",
        better="higher",
        takes="features",
        function=lambda sets: sets.once(_of_sets)[0],
        fewest=(K + 1, K + 1),
        needs_equal_sizes=True,
        place=62,
    )
)
register(
    Metric(
        name="coverage",
        title="coverage",
        better="higher",
        takes="features",
        function=lambda sets: sets.once(_of_sets)[1],
        fewest=(K + 1, K + 1),
        needs_equal_sizes=True,
        place=64,
    )
)

"""Precision and recall: how many generated images look real, how many real ones are reached.

T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen and T. Aila, "Improved precision and recall metric
for assessing generative models", NeurIPS 2019, equations 1 and 2. The manifold of a set is the
union of balls about its vectors, each as large as the distance to the vector's k-th nearest
neighbour in the set, itself left out:

    f(φ, Φ) = 1 if ‖φ − φ'‖ ≤ ‖φ' − NN_k(φ', Φ)‖ for some φ' in Φ, else 0
    precision = mean of f(φ_fake, Φ_real)        recall = mean of f(φ_real, Φ_fake)

Copies count as neighbours. A vector of which the set holds k more copies has a ball of radius 0,
which holds nothing but further copies: a generator that always gives the same image has recall 0,
however wide its classes are. A copy of a real image is always inside the real manifold: precision
rewards memorisation.

More images make smaller balls. Numbers are comparable at equal counts only, and of two sets of one
distribution neither number is 1 (in many dimensions both are far from it): look at the floor, real
images against other real images.
"""

import torch
from torch import Tensor

from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Metric, Sets, register
from cxrgan_fast.metrics.neighbors import (
    nearest_drawn,
    nearest_neighbors,
    squared_distance_blocks,
    within_any_ball,
)

K = 3  # the neighbour that sets the radius, in the paper
# Of each image, how many of the balls it is deepest in a resample is tried with. Each is missing
# from a resample in 37 of 100 cases; all of them, never.
_BALLS = 24


def precision_recall(
    real: Tensor, fake: Tensor, *, k: int = K, resamples: Resamples | None = None
) -> tuple[Estimate, Estimate]:
    """Compute precision and recall (Kynkäänniemi et al. 2019, equations 1 and 2).

    In a resample only the images drawn have balls, which reach to the k-th neighbour among the
    images drawn, copies counting once; the others are inside or not, as often as they were drawn.
    (The deviation of the indicators alone, with the balls as they are, misses what the other set's
    randomness adds: 0.5 to 0.9 of what fresh sets of Gaussians give, and nought where every image
    is inside. This one was found to be 0.98 to 1.3 of it.)

    Args:
        real: (N, D) features of real images, float32.
        fake: (M, D) features of generated images, float32.
        k: the neighbour that sets the radius; 3 in the paper.
        resamples: for the standard errors.

    Returns:
        Precision, then recall. `details`: k.

    Raises:
        UserError: a set has k images or fewer, or features that are not finite.
        ValueError: k is below 1, or the shapes do not go together.
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    require_vectors(f"precision and recall of {k} neighbours", real, fake, least=k + 1)
    real_weights = fake_weights = None
    if resamples is not None:
        real_weights, fake_weights = resamples.real, resamples.fake
    precision, precision_error = _share_inside(fake, real, k, fake_weights, real_weights)
    recall, recall_error = _share_inside(real, fake, k, real_weights, fake_weights)
    return (
        Estimate(precision, len(real), len(fake), precision_error, {"k": k}),
        Estimate(recall, len(real), len(fake), recall_error, {"k": k}),
    )


def _share_inside(
    vectors: Tensor,  # (Q, D)
    others: Tensor,  # (R, D)
    k: int,
    weights: Tensor | None,  # (B, Q)
    other_weights: Tensor | None,  # (B, R)
) -> tuple[float, float | None]:
    """The share of vectors in the others' manifold, and its standard error."""
    # So many that k of them are in almost every resample, of which an image is in 63 of 100.
    listed = min(k if weights is None else 5 * k // 2 + 10, len(others) - 1)
    neighbors = nearest_neighbors(others, others, listed, leave_one_out=True)
    inside = within_any_ball(vectors, others, neighbors.distances[:, k - 1])
    value = float(inside.double().mean())
    if weights is None or other_weights is None:
        return value, None
    distances, balls = _deepest_balls(vectors, others, neighbors.distances[:, -1])
    shares = []
    for weight, other_weight in zip(weights, other_weights, strict=True):
        # Of images that were not drawn −1, which nothing is within.
        radii = nearest_drawn(neighbors, k, other_weight > 0).where(other_weight > 0, -1.0)
        inside = (distances <= radii[balls]).any(1)
        shares.append((weight * inside).sum() / weight.sum())
    return value, standard_error(torch.stack(shares))


def _deepest_balls(vectors: Tensor, centers: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Of each vector the balls that it is deepest in: distances to their centres, and rows."""
    count = min(_BALLS, len(centers))
    distances = radii.new_empty(len(vectors), count)
    rows = torch.empty_like(distances, dtype=torch.int64)
    smallest = torch.finfo(radii.dtype).tiny  # a radius may be 0
    for first, last, squared, _ in squared_distance_blocks(vectors, centers):
        depth = squared / radii.square().clamp_min(smallest)
        rows[first:last] = depth.topk(count, largest=False).indices
        chosen = squared.gather(1, rows[first:last])
        distances[first:last] = chosen.clamp_min_(0).sqrt_()
    return distances, rows


def _of_sets(sets: Sets) -> tuple[Estimate, Estimate]:
    return precision_recall(*sets.vectors, resamples=sets.resamples)


register(
    Metric(
        name="precision",
        title="precision",
        better="higher",
        takes="features",
        function=lambda sets: sets.once(_of_sets)[0],
        fewest=(K + 1, K + 1),
        needs_equal_sizes=True,
        quick=True,
        place=50,
    )
)
register(
    Metric(
        name="recall",
        title="recall",
        better="higher",
        takes="features",
        function=lambda sets: sets.once(_of_sets)[1],
        fewest=(K + 1, K + 1),
        needs_equal_sizes=True,
        quick=True,
        place=60,
    )
)

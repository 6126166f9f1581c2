"""The squared maximum mean discrepancy of two sets by any kernel, by patient and class.

    MMD² = mean of k(x, x') + mean of k(y, y') − 2 mean of k(x, y)

x ≠ x' are real, y ≠ y' generated: the unbiased estimator (Gretton et al., "A kernel two-sample
test", JMLR 2012, lemma 6), which may be negative. `kid` and `mmd` are this with their kernels.

The means within a set are over pairs of different patients, since two images of one patient are
more alike than two of one distribution. And they are taken within and between the classes, each
class with its share: where the numbers of images of each class are fixed, pairs of one class are
rarer among pairs of different images than the square of its share, and without this two sets of
the same numbers would come out below 0. Each of these means is a U-statistic, and so unbiased.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Resamples
from cxrgan_fast.metrics.second_order import SecondOrder
from cxrgan_fast.metrics.strata import Grouping, Strata

Kernel = Callable[[Tensor, Tensor], Tensor]
"""From (n, D) and (m, D) float64 the kernel of all pairs, (n, m), which the caller may change."""

# Of the kernel matrix that are in memory at once: 2²⁴ float64 are 128 MiB.
_ELEMENTS = 2**24


@dataclass(frozen=True)
class Discrepancy:
    """What is known of the discrepancy of two sets.

    Attributes:
        value: the unbiased estimate.
        spread: how certain it is; None without resamples.
        of_subsets: (S,) float64, the discrepancies of the subsets asked for, images of which are
            taken without regard to classes and patients.
    """

    value: float
    spread: SecondOrder | None
    of_subsets: Tensor


def discrepancy(
    metric: str,
    real: Tensor,
    fake: Tensor,
    kernel: Kernel,
    *,
    strata: Strata | None = None,
    resamples: Resamples | None = None,
    subsets: tuple[Tensor, Tensor] | None = None,
) -> Discrepancy:
    """Compute the unbiased squared discrepancy of two sets of features.

    Args:
        metric: name for messages.
        real: (N, D), N of 2 or more.
        fake: (M, D), M of 2 or more, on the same device.
        kernel: function of float64 vectors.
        strata: classes and patients of these images; None takes all for images of one class, and
            each for one of a patient of its own. A class without two patients in a set is taken
            together with another.
        resamples: resamples of these images, for the spread; fewer than two give none.
        subsets: (S, N) and (S, M), 1 where an image is in the subset and 0 elsewhere; each of two
            images or more.

    Raises:
        UserError: all images of a set are of one patient.
    """
    n_real, n_fake = len(real), len(fake)
    strata = (strata or Strata.unknown(n_real, n_fake)).to(real.device)
    first, second = subsets or (torch.ones(0, n_real), torch.ones(0, n_fake))
    # The whole sets, subsets and directions are weights on one kernel matrix.
    real_weights, fake_weights = [torch.ones(1, n_real), first], [torch.ones(1, n_fake), second]
    certain = resamples is not None and len(resamples.real) > 1
    if certain:
        assert resamples is not None
        directions = resamples.directions()
        real_weights.append(directions[0])
        fake_weights.append(directions[1])
    sides = [
        _Side(vectors.double(), torch.cat([w.to(vectors.device, torch.float64) for w in weights]))
        for vectors, weights in ((real, real_weights), (fake, fake_weights))
    ]
    chosen = slice(1, 1 + len(first))
    across = _products(kernel, sides[0], sides[1])  # (N, R)
    between = (sides[0].weights.T * across).sum(0)  # (R,)
    value = -2 * float(between[0]) / (n_real * n_fake)
    sizes = [side.weights[chosen].sum(1) for side in sides]
    of_subsets = -2 * between[chosen] / (sizes[0] * sizes[1])
    sums, products = [], []
    for side, groups, size in zip(sides, (strata.real, strata.fake), sizes, strict=True):
        value += _mean_within(metric, kernel, side.vectors, groups)
        if len(side.weights) == 1:
            continue  # nothing is asked for but the value
        product = _products(kernel, side, side)
        total = (side.weights.T * product).sum(0)
        own = side.weights[chosen] @ _diagonal(kernel, side.vectors)
        of_subsets = of_subsets + (total[chosen] - own) / (size * (size - 1))
        sums.append(total)
        products.append(product[:, 0])
    if not certain:
        return Discrepancy(value, None, of_subsets)
    # Of whole rows of weights: of the directions, the second-order parts.
    squared = sums[0] / n_real**2 + sums[1] / n_fake**2 - 2 * between / (n_real * n_fake)
    from_fake = _products(kernel, sides[1], sides[0], rows=1)[:, 0]
    influence_real = 2 / n_real * (products[0] / n_real - across[:, 0] / n_fake)
    influence_fake = 2 / n_fake * (products[1] / n_fake - from_fake / n_real)
    linear = strata.real.variance(influence_real) + strata.fake.variance(influence_fake)
    return Discrepancy(value, SecondOrder.of(linear, squared[chosen.stop :]), of_subsets)


@dataclass(frozen=True)
class _Side:
    """One of the two sets (·, D), with weights (R, ·) of its images."""

    vectors: Tensor
    weights: Tensor


def _diagonal(kernel: Kernel, vectors: Tensor) -> Tensor:
    """The kernel of each image with itself, by blocks that waste little."""
    return torch.cat([kernel(part, part).diagonal() for part in vectors.split(64)])


def _products(kernel: Kernel, first: _Side, second: _Side, rows: int | None = None) -> Tensor:
    """Σ k(xᵢ, yⱼ) wⱼ for each row of weights of the second set, or the first so many, (·, R)."""
    weights = second.weights[:rows].T
    blocks = _blocks(first.vectors, second.vectors)
    return torch.cat([kernel(part, second.vectors) @ weights for part in blocks])


def _blocks(first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    """Rows of the first set, so many that the kernels with the second are not too many at once."""
    return first.split(max(1, _ELEMENTS // len(second)))


def _mean_within(metric: str, kernel: Kernel, vectors: Tensor, groups: Grouping) -> float:
    """The mean kernel of pairs of different patients, each class by its share."""
    _, labels = torch.unique(groups.labels, return_inverse=True)
    while True:
        member = torch.nn.functional.one_hot(labels).double()  # (N, K)
        sums, pairs = _class_sums(kernel, vectors, member, groups.patients)
        if pairs.min() > 0:
            break
        if len(pairs) == 1:
            raise UserError(
                f"{metric}: all {len(vectors)} images of a set are of one patient, so that no two "
                "patients can be compared; give images of others"
            )
        labels = _merged(labels, pairs)
    shares = member.mean(0)
    return float((torch.outer(shares, shares) * sums / pairs).sum())


def _class_sums(
    kernel: Kernel, vectors: Tensor, member: Tensor, patients: Tensor
) -> tuple[Tensor, Tensor]:
    """The kernel summed over pairs of different patients, and their number, by classes (K, K)."""
    classes = member.shape[1]
    sums, pairs = vectors.new_zeros(2, classes, classes)
    first = 0
    for part in _blocks(vectors, vectors):
        rows = slice(first, first + len(part))
        others = (patients[rows, None] != patients).double()
        sums += member[rows].T @ (kernel(part, vectors).mul_(others) @ member)
        pairs += member[rows].T @ (others @ member)
        first += len(part)
    return sums, pairs


def _merged(labels: Tensor, pairs: Tensor) -> Tensor:
    """The labels with the smallest class that lacks pairs taken into the largest of the others."""
    sizes = labels.bincount()
    lacking = (pairs.min(1).values == 0).nonzero().flatten()
    smallest = lacking[sizes[lacking].argmin()]
    largest = sizes.index_fill(0, smallest, 0).argmax()
    _, merged = torch.unique(torch.where(labels == smallest, largest, labels), return_inverse=True)
    return merged

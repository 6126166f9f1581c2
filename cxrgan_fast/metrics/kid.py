"""Kernel (Inception) distance: the squared maximum mean discrepancy of a cubic kernel.

    k(x, y) = (x·y/D + 1)³
    KID = mean of k(x, x') + mean of k(y, y') - 2 mean of k(x, y)

x ≠ x' are real, y ≠ y' generated. Bińkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs,
2018, section 4 (the kernel and the use of it) and equation 4 (the unbiased estimator).

Unlike FID it is unbiased at any number of images, so it can be negative: two sets of one
distribution give values on both sides of 0, and it is left so.

The paper gives the mean over random subsets of 1,000 images, which saves memory. Here the value is
that of all images, which varies less and is as unbiased; subsets are in the details.

The means within a set are over pairs of different patients, since two images of one patient are
more alike than two of one distribution. And they are taken within and between the classes, each
class with its share: where the numbers of images of each class are fixed, pairs of one class are
rarer among pairs of different images than the square of its share, and without this two sets of
the same numbers would come out below 0. Each of these means is a U-statistic, and so unbiased.
"""

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Metric, register
from cxrgan_fast.metrics.second_order import SecondOrder
from cxrgan_fast.metrics.strata import Grouping, Strata

# A pair of different images in each subset, which is half of them.
MIN_IMAGES = 4
SUBSETS = 100
SUBSET_SIZE = 1000
# Of the kernel matrix that are in memory at once: 2²⁴ float64 are 128 MiB.
_ELEMENTS = 2**24


def kid(
    real: Tensor,
    fake: Tensor,
    *,
    seed: int = 0,
    resamples: Resamples | None = None,
    strata: Strata | None = None,
    subsets: int = SUBSETS,
) -> Estimate:
    """Compute the unbiased kernel distance of two sets of features.

    Args:
        real: (N, D), N of 4 or more.
        fake: (M, D), M of 4 or more.
        seed: random seed of the subsets; the value does not depend on it.
        resamples: for the standard error and the interval, which is that of a squared distance
            (`second_order`): right where both sets are of one distribution, as well as far apart.
        strata: classes and patients of these images. A class without two patients in a set is
            taken together with another.
        subsets: for `subset_mean` and `subset_deviation`; 0 leaves these out.

    Returns:
        The distance, without unit; `details` has the `dimension` D, and mean and standard
        deviation over `subsets` of `subset_size` images of each set, drawn without regard to
        classes and patients as in the paper: `subset_mean` and `subset_deviation`. The size is
        1,000, or half the smaller set where that is less, since subsets that are nearly the whole
        set would hardly differ. With resamples, `resamples` says how many were used, and
        `error_if_equal` what the standard error is of sets of one distribution.

    Raises:
        UserError: there are too few images, or all of a set are of one patient.
        ValueError: the shapes do not go together.
    """
    require_vectors("KID", real, fake, least=MIN_IMAGES)
    n_real, n_fake = len(real), len(fake)
    strata = strata or Strata.unknown(n_real, n_fake)
    strata = strata.to(real.device)
    size = min(SUBSET_SIZE, min(n_real, n_fake) // 2)
    rng = np.random.default_rng(seed)
    # The whole sets, subsets and directions are weights on one kernel matrix.
    real_weights = [torch.ones(1, n_real), _subsets(rng, subsets, n_real, size)]
    fake_weights = [torch.ones(1, n_fake), _subsets(rng, subsets, n_fake, size)]
    if resamples is not None:
        directions = resamples.directions()
        real_weights.append(directions[0])
        fake_weights.append(directions[1])
    sides = [
        _Side(vectors.double(), torch.cat([w.to(vectors.device, torch.float64) for w in weights]))
        for vectors, weights in ((real, real_weights), (fake, fake_weights))
    ]
    across = _products(sides[0], sides[1])  # (N, R)
    between = (sides[0].weights.T * across).sum(0)  # (R,)
    value = -2 * float(between[0]) / (n_real * n_fake)
    of_subsets = -2 * between[1 : 1 + subsets] / size**2
    sums, products = [], []
    for side, groups in zip(sides, (strata.real, strata.fake), strict=True):
        value += _mean_within(side.vectors, groups)
        if len(side.weights) == 1:
            continue  # nothing is asked for but the value
        product = _products(side, side)
        total = (side.weights.T * product).sum(0)
        own = side.weights[1 : 1 + subsets] @ side.diagonal()
        of_subsets = of_subsets + (total[1 : 1 + subsets] - own) / (size * (size - 1))
        sums.append(total)
        products.append(product[:, 0])
    details: dict[str, float | int] = {"dimension": real.shape[1]}
    if subsets:
        details |= {
            "subsets": subsets,
            "subset_size": size,
            "subset_mean": float(of_subsets.mean()),
            "subset_deviation": float(of_subsets.std()),
        }
    if resamples is None or len(resamples.real) < 2:
        return Estimate(value, n_real, n_fake, None, details)
    # Of whole rows of weights: of the directions, the second-order parts.
    squared = sums[0] / n_real**2 + sums[1] / n_fake**2 - 2 * between / (n_real * n_fake)
    from_fake = _products(sides[1], sides[0], rows=1)[:, 0]
    influence_real = 2 / n_real * (products[0] / n_real - across[:, 0] / n_fake)
    influence_fake = 2 / n_fake * (products[1] / n_fake - from_fake / n_real)
    linear = strata.real.variance(influence_real) + strata.fake.variance(influence_fake)
    spread = SecondOrder.of(linear, squared[1 + subsets :])
    details |= {"resamples": len(resamples.real), "error_if_equal": spread.error_if_equal}
    return Estimate(value, n_real, n_fake, spread.standard_error, details, spread.interval(value))


def _subsets(rng: np.random.Generator, subsets: int, n: int, size: int) -> Tensor:
    """(subsets, n), 1 where an image is in the subset; the same on every device."""
    ranks = rng.random((subsets, n)).argsort(1).argsort(1)
    return torch.from_numpy(ranks < size)


class _Side:
    """One of the two sets (·, D), with weights (R, ·) of its images."""

    def __init__(self, vectors: Tensor, weights: Tensor) -> None:
        self.vectors, self.weights = vectors, weights

    def diagonal(self) -> Tensor:
        """The kernel of each image with itself."""
        return (self.vectors.square().sum(1) / self.vectors.shape[1] + 1) ** 3


def _products(first: _Side, second: _Side, rows: int | None = None) -> Tensor:
    """Σ k(xᵢ, yⱼ) wⱼ for each row of weights of the second set, or the first so many, (·, R)."""
    weights = second.weights[:rows].T
    return torch.cat(
        [_kernel(part, second.vectors) @ weights for part in _blocks(first.vectors, second.vectors)]
    )


def _blocks(first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    """Rows of the first set, so many that the kernels with the second are not too many at once."""
    return first.split(max(1, _ELEMENTS // len(second)))


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _mean_within(vectors: Tensor, groups: Grouping) -> float:
    """The mean kernel of pairs of different patients, each class by its share."""
    _, labels = torch.unique(groups.labels, return_inverse=True)
    while True:
        member = torch.nn.functional.one_hot(labels).double()  # (N, K)
        sums, pairs = _class_sums(vectors, member, groups.patients)
        if pairs.min() > 0:
            break
        if len(pairs) == 1:
            raise UserError(
                f"KID: all {len(vectors)} images of a set are of one patient, so that no two "
                "patients can be compared; give images of others"
            )
        labels = _merged(labels, pairs)
    shares = member.mean(0)
    return float((torch.outer(shares, shares) * sums / pairs).sum())


def _class_sums(vectors: Tensor, member: Tensor, patients: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel summed over pairs of different patients, and their number, by classes (K, K)."""
    classes = member.shape[1]
    sums, pairs = vectors.new_zeros(2, classes, classes)
    first = 0
    for part in _blocks(vectors, vectors):
        rows = slice(first, first + len(part))
        others = (patients[rows, None] != patients).double()
        sums += member[rows].T @ (_kernel(part, vectors).mul_(others) @ member)
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


register(
    Metric(
        name="kid",
        title="KID",
        better="lower",
        takes="features",
        function=lambda sets: kid(
            *sets.vectors,
            seed=sets.seed,
            resamples=sets.resamples,
            strata=sets.strata,
            subsets=0 if sets.values_only else SUBSETS,
        ),
        fewest=(MIN_IMAGES, MIN_IMAGES),
        quick=True,
        place=30,
    )
)

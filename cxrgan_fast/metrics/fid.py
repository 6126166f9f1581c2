"""Fréchet (Inception) distance: how far apart two sets of features are, as Gaussians.

    FID = |μ₁ - μ₂|² + Tr Σ₁ + Tr Σ₂ - 2 Tr (Σ₁ Σ₂)^½

Dowson and Landau, The Fréchet Distance between Multivariate Normal Distributions, 1982, equation 4;
Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium,
2017, equation 6. Covariances are unbiased (divided by n - 1), as in their code.

No matrix root is taken. With any factors Σ₁ = F₁ᵀF₁ and Σ₂ = F₂ᵀF₂, Tr (Σ₁ Σ₂)^½ is the sum of
the singular values of F₁F₂ᵀ: (F₁F₂ᵀ)(F₁F₂ᵀ)ᵀ has the eigenvalues of Σ₁Σ₂. Centred features are such
factors, so this stays right where there are fewer images than dimensions and Σ is singular, on
which sqrtm fails or answers with complex numbers.

FID is biased upwards by about 1/n (see `fid_infinity`): compare it only at equal numbers of images.

Its spread (`second_order`) needs no resampling of FID itself. With the singular values of F₁F₂ᵀ =
U diag(ν) Vᵀ, weights 1 + δ of the images move the covariances, in the coordinates in which both
are diag(ν), by E₁ = ν^½ Uᵀdiag(δ₁)U ν^½ and E₂ = ν^½ Vᵀdiag(δ₂)V ν^½, and then to second order

    Tr (Σ₁ Σ₂)^½ = Σ ν + ½ Tr (E₁ + E₂) - ¼ Σᵢⱼ (E₁ - E₂)²ᵢⱼ / (νᵢ + νⱼ)
"""

from dataclasses import replace

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.metric import Metric, Sets, register
from cxrgan_fast.metrics.second_order import SecondOrder
from cxrgan_fast.metrics.strata import Strata

# A covariance needs two images.
MIN_IMAGES = 2
# Directions are cut to what this many floating-point operations pay for, a few seconds on two
# cores: of 1,000 images, 76 in 256 dimensions and 20 in 1,024. But never below ten, of which a
# standard error is itself known to about a quarter.
_BUDGET = 2e10
_FEWEST_DIRECTIONS = 10
_RANK_TOLERANCE = 1e-9  # singular values of that share of the largest are rounding


class Moments:
    """Count, mean and covariance of feature vectors that come in batches.

    Kept in float64 and merged by the update of Chan, Golub and LeVeque (Updating Formulae and a
    Pairwise Algorithm for Computing Sample Variances, 1979, equation 2.1), on the device of the
    first batch. The order and the sizes of the batches change the result by rounding only.

    Attributes:
        count: vectors so far, n.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = torch.empty(0, dtype=torch.float64)  # (D,)
        self._scatter = torch.empty(0, 0, dtype=torch.float64)  # (D, D), Σ (x - μ)(x - μ)ᵀ

    @classmethod
    def from_statistics(cls, count: int, mean: Tensor, covariance: Tensor) -> "Moments":
        """Take moments that were computed before.

        Args:
            count: number of vectors they are of, 2 or more.
            mean: (D,).
            covariance: (D, D), unbiased.

        Raises:
            ValueError: the shapes do not go together, or `count` is less than 2.
        """
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise ValueError(
                "mean, covariance: expected (D,) and (D, D), got "
                f"{tuple(mean.shape)} and {tuple(covariance.shape)}"
            )
        if count < MIN_IMAGES:
            raise ValueError(f"count: expected {MIN_IMAGES} or more, got {count}")
        moments = cls()
        moments.count = count
        moments._mean = mean.double()
        moments._scatter = covariance.double() * (count - 1)
        return moments

    @property
    def mean(self) -> Tensor:
        """Return the mean, (D,) float64; empty before the first vector."""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """Return the unbiased covariance, (D, D) float64.

        Raises:
            UserError: there are fewer than two vectors.
        """
        if self.count < MIN_IMAGES:
            raise UserError(
                f"covariance: expected {MIN_IMAGES} images or more, got {self.count}; add images"
            )
        return self._scatter / (self.count - 1)

    def update(self, vectors: Tensor) -> None:
        """Take in more vectors.

        Args:
            vectors: (n, D), n may be 0; D as before.

        Raises:
            ValueError: they have another shape.
        """
        if vectors.ndim != 2 or (self.count and vectors.shape[1] != len(self._mean)):
            dimension = len(self._mean) if self.count else "D"
            raise ValueError(f"vectors: expected (n, {dimension}), got {tuple(vectors.shape)}")
        if not len(vectors):
            return
        batch = Moments()
        batch.count = len(vectors)
        centered = vectors.double()
        batch._mean = centered.mean(0)
        centered = centered - batch._mean
        batch._scatter = centered.T @ centered
        self.merge(batch)

    def merge(self, other: "Moments") -> None:
        """Take in the vectors of another, which stays as it is.

        Raises:
            ValueError: its vectors have another dimension.
        """
        if not other.count:
            return
        if not self.count:
            self.count, self._mean, self._scatter = other.count, other._mean, other._scatter
            return
        if len(other._mean) != len(self._mean):
            raise ValueError(f"other: expected D = {len(self._mean)}, got {len(other._mean)}")
        total = self.count + other.count
        step = other._mean - self._mean  # (D,)
        between = step.outer(step) * (self.count * other.count / total)
        self._scatter = self._scatter + other._scatter + between
        self._mean = self._mean + step * (other.count / total)
        self.count = total


def frechet_distance(first: Moments, second: Moments) -> float:
    """Compute FID of two sets of which only the moments are known.

    The factors are made of the covariances' eigenvectors; eigenvalues within rounding of 0 count
    as 0. Equal to `fid` to about 1e-10 relative where there are more vectors than dimensions; where
    there are fewer, prefer `fid`, since a covariance in float64 does not know its small eigenvalues
    to more than 1e-16 of its largest, and the root makes 1e-8 of that.

    Raises:
        UserError: one of them is of fewer than two vectors.
        ValueError: their dimensions differ.
    """
    if len(first.mean) != len(second.mean):
        raise ValueError(
            f"first, second: expected equal dimensions, got {len(first.mean)} and "
            f"{len(second.mean)}"
        )
    factors = _root(first.covariance), _root(second.covariance)
    mean_term, covariance_term = _terms(first.mean - second.mean, *factors)
    return float(mean_term + covariance_term)


def fid(
    real: Tensor,
    fake: Tensor,
    *,
    resamples: Resamples | None = None,
    strata: Strata | None = None,
) -> Estimate:
    """Compute the Fréchet distance of two sets of features.

    Two sets that are the same give 0 to within 1e-12 of their total variance. Rounding cannot make
    it negative: the part of the covariances, which is never below 0, is clipped there.

    Args:
        real: (N, D), N of 2 or more.
        fake: (M, D), M of 2 or more.
        resamples: for the standard error, the interval and the bias.
        strata: classes and patients of these images.

    Returns:
        The distance, in squared units of the features, as `fid_with_spread`.

    Raises:
        UserError: there are too few images.
        ValueError: the shapes do not go together.
    """
    return fid_with_spread(real, fake, resamples=resamples, strata=strata)[0]


def fid_with_spread(
    real: Tensor,
    fake: Tensor,
    *,
    resamples: Resamples | None = None,
    strata: Strata | None = None,
) -> tuple[Estimate, SecondOrder | None]:
    """Compute the Fréchet distance of two sets of features, and what its interval is made of.

    Args, errors: as `fid`. Not all resamples are used where that would take minutes.

    Returns:
        The distance; its interval is that of the mean FID of so many images, with its bias.
        `details` has its two parts `mean_term`, |μ₁ - μ₂|², and `covariance_term`, and the
        `dimension` D; with resamples, the number of `resamples` used and the `bias`: by how much
        FID of so many images lies above that of infinitely many. Where half of the smaller set
        are fewer images than dimensions, the bias is that of as many leading `directions`, and
        the true one is larger. `error_if_equal` is the standard error of sets of one distribution.
        The spread is None without two resamples.
    """
    require_vectors("FID", real, fake, least=MIN_IMAGES)
    real, fake = real.double(), fake.double()
    mean_term, covariance_term = weighted_terms(real, fake)
    value = float(mean_term + covariance_term)
    details = {
        "dimension": real.shape[1],
        "mean_term": float(mean_term),
        "covariance_term": float(covariance_term),
    }
    found = Estimate(value, len(real), len(fake), None, details)
    if resamples is None or len(resamples.real) < 2:
        return found, None
    strata = (strata or Strata.unknown(len(real), len(fake))).to(real.device)
    spread, bias, directions = _spread(real, fake, resamples, strata)
    low, high = spread.interval(value - bias)
    details |= {
        "resamples": spread.freedom + 1,
        "bias": bias,
        "directions": directions,
        "error_if_equal": spread.error_if_equal,
    }
    bounds = low + bias, high + bias
    return replace(found, standard_error=spread.standard_error, bounds=bounds), spread


def _spread(
    real: Tensor, fake: Tensor, resamples: Resamples, strata: Strata
) -> tuple[SecondOrder, float, int]:
    """The spread, the bias, and in how many directions the second order was taken."""
    step = real.mean(0) - fake.mean(0)
    centered = real - real.mean(0), fake - fake.mean(0)  # (N, D), (M, D)
    factors = [side / (len(side) - 1) ** 0.5 for side in centered]
    left, singular, right = _singular(*factors)  # (N, r), (r,), (M, r)
    kept = singular > _RANK_TOLERANCE * singular[0]
    left, singular, right = left[:, kept], singular[kept], right[:, kept]
    # First order: what each image adds.
    linear = 0.0
    for side, factor, vectors, groups, sign in (
        (centered[0], factors[0], left, strata.real, 2.0),
        (centered[1], factors[1], right, strata.fake, -2.0),
    ):
        influence = factor.square().sum(1) - vectors.square() @ singular
        linear += groups.variance(influence + sign / len(side) * (side @ step))
    # Second order: of no more directions than half of the images of the smaller set, since the
    # last ones are of single images.
    most = max(1, min(len(real), len(fake)) // 2)
    left, singular, right = left[:, :most], singular[:most], right[:, :most]
    used = min(len(resamples.real), _affordable(len(real) + len(fake), len(singular)))
    moves = [move[:used].to(real) for move in resamples.directions()]  # (B, N), (B, M)
    root = singular.sqrt()
    scaled = torch.cat([left, right]) * root  # (N + M, r)
    signed = torch.cat([moves[0], -moves[1]], 1)  # (B, N + M)
    sums = 2 * (singular[:, None] + singular)  # (r, r)
    parts = torch.stack(
        [((scaled.T @ (move[:, None] * scaled)).square() / sums).sum() for move in signed]
    )
    means = [move @ side / len(side) for move, side in zip(moves, centered, strict=True)]
    parts += (means[0] - means[1]).square().sum(1)
    for move, mean, vectors in zip(moves, means, (left, right), strict=True):
        # Covariances are about the means of the weighted images.
        n = len(vectors)
        parts -= n / (n - 1) * mean.square().sum(1) - (move @ vectors * root).square().sum(1) / n
    return SecondOrder.of(linear, parts), float(parts.mean()), len(singular)


def _singular(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (N, r), ν (r,), V (M, r) of first · secondᵀ = U diag(ν) Vᵀ, r the smallest of N, M, D."""
    bases, factors = [], []
    for side in (first, second):
        basis = None
        if len(side) > side.shape[1]:
            basis, side = torch.linalg.qr(side)
        bases.append(basis)
        factors.append(side)
    left, singular, right = torch.linalg.svd(factors[0] @ factors[1].T, full_matrices=False)
    sides = left, right.T
    first, second = (v if q is None else q @ v for q, v in zip(bases, sides, strict=True))
    return first, singular, second


def weighted_terms(
    real: Tensor, fake: Tensor, real_counts: Tensor | None = None, fake_counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the two parts of FID, each image taken as often as its count says.

    Args:
        real: (N, D) float64.
        fake: (M, D) float64.
        real_counts: (N,) float64; None for once each.
        fake_counts: (M,) float64; None for once each.

    Returns:
        |μ₁ - μ₂|² and the part of the covariances, scalars.
    """
    real_mean, real_factor = _mean_and_factor(real, real_counts)
    fake_mean, fake_factor = _mean_and_factor(fake, fake_counts)
    return _terms(real_mean - fake_mean, real_factor, fake_factor)


def require_vectors(metric: str, real: Tensor, fake: Tensor, *, least: int) -> None:
    """Refuse what a metric of two sets of vectors cannot be computed of.

    Raises:
        UserError: a set has fewer than `least` images, or features that are not finite.
        ValueError: they are not (N, D) and (M, D), D of 1 or more.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or not real.shape[1]:
        raise ValueError(
            f"real, fake: expected (N, D) and (M, D), got {tuple(real.shape)} and "
            f"{tuple(fake.shape)}"
        )
    if min(len(real), len(fake)) < least:
        raise UserError(
            f"{metric}: expected {least} images or more in each set, got {len(real)} real and "
            f"{len(fake)} generated; give more images"
        )
    for kind, vectors in (("real", real), ("generated", fake)):
        bad = int((~vectors.isfinite().all(1)).sum())
        if bad:
            raise UserError(
                f"{metric}: the features of {bad} of {len(vectors)} {kind} images are not finite "
                "numbers; leave those images out"
            )


def _terms(mean_step: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both parts of FID from factors (·, D), which may have different numbers of rows."""
    overlap = torch.linalg.svdvals(first @ second.T).sum()  # Tr (Σ₁ Σ₂)^½
    traces = first.square().sum() + second.square().sum()
    return mean_step.square().sum(), (traces - 2 * overlap).clamp(min=0)


def _mean_and_factor(vectors: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mean (D,) and some F, (at most D, D), with FᵀF the covariance."""
    if counts is None:
        total = float(len(vectors))
        mean = vectors.mean(0)
        centered = (vectors - mean) / (total - 1) ** 0.5
    else:
        drawn = counts > 0  # about 63 % of them in a bootstrap resample
        vectors, counts = vectors[drawn], counts[drawn]
        total = float(counts.sum())
        mean = counts @ vectors / total
        centered = (vectors - mean) * (counts / (total - 1)).sqrt()[:, None]
    if len(centered) > centered.shape[1]:
        centered = torch.linalg.qr(centered, mode="r").R  # RᵀR = FᵀF
    return mean, centered


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    rounding = len(values) * torch.finfo(torch.float64).eps * values.abs().max()
    values = torch.where(values > rounding, values, 0.0)
    return values.sqrt()[:, None] * vectors.T  # (D, D)


def _affordable(images: int, directions: int) -> int:
    """Resamples within the budget."""
    return max(_FEWEST_DIRECTIONS, int(_BUDGET / (2 * images * max(1, directions) ** 2)))


def fid_of_sets(sets: Sets) -> tuple[Estimate, SecondOrder | None]:
    """Return FID of two sets, and its spread, for `Sets.once`."""
    return fid_with_spread(*sets.vectors, resamples=sets.resamples, strata=sets.strata)


register(
    Metric(
        name="fid",
        title="FID",
        better="lower",
        takes="features",
        function=lambda sets: sets.once(fid_of_sets)[0],
        fewest=(MIN_IMAGES, MIN_IMAGES),
        quick=True,
        place=10,
    )
)

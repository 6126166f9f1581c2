"""How certain a squared distance is, near 0 as well as far from it.

FID and KID are squared distances d² of two distributions. Far from 0 such an estimate varies in
first order: it is as if d² were a sum over the images. Near 0 the first order vanishes, and what is
left is of second order, a quadratic form. A bootstrap mixes the two up: where both sets are of one
distribution its standard error is up to √3 times too large (Bickel and Freedman, Some Asymptotic
Theory for the Bootstrap, 1981, section 3), and value ± 1.96 of it holds the truth nearly always.

So the two are taken apart. With weights 1 + t·δ of the images, δ of mean 0 and variance 1 for each
patient, an estimate is

    T(t) = T + t·L + t²·Q        Var L = first order, Var Q = second order, mean of Q = the bias

The variance at a distance d² is Var Q + c·d². Of the sets at hand, Var L is too large by 2 Var Q,
since they are never quite equal, so that c = (Var L - 2 Var Q)/T where T is far from 0. Near 0 that
is a ratio of two noises, and c is taken as large as it can be: an estimate of the Gaussian kind has
c ≤ √8·(Var Q)^½, with equality where all of the variance and of the distance lies in one direction.
Whatever d² has T within 1.96 of its standard deviations is in the interval, as Wilson has it for a
share (Probable Inference, the Law of Succession, and Statistical Inference, 1927):

    (T - d²)² ≤ 1.96²·(Var Q + c·d²)

It reaches farther up than down. `research.certainty` shows what it holds: 95 % of the truths.
"""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SecondOrder:
    """What is known of the spread of a squared distance.

    Attributes:
        linear: variance of its first-order part, at the sets at hand.
        quadratic: variance of its second-order part.
        freedom: resamples less one that `quadratic` is known from.
        other: variance of what the estimate has beside it, such as a random choice of parts.
    """

    linear: float
    quadratic: float
    freedom: int
    other: float = 0.0

    @classmethod
    def of(cls, linear: float, parts: Tensor) -> "SecondOrder":
        """Make it of the variance of the first order and the second-order parts (B,)."""
        return cls(linear, float(parts.var()), len(parts) - 1)

    def share(self, value: float) -> float:
        """Return the variance of the first order for each unit of the squared distance, c."""
        noise = math.sqrt(self.quadratic)
        if noise == 0:
            return self.linear / value if value > 0 else 0.0
        first_order = max(self.linear - 2 * self.quadratic, 0.0)
        # From the largest c at 0 to that of the sets where the distance is many deviations.
        return (first_order + math.sqrt(8) * noise * noise) / (max(value, 0.0) + noise)

    @property
    def standard_error(self) -> float:
        """Compute the standard deviation at the distance of the sets at hand."""
        return math.sqrt(max(self.linear - self.quadratic, self.quadratic) + self.other)

    @property
    def error_if_equal(self) -> float:
        """Compute the standard deviation that two sets of one distribution would have."""
        return math.sqrt(self.quadratic + self.other)

    def interval(self, value: float) -> tuple[float, float]:
        """Return the 95 % interval of the squared distance, of its unbiased estimate."""
        z, share = quantile(self.freedom), self.share(value)
        middle = z**2 * share / 2
        within = middle**2 + z**2 * (self.quadratic + self.other + share * value)
        half = math.sqrt(max(within, 0.0))
        # Far below 0, as chance has it, no distance is likely, and 0 the least unlikely.
        return min(value + middle - half, value), value + middle + half


def quantile(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's distribution, to 0.1 % from 6 degrees of freedom.

    By the expansion about the normal quantile (Abramowitz and Stegun, Handbook of Mathematical
    Functions, 1964, 26.7.5), since SciPy is not needed for anything else here.
    """
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))

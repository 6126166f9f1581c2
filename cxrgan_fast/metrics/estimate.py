"""What every metric gives: a number, how uncertain it is, and of how many images it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

CONFIDENCE_Z = 1.959964  # of a two-sided 95 % interval of a normal distribution


@dataclass(frozen=True)
class Estimate:
    """One metric of two sets of images.

    Attributes:
        value: the metric.
        n_real: real images that it is of; 0 where it takes none.
        n_fake: generated images that it is of.
        standard_error: its bootstrap standard error; None where none was asked for.
        details: what else the computation knows, ready for JSON.
    """

    value: float
    n_real: int
    n_fake: int
    standard_error: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval, value ± 1.96 standard errors.

        Not the percentiles of the resamples: a resample holds images twice, which moves metrics
        such as FID upwards by more than the interval is wide. Its spread is right all the same
        (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.3).

        None where there is no standard error, and where it is 0: a share of 0 or 1 is the same in
        every resample, which says nothing about how well it is known.
        """
        if not self.standard_error:
            return None
        half = CONFIDENCE_Z * self.standard_error
        return self.value - half, self.value + half


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of two sets, as how often each image is in each of them.

    Attributes:
        real: (B, N) float64, counts; each row sums to about N.
        fake: (B, M) float64, counts; each row sums to M.
    """

    real: Tensor
    fake: Tensor

    @classmethod
    def draw(
        cls,
        n_real: int,
        n_fake: int,
        *,
        patients: Sequence[str] | None = None,
        count: int = 100,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> "Resamples":
        """Draw resamples with replacement.

        Args:
            n_real: real images, N.
            n_fake: generated images, M.
            patients: whose each real image is; whole patients are then drawn, since the images
                of one are alike. The rows of `real` then sum to N on average only.
            count: resamples, B.
            seed: the same seed gives the same resamples on every device.
            device: where the counts are to be.
        """
        rng = np.random.default_rng(seed)
        if patients is None:
            real = rng.multinomial(n_real, [1 / n_real] * n_real, size=count)  # (B, N)
        else:
            _, of_image = np.unique(np.asarray(patients), return_inverse=True)
            n_patients = int(of_image.max()) + 1
            drawn = rng.multinomial(n_patients, [1 / n_patients] * n_patients, size=count)
            real = drawn[:, of_image]
        fake = rng.multinomial(n_fake, [1 / n_fake] * n_fake, size=count)  # (B, M)
        as_counts = (torch.from_numpy(counts).double().to(device) for counts in (real, fake))
        return cls(*as_counts)


def standard_error(values: Tensor) -> float | None:
    """The standard deviation of a metric over its resamples.

    Args:
        values: (B,); resamples of which the metric is not defined are NaN, and are left out.

    Returns:
        None where fewer than two are left: then nothing is known of it.
    """
    values = values[~values.isnan()]
    return float(values.std()) if len(values) > 1 else None

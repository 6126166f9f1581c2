"""What every metric gives: a number, how uncertain it is, and of how many images it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.metrics.strata import Grouping, Strata

CONFIDENCE_Z = 1.959964  # of a two-sided 95 % interval of a normal distribution


@dataclass(frozen=True)
class Estimate:
    """One metric of two sets of images.

    Attributes:
        value: the metric.
        n_real: real images that it is of; 0 where it takes none.
        n_fake: generated images that it is of.
        standard_error: standard error of the value; None where none was asked for.
        details: what else the computation knows, ready for JSON.
        bounds: the 95 % interval of a metric that knows a better one than its standard error says.
    """

    value: float
    n_real: int
    n_fake: int
    standard_error: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval: the metric's own `bounds`, or value ± 1.96 standard errors.

        Not the percentiles of the resamples: a resample holds images twice, which moves metrics
        such as FID upwards by more than the interval is wide. Its spread is right all the same
        (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.3).

        None where there is no standard error, and where it is 0: a share of 0 or 1 is the same in
        every resample, which says nothing about how well it is known.
        """
        if not self.standard_error:
            return None
        if self.bounds is not None:
            return self.bounds
        half = CONFIDENCE_Z * self.standard_error
        return self.value - half, self.value + half


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of two sets, as how much each image weighs in each of them.

    Attributes:
        real: (B, N) float64, weights; each row sums to N, and within each class to its images.
        fake: (B, M) float64, the same for the M generated images.
        real_signs: (B, N) float64, a random sign for each patient, less the mean of the class: by
            which `second_order` takes metrics apart. None where only weights are at hand.
        fake_signs: (B, M) float64, the same for each generated image.
    """

    real: Tensor
    fake: Tensor
    real_signs: Tensor | None = None
    fake_signs: Tensor | None = None

    @classmethod
    def draw(
        cls,
        n_real: int,
        n_fake: int,
        *,
        patients: Sequence[str] | None = None,
        strata: Strata | None = None,
        count: int = 100,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> "Resamples":
        """Draw resamples with replacement, of whole patients and within classes.

        The images of one patient are alike, so that they are drawn together. The classes keep
        their shares, as they do in the sets that are compared: each class is drawn on its own, and
        its weights are multiplied so that they sum to the number of its images, which they would
        do on average only where patients have different numbers of images.

        Args:
            n_real: real images, N.
            n_fake: generated images, M.
            patients: patient of each real image, where all are of one class and the generated ones
                independent.
            strata: the classes and patients of both sets; instead of `patients`.
            count: resamples, B.
            seed: the same seed gives the same resamples on every device.
            device: where the weights are to be.

        Raises:
            ValueError: `patients` and `strata` are both given, or are not of N and M images.
        """
        if patients is not None and strata is not None:
            raise ValueError("patients, strata: expected one of them, got both")
        if strata is None:
            strata = Strata(Grouping.of(n_real, patients=patients), Grouping.of(n_fake))
        if (len(strata.real), len(strata.fake)) != (n_real, n_fake):
            raise ValueError(
                f"strata: expected {n_real} real and {n_fake} generated images, got "
                f"{len(strata.real)} and {len(strata.fake)}"
            )
        rng = np.random.default_rng(seed)
        sides = (strata.real.to("cpu"), strata.fake.to("cpu"))
        weights = [_weights(rng, side, count).to(device) for side in sides]
        signs = [_signs(rng, side, count).to(device) for side in sides]
        return cls(weights[0], weights[1], signs[0], signs[1])

    def to(self, device: str | torch.device) -> "Resamples":
        """Return the same on a device."""
        signs = (None if s is None else s.to(device) for s in (self.real_signs, self.fake_signs))
        return Resamples(self.real.to(device), self.fake.to(device), *signs)

    def take(self, real: Tensor, fake: Tensor) -> "Resamples":
        """Return the weights of some of the images, by rows or by a mask."""
        return Resamples(
            self.real[:, real],
            self.fake[:, fake],
            None if self.real_signs is None else self.real_signs[:, real],
            None if self.fake_signs is None else self.fake_signs[:, fake],
        )

    def directions(self) -> tuple[Tensor, Tensor]:
        """Return by how much weights are moved from 1, (B, N) and (B, M), of variance 1.

        The signs, whose squares are all 1: what they tell of a second-order part is known more
        precisely than by weights. The weights less 1 where there are no signs.
        """
        if self.real_signs is None or self.fake_signs is None:
            return self.real - 1, self.fake - 1
        return self.real_signs, self.fake_signs


def _weights(rng: np.random.Generator, groups: Grouping, count: int) -> Tensor:
    unit, label = (part.numpy() for part in groups.units())
    drawn = np.empty((count, len(label)))
    images = np.bincount(unit, minlength=len(label))  # of each unit
    for k in np.unique(label):
        units = np.flatnonzero(label == k)
        drawn[:, units] = rng.multinomial(len(units), [1 / len(units)] * len(units), size=count)
        # Never 0: some unit is drawn, and each has an image.
        drawn[:, units] *= images[units].sum() / (drawn[:, units] @ images[units])[:, None]
    return torch.from_numpy(drawn[:, unit])


def _signs(rng: np.random.Generator, groups: Grouping, count: int) -> Tensor:
    unit, label = groups.units()
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], size=(count, len(label))))
    # Of P patients the deviations from their mean are too small by 1 - 1/P, in squares.
    _, of_unit, patients = torch.unique(label, return_inverse=True, return_counts=True)
    patients = patients[of_unit].double()
    signs *= (patients / (patients - 1).clamp(min=1)).sqrt()
    return groups.centered(signs[:, unit])


def standard_error(values: Tensor) -> float | None:
    """Compute the standard deviation of a metric over its resamples.

    Args:
        values: (B,); resamples of which the metric is not defined are NaN, and are left out.

    Returns:
        None where fewer than two are left: then nothing is known of it.
    """
    values = values[~values.isnan()]
    return float(values.std()) if len(values) > 1 else None

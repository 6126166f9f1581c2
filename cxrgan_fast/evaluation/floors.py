"""The floor of many divisions, and how far above it generated images are.

One division of the training images into two halves by patient gives a floor by chance. So they are
divided many times, and the floor is the mean of the divisions' metrics. What is then said of
generated images is their metric less the floor, with an interval that has both uncertainties in it.
A ratio would say less: FID of any two sets of n images is about as large as its bias, and "15 times
the floor" is a ratio of two biases that more images make larger.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.estimate import CONFIDENCE_Z, Estimate
from cxrgan_fast.metrics.metric import all_metrics

OTHER_PATIENTS = "other patients"
TEST_SPLIT = "test split"


@dataclass(frozen=True)
class Difference:
    """A metric of generated images less that of real images new to each other.

    Attributes:
        value: the metric of the generated images.
        floor: the mean over the divisions.
        interval: 95 % of the difference; None where the uncertainty of one of the two is unknown.
        deviation: standard deviation of the floor over the divisions; None for one division.
        divisions: number of divisions of which the floor is the mean.
    """

    value: float
    floor: float
    interval: tuple[float, float] | None
    deviation: float | None
    divisions: int

    @property
    def difference(self) -> float:
        """Subtract the floor from the generated images' value."""
        return self.value - self.floor


def most_divisions(metrics: Sequence[str]) -> int:
    """Return how many divisions the floors of some metrics take, at the most."""
    return max((all_metrics()[name].divisions for name in metrics), default=0)


def mean_of_divisions(
    metrics: Sequence[str],
    compare: Callable[[int, Sequence[str]], Comparison],
    images: int = 0,
) -> Comparison:
    """Compute the floor as the mean of as many divisions as each metric takes.

    Args:
        metrics: names.
        compare: computes some of them of a division, by its number from 0. That of division 0 has
            standard errors.
        images: training images that are divided: of many of them some metrics take one division.

    Returns:
        Of each metric the mean over the divisions; of a detail that has a best value as well. The
        other details are those of the first division, with `divisions`, their `deviation` and
        `values`. A reason for what the first division has none of.

        The squared standard error is that of a mean of independent divisions, plus what the
        divisions of one set of patients cannot show: the first division's own variance, which is
        that of other patients too, less the variance between the divisions. Where a metric knows
        its error of sets of one distribution (`error_if_equal` of the details), which the halves
        are, that one is taken.
    """
    first = compare(0, metrics)
    found = {name: [estimate] for name, estimate in first.estimates.items()}
    divisions = {name: all_metrics()[name].divisions_of(images) for name in found}
    for division in range(1, max(divisions.values(), default=0)):
        wanted = [name for name in found if division < divisions[name]]
        for name, estimate in compare(division, wanted).estimates.items():
            found[name].append(estimate)
    means = {name: _mean(name, estimates) for name, estimates in found.items()}
    return replace(first, estimates=means)


def _mean(name: str, estimates: Sequence[Estimate]) -> Estimate:
    first, values = estimates[0], [estimate.value for estimate in estimates]
    details = {**first.details, "divisions": len(values), "values": values}
    if len(values) == 1:
        return replace(first, details={**details, "deviation": None})
    for detail in all_metrics()[name].details:
        if detail.better is not None:
            of_each = [estimate.details[detail.key] for estimate in estimates]
            details[detail.key] = statistics.fmean(of_each)
    variance = statistics.variance(values)
    details["deviation"] = math.sqrt(variance)
    error = None
    if first.standard_error is not None:
        alone = details.get("error_if_equal", first.standard_error)
        unseen = max(alone**2 - variance, 0.0)
        error = math.sqrt(unseen + variance / len(values))
    return replace(
        first, value=statistics.fmean(values), standard_error=error, details=details, bounds=None
    )


def differences(generated: Comparison, floor: Comparison) -> dict[str, Difference]:
    """Return the difference from a floor of every metric that both have, by name."""
    return {
        name: _difference(estimate, floor.estimates[name])
        for name, estimate in generated.estimates.items()
        if name in floor.estimates
    }


def _difference(generated: Estimate, floor: Estimate) -> Difference:
    """By Zou and Donner, Construction of Confidence Limits about Effect Measures, 2008.

    The interval is as far below the difference as the lower end of the one and the upper end of
    the other are from their values, in squares, and so above: right for intervals that reach
    farther on one side.
    """
    interval = None
    if generated.standard_error is not None and floor.standard_error is not None:
        low, high = generated.interval or (generated.value, generated.value)
        # The mean of divisions is about normal, whatever each of them is.
        half = CONFIDENCE_Z * floor.standard_error
        floor_low, floor_high = floor.interval or (floor.value - half, floor.value + half)
        value = generated.value - floor.value
        below = math.hypot(generated.value - low, floor_high - floor.value)
        above = math.hypot(high - generated.value, floor.value - floor_low)
        if below or above:
            interval = value - below, value + above
    return Difference(
        value=generated.value,
        floor=floor.value,
        interval=interval,
        deviation=floor.details.get("deviation"),
        divisions=floor.details.get("divisions", 1),
    )

"""Several metrics of the same two sets of images, by their names."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.extractor import Features
from cxrgan_fast.metrics.metric import Asked, Images, Sets, all_metrics, check_metrics
from cxrgan_fast.metrics.shared_distances import shared_distances
from cxrgan_fast.metrics.strata import Strata


@dataclass(frozen=True)
class Comparison:
    """Metrics of two sets.

    Attributes:
        estimates: by name, in the order of `all_metrics`.
        omitted: the reason for each metric that these sets do not allow.
    """

    estimates: dict[str, Estimate] = field(default_factory=dict)
    omitted: dict[str, str] = field(default_factory=dict)


def compare(
    real: Features,
    fake: Features,
    *,
    metrics: Sequence[str] | None = None,
    images: Images | None = None,
    resamples: Resamples | None = None,
    seed: int = 0,
    strata: Strata | None = None,
    asked: Asked | None = None,
    values_only: bool = False,
) -> Comparison:
    """Compute metrics of real and generated images.

    Precision, recall and the nearest-neighbour test need sets of one size: of the larger set a
    part is taken, at random by `seed`; `n_real` and `n_fake` of the estimate say how many.

    Args:
        real: features of N real images.
        fake: features of M generated images, by the same extractor, on the same device.
        metrics: names out of `comparable_metrics`; None for all that take what is given.
        images: these N and M images, for the metrics that take them.
        resamples: resamples of these N and M images; gives standard errors where a metric has them.
        seed: random seed of the metrics and of the parts taken.
        strata: the classes and patients of these images; None takes all for images of one class,
            and each for one of a patient of its own. Give the same to `Resamples.draw`.
        asked: what the M generated images were asked to show, for the metric that takes it.
        values_only: leave out details that have no best value and take time, such as p-values.

    Returns:
        The estimates, and the reasons for those that there are not: too few images, or an
        extractor without a classifier.

    Raises:
        UserError: an unknown metric.
        ValueError: `strata` is of other numbers of images.
    """
    known = all_metrics()
    comparable = comparable_metrics()
    if metrics is None:
        metrics = [n for n in comparable if known[n].takes != "images" or images is not None]
    check_metrics(metrics, comparable)
    if resamples is not None:
        resamples = resamples.to(real.vectors.device)
    if strata is not None:
        if (len(strata.real), len(strata.fake)) != (len(real), len(fake)):
            raise ValueError(
                f"strata: expected {len(real)} real and {len(fake)} generated images, got "
                f"{len(strata.real)} and {len(strata.fake)}"
            )
        strata = strata.to(real.vectors.device)
    sets = Sets(real, fake, images, resamples, seed, strata, asked, values_only)
    comparison = Comparison()
    with shared_distances(*sets.vectors, *sets.once(Sets.of_equal_sizes).vectors):
        for name in (name for name in comparable if name in metrics):
            try:
                comparison.estimates[name] = known[name].compute(sets)
            except UserError as error:  # noqa: PERF203 - a dozen metrics
                comparison.omitted[name] = str(error)
    return comparison


def comparable_metrics() -> tuple[str, ...]:
    """Return the names of the metrics that `compare` computes, in the order they are shown."""
    return tuple(name for name, metric in all_metrics().items() if metric.function is not None)

"""Several metrics of the same two sets of features, by their names."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.extractor import Features
from cxrgan_fast.metrics.fid import fid
from cxrgan_fast.metrics.fid_infinity import fid_infinity
from cxrgan_fast.metrics.inception_score import inception_score
from cxrgan_fast.metrics.kid import kid
from cxrgan_fast.metrics.likeness import likeness_score
from cxrgan_fast.metrics.nearest_neighbour import nearest_neighbour_accuracy
from cxrgan_fast.metrics.precision_recall import precision_recall

FEATURE_METRICS = (
    "fid",
    "fid_infinity",
    "kid",
    "inception_score",
    "precision",
    "recall",
    "nearest_neighbour",
    "likeness",
)
"""The metrics that `compare` knows, in the order in which they are shown."""

# Their values depend on the ratio of the two sets' sizes: a nearest neighbour is more often of the
# larger set, and a k-th neighbour is nearer in it.
_OF_EQUAL_SIZES = frozenset({"precision", "recall", "nearest_neighbour"})


@dataclass(frozen=True)
class Comparison:
    """Metrics of two sets.

    Attributes:
        estimates: by name, in the order of `FEATURE_METRICS`.
        omitted: the reason for each metric that these sets do not allow.
    """

    estimates: dict[str, Estimate] = field(default_factory=dict)
    omitted: dict[str, str] = field(default_factory=dict)


def compare(
    real: Features,
    fake: Features,
    *,
    metrics: Sequence[str] = FEATURE_METRICS,
    resamples: Resamples | None = None,
    seed: int = 0,
) -> Comparison:
    """Compute metrics of real and generated images.

    Precision, recall and the nearest-neighbour test need sets of one size: of the larger set a
    part is taken, at random by `seed`; `n_real` and `n_fake` of the estimate say how many.

    Args:
        real: features of N real images.
        fake: features of M generated images, by the same extractor, on the same device.
        metrics: names out of `FEATURE_METRICS`.
        resamples: of these N and M images; gives standard errors where a metric has them.
        seed: of what is random in a metric, and of the parts taken.

    Returns:
        The estimates, and the reasons for those that there are not: too few images, or an
        extractor without a classifier.

    Raises:
        UserError: an unknown metric.
    """
    check_metrics(metrics, FEATURE_METRICS)
    if resamples is not None:
        device = real.vectors.device
        resamples = Resamples(resamples.real.to(device), resamples.fake.to(device))
    comparison = Comparison()
    equal = _of_one_size(real, fake, resamples, seed) if _OF_EQUAL_SIZES & set(metrics) else None
    # In this order, and each once.
    for name in (known for known in FEATURE_METRICS if known in metrics):
        if name in comparison.estimates or name in comparison.omitted:
            continue  # recall, which came with precision
        try:
            if name in _OF_EQUAL_SIZES:
                assert equal is not None
                found = _compute(name, *equal, seed)
            else:
                found = _compute(name, real, fake, resamples, seed)
        except UserError as error:
            comparison.omitted[name] = str(error)
        else:
            comparison.estimates.update({k: v for k, v in found.items() if k in metrics})
    return comparison


def check_metrics(metrics: Sequence[str], known: Sequence[str]) -> None:
    """Hold that there are metrics of these names.

    Raises:
        UserError: one is not among the known; the nearest is named.
    """
    for name in metrics:
        if name not in known:
            raise UserError(
                f"--metrics {name}: expected {', '.join(known)}{did_you_mean(name, known)}"
            )


def _compute(
    name: str, real: Features, fake: Features, resamples: Resamples | None, seed: int
) -> dict[str, Estimate]:
    vectors = real.vectors, fake.vectors
    if name == "fid":
        return {name: fid(*vectors, resamples=resamples)}
    if name == "fid_infinity":
        return {name: fid_infinity(*vectors, seed=seed)}
    if name == "kid":
        return {name: kid(*vectors, seed=seed, resamples=resamples)}
    if name == "inception_score":
        if fake.probabilities is None:
            raise UserError("these features come from no classifier")
        return {name: inception_score(fake.probabilities, seed=seed, resamples=resamples)}
    if name in ("precision", "recall"):
        both = precision_recall(*vectors, resamples=resamples)
        return dict(zip(("precision", "recall"), both, strict=True))
    if name == "nearest_neighbour":
        return {name: nearest_neighbour_accuracy(*vectors, seed=seed, resamples=resamples)}
    return {name: likeness_score(*vectors, resamples=resamples)}


def _of_one_size(
    real: Features, fake: Features, resamples: Resamples | None, seed: int
) -> tuple[Features, Features, Resamples | None]:
    """As many real as generated images: a part of the larger set."""
    n = min(len(real), len(fake))
    rows_real, rows_fake = (_part(len(features), n, seed) for features in (real, fake))
    device = real.vectors.device
    rows_real, rows_fake = rows_real.to(device), rows_fake.to(device)
    if resamples is not None:
        resamples = replace(
            resamples, real=resamples.real[:, rows_real], fake=resamples.fake[:, rows_fake]
        )
    return real[rows_real], fake[rows_fake], resamples


def _part(size: int, n: int, seed: int) -> Tensor:
    if size == n:
        return torch.arange(n)
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:n].sort().values

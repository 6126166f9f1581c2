"""What a metric is: one record, registered by the file that computes it.

A file of this folder that ends with

    register(Metric("mean_gray", "mean gray", better="lower", takes="images", function=...))

is all that a metric needs. `--metrics`, the tables, evaluation.json, the plots and, where the
record says that the metric is quick, the evaluations of a training and of its checkpoints and
TensorBoard read the record from here.
"""

import functools
import importlib
import math
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.metrics.estimate import Estimate, Resamples
from cxrgan_fast.metrics.extractor import Features
from cxrgan_fast.metrics.shared_images import MOST_IMAGES
from cxrgan_fast.metrics.strata import Strata

Better = Literal["lower", "higher"] | float
"""Which way a number is better; a number is the best value itself."""

Input = Literal["features", "images", "probabilities"]

_T = TypeVar("_T")
_LAST = 1000


@dataclass(frozen=True)
class Images:
    """The images of two sets, all on one device.

    Attributes:
        real: (N, C, H, W) uint8.
        fake: (M, C, H, W) uint8.
        originals: (T, C, H, W) uint8, all images of which `fake` may hold copies.
    """

    real: Tensor
    fake: Tensor
    originals: Tensor


@dataclass(frozen=True)
class Asked:
    """Which class each generated image was asked to show, and what a classifier calls it.

    Attributes:
        labels: (M,) int64, places among the classes of the data.
        columns: for each class of the data the columns of the classifier's probabilities that mean
            it: (0,) for its first class, (1, 2) where the data join two of its classes. Empty for a
            class that the classifier does not know.
    """

    labels: Tensor
    columns: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sets:
    """Two sets of images, as the function of a metric takes them.

    Attributes:
        real: features of N real images.
        fake: features of M generated images, on the same device.
        images: the images themselves; None where only features are at hand.
        resamples: resamples of these N and M images, on the device of the features; None where no
            standard errors are asked for.
        seed: random seed of the metrics.
        strata: the classes and patients of these N and M images, on the device of the features;
            None where they are unknown.
        asked: what the M generated images were asked to show; None where nobody knows.
        values_only: no details are looked at but those that have a best value: a metric may leave
            out what it computes for others only.
    """

    real: Features
    fake: Features
    images: Images | None = None
    resamples: Resamples | None = None
    seed: int = 0
    strata: Strata | None = None
    asked: Asked | None = None
    values_only: bool = False
    _kept: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def vectors(self) -> tuple[Tensor, Tensor]:
        """Return the real (N, D) and generated (M, D) float32 feature vectors."""
        return self.real.vectors, self.fake.vectors

    def once(self, function: "Callable[[Sets], _T]") -> _T:
        """Return what a function gives of these sets, computed the first time only.

        For metrics that come of one computation, such as precision and recall.
        """
        if function not in self._kept:
            self._kept[function] = function(self)
        result: _T = self._kept[function]
        return result

    def of_equal_sizes(self) -> "Sets":
        """Return as many real as generated images: a part of the larger set, at random."""
        n = min(len(self.real), len(self.fake))
        if n == max(len(self.real), len(self.fake)):
            return self
        device = self.real.vectors.device
        rows_real, rows_fake = (
            _part(len(features), n, self.seed).to(device) for features in (self.real, self.fake)
        )
        images, resamples = self.images, self.resamples
        strata, asked = self.strata, self.asked
        if asked is not None:
            asked = replace(asked, labels=asked.labels[rows_fake.to(asked.labels.device)])
        if images is not None:
            real, fake = images.real, images.fake
            images = replace(
                images, real=real[rows_real.to(real.device)], fake=fake[rows_fake.to(fake.device)]
            )
        if resamples is not None:
            resamples = resamples.take(rows_real, rows_fake)
        if strata is not None:
            strata = strata.take(rows_real, rows_fake)
        return replace(
            self,
            real=self.real[rows_real],
            fake=self.fake[rows_fake],
            images=images,
            resamples=resamples,
            strata=strata,
            asked=asked,
            _kept={},
        )


def _part(size: int, n: int, seed: int) -> Tensor:
    if size == n:
        return torch.arange(n)
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:n].sort().values


@dataclass(frozen=True)
class Detail:
    """A number among the details of an estimate that has a row of its own in the tables.

    Attributes:
        key: in `Estimate.details`.
        title: what the row is called.
        better: which way it is better; None where neither is.
    """

    key: str
    title: str
    better: Better | None = None


@dataclass(frozen=True)
class Metric:
    """A metric of real and generated images.

    Attributes:
        name: for `--metrics`, JSON and tags of TensorBoard: lower-case letters, digits and _.
        title: for tables and pictures.
        better: "lower", "higher", or the best value.
        takes: what it is computed of: "features" of both sets, the "images" of both sets, or the
            class "probabilities" of the generated ones, which not every extractor gives.
        function: gives the estimate. Raises UserError, with a reason, where these sets allow none.
            None for a metric that `evaluation.evaluator` computes beside the comparisons.
        fewest: real and generated images of which it can be computed at all.
        needs_equal_sizes: it depends on the ratio of the two sets' sizes, so that it is given as
            many images of both.
        quick: it is cheap enough to be computed whenever a training is evaluated, and of every
            checkpoint.
        divisions: divisions of the training images by patient, of which the floor is the mean;
            fewer where it takes long.
        of_pairs_of_images: it takes numbers of every pair of images, which are kept of sets of up
            to `shared_images.MOST_IMAGES`. Of more training images the floor is of one division.
        details: what else of an estimate the tables show.
        place: where it stands among the metrics, the smallest first; equal ones by their names.
    """

    name: str
    title: str
    better: Better
    takes: Input
    function: Callable[[Sets], Estimate] | None
    fewest: tuple[int, int] = (1, 1)
    needs_equal_sizes: bool = False
    quick: bool = False
    divisions: int = 20
    of_pairs_of_images: bool = False
    details: tuple[Detail, ...] = ()
    place: int = _LAST

    def compute(self, sets: Sets) -> Estimate:
        """Compute the metric of two sets, or of an equal part of both where it needs that.

        Raises:
            UserError: these sets do not allow it; says why.
        """
        if self.function is None:
            raise ValueError(f"{self.name}: expected a metric with a function, this one has none")
        if self.takes == "images" and sets.images is None:
            raise UserError("it is computed of images, and only their features are at hand")
        if self.takes == "probabilities" and sets.fake.probabilities is None:
            raise UserError("these features come from no classifier")
        self._require_enough(len(sets.real), len(sets.fake))
        found = self.function(sets.once(Sets.of_equal_sizes) if self.needs_equal_sizes else sets)
        if not math.isfinite(found.value):
            raise UserError(f"{self.title}: of these images it comes to {found.value}, no number")
        return found

    def divisions_of(self, images: int) -> int:
        """Return of how many divisions the floor is for so many training images."""
        too_many = self.of_pairs_of_images and images > MOST_IMAGES
        return 1 if too_many else self.divisions

    def _require_enough(self, n_real: int, n_fake: int) -> None:
        real, fake = self.fewest
        if n_real >= real and n_fake >= fake:
            return
        if real == fake:
            needed = f"{real} images or more in each set"
        elif real == 0:
            needed = f"{fake} generated images or more"
        else:
            needed = f"{real} real and {fake} generated images or more"
        raise UserError(
            f"{self.title}: expected {needed}, got {n_real} real and {n_fake} generated; give more "
            "images"
        )


def direction(better: Better) -> str:
    """Return which way is better in a word or two: "lower", "higher", or "near 0.5"."""
    return better if isinstance(better, str) else f"near {better:g}"


_registered: dict[str, Metric] = {}


def register(metric: Metric) -> None:
    """Make a metric known by its name.

    Called at the end of the file that computes it. A file that is loaded again, as in a notebook,
    takes the place of its own record.

    Raises:
        ValueError: the name is taken by another file, or cannot be a name; `better` or `takes` is
            none of what they can be; it is quick without a function; or it has no division.
    """
    if not metric.name.isidentifier() or metric.name != metric.name.lower():
        raise ValueError(
            f"name: expected lower-case letters, digits and _, got {metric.name!r}; rename the "
            "metric"
        )
    if metric.better not in ("lower", "higher") and not isinstance(metric.better, int | float):
        raise ValueError(
            f"better: expected lower, higher or the best value of {metric.name}, got "
            f"{metric.better!r}"
        )
    if metric.takes not in get_args(Input):
        raise ValueError(
            f"takes: expected {', '.join(get_args(Input))} for {metric.name}, got {metric.takes!r}"
        )
    if metric.quick and metric.function is None:
        raise ValueError(f"quick: expected a function of {metric.name}, got None; leave quick out")
    if metric.divisions < 1:
        raise ValueError(f"divisions: expected 1 or more, got {metric.divisions} of {metric.name}")
    other = _registered.get(metric.name)
    if other is not None and _file_of(other) != _file_of(metric):
        raise ValueError(
            f"name: {metric.name!r}, of a metric of {_file_of(metric)}, is that of one of "
            f"{_file_of(other)} already; choose another"
        )
    _registered[metric.name] = metric


def _file_of(metric: Metric) -> str:
    return "the package" if metric.function is None else metric.function.__module__


def all_metrics() -> dict[str, Metric]:
    """Return every metric by its name, in the order in which they are shown."""
    _import_the_folder()
    ordered = sorted(_registered.values(), key=lambda metric: (metric.place, metric.name))
    return {metric.name: metric for metric in ordered}


@functools.cache  # an import that fails is not kept: it fails again
def _import_the_folder() -> None:
    """Import every module of this folder, so that each registers what it computes."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def metric_names() -> tuple[str, ...]:
    """Return the names of all metrics, which `--metrics` takes, in the order they are shown."""
    return tuple(all_metrics())


def quick_metrics() -> tuple[str, ...]:
    """Return the names of those that are computed whenever a training is evaluated."""
    return tuple(name for name, metric in all_metrics().items() if metric.quick)


def check_metrics(metrics: Iterable[str], known: Sequence[str]) -> None:
    """Refuse names that no metric has.

    Raises:
        UserError: one is not among the known; the nearest is named.
    """
    for name in metrics:
        if name not in known:
            raise UserError(
                f"--metrics {name}: expected {', '.join(known)}{did_you_mean(name, known)}"
            )

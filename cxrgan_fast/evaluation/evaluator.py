"""All that is to be said of generated images: metrics, floors beside them, memorisation.

A number alone says little. Beside each metric of generated images stands the same metric of real
images that are new to each other, the floor: what a perfect generator would come to, but for chance
and for what images of one patient have in common. Two floors are given, in the same classes and,
where there are enough images, in the same number, and how far the generated images are from each:

- "other patients": two halves of the training images that share no patient, in the mean over many
  divisions (`floors`);
- "test split": training images against those of the data's own test split.
"""

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.findings import Evaluation, Part
from cxrgan_fast.evaluation.floors import (
    OTHER_PATIENTS,
    TEST_SPLIT,
    differences,
    mean_of_divisions,
    most_divisions,
)
from cxrgan_fast.evaluation.matching import (
    Described,
    Pair,
    check_classes,
    choose_rows,
    largest_match,
    patient_halves,
    strata_of,
    subset,
)
from cxrgan_fast.evaluation.memorized import memorized, near_copies_of, second_opinion
from cxrgan_fast.evaluation.notes import notes
from cxrgan_fast.metrics.cache import features_of
from cxrgan_fast.metrics.class_agreement import columns_of_classes
from cxrgan_fast.metrics.comparison import Comparison, comparable_metrics, compare
from cxrgan_fast.metrics.estimate import Resamples
from cxrgan_fast.metrics.extractor import FeatureExtractor, extract_features
from cxrgan_fast.metrics.memorization import exact_copies, exact_duplicates
from cxrgan_fast.metrics.metric import Asked, Images, all_metrics, check_metrics, metric_names
from cxrgan_fast.metrics.shared_images import shared_images
from cxrgan_fast.metrics.strata import Strata

ALL_CLASSES = "all classes"
GENERATED = "generated"


class Evaluator:
    """The real images that generated ones are held against, with their features.

    Args:
        train: all that was trained on.
        test: the same classes of the data's test split; None where it has none.
        extractor: on `device`.
        device: where features and metrics are computed.
        held_out: images of patients who were left out of the training, the yardstick of
            memorization; None where there are none.
        seed: random seed of every choice.
        resamples: bootstrap resamples, from which intervals come; 0 for none.
        cache: keep the features of real images, and the threshold of copies, in files.
        progress: show bars on standard error, if that is a terminal.

    Raises:
        UserError: features cannot be taken.
    """

    def __init__(
        self,
        train: ImageDataset,
        test: ImageDataset | None,
        extractor: FeatureExtractor,
        device: torch.device,
        *,
        held_out: ImageDataset | None = None,
        seed: int = 0,
        resamples: int = 100,
        cache: bool = True,
        progress: bool = True,
    ) -> None:
        self.extractor, self.device = extractor, device
        self.seed, self.resamples, self.progress = seed, resamples, progress
        self.cache = cache
        self.seconds: dict[str, float] = {}
        bar = "features of real images" if progress else None

        def describe(dataset: ImageDataset) -> Described:
            features = features_of(dataset, extractor, device, cache=cache, progress=bar)
            return Described(dataset, features)

        with _timed(self.seconds, "features of real images"):
            self.train = describe(train)
            self.test = None if test is None else describe(test)
            self.held_out = None if held_out is None else describe(held_out)

    def label(self) -> dict[str, Any]:
        """Return what numbers of these features must be labelled with."""
        license = self.extractor.license
        return {
            "name": self.extractor.name,
            "version": self.extractor.version,
            **({"license": license} if license else {}),
            "input_size": self.extractor.input_size,
            "dimension": self.train.features.vectors.shape[1],
        }

    def match(self, available: Mapping[str, int], samples: int, where: object) -> list[int]:
        """Decide how many images of each class to compare, of both kinds.

        Args:
            available: generated images of each class that there are.
            samples: images wanted in all.
            where: the generated images, for messages.

        Returns:
            One count for each of the data's classes, in the frequencies of the training images:
            `samples` in all, or as many as there are of both kinds.

        Raises:
            UserError: classes are missing or unknown, or nothing is left to compare.
        """
        real = self.train.dataset.class_counts()
        check_classes(available, real, where)
        most = min(samples, len(self.train.dataset))
        counts = largest_match([available[name] for name in real], list(real.values()), most)
        if sum(counts) < 2:
            raise UserError(
                f"{where}: {sum(available.values())} generated and {len(self.train.dataset)} real "
                "images leave fewer than 2 to compare; give more"
            )
        return counts

    def describe(self, fake: ImageDataset, counts: Sequence[int]) -> Described:
        """Take so many of the generated images of each class, with their features."""
        # By another seed than the real images: files in their order would give their copies.
        chosen = subset(fake, choose_rows(fake.labels, counts, self.seed + 1))
        bar = "features of generated images" if self.progress else None
        features = extract_features(self.extractor, chosen.images, self.device, progress=bar)
        return Described(chosen, features)

    def pair(self, generated: Described, counts: Sequence[int]) -> Pair:
        """Pair generated images with so many training images of each class."""
        return Pair(self.real_like(counts), generated, self.train.dataset.images)

    def real_like(self, counts: Sequence[int]) -> Described:
        """Choose so many training images of each class at random."""
        return self.train.take(choose_rows(self.train.dataset.labels, counts, self.seed))

    def floor_pairs(self, counts: Sequence[int], division: int = 0) -> dict[str, Pair]:
        """Pair real images that are new to each other, at most so many of each class, by floor.

        Args:
            counts: images of each class on either side.
            division: which of the divisions of the training images; all have the same numbers.
        """
        pairs = {OTHER_PATIENTS: self._divided(counts, division), TEST_SPLIT: self._tested(counts)}
        return {title: pair for title, pair in pairs.items() if pair is not None}

    def _divided(self, counts: Sequence[int], division: int) -> Pair | None:
        """Two halves of the training images by patient; None where they have too few."""
        train = self.train.dataset
        in_halves = torch.stack([half for _, half in self._divisions]).amin(0).tolist()
        matched = largest_match(in_halves, list(train.class_counts().values()), sum(counts))
        if sum(matched) < 2:
            return None
        seed, (halves, _) = self.seed + division, self._divisions[division]
        first, second = (
            self.train.take(choose_rows(train.labels, matched, seed, among=half)) for half in halves
        )
        return Pair(first, second, train.images[halves[0]])

    def _tested(self, counts: Sequence[int]) -> Pair | None:
        """Training images and those of the test split; None where there are too few."""
        if self.test is None:
            return None
        train, test = self.train.dataset, self.test.dataset
        in_test = list(test.class_counts().values())
        matched = largest_match(in_test, list(train.class_counts().values()), sum(counts))
        if sum(matched) < 2:
            return None
        rows = choose_rows(test.labels, matched, self.seed)
        return Pair(self.real_like(matched), self.test.take(rows), train.images)

    @functools.cached_property
    def _divisions(self) -> list[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Halves of the training images by patient, and the images of each class in the smaller."""
        dataset, found = self.train.dataset, []
        for division in range(most_divisions(comparable_metrics())):
            halves = patient_halves(dataset, self.seed + division)
            classes = len(dataset.class_names)
            there = [dataset.labels[half].bincount(minlength=classes) for half in halves]
            found.append((halves, torch.minimum(*there)))
        return found

    def floors(
        self, counts: Sequence[int], metrics: Sequence[str], name: str | None = None
    ) -> dict[str, Comparison]:
        """Compute the floors, that of the training images over all of its divisions.

        Args:
            counts: images of each class on either side.
            metrics: names; of one class those are left out that take too long for it.
            name: the class that is compared; None for all together.
        """
        pairs = self.floor_pairs(counts)

        def of_division(division: int, wanted: Sequence[str]) -> Comparison:
            # All divisions have the numbers of the first, so that there is a pair of each.
            pair = self._divided(counts, division) if division else pairs[OTHER_PATIENTS]
            assert pair is not None
            # Of all divisions but the first no more is shown than their mean.
            return self._compare_class(pair, name, wanted, values_only=division > 0)

        return {
            title: mean_of_divisions(metrics, of_division, len(self.train.dataset))
            if title == OTHER_PATIENTS
            else self._compare_class(pair, name, metrics)
            for title, pair in pairs.items()
        }

    def compare(
        self, pair: Pair, metrics: Sequence[str], *, values_only: bool = False
    ) -> Comparison:
        """Compute metrics of two sets, those of features and those of the images themselves.

        Names of metrics that are no comparison of two sets, such as memorisation, are passed over.

        Args:
            pair: the sets.
            metrics: names.
            values_only: without standard errors and the details that have no best value.
        """
        real, fake = pair.real, pair.fake
        if not len(real.dataset) or not len(fake.dataset):
            reason = "no images of this class are among those compared; more --samples take some"
            return Comparison(omitted=dict.fromkeys(metrics, reason))
        strata = strata_of(real.dataset, fake.dataset)
        count = 0 if values_only else self.resamples
        wanted = [name for name in comparable_metrics() if name in metrics]
        images = None
        if any(all_metrics()[name].takes == "images" for name in wanted):
            of_each = (real.dataset.images, fake.dataset.images, pair.originals)
            images = Images(*(each.to(self.device) for each in of_each))
        return compare(
            real.features,
            fake.features,
            metrics=wanted,
            images=images,
            resamples=self._resamples(strata, count),
            seed=self.seed,
            strata=strata,
            asked=self._asked(fake.dataset),
            values_only=values_only,
        )

    def _resamples(self, strata: Strata, count: int) -> Resamples | None:
        if not count:
            return None
        sizes = len(strata.real), len(strata.fake)
        return Resamples.draw(*sizes, strata=strata, count=count, seed=self.seed)

    def _asked(self, fake: ImageDataset) -> Asked | None:
        """What generated images were asked to show; None where the features have no classifier."""
        if not self.extractor.class_names:
            return None
        columns = columns_of_classes(fake.class_names, self.extractor.class_names)
        return Asked(fake.labels.to(self.device), columns)

    def evaluate(
        self,
        fake: ImageDataset,
        *,
        metrics: Sequence[str] | None = None,
        samples: int = 1000,
        where: object = "the generated images",
    ) -> Evaluation:
        """Find all that is to be said of generated images, pooled and for each class.

        Args:
            fake: generated images, of the training images' size and classes.
            metrics: names out of `metric_names`; None for all.
            samples: images of each kind to compare.
            where: the generated images, for messages.

        Raises:
            UserError: an unknown metric, sets that cannot be matched, or features that cannot be
                taken.
        """
        metrics = metric_names() if metrics is None else metrics
        check_metrics(metrics, metric_names())
        if fake.class_names != self.train.dataset.class_names:
            raise ValueError(
                f"fake: expected the classes {self.train.dataset.class_names}, got "
                f"{fake.class_names}"
            )
        counts = self.match(fake.class_counts(), samples, where)
        seconds = dict(self.seconds)
        with _timed(seconds, "features of generated images"):
            generated = self.describe(fake, counts)
        pair = self.pair(generated, counts)
        classes = fake.class_names if len(fake.class_names) > 1 else ()
        parts = {name: Part(Comparison()) for name in (None, *classes)}
        hidden = None if self.progress else True  # None: shown on a terminal only
        bar = tqdm(parts.items(), desc="metrics", leave=False, disable=hidden)
        with shared_images(*self._all_images(generated)):
            for name, part in bar:
                with _timed(seconds, f"{GENERATED}, {name or ALL_CLASSES}"):
                    part.comparison = self._compare_class(pair, name, metrics)
                with _timed(seconds, f"floors, {name or ALL_CLASSES}"):
                    part.floors = self.floors(counts, metrics, name)
                part.differences = {
                    title: differences(part.comparison, floor)
                    for title, floor in part.floors.items()
                }
        near_copies = None
        if "memorisation" in metrics:
            with _timed(seconds, "memorisation"):
                for name, part in parts.items():
                    self._add_memorization(part, generated, name)
            with _timed(seconds, "copies"):
                held_out = None if self.held_out is None else self.held_out.dataset
                near_copies = near_copies_of(
                    self.train.dataset,
                    generated.dataset,
                    held_out,
                    self.device,
                    self.progress,
                    self.cache,
                )
        with _timed(seconds, "duplicates"):
            groups = exact_duplicates(fake.images)
            pairs_of_rows = exact_copies(fake.images, self.train.dataset.images)
        train_files = self.train.dataset.files
        return Evaluation(
            extractor=self.label(),
            fake=generated.dataset,
            train_files=train_files,
            pooled=parts[None],
            classes={name: part for name, part in parts.items() if name is not None},
            near_copies=near_copies,
            n_given=len(fake),
            duplicates=[[fake.files[row] for row in group] for group in groups],
            copies=[(fake.files[row], train_files[train]) for row, train in pairs_of_rows],
            notes=notes(self.train, self.test, self.floor_pairs(counts), sum(counts), samples),
            seconds={name: round(value, 3) for name, value in seconds.items()},
        )

    def _all_images(self, generated: Described) -> list[Tensor]:
        """The images that comparisons are of, where metrics of images take them."""
        described = (self.train, generated, self.test)
        return [each.dataset.images.to(self.device) for each in described if each is not None]

    def _compare_class(
        self, pair: Pair, name: str | None, metrics: Sequence[str], *, values_only: bool = False
    ) -> Comparison:
        if name is None:
            return self.compare(pair, metrics, values_only=values_only)
        label = self.train.dataset.class_names.index(name)
        of_class = replace(pair, real=pair.real.of_label(label), fake=pair.fake.of_label(label))
        return self.compare(of_class, metrics, values_only=values_only)

    def _add_memorization(self, part: Part, generated: Described, name: str | None) -> None:
        train, held_out, test = self.train, self.held_out, self.test
        if name is not None:
            label = train.dataset.class_names.index(name)
            train, generated = train.of_label(label), generated.of_label(label)
            held_out = held_out and held_out.of_label(label)
            test = test and test.of_label(label)
        resamples = None
        if len(generated.dataset):
            strata = strata_of(train.dataset, generated.dataset)
            resamples = self._resamples(strata, self.resamples)
        try:
            part.memorization = memorized(train, generated, held_out, resamples)
        except UserError as error:
            part.comparison.omitted["memorisation"] = str(error)
        if test is not None:
            part.second_opinion = second_opinion(train, generated, test)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began

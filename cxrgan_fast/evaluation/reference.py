"""All that is to be said of generated images: metrics, floors beside them, memorisation.

A number alone says little. Beside each metric of generated images stands the same metric of real
images that are new to each other, the floor: what a perfect generator would come to, but for chance
and for what images of one patient have in common. Two floors are given, in the same classes and,
where there are enough images, in the same number:

- "other patients": two parts of the training images that share no patient;
- "test split": training images against those of the data's own test split.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from tqdm import tqdm

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import (
    Described,
    Pair,
    check_classes,
    choose_rows,
    largest_match,
    patient_halves,
    subset,
)
from cxrgan_fast.metrics.cache import features_of
from cxrgan_fast.metrics.class_agreement import columns_of_classes
from cxrgan_fast.metrics.comparison import Comparison, comparable_metrics, compare
from cxrgan_fast.metrics.estimate import Resamples
from cxrgan_fast.metrics.extractor import FeatureExtractor, extract_features
from cxrgan_fast.metrics.memorization import (
    Memorization,
    exact_copies,
    exact_duplicates,
    memorization,
)
from cxrgan_fast.metrics.metric import Asked, Images, all_metrics, check_metrics, metric_names

ALL_CLASSES = "all classes"
GENERATED = "generated"
OTHER_PATIENTS = "other patients"
TEST_SPLIT = "test split"


@dataclass
class Part:
    """What is said of all classes together, or of one.

    Attributes:
        comparison: generated against training images.
        floors: training images against other real ones, by the floor's name.
        memorization: None where it was not asked for or cannot be computed.
    """

    comparison: Comparison
    floors: dict[str, Comparison] = field(default_factory=dict)
    memorization: Memorization | None = None


@dataclass
class Evaluation:
    """What `Reference.evaluate` found.

    Attributes:
        extractor: name, version and input size of the features, and their dimension.
        fake: the generated images that were taken.
        train_files: of the training images, in their order.
        pooled: of all classes together.
        classes: of each class, by name; empty where there is only one.
        n_given: generated images that there were, of which `fake` are some.
        duplicates: groups of files, among all that were given, that are equal in every byte.
        copies: (file given, file of a training image) that are equal in every byte.
        notes: what was done otherwise than asked, in words.
        seconds: how long each part of the work took.
    """

    extractor: dict[str, Any]
    fake: ImageDataset
    train_files: list[str]
    pooled: Part
    classes: dict[str, Part]
    n_given: int
    duplicates: list[list[str]]
    copies: list[tuple[str, str]]
    notes: list[str]
    seconds: dict[str, float]


class Reference:
    """The real images that generated ones are held against, with their features.

    Args:
        train: all that was trained on.
        test: the same classes of the data's test split; None where it has none.
        extractor: on `device`.
        device: where features and metrics are computed.
        seed: of every choice made at random.
        resamples: bootstrap resamples, from which intervals come; 0 for none.
        cache: keep the features of real images in files.
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
        seed: int = 0,
        resamples: int = 100,
        cache: bool = True,
        progress: bool = True,
    ) -> None:
        self.extractor, self.device = extractor, device
        self.seed, self.resamples, self.progress = seed, resamples, progress
        self.seconds: dict[str, float] = {}
        bar = "features of real images" if progress else None

        def describe(dataset: ImageDataset) -> Described:
            features = features_of(dataset, extractor, device, cache=cache, progress=bar)
            return Described(dataset, features)

        with _timed(self.seconds, "features of real images"):
            self.train = describe(train)
            self.test = None if test is None else describe(test)

    def label(self) -> dict[str, Any]:
        """What numbers of these features must be labelled with."""
        return {
            "name": self.extractor.name,
            "version": self.extractor.version,
            "input_size": self.extractor.input_size,
            "dimension": self.train.features.vectors.shape[1],
        }

    def match(self, available: Mapping[str, int], samples: int, where: object) -> list[int]:
        """How many images of each class to compare, of both kinds.

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
        """So many of the generated images of each class, with features."""
        # By another seed than the real images: files in their order would give their copies.
        chosen = subset(fake, choose_rows(fake.labels, counts, self.seed + 1))
        bar = "features of generated images" if self.progress else None
        features = extract_features(self.extractor, chosen.images, self.device, progress=bar)
        return Described(chosen, features)

    def pair(self, generated: Described, counts: Sequence[int]) -> Pair:
        """Generated images with so many training images of each class."""
        return Pair(self.real_like(counts), generated, self.train.dataset.images)

    def real_like(self, counts: Sequence[int]) -> Described:
        """So many training images of each class, at random."""
        return self.train.take(choose_rows(self.train.dataset.labels, counts, self.seed))

    def floor_pairs(self, counts: Sequence[int]) -> dict[str, Pair]:
        """Real images new to each other, at most so many of each class, by the floor's name."""
        labels, total = self.train.dataset.labels, sum(counts)
        frequencies = list(self.train.dataset.class_counts().values())
        pairs: dict[str, Pair] = {}
        halves = patient_halves(self.train.dataset, self.seed)
        there = torch.stack([labels[half].bincount(minlength=len(counts)) for half in halves])
        matched = largest_match(there.amin(0).tolist(), frequencies, total)
        if sum(matched) > 1:
            first, second = (
                self.train.take(choose_rows(labels, matched, self.seed, among=half))
                for half in halves
            )
            pairs[OTHER_PATIENTS] = Pair(first, second, self.train.dataset.images[halves[0]])
        if self.test is not None:
            in_test = list(self.test.dataset.class_counts().values())
            matched = largest_match(in_test, frequencies, total)
            if sum(matched) > 1:
                rows = choose_rows(self.test.dataset.labels, matched, self.seed)
                test = self.test.take(rows)
                pairs[TEST_SPLIT] = Pair(self.real_like(matched), test, self.train.dataset.images)
        return pairs

    def compare(self, pair: Pair, metrics: Sequence[str]) -> Comparison:
        """Compute metrics of two sets, those of features and those of the images themselves.

        Names of metrics that are no comparison of two sets, such as memorisation, are passed over.
        """
        real, fake = pair.real, pair.fake
        if not len(real.dataset) or not len(fake.dataset):
            reason = "no images of this class are among those compared; more --samples take some"
            return Comparison(omitted=dict.fromkeys(metrics, reason))
        resamples = None
        if self.resamples:
            resamples = _resamples(real, fake, self.resamples, self.seed, self.device)
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
            resamples=resamples,
            seed=self.seed,
            asked=self._asked(fake.dataset),
        )

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
        """Everything about generated images, pooled and for each class.

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
        pairs = {GENERATED: self.pair(generated, counts), **self.floor_pairs(counts)}
        classes = fake.class_names if len(fake.class_names) > 1 else ()
        parts = {name: Part(Comparison()) for name in (None, *classes)}
        work = [(title, name) for name in parts for title in pairs]
        hidden = None if self.progress else True  # None: shown on a terminal only
        for title, name in tqdm(work, desc="metrics", leave=False, disable=hidden):
            with _timed(seconds, f"{title}, {name or ALL_CLASSES}"):
                found = self._compare_class(pairs[title], name, metrics)
            if title == GENERATED:
                parts[name].comparison = found
            else:
                parts[name].floors[title] = found
        if "memorisation" in metrics:
            with _timed(seconds, "memorisation"):
                for name, part in parts.items():
                    self._add_memorization(part, generated, name)
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
            n_given=len(fake),
            duplicates=[[fake.files[row] for row in group] for group in groups],
            copies=[(fake.files[row], train_files[train]) for row, train in pairs_of_rows],
            notes=self._notes(sum(counts), samples, pairs),
            seconds={name: round(value, 3) for name, value in seconds.items()},
        )

    def _compare_class(self, pair: Pair, name: str | None, metrics: Sequence[str]) -> Comparison:
        if name is None:
            return self.compare(pair, metrics)
        label = self.train.dataset.class_names.index(name)
        of_class = replace(pair, real=pair.real.of_label(label), fake=pair.fake.of_label(label))
        known = all_metrics()
        found = self.compare(of_class, [m for m in metrics if known[m].of_each_class])
        reason = "computed of all classes together only, since it takes long"
        found.omitted.update({m: reason for m in metrics if not known[m].of_each_class})
        return found

    def _add_memorization(self, part: Part, generated: Described, name: str | None) -> None:
        train, test = self.train, self.test
        if name is not None:
            label = train.dataset.class_names.index(name)
            train, generated = train.of_label(label), generated.of_label(label)
            test = None if test is None else test.of_label(label)
        numbers = {patient: n for n, patient in enumerate(dict.fromkeys(train.dataset.patients))}
        patients = torch.tensor([numbers[patient] for patient in train.dataset.patients])
        resamples = None
        if self.resamples and len(generated.dataset):
            resamples = _resamples(train, generated, self.resamples, self.seed, self.device)
        try:
            part.memorization = memorization(
                train.features.vectors,
                generated.features.vectors,
                None if test is None else test.features.vectors,
                patients=patients.to(self.device),
                resamples=resamples,
            )
        except UserError as error:
            part.comparison.omitted["memorisation"] = str(error)

    def _notes(self, n: int, samples: int, pairs: Mapping[str, Pair]) -> list[str]:
        notes = []
        if n < samples:
            notes.append(
                f"{n} images of each kind are compared, not {samples}: there are no more in the "
                f"frequencies of the classes ({len(self.train.dataset)} training images)"
            )
        for floor in (OTHER_PATIENTS, TEST_SPLIT):
            if floor not in pairs:
                notes.append(f"there is no floor by {floor}: the data have too few images for it")
            elif len(pairs[floor].real.dataset) < n:
                notes.append(
                    f"the floor by {floor} is of {len(pairs[floor].real.dataset)} images of each "
                    f"kind, not {n}: fewer images make FID larger"
                )
        if self.test is not None:
            both = set(self.train.dataset.patients) & set(self.test.dataset.patients)
            if both:
                notes.append(
                    f"{len(both)} patients, such as {min(both)}, are named in the training images "
                    "and in the test split: the latter are not new"
                )
        return notes


def _resamples(
    real: Described, fake: Described, count: int, seed: int, device: torch.device
) -> Resamples:
    """Resamples by patient on both sides: those of a floor are real on both."""
    drawn = [
        Resamples.draw(n, 1, patients=side.dataset.patients, count=count, seed=s, device=device)
        for side, n, s in ((real, len(real.dataset), seed), (fake, len(fake.dataset), seed + 1))
    ]
    return Resamples(drawn[0].real, drawn[1].real)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began

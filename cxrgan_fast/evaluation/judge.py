"""How the runs of a study are judged: the same for all, against all training images.

FID and its kin depend on how many images they are of. They are given of as many generated images
as there are training images, against all of these; and once more at the size of the floor, which is
of halves of the training images: only there can the two be divided and subtracted.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.evaluator import Evaluator
from cxrgan_fast.evaluation.floors import OTHER_PATIENTS
from cxrgan_fast.evaluation.image_sets import generate_set
from cxrgan_fast.evaluation.matching import Described, choose_rows, class_shares, subset
from cxrgan_fast.evaluation.memorized import near_copies_of
from cxrgan_fast.files import read_json, write_atomic
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.metrics.metric import all_metrics
from cxrgan_fast.sampling.class_sources import load_sources

METRICS = ("fid", "kid", "precision", "recall", "density", "coverage", "nearest_neighbour")
OF_ALL = ("fid",)
"""Of all images; the others are of halves alone, where floors are, since they take long."""
DIVISIONS = 2
"""Divisions of the training images whose halves generated images are held against."""
SEARCHED = 1000
"""Generated images at most of which near copies are looked for, which takes long."""
SEED = 0
"""Of the choices of real images, which are the same for all."""

Record = dict[str, Any]


class Judge:
    """The training images, their features and floors, against which each run is held.

    Args:
        dataset: all images that were trained on.
        extractors: on `device`; the first decides.
        device: where images are generated and metrics computed.
        samples: generated images, and real ones; None for as many as there are training images.
        say: called with words for the progress bar.
        metrics: names of those that are computed.

    Attributes:
        evaluators: one for each extractor; the first decides.
        key: what the numbers are of, as plain values for JSON.
        floors: by the extractor's name and the metric's, the mean over divisions; `find_floors`
            fills it.

    Raises:
        UserError: there are too few images, or patients, for the metrics.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        extractors: Sequence[FeatureExtractor],
        device: torch.device,
        samples: int | None,
        say: Callable[[str], None],
        metrics: Sequence[str] = METRICS,
    ) -> None:
        self.dataset, self.device, self.metrics = dataset, device, tuple(metrics)
        self.evaluators: list[Evaluator] = []
        for extractor in extractors:
            say(f"real images: {extractor.name}")
            self.evaluators.append(
                Evaluator(dataset, None, extractor, device, seed=SEED, resamples=0, progress=False)
            )
        counts, most = dataset.class_counts(), len(dataset) if samples is None else samples
        self.counts = self.evaluators[0].match(counts, most, "--samples")
        pairs = self.evaluators[0].floor_pairs(self.counts)
        if OTHER_PATIENTS not in pairs:
            raise UserError(f"{dataset.name}: too few patients for two halves that share none")
        self._halves = pairs[OTHER_PATIENTS].real.dataset.labels.bincount(
            minlength=len(dataset.class_names)
        )
        fewest = max(max(all_metrics()[name].fewest) for name in self.metrics)
        if self._halves.sum() < fewest:
            raise UserError(
                f"{dataset.name}: halves of {int(self._halves.sum())} images, for which "
                f"{', '.join(self.metrics)} need {fewest} or more; add images"
            )
        key = {
            "images": dict(zip(dataset.class_names, self.counts, strict=True)),
            "images_of_floor": dict(zip(dataset.class_names, self._halves.tolist(), strict=True)),
            "features": [evaluator.label() for evaluator in self.evaluators],
            "metrics": list(self.metrics),
            "divisions": DIVISIONS,
            "searched_for_copies": min(SEARCHED, sum(self.counts)),
            "fingerprint": dataset.fingerprint,
            "device": device.type,
            "torch": str(torch.__version__),
        }
        self.key: Record = json.loads(json.dumps(key))  # as it is read back
        self.floors: dict[str, dict[str, float]] = {}

    @property
    def names(self) -> list[str]:
        """Return the names of the extractors; the first decides."""
        return [evaluator.extractor.name for evaluator in self.evaluators]

    def find_floors(
        self, kept: Path, say: Callable[[str], None], metrics: Sequence[str] | None = None
    ) -> None:
        """Compute the floors, or read them: they are the same for all runs.

        Args:
            kept: the file in which they are kept.
            say: called with words for the progress bar.
            metrics: names of those whose floors are wanted; None for all that are computed.
        """
        wanted = self.metrics if metrics is None else tuple(metrics)
        key = {**self.key, "metrics": list(wanted)}
        if kept.exists():
            found = read_json(kept)
            if found["key"] == key:
                self.floors = found["floors"]
                return
        for evaluator in self.evaluators:
            say(f"floor: {evaluator.extractor.name}")
            floor = evaluator.floors(self.counts, wanted)[OTHER_PATIENTS]
            self.floors[evaluator.extractor.name] = _values(floor)
        write_atomic(kept, json.dumps({"key": key, "floors": self.floors}).encode())

    def evaluate(self, run: Path, seed: int, say: Callable[[str], None]) -> Record:
        """Evaluate the averaged generator of a run.

        Args:
            run: its folder.
            seed: seed of the latents, which are the same for all runs with latents of one length.
            say: called with words for the progress bar.

        Returns:
            ``features``: by the extractor's name ``all`` (FID of all images) and ``halves`` (at the
            size of the floor, the mean over divisions); ``near_copies``; ``seconds`` by part.

        Raises:
            UserError: the generator cannot be read, or gives no numbers.
        """
        began = time.perf_counter()
        seconds = {}

        def done(part: str) -> None:
            nonlocal began
            seconds[part], began = time.perf_counter() - began, time.perf_counter()

        say("generating")
        fake = self.generate(run, seed)
        done("generating")
        found = {}
        for evaluator in self.evaluators:
            say(evaluator.extractor.name)
            generated = evaluator.describe(fake, self.counts)
            pair = evaluator.pair(generated, self.counts)
            whole = evaluator.compare(pair, OF_ALL, values_only=True)
            found[evaluator.extractor.name] = {
                "all": _values(whole),
                "halves": self.at_size_of_floor(evaluator, generated, self.metrics),
            }
            done(evaluator.extractor.name)
        say("near copies")
        near = self._near_copies(fake)
        done("near copies")
        return {"key": self.key, "features": found, "near_copies": near, "seconds": seconds}

    def _near_copies(self, fake: ImageDataset) -> Record | None:
        """How many of some generated images are near copies; None where nothing tells."""
        searched = min(SEARCHED, len(fake))
        rows = choose_rows(fake.labels, class_shares(self.counts, searched), SEED)
        some = subset(fake, rows)
        copies = near_copies_of(self.dataset, some, None, self.device, progress=False)
        if copies is None:
            return None
        expected = copies.threshold.false_rate * searched
        return {"found": len(copies.found), "of": searched, "expected": expected}

    def generate(self, run: Path, seed: int) -> ImageDataset:
        """Generate as many images as are compared by the averaged generator of a run.

        Raises:
            UserError: the generator cannot be read, or gives no numbers.
        """
        names = self.dataset.class_names
        sources = load_sources(run, None, names, self.device)
        return generate_set(sources, self.counts, names, seed, progress=False)

    def at_size_of_floor(
        self,
        evaluator: Evaluator,
        generated: Described,
        metrics: Sequence[str],
        class_name: str | None = None,
    ) -> dict[str, float]:
        """Compute metrics at the size of the floor: against some halves of the training images.

        Args:
            evaluator: one of `evaluators`.
            generated: what `Evaluator.describe` gives of the generated images.
            metrics: names.
            class_name: the class that is compared; None for all together.

        Returns:
            The means over `DIVISIONS` halves, by the metric's name.

        Raises:
            UserError: a metric cannot be computed of so few images.
        """
        counts, of_each = self._halves.tolist(), []
        for division in range(DIVISIONS):
            pair = evaluator.floor_pairs(self.counts, division)[OTHER_PATIENTS]
            rows = choose_rows(generated.dataset.labels, counts, SEED + division)
            pair = replace(pair, fake=generated.take(rows))
            if class_name is not None:
                label = self.dataset.class_names.index(class_name)
                real, fake = pair.real.of_label(label), pair.fake.of_label(label)
                pair = replace(pair, real=real, fake=fake)
            of_each.append(_values(evaluator.compare(pair, metrics, values_only=True)))
        return {name: statistics.fmean(each[name] for each in of_each) for name in of_each[0]}


def _values(comparison: Comparison) -> dict[str, float]:
    for name, reason in comparison.omitted.items():
        raise UserError(f"{name} cannot be computed: {reason}")
    return {name: estimate.value for name, estimate in comparison.estimates.items()}

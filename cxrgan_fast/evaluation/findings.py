"""What an evaluation finds, of all classes together and of each."""

from dataclasses import dataclass, field
from typing import Any

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.evaluation.floors import Difference
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.copies import Copies
from cxrgan_fast.metrics.memorization import Memorization


@dataclass
class Part:
    """What is said of all classes together, or of one.

    Attributes:
        comparison: generated against training images.
        floors: training images against other real ones, by the floor's name: the training images
            themselves first.
        differences: generated images less a floor, by the floor's name and the metric's.
        memorization: None where it was not asked for or cannot be computed.
        second_opinion: the same by the data's own test split, whose images are of another
            distribution; None where there is none, or where nothing else is the yardstick.
    """

    comparison: Comparison
    floors: dict[str, Comparison] = field(default_factory=dict)
    differences: dict[str, dict[str, Difference]] = field(default_factory=dict)
    memorization: Memorization | None = None
    second_opinion: Memorization | None = None


@dataclass
class Evaluation:
    """What `Evaluator.evaluate` found.

    Attributes:
        extractor: name, version and input size of the features, and their dimension.
        fake: the generated images that were taken.
        train_files: files of the training images, in their order.
        pooled: what was found of all classes together.
        classes: what was found of each class, by name; empty where there is only one.
        near_copies: near copies of training images, by pixels; None where memorization was not
            asked for, or where nothing tells what a copy is.
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
    near_copies: Copies | None
    n_given: int
    duplicates: list[list[str]]
    copies: list[tuple[str, str]]
    notes: list[str]
    seconds: dict[str, float]

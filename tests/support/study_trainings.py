"""Trainings of a study that nobody has trained: their logits are drawn, their files are real."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cxrgan_fast.studies.augmentation.predictions import Predictions
from cxrgan_fast.studies.augmentation.subsets import Size
from cxrgan_fast.studies.augmentation.trainings import Training, keep_training

NAMES = ("normal", "bacterial")
ARMS: tuple[tuple[str, float | None], ...] = (
    ("R", None), ("RA", None), ("RR", None), ("RAS", 0.5), ("RAS", 1.0), ("S", 1.0), ("N", 1.0),
)  # fmt: skip
IMAGES = 40


def drawn_trainings(
    folder: Path,
    gain: float = 0.0,
    sizes: tuple[Size, ...] = (20, "all"),
    folds: int = 2,
    seeds: int = 3,
    arms: tuple[tuple[str, float | None], ...] = ARMS,
    seed: int = 0,
) -> list[Training]:
    """Draw trainings, in which RAS_1 has scores that are so much farther apart."""
    rng = np.random.default_rng(seed)
    made = []
    for fold in range(folds):
        parts = {part: _images(fold, part, rng) for part in ("validation", "test")}
        for size in sizes:
            for arm, ratio in arms:
                apart = 1.5 + (gain if (arm, ratio) == ("RAS", 1.0) else 0.0)
                for number in range(seeds):
                    told = {part: _told(*images, apart, rng) for part, images in parts.items()}
                    validation = 0.8 + (0.1 if ratio == 1.0 else 0.0)
                    made.append(
                        keep_training(
                            folder,
                            fold=fold,
                            size=size,
                            images=80 if size == "all" else int(size),
                            arm=arm,
                            ratio=ratio,
                            seed=number,
                            curve=[(5, 0.7), (10, validation)],
                            validation=told["validation"],
                            test=told["test"],
                            negative=0,
                        )
                    )
    return made


def _images(fold: int, part: str, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
    labels = np.arange(IMAGES) % 2
    return f"{part}{fold}", labels, rng.normal(0, 0.7, IMAGES)


def _told(
    name: str, labels: np.ndarray, common: np.ndarray, apart: float, rng: np.random.Generator
) -> Predictions:
    score = common + apart * (labels - 0.5) + rng.normal(0, 0.3, len(labels))
    logits = np.stack([np.zeros(len(score)), score], 1).astype(np.float32)
    # Two images of a class are of one patient.
    patients = tuple(f"{name}-{row // 4}-{row % 2}" for row in range(len(labels)))
    files = tuple(f"{name}/{row}.png" for row in range(len(labels)))
    return Predictions(NAMES, logits, labels, patients, files)

"""How good the images of ``research.parity``'s trainings are: every snapshot against the data.

All generators, of whichever variant, draw from the same latents and labels, in float32, and are
compared with the same real images: what chance that leaves is the same for all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from bench.reference_networks import Generator
from bench.reference_settings import Settings
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import (
    choose_rows,
    class_shares,
    counts_in_all,
    patient_halves,
)
from cxrgan_fast.files import write_atomic
from cxrgan_fast.metrics import extract_features, load_extractor
from cxrgan_fast.metrics.cache import features_of
from cxrgan_fast.metrics.comparison import compare
from cxrgan_fast.metrics.extractor import Features
from cxrgan_fast.nn import build_generator
from cxrgan_fast.runs.generator_file import GeneratorSnapshot
from cxrgan_fast.sampling.class_sources import ClassSource
from cxrgan_fast.sampling.generation import generate_images
from cxrgan_fast.sampling.latents import latents_for
from cxrgan_fast.settings.config import TrainConfig, flatten
from research.parity_measurements import MAIN, METRICS, Measurements, spread
from research.parity_training import REFERENCE, Run, generator_name, read_json

MOST_SAMPLES = 2000
FLOORS = 5
"""Divisions into halves that the floor is the mean of."""
SEED = 0  # of the latents, and of the real images chosen


class Judge:
    """Real images and latents, against and from which all generators' images are.

    Args:
        dataset: what was trained on.
        features: name of the extractor.
        device: where to compute.
        samples: generated images, and as many real ones; None for as many as two halves of the
            data that share no patient have, at most 2,000, so that the floor is of as many.

    Attributes:
        key: what an evaluation depends on beside the generator.

    Raises:
        UserError: there is no such extractor, or there are fewer images than `samples`.
    """

    def __init__(
        self, dataset: ImageDataset, features: str, device: torch.device, samples: int | None
    ) -> None:
        self.dataset, self.device = dataset, device
        self.extractor = load_extractor(features, device)
        frequencies = list(dataset.class_counts().values())
        if samples is None:
            samples = sum(_of_halves(dataset, MOST_SAMPLES))
        if not 2 <= samples <= len(dataset):
            raise UserError(f"--samples: got {samples}, expected 2 to the {len(dataset)} images")
        self.counts = class_shares(frequencies, samples)
        self.all = features_of(dataset, self.extractor, device, progress="features of the data")
        self.real = self.all[choose_rows(dataset.labels, self.counts, SEED).to(device)]
        self.key = {
            "features": self.extractor.name,
            "version": self.extractor.version,
            "dimension": self.all.vectors.shape[1],
            "images": dict(zip(dataset.class_names, self.counts, strict=True)),
            "seed": SEED,
        }

    def floor(self) -> Measurements:
        """The metrics of real against real images: halves of the data that share no patient."""
        values: dict[str, list[float]] = {metric: [] for metric in METRICS}
        counts = _of_halves(self.dataset, sum(self.counts))
        for seed in range(FLOORS):
            first, second = (
                self.all[choose_rows(self.dataset.labels, counts, seed, half).to(self.device)]
                for half in patient_halves(self.dataset, seed)
            )
            for metric, value in _measure(first, second, METRICS).items():
                values[metric].append(value)
        return {"images": sum(counts), **{name: spread(each) for name, each in values.items()}}

    def generate(self, generator: nn.Module, config: TrainConfig, origin: Path) -> Tensor:
        """Images of a generator, as many of each class as `counts`; (N, C, R, R) uint8.

        Raises:
            UserError: it produces values that are not numbers.
        """
        names = self.dataset.class_names
        snapshot = GeneratorSnapshot(generator, config.network, names, 0, 0)
        latents = [
            latents_for(SEED, name, range(count), config.network.latent_size)
            for name, count in zip(names, self.counts, strict=True)
        ]
        labels = torch.arange(len(names)).repeat_interleave(torch.tensor(self.counts))
        source = ClassSource("all", 0, snapshot, str(origin))
        return generate_images(source, torch.cat(latents), labels)

    def measure(self, images: Tensor, metrics: Sequence[str]) -> dict[str, float]:
        """Metrics of generated images by their names."""
        fake = extract_features(self.extractor, images, self.device)
        return _measure(self.real, fake, metrics)


def evaluate(
    run: Run,
    folder: Path,
    config: TrainConfig,
    judge: Judge,
    progress: Callable[[str], object] = lambda words: None,
) -> list[Measurements]:
    """FID of every snapshot of a training, and all metrics of the last.

    Args:
        run: what was measured of the training.
        folder: where its weights lie; ``evaluation.json`` there keeps the result, and is taken
            where it is of this judge's key.
        config: settings of the training.
        judge: the data's part.
        progress: is told what is being done.

    Returns:
        A row for each snapshot: its step, images and seconds, and its metrics by name; ``fid`` is
        None where the generator produces values that are not numbers.
    """
    path = folder / "evaluation.json"
    kept = read_json(path) if path.exists() else {}
    if kept.get("key") != judge.key:
        rows = list[Measurements]()
        for snapshot in run["snapshots"]:
            progress(f"images of step {snapshot['step']}")
            last = snapshot is run["snapshots"][-1]
            file = folder / generator_name(snapshot["step"])
            generator = _load(run["variant"], config, judge, file)
            try:
                images = judge.generate(generator, config, file)
            except UserError:
                rows.append({MAIN: None})
            else:
                rows.append(judge.measure(images, METRICS if last else [MAIN]))
        kept = {"key": judge.key, "metrics": rows}
        write_atomic(path, json.dumps(kept).encode())
    pairs = zip(run["snapshots"], kept["metrics"], strict=True)
    return [{**snapshot, **metrics} for snapshot, metrics in pairs]


def _load(variant: str, config: TrainConfig, judge: Judge, path: Path) -> nn.Module:
    """A generator from its file."""
    n_classes = len(judge.dataset.class_names)
    generator: nn.Module
    if variant == REFERENCE:
        generator = Generator(Settings.of(flatten(config)), n_classes)
    else:
        generator = build_generator(config.network, n_classes)
    try:
        generator.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError):
        raise UserError(
            f"{path} is missing or damaged: remove {path.parent} to train it again"
        ) from None
    return generator.to(judge.device).eval().requires_grad_(False)


def _measure(real: Features, fake: Features, metrics: Sequence[str]) -> dict[str, float]:
    compared = compare(real, fake, metrics=metrics, seed=SEED)
    for metric, reason in compared.omitted.items():
        raise UserError(f"{metric} cannot be computed: {reason}")
    return {metric: compared.estimates[metric].value for metric in metrics}


def _of_halves(dataset: ImageDataset, most: int) -> list[int]:
    """Images of each class that each half of each division has, `most` in all at the most."""
    halves = [half for seed in range(FLOORS) for half in patient_halves(dataset, seed)]
    return counts_in_all(dataset, halves, most)

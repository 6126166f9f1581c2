"""How good the images are while a GAN trains: FID and others of the same latents every time.

Nothing here changes the training: the averaged generator is only read, and no number is drawn from
the training's stream.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.generator_now import GeneratorNow
from cxrgan_fast.evaluation.matching import class_shares
from cxrgan_fast.metrics import FeatureExtractor, Features, extract_features
from cxrgan_fast.metrics.cache import features_of
from cxrgan_fast.metrics.comparison import compare
from cxrgan_fast.metrics.metric import Images, all_metrics, direction, quick_metrics
from cxrgan_fast.sampling.generation import GROUP, run_generator
from cxrgan_fast.sampling.latents import latents_for
from cxrgan_fast.settings.config import TrainConfig

# Images between two looks at whether to stop. In whole groups, so that each keeps its place.
_BATCH = 4 * GROUP


class PeriodicEvaluation:
    """Evaluates the averaged generator of a training against all of its real images.

    The generated images have the classes as often as the data have them (largest remainder). Their
    latents are the same every time, and not those of ``generate`` and ``evaluate`` with any seed:
    the best of many evaluations is better on its own latents than on others.

    Args:
        config: Settings of the training, resolved.
        dataset: What it is trained on.
        extractor: On ``device``.
        device: Where it is trained.

    Raises:
        UserError: The extractor gives something that is not a number.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: ImageDataset,
        extractor: FeatureExtractor,
        device: torch.device,
    ) -> None:
        self.extractor, self.device = extractor, device
        with _any_algorithm():
            self.real = features_of(
                dataset, extractor, device, progress="features of the real images"
            )
        known = all_metrics()
        self.takes_images = any(known[name].takes == "images" for name in quick_metrics())
        self.real_images = dataset.images.to(device) if self.takes_images else dataset.images
        frequencies = dataset.class_counts()
        shares = class_shares(list(frequencies.values()), config.evaluation.eval_samples)
        size = config.network.latent_size
        self.latents = torch.cat(
            [
                latents_for(config.seed, f"evaluations of {name}", range(share), size)
                for name, share in zip(frequencies, shares, strict=True)
            ]
        ).to(device)
        labels = torch.arange(len(shares)).repeat_interleave(torch.tensor(shares))
        self.labels = labels.to(device)

    def __call__(self, generator: GeneratorNow, stop: Sequence[int]) -> dict[str, Any] | None:
        """Evaluate a generator as it is now, in the precision of its training.

        Args:
            generator: The averaged generator.
            stop: What :func:`~cxrgan_fast.training.signals.stop_signals` gives.

        Returns:
            A line of evaluations.jsonl; None if ``stop`` has been filled meanwhile.

        Raises:
            UserError: The generator produces values that are not numbers, or FID cannot be
                computed.
        """
        start = time.perf_counter()
        with _any_algorithm():
            generated = self._generate(generator, stop)
            if generated is None:
                return None
            fake, images = generated
            comparison = compare(
                self.real, fake, metrics=quick_metrics(), images=self._beside_real(images)
            )
        if "fid" in comparison.omitted:
            raise UserError(f"--eval-every needs FID: {comparison.omitted['fid']}")
        return {
            "step": generator.step,
            "images": generator.images_seen,
            "features": f"{self.extractor.name}-{self.real.vectors.shape[1]}",
            "features_version": self.extractor.version,
            "features_family": self.extractor.family,
            "metrics": {
                name: {
                    "value": estimate.value,
                    "n_real": estimate.n_real,
                    "n_fake": estimate.n_fake,
                }
                for name, estimate in comparison.estimates.items()
            },
            "omitted": comparison.omitted,
            "seconds": round(time.perf_counter() - start, 3),
        }

    def _beside_real(self, images: Tensor | None) -> Images | None:
        if images is None:
            return None
        return Images(self.real_images, images, originals=self.real_images)

    def _generate(
        self, generator: GeneratorNow, stop: Sequence[int]
    ) -> tuple[Features, Tensor | None] | None:
        """Generate images. Return features, and images if a metric takes them; None if stopped."""
        parts: list[Features] = []
        kept: list[Tensor] = []
        batches = zip(self.latents.split(_BATCH), self.labels.split(_BATCH), strict=True)
        # Shown on a terminal only; gone when the training's bar goes on.
        with tqdm(
            total=len(self.latents), desc="evaluating", unit="img", disable=None, leave=False
        ) as bar:
            for latents, labels in batches:
                if stop:
                    return None
                with generator.autocast():
                    images = run_generator(
                        generator.network,
                        latents,
                        labels,
                        generator.value_range,
                        f"the generator of step {generator.step}",
                    )
                parts.append(extract_features(self.extractor, images, self.device))
                if self.takes_images:
                    kept.append(images.to(self.device))
                bar.update(len(latents))
        if stop:
            return None
        heads = [part.probabilities for part in parts if part.probabilities is not None]
        vectors = torch.cat([part.vectors for part in parts])
        features = Features(vectors, torch.cat(heads) if heads else None)
        return features, torch.cat(kept) if kept else None


def check_counts(config: TrainConfig, dataset: ImageDataset) -> None:
    """Refuse to evaluate against too few real images, before anything is made.

    Raises:
        UserError: Naming the class, if each has a GAN of its own, and what there is.
    """
    fewest, _ = all_metrics()["fid"].fewest
    counts = dataset.class_counts()
    if not config.dataset.per_class:
        counts = {dataset.name: sum(counts.values())}
    for name, count in counts.items():
        if count < fewest:
            raise UserError(
                f"--eval-every: FID needs {fewest} real images or more, {name} has {count}; add "
                "images, or leave it out"
            )


def is_due(config: TrainConfig, step: int) -> bool:
    """Tell whether the generator is to be evaluated after a step. The last step always is."""
    every = config.evaluation.eval_every
    return step > 0 and every > 0 and step % every == 0


def describe(row: dict[str, Any]) -> str:
    """Word an evaluation in a line, every number with the images that it is of."""
    known = all_metrics()
    by_images: dict[tuple[int, int], list[str]] = {}
    for name, metric in row["metrics"].items():
        shown = f"{known[name].title} {metric['value']:.4g}"
        by_images.setdefault((metric["n_real"], metric["n_fake"]), []).append(shown)
    parts = [
        f"{', '.join(values)} of {n_real} real and {n_fake} generated images"
        for (n_real, n_fake), values in by_images.items()
    ]
    best = "; the best so far" if row["best"] else ""
    labeled = f"({row['features']}, {row['seconds']:.1f} s)"
    return f"step {row['step']}: {'; '.join(parts)} {labeled}{best}"


def metric_labels(row: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return by name what TensorBoard calls each metric of an evaluation, and which way is better.

    Args:
        row: as `PeriodicEvaluation` gives it.
    """
    known = all_metrics()
    return {
        name: (f"{known[name].title} ({row['features']})", direction(known[name].better))
        for name in row["metrics"]
    }


@contextmanager
def _any_algorithm() -> Iterator[None]:
    """Within, what has no deterministic algorithm warns instead of raising: only numbers are made.

    With --deterministic the training goes without such ops; a metric need not.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)

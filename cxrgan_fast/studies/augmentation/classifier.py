"""Training a classifier: the same steps for every arm, and bits that repeat themselves.

A training takes about a minute, and what is interrupted begins anew: nothing of it is kept before
it is whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from cxrgan_fast.augment.diffaugment import augment_as_drawn, numbers_of_a_change
from cxrgan_fast.data import ImageDataset, to_float
from cxrgan_fast.devices import resolve_precision
from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.libraries import import_for_study
from cxrgan_fast.studies.augmentation.networks import build_classifier
from cxrgan_fast.studies.augmentation.pool import PoolOrder
from cxrgan_fast.studies.augmentation.recipe import POLICY, Recipe
from cxrgan_fast.studies.augmentation.scores import disease_scores
from cxrgan_fast.training.algorithms import algorithms

_RANGE = (0.0, 1.0)
_TOLD = 256  # images whose logits are computed at a time
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        logits: (N, K) float32 of each set that was asked for, by its name.
        curve: pairs of steps and the validation AUC after so many, ascending.
    """

    logits: dict[str, Logits]
    curve: list[tuple[int, float]]


def train_classifier(
    recipe: Recipe,
    pool: ImageDataset,
    balance: Tensor,
    validation: ImageDataset,
    others: Mapping[str, ImageDataset],
    *,
    augmented: bool,
    negative: int,
    seed: int,
    device: torch.device,
    precision: str = "auto",
    progress: bool = True,
) -> Trained:
    """Train a classifier on a pool and tell the logits of other images.

    The first weights, the order of the classes, and what augmentation does at each step are
    functions of the seed, and the same in every arm. On one machine, with one number of threads,
    the same call gives the same bits. Nothing is chosen: the logits are those of the last step.

    Args:
        recipe: how to train.
        pool: images to train on; see `make_pool`.
        balance: (n,) int64, the classes of the subset's images; see `PoolOrder`.
        validation: images whose AUC is taken during the training.
        others: images by name, whose logits are told at the end.
        augmented: whether training images are augmented classically.
        negative: label of the class without disease.
        seed: random seed, 0 to 2^63 - 1.
        device: where to train.
        precision: "fp32", "bf16", "fp16", or "auto".
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        The logits of ``validation`` (by that name) and the others, and the validation AUC's curve.

    Raises:
        UserError: the training diverges; the pool lacks a class; torchvision or scikit-learn is
            missing.
    """
    name = resolve_precision(precision, device)
    order = PoolOrder(balance, pool.labels, seed)
    channels, resolution = pool.images.shape[1], pool.images.shape[2]
    cuda = [device] if device.type == "cuda" else []
    points = set(recipe.curve_steps())
    curve = []
    with algorithms(deterministic=True), torch.random.fork_rng(cuda):
        torch.manual_seed(seed)
        network = build_classifier(
            recipe.network, resolution, channels, len(pool.class_names), recipe.dropout
        ).to(device)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's types leave memory_format out
        step = _Step(recipe, network, device, name)
        augmentation = torch.Generator().manual_seed(seed)
        with tqdm(
            total=recipe.steps, unit="step", desc="classifier", leave=False,
            disable=None if progress else True,
        ) as bar:  # fmt: skip
            for number in range(recipe.steps):
                rows = order.rows(number * recipe.batch_size, recipe.batch_size)
                # Drawn in every arm, so that arms do not differ in what comes after.
                shape = (len(rows), len(POLICY), numbers_of_a_change(True))
                uniform = torch.rand(shape, generator=augmentation)
                images = to_float(pool.images[rows].to(device), _RANGE)
                if augmented:
                    images = _augment(images, uniform.to(device), recipe.augment_probability)
                step(images, pool.labels[rows].to(device))
                bar.update()
                if number + 1 in points:
                    told = _tell(network, validation, device)
                    curve.append((number + 1, _auc(told, validation, negative, recipe)))
        logits = {
            part: _tell(network, dataset, device)
            for part, dataset in {"validation": validation, **others}.items()
        }
    for told in logits.values():
        _require_finite(told, recipe)
    return Trained(logits, curve)


class _Step:
    """The optimizer, its schedule, and one step as a call."""

    def __init__(
        self, recipe: Recipe, network: nn.Module, device: torch.device, precision: str
    ) -> None:
        self.network, self.device = network, device
        self.dtype = _DTYPES.get(precision)
        self.optimizer = torch.optim.Adam(
            network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.recipe, self.done = recipe, 0
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        self.network.train()
        images = images.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            logits = self.network(images)
        loss = F.cross_entropy(logits.float(), labels)
        drops = sum(self.done >= step for step in self.recipe.drops())
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * 0.1**drops
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.done += 1

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[None]:
        if self.dtype is None:
            yield
            return
        with torch.autocast(self.device.type, self.dtype):
            yield


@torch.no_grad()
def _augment(images: Tensor, uniform: Tensor, probability: float) -> Tensor:
    share = torch.tensor(probability, device=images.device)
    return augment_as_drawn(images, POLICY, uniform, _RANGE, share).clamp(*_RANGE)


@torch.inference_mode()
def _tell(network: nn.Module, dataset: ImageDataset, device: torch.device) -> Logits:
    """Logits in float32, whatever the training's precision: arms are compared by them."""
    network.eval()
    parts = [torch.empty(0, len(dataset.class_names))]
    for images in dataset.images.split(_TOLD):
        ready = to_float(images.to(device), _RANGE).contiguous(memory_format=torch.channels_last)
        parts.append(network(ready).float().cpu())
    logits: Logits = torch.cat(parts).numpy()
    return logits


def _auc(logits: Logits, dataset: ImageDataset, negative: int, recipe: Recipe) -> float:
    _require_finite(logits, recipe)
    metrics: Any = import_for_study("sklearn.metrics")
    return float(
        metrics.roc_auc_score(dataset.labels.numpy() != negative, disease_scores(logits, negative))
    )


def _require_finite(logits: Logits, recipe: Recipe) -> None:
    if not np.isfinite(logits).all():
        raise UserError(
            f"the classifier diverged: its logits are not finite; give a lower learning rate than "
            f"{recipe.learning_rate:g}"
        )

"""Sets and steps that games are tried on."""

from collections.abc import Callable

import pytest
import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.step import TrainingStep

SMALL = {"resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4,
         "precision": "fp32", "augment": ()}  # fmt: skip


@pytest.fixture(scope="session")
def dataset() -> ImageDataset:
    """Twelve images of two classes, of which those of the second are the brighter."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 2
    images = torch.randint(0, 128, (12, 1, 32, 32), generator=random)
    images += 128 * labels.view(-1, 1, 1, 1)
    names = [str(i) for i in range(12)]
    return ImageDataset(images.to(torch.uint8), labels, ("a", "b"), names, names, "made")


@pytest.fixture
def step_with(dataset: ImageDataset) -> Callable[..., TrainingStep]:
    """Make a step of small networks with these settings."""

    def make(**settings: object) -> TrainingStep:
        config = override(TrainConfig(), {**SMALL, **settings})
        return TrainingStep(config, dataset, torch.device("cpu"))

    return make

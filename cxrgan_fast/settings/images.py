"""The images of a configuration, as a training reads them."""

from __future__ import annotations

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.settings.config import TrainConfig


def load_images(config: TrainConfig, data: str | None = None) -> ImageDataset:
    """Load all images of a configuration, before any patients are left out.

    Args:
        config: its ``dataset`` and ``network`` say which images, and how they are made.
        data: where they are on this machine; None for where the configuration says.

    Raises:
        UserError: they cannot be read, or do not fit the configuration.
    """
    source, network = config.dataset, config.network
    return load_dataset(
        source.data if data is None else data,
        resolution=network.resolution,
        image_channels=network.image_channels,
        classes=source.classes or None,
        columns=source.columns,
        skip_bad=source.skip_bad,
        phantom_images=source.phantom_images,
        seed=0,
    )

"""The reference's images, as a DataLoader of PyTorch takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from cxrgan_fast.data import ImageDataset


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images as a DataLoader wants them: one at a time, each made floating-point by itself."""

    def __init__(
        self, dataset: ImageDataset, image_range: tuple[float, float], mirror: bool
    ) -> None:
        self.images, self.labels, self.mirror = dataset.images, dataset.labels, mirror
        self.low, self.high = image_range

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index].float() / 255 * (self.high - self.low) + self.low
        if self.mirror and torch.rand(()) < 0.5:
            image = image.flip(-1)
        return image, self.labels[index]

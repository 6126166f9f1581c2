"""The small convolutional network of the features that were learnt without labels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrgan_fast.metrics.cxr_blocks import DAMAGES, Block, centered, conv

GRID = 4
"""Cells a side, in each of which the features say separately what there is."""
CELL_CHANNELS = 16
GLOBAL_CHANNELS = 128
FINE_CHANNELS = 48
RAW = CELL_CHANNELS * GRID**2 + GLOBAL_CHANNELS + 2 * FINE_CHANNELS
DIMENSION = 256


class CxrSslNetwork(nn.Module):
    """Describes a chest X-ray, without having been told what is to be seen on it.

    The raw features are 16 numbers for each of 4 x 4 cells, which say what is where; 128 for the
    whole image; and the means and deviations of the 48 maps of an early layer, which feel fine
    texture. What is fitted after the training (`research.cxr_ssl_features.fit`) turns them to the
    directions in which X-rays differ, lets tanh bound each, so that a few odd images do not make up
    the distance of two sets, and says how much each counts. The heads of the damages are as those
    of `CxrNetwork`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(
            conv(1, 32, 2),  # (N, 32, 64, 64)
            conv(32, FINE_CHANNELS, 2),  # (N, 48, 32, 32)
            Block(FINE_CHANNELS, FINE_CHANNELS),
        )
        self.late = nn.Sequential(
            Block(FINE_CHANNELS, 96, 2),  # (N, 96, 16, 16)
            Block(96, 96),
            Block(96, 160, 2),  # (N, 160, 8, 8)
            Block(160, 160),
        )
        self.cells = nn.Conv2d(160, CELL_CHANNELS, 1)
        self.whole = conv(160, GLOBAL_CHANNELS, 1)
        self.damage = nn.Linear(RAW, len(DAMAGES))
        self.strength = nn.Linear(RAW, len(DAMAGES))
        self.turn = nn.Linear(RAW, DIMENSION)
        self.amplitudes = nn.Parameter(torch.ones(DIMENSION))

    def parts(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the raw features by kind.

        Args:
            images: (N, 1, 128, 128) float32, 0 to 1.

        Returns:
            Of the cells (N, 16, 4, 4), the whole (N, 128) and the fine texture (N, 96): float32.
        """
        fine = self.early(centered(images))
        maps = self.late(fine)
        cells = F.adaptive_avg_pool2d(self.cells(maps), GRID)
        fine = fine.float()
        texture = torch.cat([fine.mean((2, 3)), fine.std((2, 3))], 1)
        return cells.float(), self.whole(maps).float().mean((2, 3)), texture

    def features(self, images: Tensor) -> Tensor:
        """Compute the features, (N, 256) float32, of images (N, 1, 128, 128) from 0 to 1."""
        return self.amplitudes * torch.tanh(self.turn(join(self.parts(images))))


def join(parts: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the raw features, (N, 480), of what `CxrSslNetwork.parts` gives."""
    return torch.cat([part.flatten(1) for part in parts], 1)

"""The small convolutional network that tells classes and damages of chest X-rays."""

import torch.nn.functional as F
from torch import Tensor, nn

from cxrgan_fast.metrics.cxr_blocks import DAMAGES, Block, centered, conv

DIMENSION = 256
CLASS_NAMES = ("normal", "bacterial", "viral")


class CxrNetwork(nn.Module):
    """Tells what a chest X-ray shows and what was done to the image.

    The body ends in the mean over positions of 256 non-negative maps: the features. On them stand
    linear heads, for the three classes, for whether each of five damages was done, and for how
    strongly. The heads of the damages make the features feel what a classifier learns to ignore.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(1, 32, 2),  # (N, 32, 64, 64)
            conv(32, 48, 2),  # (N, 48, 32, 32)
            Block(48, 48),
            Block(48, 96, 2),  # (N, 96, 16, 16)
            Block(96, 96),
            Block(96, 160, 2),  # (N, 160, 8, 8)
            Block(160, 160),
            conv(160, DIMENSION, 1),  # (N, 256, 8, 8)
        )
        self.disease = nn.Linear(DIMENSION, len(CLASS_NAMES))
        self.damage = nn.Linear(DIMENSION, len(DAMAGES))
        self.strength = nn.Linear(DIMENSION, len(DAMAGES))

    def features(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: (N, 1, 128, 128) float32, 0 to 1.

        Returns:
            (N, 256) float32.
        """
        maps = self.body(centered(images))
        return maps.float().mean((2, 3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute logits of classes (N, 3) and damages (N, 5), and their strengths (N, 5)."""
        features = self.features(images)
        # Without this the disease of the training images is learnt by heart.
        dropped = F.dropout(features, 0.3, self.training)
        return self.disease(dropped), self.damage(features), self.strength(features)

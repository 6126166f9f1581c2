"""The small convolutional network whose features the default metrics are computed on."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE = 128
DIMENSION = 256
CLASS_NAMES = ("normal", "bacterial", "viral")
DAMAGES = ("blur", "noise", "occlusion", "contrast", "warping")

# Input to `CxrNetwork`: 0 and 1 come to about -2 and 2.
_MEAN, _DEVIATION = 0.5, 0.25


class _Block(nn.Module):
    """Two 3x3 convolutions and a skip (He et al. 2016, "Deep Residual Learning", Fig. 2)."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            pool = nn.AvgPool2d(stride) if stride != 1 else nn.Identity()
            conv = nn.Conv2d(c_in, c_out, 1, bias=False)
            self.skip = nn.Sequential(pool, conv, nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


def _conv(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


class CxrNetwork(nn.Module):
    """Tells what a chest X-ray shows and what was done to the image.

    The body ends in the mean over positions of 256 non-negative maps: the features. On them stand
    linear heads, for the three classes, for whether each of five damages was done, and for how
    strongly. The heads of the damages make the features feel what a classifier learns to ignore.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(1, 32, 2),  # (N, 32, 64, 64)
            _conv(32, 48, 2),  # (N, 48, 32, 32)
            _Block(48, 48),
            _Block(48, 96, 2),  # (N, 96, 16, 16)
            _Block(96, 96),
            _Block(96, 160, 2),  # (N, 160, 8, 8)
            _Block(160, 160),
            _conv(160, DIMENSION, 1),  # (N, 256, 8, 8)
        )
        self.disease = nn.Linear(DIMENSION, len(CLASS_NAMES))
        self.damage = nn.Linear(DIMENSION, len(DAMAGES))
        self.strength = nn.Linear(DIMENSION, len(DAMAGES))

    def features(self, images: Tensor) -> Tensor:
        """Features.

        Args:
            images: (N, 1, 128, 128) float32, 0 to 1.

        Returns:
            (N, 256) float32.
        """
        maps = self.body((images - _MEAN) / _DEVIATION)
        return maps.float().mean((2, 3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the classes (N, 3), of the damages (N, 5), and their strengths (N, 5)."""
        features = self.features(images)
        # Without this the disease of the training images is learnt by heart.
        dropped = F.dropout(features, 0.3, self.training)
        return self.disease(dropped), self.damage(features), self.strength(features)

    @torch.no_grad()
    def round_weights(self) -> "CxrNetwork":
        """Round all weights to the float16 that they are stored in; gives itself."""
        for tensor in self.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
        return self

"""Pixels as features: what a metric says without any network's opinion."""

from torch import Tensor

from cxrgan_fast.metrics.extractor import FeatureExtractor, Features


class Pixels(FeatureExtractor):
    """All pixels of the image at 32 pixels, in a row: 1,024 numbers from 0 to 1."""

    name = "pixels"
    version = "1"
    input_size = 32
    input_channels = 1
    dimension = 32 * 32

    def extract(self, images: Tensor) -> Features:
        """Return the images, flattened."""
        return Features(images.flatten(1))

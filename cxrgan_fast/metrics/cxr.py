"""Features of a small classifier of chest X-rays, which is in the package.

``research/cxr_features.py`` trains it; ``bench/results/cxr_features.json`` tells how well it does.
"""

from torch import Tensor

from cxrgan_fast.metrics import cxr_network
from cxrgan_fast.metrics.embedded import Embedded
from cxrgan_fast.metrics.extractor import Features


class Cxr(Embedded[cxr_network.CxrNetwork]):
    """Extractor of 256 features of an image at 128 pixels, and probabilities of three classes."""

    name = "cxr"
    weights = "cxr.safetensors"
    dimension = cxr_network.DIMENSION
    class_names = cxr_network.CLASS_NAMES

    def __init__(self) -> None:
        super().__init__(cxr_network.CxrNetwork())

    def describe(self, images: Tensor) -> Features:
        """See `Embedded`."""
        vectors = self._network.features(images)
        return Features(vectors, self._network.disease(vectors).softmax(1))

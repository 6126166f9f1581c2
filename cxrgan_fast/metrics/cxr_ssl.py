"""The features that decide an evaluation, learnt from chest X-rays without labels.

Their network is in the package.
``research/cxr_ssl_features.py`` trains it; ``bench/results/extractors_64.json`` tells what it sees.
"""

from torch import Tensor

from cxrgan_fast.metrics import cxr_ssl_network
from cxrgan_fast.metrics.embedded import Embedded
from cxrgan_fast.metrics.extractor import Features


class CxrSsl(Embedded[cxr_ssl_network.CxrSslNetwork]):
    """Extractor of 256 features of an image at 128 pixels; no classes."""

    name = "cxr_ssl"
    weights = "cxr_ssl.safetensors"
    dimension = cxr_ssl_network.DIMENSION

    def __init__(self) -> None:
        super().__init__(cxr_ssl_network.CxrSslNetwork())

    def describe(self, images: Tensor) -> Features:
        """See `Embedded`."""
        return Features(self._network.features(images))

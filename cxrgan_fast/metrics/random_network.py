"""Features of a network that nobody has trained: a control.

The network of `cxr` with weights of chance, always the same. What a metric says in these features
owes nothing to training: where another extractor tells two sets apart no better than this one, its
training is not what does it. Naeem et al. 2020 compare in such embeddings as well.
"""

import torch
from torch import Tensor, nn

from cxrgan_fast.metrics import cxr_network
from cxrgan_fast.metrics.cxr_blocks import INPUT_SIZE
from cxrgan_fast.metrics.extractor import FeatureExtractor, Features, full_precision

_SEED = 0


class RandomNetwork(FeatureExtractor):
    """Extractor of 256 features at 128 pixels, with weights as He et al. 2015 initialize them."""

    name = "random"
    version = "1"
    input_size = INPUT_SIZE
    input_channels = 1
    dimension = cxr_network.DIMENSION

    def __init__(self) -> None:
        network = cxr_network.CxrNetwork()
        # Of a generator of their own: the same weights whatever else was drawn before.
        rng = torch.Generator().manual_seed(_SEED)
        for module in network.body.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                normal = torch.randn(module.weight.shape, generator=rng)
                module.weight.data.copy_(normal * (2 / fan_in) ** 0.5)
        self._network = network.requires_grad_(False).eval()

    def to(self, device: torch.device) -> "RandomNetwork":
        """Move to a device; gives itself."""
        self._network.to(device)
        return self

    def extract(self, images: Tensor) -> Features:
        """Compute the features of images (N, 1, 128, 128)."""
        with torch.inference_mode(), full_precision():
            return Features(self._network.features(images))

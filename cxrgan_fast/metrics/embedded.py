"""An extractor whose network is in the package: how its weights are read and its features taken."""

import hashlib
from abc import abstractmethod
from importlib import resources
from typing import ClassVar, Generic

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.cxr_blocks import INPUT_SIZE, Network, fold_norms
from cxrgan_fast.metrics.extractor import FeatureExtractor, Features, full_precision


class Embedded(FeatureExtractor, Generic[Network]):
    """A network that looks at an image at 128 pixels.

    Attributes:
        weights: the name of the file in ``metrics/weights``.
    """

    input_size = INPUT_SIZE
    input_channels = 1
    license = "Apache-2.0"
    weights: ClassVar[str]

    def __init__(self, network: Network) -> None:
        content = resources.files("cxrgan_fast.metrics") / "weights" / self.weights
        try:
            data = content.read_bytes()
            tensors = safetensors.torch.load(data)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"{content}: {error}; install the package anew") from None
        self.version = hashlib.sha256(data).hexdigest()[:8]
        network.load_state_dict(tensors)
        network.requires_grad_(False).eval()
        fold_norms(network)
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._network = network

    def to(self, device: torch.device) -> "Embedded[Network]":
        """Move to a device; return the extractor itself."""
        self._network.to(device)
        return self

    def extract(self, images: Tensor) -> Features:
        """Compute the features of (N, 1, 128, 128)."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), full_precision():
            return self.describe(images)

    @abstractmethod
    def describe(self, images: Tensor) -> Features:
        """Compute the features of (N, 1, 128, 128), channels_last, on the network's device."""

"""The default features: those of a small network trained on chest X-rays, which is in the package.

``research/cxr_features.py`` trains it; ``bench/results/cxr_features.json`` tells how well it does.
"""

import hashlib
from importlib import resources

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import cxr_network
from cxrgan_fast.metrics.extractor import FeatureExtractor, Features

_WEIGHTS = "cxr.safetensors"


class Cxr(FeatureExtractor):
    """256 features of an image at 128 pixels, and probabilities of three classes."""

    name = "cxr"
    input_size = cxr_network.INPUT_SIZE
    input_channels = 1
    dimension = cxr_network.DIMENSION
    class_names = cxr_network.CLASS_NAMES

    def __init__(self) -> None:
        content = resources.files("cxrgan_fast.metrics") / "weights" / _WEIGHTS
        try:
            data = content.read_bytes()
            tensors = safetensors.torch.load(data)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"{content}: {error}; install the package anew") from None
        self.version = hashlib.sha256(data).hexdigest()[:8]
        network = cxr_network.CxrNetwork()
        network.load_state_dict(tensors)
        network.requires_grad_(False).eval()
        _fold_norms(network.body)
        for parameter in network.body.parameters():
            parameter.data = parameter.data.contiguous(
                memory_format=torch.channels_last
                if parameter.ndim == 4
                else torch.contiguous_format
            )
        self._network = network

    def to(self, device: torch.device) -> "Cxr":
        """Move to a device; gives itself."""
        self._network.to(device)
        return self

    def extract(self, images: Tensor) -> Features:
        """Features of (N, 1, 128, 128)."""
        images = images.contiguous(memory_format=torch.channels_last)
        # In float32 proper: TF32 would give a GPU other features than a CPU.
        flags = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )
        with torch.inference_mode(), flags:
            vectors = self._network.features(images)
            return Features(vectors, self._network.disease(vectors).softmax(1))


def _fold_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it: a third less time."""
    children = dict(module.named_children())
    for conv_name, norm_name in (("conv1", "norm1"), ("conv2", "norm2"), ("0", "1"), ("1", "2")):
        conv, norm = children.get(conv_name), children.get(norm_name)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
    for child in children.values():
        _fold_norms(child)

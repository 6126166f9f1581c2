"""Features of TorchXRayVision's DenseNet-121, which was trained on several sets of chest X-rays.

Cohen et al. 2022, "TorchXRayVision: A library of chest X-ray datasets and models", the weights
``densenet121-res224-all``; through torchxrayvision (extra ``backbones``). The features are what
its classifier sees: the last activations, averaged over the image (``features2``). Its eighteen
findings exclude each other no more than diseases do, so they are no classes here.
"""

import contextlib
import hashlib
import sys
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import require_small
from cxrgan_fast.metrics.backbones import DOWNLOAD, require_weights
from cxrgan_fast.metrics.extractor import FeatureExtractor, Features, full_precision
from cxrgan_fast.metrics.libraries import import_library

_PUBLISHED = "densenet121-res224-all"
_MOST_BYTES = 512 << 20  # of a file of weights; the published one has 29 MB
_HELP = (
    "expected the state of a torchxrayvision.models.DenseNet, as torch.save or safetensors writes "
    "it (docs/metrics.md shows how)"
)


class Xrv(FeatureExtractor):
    """Extractor of 1,024 features of a gray image at 224 pixels.

    Args:
        weights: file of the network's state, or "download".

    Raises:
        UserError: torchxrayvision is not there or does not import, no weights are named, or the
            file holds none or those of another network.
    """

    name = "xrv"
    license = "Apache-2.0"
    input_size = 224
    input_channels = 1
    dimension = 1024

    def __init__(self, weights: str | None) -> None:
        chosen = require_weights(weights, self.name, "FILE", "torchxrayvision's page")
        given = None if chosen == DOWNLOAD else _read(Path(chosen))  # before the import: it is slow
        models = import_library("torchxrayvision.models", "torchxrayvision", self.name, "backbones")
        state = _downloaded(models) if given is None else given
        network = models.DenseNet()
        try:
            # The thresholds of its findings are no weights.
            network.load_state_dict({name: state[name] for name in state if name != "op_threshs"})
        except (AttributeError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--features-weights {chosen}: of another network ({reason}); {_HELP}"
            ) from None
        self.version = _digest_of_tensors(network)
        self._network = network.requires_grad_(False).eval()

    def to(self, device: torch.device) -> "Xrv":
        """Move to a device; return the extractor itself."""
        self._network.to(device)
        return self

    def extract(self, images: Tensor) -> Features:
        """Compute the features of (N, 1, 224, 224): (N, 1024)."""
        with torch.inference_mode(), full_precision():
            # The network was trained on images from -1024 (black) to 1024 (white).
            return Features(self._network.features2(images.mul(2048).sub(1024)))


def _downloaded(models: Any) -> dict[str, Tensor]:
    """Fetch the weights from the library's page, unless its cache has them."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints how far it is
            network = models.DenseNet(weights=_PUBLISHED)
    except Exception as error:  # of the many that a network gives
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the weights {_PUBLISHED} cannot be downloaded ({reason}): give them with "
            "--features-weights FILE"
        ) from None
    state: dict[str, Tensor] = network.state_dict()
    return state


def _read(path: Path) -> dict[str, Tensor]:
    """Read a file of weights, which is refused if it could run code."""
    try:
        require_small(path, _MOST_BYTES)
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UserError as error:
        raise UserError(f"--features-weights {path}: {error}") from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--features-weights {path}: {reason}; {_HELP}") from None
    except Exception:  # of the many that a damaged file raises
        state = None
    if not isinstance(state, dict):
        raise UserError(f"--features-weights {path}: damaged, or no tensors by name; {_HELP}")
    return state


def _digest_of_tensors(network: Any) -> str:
    """Hash the weights themselves: the same however they were stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]

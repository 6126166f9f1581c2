"""The features of the published FID: Inception v3 as its authors' TensorFlow graph computes it.

From torch-fidelity (extra ``inception``), which has the weights of Heusel et al. 2017. Images are
resized as for every extractor here, bicubic and antialiased (Parmar et al. 2022, "On Aliased
Resizing", call that clean): figures differ from those of programs that resize in the old way.
"""

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import read_small
from cxrgan_fast.metrics.extractor import FeatureExtractor, Features, full_precision
from cxrgan_fast.metrics.libraries import import_library

_PUBLISHED = "6726825d"  # the first digits of the SHA-256 of the published weights
_MOST_BYTES = 512 << 20  # of a file of weights; the published one has 95 MB


class Inception(FeatureExtractor):
    """Extractor of 2,048 features of an image at 299 pixels, with ImageNet's probabilities.

    Args:
        weights: a file that torch-fidelity's network loads; None downloads the published one
            (once: to torch.hub's folder).

    Raises:
        UserError: torch-fidelity is not there or does not import, or the weights cannot be had.
    """

    name = "inception"
    family = "imagenet"
    license = "Apache-2.0"
    input_size = 299
    input_channels = 3
    dimension = 2048

    def __init__(self, weights: Path | None = None) -> None:
        self.version = _PUBLISHED if weights is None else _digest_of_safe(weights)
        networks = import_library(
            "torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity", self.name, "inception"
        )
        self.class_names = tuple(f"imagenet-{k}" for k in range(1008))
        path = None if weights is None else str(weights)
        try:
            self._network = networks.FeatureExtractorInceptionV3(
                self.name, ["2048", "logits_unbiased"], feature_extractor_weights_path=path
            )
        except OSError as error:
            raise UserError(
                f"the weights of the Inception network cannot be downloaded ({error}): give "
                "them with --inception-weights FILE"
            ) from None
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{weights}: not the weights of torch-fidelity's Inception network ({reason})"
            ) from None

    def to(self, device: torch.device) -> "Inception":
        """Move to a device; gives itself."""
        self._network.to(device)
        return self

    def extract(self, images: Tensor) -> Features:
        """Compute the features of images (N, 3, 299, 299)."""
        # The network takes bytes, and at its own size leaves them as they are.
        pixels = images.mul(255).round().to(torch.uint8)
        with torch.inference_mode(), full_precision():
            vectors, logits = self._network(pixels)
            return Features(vectors, logits.softmax(1))


def _digest_of_safe(path: Path) -> str:
    """The hash of a file of weights, which is refused if it could run code when it is loaded."""
    try:
        content = read_small(path, _MOST_BYTES)
    except UserError as error:
        raise UserError(f"--inception-weights {path}: {error}") from None
    try:
        # torch-fidelity loads pickles of any kind; one that passes here holds tensors alone.
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # of the many that a damaged pickle raises
        raise UserError(
            f"--inception-weights {path}: damaged, or not a file of tensors as torch.save writes "
            "them; download it again"
        ) from None
    return hashlib.sha256(content).hexdigest()[:8]

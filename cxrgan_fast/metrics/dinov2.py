"""Features of vision transformers that were trained without labels: DINOv2 and RAD-DINO.

DINOv2 (Oquab et al. 2024) has learned from photographs; Stein et al. 2023 find that distances in
its features agree with people better than Inception's. RAD-DINO (Perez-Garcia et al. 2025) is
DINOv2 trained on with chest X-rays. Both come through transformers (extra ``backbones``).

The features are the class token after the last normalization, which both model cards use
(``pooler_output``). Images are resized whole, as for every extractor here; DINOv2's own
preparation would resize to 256 pixels and cut 224 out of the middle, which loses the borders.
"""

import json
from pathlib import Path
from typing import Any, ClassVar

import safetensors
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import read_small, require_small
from cxrgan_fast.metrics.backbones import DOWNLOAD, digest_of, require_weights
from cxrgan_fast.metrics.extractor import FeatureExtractor, Features, full_precision
from cxrgan_fast.metrics.libraries import import_library

_WEIGHTS, _CONFIG, _PREPARATION = "model.safetensors", "config.json", "preprocessor_config.json"
_FILES = (_WEIGHTS, _CONFIG, _PREPARATION)
_MOST_JSON = 1 << 20  # bytes of a description
_MOST_WEIGHTS = 8 << 30  # bytes of weights; DINOv2's giant has 4.5 GB
_KIND = "dinov2"  # what its configuration calls the architecture


class Dinov2(FeatureExtractor):
    """The class token of DINOv2, of an image at 224 pixels.

    Args:
        weights: folder with the files of the model on the Hugging Face hub (config.json,
            preprocessor_config.json, model.safetensors), or "download".

    Raises:
        UserError: transformers is not there, no weights are named, or the folder holds none or
            those of another network.
    """

    name: str = "dinov2"
    family = "dinov2"
    license = "Apache-2.0"
    input_size: int = 224
    input_channels = 3
    repository: ClassVar[str] = "facebook/dinov2-base"

    def __init__(self, weights: str | None) -> None:
        chosen = require_weights(weights, self.name, "FOLDER", f"the hub ({self.repository})")
        folder = self._download() if chosen == DOWNLOAD else Path(chosen)
        mean, std = self._check(folder)  # before the library, which takes seconds to import
        transformers = import_library("transformers", "transformers", self.name, "backbones")
        self.version = digest_of([folder / name for name in _FILES])
        self._network = _load(transformers, folder)
        self._mean, self._std = (torch.tensor(each).view(3, 1, 1) for each in (mean, std))
        self.dimension: int = self._network.config.hidden_size

    def to(self, device: torch.device) -> "Dinov2":
        """Move to a device; return the extractor itself."""
        self._network.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def extract(self, images: Tensor) -> Features:
        """Compute the features of (N, 3, input_size, input_size): (N, dimension)."""
        with torch.inference_mode(), full_precision():
            seen = self._network(pixel_values=(images - self._mean) / self._std)
        return Features(seen.pooler_output)

    def _download(self) -> Path:
        """Fetch the files from the hub, unless its cache has them."""
        hub = import_library("huggingface_hub", "huggingface_hub", self.name, "backbones")
        try:
            return Path(hub.snapshot_download(self.repository, allow_patterns=list(_FILES)))
        except Exception as error:  # of the many that a network and a hub give
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the weights of {self.repository} cannot be downloaded ({reason}): name a folder "
                "that holds them with --features-weights FOLDER"
            ) from None

    def _check(self, folder: Path) -> tuple[list[float], list[float]]:
        """Refuse a folder of another network; return the mean and deviation that it expects."""
        config = self._described(folder, _CONFIG)
        kind = config.get("model_type")
        if kind != _KIND or config.get("num_channels", 3) != 3:
            raise self._refusal(folder, f"{_CONFIG} is that of model type {kind!r:.50}")
        preparation = self._described(folder, _PREPARATION)
        crop = preparation.get("crop_size")
        side = crop.get("height") if isinstance(crop, dict) else crop
        if side != self.input_size:
            raise self._refusal(
                folder, f"{_PREPARATION} has a crop_size of {side!r:.50}, not {self.input_size}"
            )
        numbers: list[Any] = [preparation.get(key) for key in ("image_mean", "image_std")]
        for each in numbers:
            if not (
                isinstance(each, list)
                and len(each) == 3
                and all(isinstance(value, float) and 0 < value < 1 for value in each)
            ):
                raise self._refusal(
                    folder, f"{_PREPARATION} has no image_mean and image_std of three channels"
                )
        try:
            require_small(folder / _WEIGHTS, _MOST_WEIGHTS)
            with safetensors.safe_open(folder / _WEIGHTS, "pt"):
                pass  # it reads the header, and compares the sizes with that of the file
        except (OSError, UserError, safetensors.SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise self._refusal(folder, f"{_WEIGHTS}: {reason}") from None
        return numbers[0], numbers[1]

    def _described(self, folder: Path, name: str) -> dict[str, Any]:
        try:
            content = json.loads(read_small(folder / name, _MOST_JSON))
        except UserError as error:
            raise self._refusal(folder, str(error)) from None
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self._refusal(folder, f"{name} is damaged")
        return content

    def _refusal(self, folder: Path, reason: str) -> UserError:
        return UserError(
            f"--features-weights {folder}: not the files of {self.repository} ({reason}); "
            f"expected a folder with its {', '.join(_FILES)}"
        )


class RadDino(Dinov2):
    """The class token of RAD-DINO, of an image at 518 pixels."""

    name = "rad-dino"
    license = "MIT or MSRLA, by the version: see its card"
    input_size = 518
    repository = "microsoft/rad-dino"


def _load(transformers: Any, folder: Path) -> Any:
    """Load the network; every weight has to be in the file."""
    said = transformers.utils.logging
    shown, verbosity = said.is_progress_bar_enabled(), said.get_verbosity()
    said.disable_progress_bar()
    said.set_verbosity_error()  # what it would warn of is refused below
    try:
        network, found = transformers.Dinov2Model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # whatever a description that fits no network raises
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--features-weights {folder}: cannot be loaded ({reason})") from None
    finally:
        said.set_verbosity(verbosity)
        if shown:
            said.enable_progress_bar()
    # The library would fill in weights of chance, and only warn.
    absent = sorted(found["missing_keys"])
    if absent:
        raise UserError(
            f"--features-weights {folder}: {_WEIGHTS} lacks {len(absent)} of the network's "
            f"tensors, such as {absent[0]}; download it again"
        )
    return network.float().requires_grad_(False).eval()

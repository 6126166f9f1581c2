"""Feature extractors by the name that ``--features`` takes."""

from collections.abc import Callable

import torch

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.metrics.pixels import Pixels

_EXTRACTORS: dict[str, Callable[[], FeatureExtractor]] = {"pixels": Pixels}

DEFAULT = "pixels"


def extractor_names() -> tuple[str, ...]:
    """The names that are known without a file."""
    return tuple(_EXTRACTORS)


def load_extractor(name: str, device: torch.device) -> FeatureExtractor:
    """An extractor, ready on a device.

    Args:
        name: one of `extractor_names`.
        device: where it is to work.

    Raises:
        UserError: there is none of that name.
    """
    if name not in _EXTRACTORS:
        known = ", ".join(_EXTRACTORS)
        raise UserError(f"--features {name}: expected {known}{did_you_mean(name, _EXTRACTORS)}")
    return _EXTRACTORS[name]().to(device)

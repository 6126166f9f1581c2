"""Feature extractors by the name that ``--features`` takes."""

from collections.abc import Sequence
from pathlib import Path

import torch

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.metrics.custom import load_custom
from cxrgan_fast.metrics.cxr import Cxr
from cxrgan_fast.metrics.cxr_ssl import CxrSsl
from cxrgan_fast.metrics.dinov2 import Dinov2, RadDino
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.metrics.inception import Inception
from cxrgan_fast.metrics.pixels import Pixels
from cxrgan_fast.metrics.random_network import RandomNetwork
from cxrgan_fast.metrics.xrv import Xrv

_EXTRACTORS: dict[str, type[FeatureExtractor]] = {
    "cxr": Cxr,
    "cxr_ssl": CxrSsl,
    "inception": Inception,
    "pixels": Pixels,
    "random": RandomNetwork,
}

# Networks of others, whose weights the user has or asks for.
_BACKBONES: dict[str, type[Dinov2 | Xrv]] = {
    "rad-dino": RadDino,
    "dinov2": Dinov2,
    "xrv": Xrv,
}

# Of an evaluation: the first decides, the second shows whether that hangs on its features.
DEFAULTS = ("cxr_ssl", "cxr")
# Of the evaluations of a training, which choose its best generator: not what judges it afterwards.
DEFAULT = "cxr"


def extractor_names() -> tuple[str, ...]:
    """Return the names that are known without a file."""
    return (*_EXTRACTORS, *_BACKBONES)


def backbone_names() -> tuple[str, ...]:
    """List the names of those that need ``--features-weights``."""
    return tuple(_BACKBONES)


def is_code(name: str) -> bool:
    """Tell whether the extractor of this name is a file that would be run."""
    return name not in extractor_names() and ".py:" in name


def check_extractor_name(name: str) -> None:
    """Refuse what cannot be an extractor, before anything is loaded.

    Raises:
        UserError: there is none of that name.
    """
    if name not in extractor_names() and not is_code(name):
        raise UserError(
            f"--features {name}: expected {', '.join(extractor_names())} or FILE.py:NAME"
            f"{did_you_mean(name, extractor_names())}"
        )


def load_extractor(
    name: str,
    device: torch.device,
    *,
    inception_weights: Path | None = None,
    features_weights: str | None = None,
) -> FeatureExtractor:
    """Load an extractor, ready on a device.

    Args:
        name: one of `extractor_names`, or ``FILE.py:NAME`` for a user's own.
        device: where it is to work.
        inception_weights: file of the Inception network's weights; None downloads them.
        features_weights: folder or file of the weights of one of `backbone_names`, or "download".

    Raises:
        UserError: there is none of that name, or it cannot be loaded; weights for another one; the
            device has no float64, which the metrics need.
    """
    check_extractor_name(name)
    if device.type == "mps":
        raise UserError(
            "--device mps: metrics need float64, which it lacks; evaluate with --device cpu"
        )
    if inception_weights is not None and name != "inception":
        raise UserError(f"--inception-weights is for --features inception, got {name}")
    if features_weights is not None and name not in _BACKBONES:
        raise UserError(f"--features-weights is for --features {', '.join(_BACKBONES)}, got {name}")
    if name in _BACKBONES:
        return _BACKBONES[name](features_weights).to(device)
    if name == "inception":
        return Inception(inception_weights).to(device)
    if name in _EXTRACTORS:
        return _EXTRACTORS[name]().to(device)
    return load_custom(name).to(device)


def load_extractors(
    names: Sequence[str],
    device: torch.device,
    *,
    inception_weights: Path | None = None,
    features_weights: Sequence[str] = (),
) -> list[FeatureExtractor]:
    """Load several extractors onto a device.

    Args:
        names: as `load_extractor` takes them, each once.
        device: where they are to work.
        inception_weights: as `load_extractor` takes it, for the one of that name.
        features_weights: as `load_extractor` takes them, one for each of `backbone_names` among
            the names, in their order; none at all leaves each to say what it needs.

    Raises:
        UserError: as `load_extractor`; there is no name, or one stands there twice; there are
            more or fewer weights than extractors that take them.
    """
    if not names:
        raise UserError(f"--features: none named; expected some of {', '.join(extractor_names())}")
    if len(set(names)) < len(names):
        raise UserError(f"--features {' '.join(names)}: expected each name once")
    # Without the one that the weights are for, the first refuses them.
    taker = "inception" if "inception" in names else names[0]
    takers = [name for name in names if name in _BACKBONES]
    if features_weights and len(features_weights) != len(takers):
        raise UserError(
            f"--features-weights {' '.join(features_weights)}: expected one for each of --features "
            f"{', '.join(takers) or 'that is one of ' + ', '.join(_BACKBONES)}, in that order"
        )
    weights = dict(zip(takers, features_weights, strict=False))
    return [
        load_extractor(
            name,
            device,
            inception_weights=inception_weights if name == taker else None,
            features_weights=weights.get(name),
        )
        for name in names
    ]

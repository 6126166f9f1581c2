"""A user's own features, from a Python file: ``--features FILE.py:NAME``."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.files import read_small
from cxrgan_fast.metrics.extractor import FeatureExtractor, Features

_MOST_BYTES = 16 << 20  # of a Python file


class _Function(FeatureExtractor):
    """A plain function of gray images as they are."""

    input_size = None
    input_channels = 1
    dimension = None
    version = ""
    is_versioned = False  # it may load weights that nothing tells of

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        self._function = function

    def extract(self, images: Tensor) -> Features:
        return Features(self._function(images))


class _Checked(FeatureExtractor):
    """Another extractor, whose results are held to what they should be."""

    def __init__(self, inner: FeatureExtractor, name: str, version: str) -> None:
        self._inner = inner
        self.name, self.version = name, version
        self.is_versioned, self.license = inner.is_versioned, inner.license
        self.input_size, self.input_channels = inner.input_size, inner.input_channels
        self.dimension, self.class_names = inner.dimension, inner.class_names

    def to(self, device: torch.device) -> "_Checked":
        self._inner = self._inner.to(device)
        return self

    def extract(self, images: Tensor) -> Features:
        try:
            features = self._inner.extract(images)
            vectors, probabilities = features.vectors, features.probabilities
        except Exception as error:  # whatever a user's code raises
            raise UserError(f"--features {self.name}: {type(error).__name__}: {error}") from error
        self._hold("features", vectors, len(images), self.dimension)
        if probabilities is not None:
            self._hold("probabilities", probabilities, len(images), len(self.class_names))
        return features

    def _hold(self, what: str, tensor: object, n: int, width: int | None) -> None:
        """Refuse what is not a tensor of (n, width)."""
        if isinstance(tensor, Tensor):
            if tensor.ndim == 2 and len(tensor) == n and width in (None, tensor.shape[1]):
                return
            got = f"a tensor of shape {tuple(tensor.shape)}"
        else:
            got = type(tensor).__name__
        wanted = f"({n}, {width or 'D'})"
        raise UserError(f"--features {self.name}: {what}: expected {wanted}, got {got}")


def load_custom(text: str) -> FeatureExtractor:
    """Load the extractor that a file defines.

    Args:
        text: ``FILE.py:NAME``; NAME is a subclass of `FeatureExtractor`, an instance of one, or a
            function from (N, 1, H, W) float32 images, 0 to 1, at their own size, to (N, D)
            features. The file is run. Its hash becomes a part of the version; features of a
            function are never kept in files, since what it loads may change.

    Raises:
        UserError: there is no such file or name, the file fails, or NAME is something else.
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    label = f"{path.name}:{name}"
    try:
        source = read_small(path, _MOST_BYTES)
    except UserError as error:
        raise UserError(f"--features {text}: {error}") from None
    digest = hashlib.sha256(source).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"cxrgan_features_{digest}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--features {text}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pickle look
    try:
        spec.loader.exec_module(module)
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, FeatureExtractor):
            found = found()
    except Exception as error:  # whatever a user's file raises
        raise UserError(f"--features {text}: {type(error).__name__}: {error}") from error
    if found is None:
        hint = did_you_mean(name, [n for n in vars(module) if not n.startswith("_")])
        raise UserError(f"--features {text}: {path} defines no {name}{hint}")
    if not isinstance(found, FeatureExtractor):
        if not callable(found):
            raise UserError(
                f"--features {text}: expected a FeatureExtractor or a function of images, got "
                f"{type(found).__name__}"
            )
        found = _Function(found)
    version = getattr(found, "version", None)
    if not isinstance(version, str):
        raise UserError(
            f"--features {text}: {name} has no version: set one that changes whenever the "
            "features of an image do, such as the hash of its weights"
        )
    return _Checked(found, label, f"{digest}-{version}" if version else digest)

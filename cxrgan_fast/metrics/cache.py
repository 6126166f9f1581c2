"""Features of real images, kept in files so that they are computed once.

A file's name is the hash of everything that its content depends on, so nothing has to be
invalidated: other images, another extractor or another `INPUT_VERSION` gives another name.
"""

import contextlib
import hashlib
import os
import sys
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import cache_folder, write_atomic, write_error
from cxrgan_fast.metrics.extractor import (
    INPUT_VERSION,
    FeatureExtractor,
    Features,
    extract_features,
)


def features_of(
    dataset: ImageDataset,
    extractor: FeatureExtractor,
    device: torch.device,
    *,
    cache: bool = True,
    progress: str | None = None,
) -> Features:
    """Features of a data set, from the cache if they are there.

    A file that is damaged or holds something else is computed anew and replaced. That the cache
    cannot be written is a line on standard error and no failure.

    Args:
        dataset: the images.
        extractor: on `device`.
        device: where to compute, and where the features are put.
        cache: False neither reads nor writes files; nor does an extractor that has no version.
        progress: title of a progress bar on standard error; None for none.

    Returns:
        Features of the N images, in order.

    Raises:
        UserError: as `extract_features`.
    """
    if not (cache and extractor.is_versioned):
        return extract_features(extractor, dataset.images, device, progress=progress)
    key = _key(dataset, extractor, device)
    path = cache_folder() / f"features-{key}.safetensors"
    kept = _read(path, key, len(dataset), extractor, device)
    if kept is not None:
        return kept
    features = extract_features(extractor, dataset.images, device, progress=progress)
    try:
        _write(path, key, features)
    except UserError as error:
        print(f"features are not kept: {error} (CXRGAN_CACHE names it)", file=sys.stderr)
    return features


def _key(dataset: ImageDataset, extractor: FeatureExtractor, device: torch.device) -> str:
    content = (
        extractor.name,
        extractor.version,
        extractor.input_size,
        extractor.input_channels,
        INPUT_VERSION,
        # The last bits of a convolution differ between kinds of devices and versions of PyTorch,
        # and a difference between the real and the generated images' would look like one of them.
        device.type,
        torch.__version__,
        dataset.fingerprint,
    )
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _read(
    path: Path, key: str, n: int, extractor: FeatureExtractor, device: torch.device
) -> Features | None:
    """What the file holds, if it is whole and of this key."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if file.metadata() != {"key": key, "sha256": _digest(tensors)}:
                return None
    except (OSError, safetensors.SafetensorError):
        return None
    # The extractor may still have changed without saying so in its version.
    n_classes = len(extractor.class_names)
    widths = {"vectors": extractor.dimension, **({"probabilities": n_classes} if n_classes else {})}
    if tensors.keys() != widths.keys():
        return None
    for name, width in widths.items():
        shape = tensors[name].shape
        if len(shape) != 2 or shape[0] != n or width not in (None, shape[1]):
            return None
    return Features(**{name: tensor.to(device) for name, tensor in tensors.items()})


def _write(path: Path, key: str, features: Features) -> None:
    tensors = {"vectors": features.vectors.cpu().contiguous()}
    if features.probabilities is not None:
        tensors["probabilities"] = features.probabilities.cpu().contiguous()
    content = safetensors.torch.save(tensors, {"key": key, "sha256": _digest(tensors)})
    # By a name of this process's own: two programs may come to the same features at once.
    own = path.with_name(f"{path.stem}-{os.getpid()}.safetensors")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(own, content)
        own.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)
        raise write_error(path, error) from error


def _digest(tensors: dict[str, Tensor]) -> str:
    """Of the numbers themselves: the format has no checksum, and a bit may have fallen over."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()

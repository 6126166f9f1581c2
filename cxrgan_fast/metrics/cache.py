"""What follows from real images alone, kept in files so that it is computed once (`kept`)."""

import hashlib

import torch
from torch import Tensor

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.metrics import copies
from cxrgan_fast.metrics.copies import Threshold, calibrate
from cxrgan_fast.metrics.copy_search import SEARCH_VERSION
from cxrgan_fast.metrics.extractor import (
    INPUT_VERSION,
    FeatureExtractor,
    Features,
    extract_features,
)
from cxrgan_fast.metrics.kept import kept


def features_of(
    dataset: ImageDataset,
    extractor: FeatureExtractor,
    device: torch.device,
    *,
    cache: bool = True,
    progress: str | None = None,
) -> Features:
    """Return the features of a data set, from the cache if they are there.

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
    widths = {"vectors": extractor.dimension}
    if extractor.class_names:
        widths["probabilities"] = len(extractor.class_names)

    def compute() -> dict[str, Tensor]:
        features = extract_features(extractor, dataset.images, device, progress=progress)
        given = {"vectors": features.vectors, "probabilities": features.probabilities}
        return {name: tensor for name, tensor in given.items() if tensor is not None}

    def fits(tensors: dict[str, Tensor]) -> bool:
        # The extractor may still have changed without saying so in its version.
        if tensors.keys() != widths.keys():
            return False
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        return all(
            len(shape) == 2 and shape[0] == len(dataset) and widths[name] in (None, shape[1])
            for name, shape in shapes.items()
        )

    tensors = kept("features", _content(dataset, extractor, device), compute, fits)
    return Features(**{name: tensor.to(device) for name, tensor in tensors.items()})


def _content(
    dataset: ImageDataset, extractor: FeatureExtractor, device: torch.device
) -> tuple[object, ...]:
    return (
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


def threshold_of(
    train: ImageDataset,
    patients: Tensor,
    device: torch.device,
    *,
    seed: int = 0,
    cache: bool = True,
    progress: str | None = None,
) -> Threshold:
    """Return above which likeness an image is a copy, from the cache if it is there.

    Args:
        train: the training images.
        patients: (N,) int64, whose each image is.
        device: where it is computed.
        seed: as `calibrate` takes it.
        cache: False neither reads nor writes files.
        progress: title of a progress bar on standard error; None for none.

    Raises:
        UserError: as `calibrate`.
    """

    def compute() -> dict[str, Tensor]:
        there = train.images.to(device), patients.to(device)
        found = calibrate(*there, seed=seed, progress=progress)
        numbers = [found.likeness, found.false_rate, found.n]
        return {"threshold": torch.tensor(numbers, dtype=torch.float64)}

    def fits(tensors: dict[str, Tensor]) -> bool:
        # A likeness is up to 1, and what is no number is above or below nothing.
        found = tensors.get("threshold")
        return found is not None and found.shape == (3,) and bool(found.isfinite().all())

    content = (
        SEARCH_VERSION,
        INPUT_VERSION,
        copies.FALSE_RATE,
        copies.MOST_CALIBRATED,
        seed,
        device.type,
        torch.__version__,
        train.fingerprint,
        hashlib.sha256(patients.cpu().contiguous().numpy().astype("<i8").data).hexdigest(),
    )
    tensors = kept("copy-thresholds", content, compute, fits) if cache else compute()
    likeness, false_rate, n = tensors["threshold"].tolist()
    return Threshold(likeness, false_rate, int(n))

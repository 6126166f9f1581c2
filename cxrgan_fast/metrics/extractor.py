"""What turns images into the numbers that metrics compare, and how images get to it."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from cxrgan_fast.errors import UserError

INPUT_VERSION = 1
"""Version of `extractor_input`: raise it whenever what that gives changes, so that features that
were kept are not taken for today's."""


@dataclass(frozen=True)
class Features:
    """What an extractor says of N images.

    Attributes:
        vectors: (N, D) float32.
        probabilities: (N, K) float32, of the extractor's classes; None where it has no classifier.
    """

    vectors: Tensor
    probabilities: Tensor | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Tensor | slice) -> "Features":
        """The features of some of the images."""
        chosen = None if self.probabilities is None else self.probabilities[rows]
        return Features(self.vectors[rows], chosen)


class FeatureExtractor(ABC):
    """A function from images to features, with all that a number must be labelled with.

    Attributes:
        name: as the user chose it.
        version: changes whenever the features of an image do; weights by their hash.
        input_size: side in pixels to which images are resized; None takes them as they are.
        input_channels: 1 or 3.
        dimension: length of the feature vectors, D; None if it depends on the images' size.
        class_names: names of the classifier's K classes; empty where there is none.
        license: under which its weights are published; empty where it has none, or none is known.
        is_versioned: whether `version` tells all that features depend on; features of one that does
            not are never kept.
    """

    name: str
    version: str
    input_size: int | None
    input_channels: int
    dimension: int | None
    class_names: tuple[str, ...] = ()
    license: str = ""
    is_versioned: bool = True

    @property
    def family(self) -> str:
        """Name what its network is made of: a generator chosen by one flatters its family.

        The extractor's own name, unless a class says otherwise.
        """
        return self.name

    @abstractmethod
    def extract(self, images: Tensor) -> Features:
        """Compute the features of prepared images.

        Args:
            images: (N, input_channels, input_size, input_size) float32, 0 black and 1 white.
        """

    def to(self, device: torch.device) -> "FeatureExtractor":
        """Move to a device; gives itself."""
        return self


def full_precision() -> AbstractContextManager[None]:
    """Let convolutions compute in float32 proper: TF32 would give a GPU other features than a CPU.

    Matrix products do so unless a program has asked for less; this package never does.
    """
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def extractor_input(images: Tensor, size: int | None, channels: int) -> Tensor:
    """Bring images to an extractor's size and channels.

    Resizing is bicubic and antialiased, in floating point and without rounding to bytes, by the
    same function for real and generated images (Parmar et al. 2022 show what else does to FID).

    Args:
        images: (N, 1 or 3, H, W) uint8.
        size: side in pixels; None leaves it.
        channels: 1 (the mean of RGB) or 3 (gray three times).

    Returns:
        (N, channels, size, size) float32, 0 to 1.

    Raises:
        TypeError: `images` is not uint8.
        ValueError: they have another shape.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected torch.uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images: expected (N, 1 or 3, H, W), got {tuple(images.shape)}")
    resized = images.to(torch.float32).div_(255)
    if resized.shape[1] != channels:
        gray = resized.mean(1, keepdim=True)
        resized = gray.expand(-1, channels, -1, -1)
    if size is not None and resized.shape[2:] != (size, size):
        resized = F.interpolate(resized, (size, size), mode="bicubic", antialias=True)
    return resized.clamp(0, 1)


def extract_features(
    extractor: FeatureExtractor,
    images: Tensor,
    device: torch.device,
    *,
    batch_size: int = 64,
    progress: str | None = None,
) -> Features:
    """Compute the features of any number of images.

    Args:
        extractor: on `device`.
        images: (N, 1 or 3, H, W) uint8, on any device.
        device: where to compute; features stay there.
        batch_size: images at a time; bounds the memory.
        progress: title of a progress bar on standard error; None for none.

    Returns:
        Features of the N images, in order.

    Raises:
        UserError: there are no images, or the extractor gives something that is not a number.
    """
    if not len(images):
        raise UserError(f"{extractor.name}: there are no images to take features of")
    parts = []
    hidden = None if progress else True  # None: shown on a terminal only
    with (
        torch.inference_mode(),
        tqdm(total=len(images), desc=progress, unit="img", disable=hidden, leave=False) as bar,
    ):
        for batch in images.split(batch_size):
            ready = extractor_input(
                batch.to(device), extractor.input_size, extractor.input_channels
            )
            parts.append(extractor.extract(ready))
            bar.update(len(batch))
        vectors = torch.cat([part.vectors for part in parts]).float()
        heads = [part.probabilities for part in parts if part.probabilities is not None]
        probabilities = torch.cat(heads).float() if heads else None
    finite = vectors.isfinite().all(1)
    if probabilities is not None:
        finite &= probabilities.isfinite().all(1)
    bad = int((~finite).sum())
    if bad:
        raise UserError(
            f"the features of {bad} of {len(images)} images are not numbers: check --features "
            f"{extractor.name}"
        )
    # Not inference tensors any more, which nothing else may write to.
    return Features(vectors.clone(), None if probabilities is None else probabilities.clone())

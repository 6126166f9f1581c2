"""Calls of augmented_batch, and the same by the package's own pixels and augmentations.

cxrgan_fast.data knows nothing of the op: it is the independent truth that every backend is held to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cxrgan_fast.augment.diffaugment import augment_as_drawn
from cxrgan_fast.data import to_float
from cxrgan_fast.ops import augmented_batch

OPTIONS = ("mirror", "translation", "cutout", "noise")


@dataclass(frozen=True)
class InputCase:
    """The arguments of one call; shapes as the op's."""

    stored: Tensor | None
    rows: Tensor | None
    fake: Tensor | None
    mirror: Tensor | None = None
    translation: Tensor | None = None
    cutout: Tensor | None = None
    noise: Tensor | None = None
    noise_std: Tensor | None = None
    value_range: tuple[float, float] = (-1.0, 1.0)
    dtype: torch.dtype | None = None

    def call(self, fake: Tensor | None = None) -> Tensor:
        """The op, on the backend in use; with another fake, if given."""
        return augmented_batch(
            self.stored,
            self.rows,
            self.fake if fake is None else fake,
            value_range=self.value_range,
            mirror=self.mirror,
            translation=self.translation,
            cutout=self.cutout,
            noise=self.noise,
            noise_std=self.noise_std,
            dtype=self.dtype,
        )

    def composed(self, fake: Tensor | None = None) -> Tensor:
        """What a user of cxrgan_fast.data writes without it, in float32 or the dtype of fake."""
        fake = self.fake if fake is None else fake
        parts = []
        if self.stored is not None and self.rows is not None:
            real = to_float(self.stored[self.rows], self.value_range)
            if self.mirror is not None:
                real = torch.where(self.mirror[:, None, None, None], real.flip(3), real)
            parts.append(real)
        dtype = torch.float32 if fake is None else fake.dtype
        if fake is not None:
            parts.append(fake if dtype == torch.float64 else fake.float())
        images = torch.cat(parts)
        pairs = {"translation": self.translation, "cutout": self.cutout}
        given = {name: pair for name, pair in pairs.items() if pair is not None}
        if given:
            uniform = torch.stack(list(given.values()), 1)
            images = augment_as_drawn(images, list(given), uniform, self.value_range)
        if self.noise is not None and self.noise_std is not None:
            images = images + self.noise_std * self.noise
        return images.to(self.dtype or dtype)

    def on(self, device: str) -> InputCase:
        """The same on another device."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def input_case(
    images: tuple[int, int, int] = (1, 16, 16),
    *,
    stored: int | None = 3,
    fakes: int | None = 4,
    options: tuple[str, ...] = OPTIONS,
    fake_dtype: torch.dtype = torch.float32,
    dtype: torch.dtype | None = None,
    arrange: Callable[[Tensor], Tensor] = lambda x: x,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> InputCase:
    """A random call, on the CPU.

    Args:
        images: C, H, W.
        stored: N, or None for no data set.
        fakes: F, or None.
        options: which of OPTIONS are given.
        fake_dtype: of the generated images.
        dtype: of the output.
        arrange: lays out the generated images and the noise in memory.
        value_range: as in the op.
    """
    samples = (stored or 0) + (fakes or 0)
    uniform = torch.rand(samples, 3, 2)  # pairs at a distance, as one draw of several changes
    return InputCase(
        stored=None if stored is None else torch.randint(256, (5, *images), dtype=torch.uint8),
        rows=None if stored is None else torch.randint(5, (stored,)),
        fake=None if fakes is None else arrange(torch.randn(fakes, *images).to(fake_dtype)),
        mirror=torch.rand(stored) < 0.5 if stored is not None and "mirror" in options else None,
        translation=uniform[:, 0] if "translation" in options else None,
        cutout=uniform[:, 2] if "cutout" in options else None,
        noise=arrange(torch.randn(samples, *images)) if "noise" in options else None,
        noise_std=torch.tensor(0.3) if "noise" in options else None,
        value_range=value_range,
        dtype=dtype,
    )

"""How an image is brought to what a network is trained on: the settings, checked."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cxrgan_fast.errors import UserError

Fit = Literal["squash", "pad", "crop"]
Markers = Literal["keep", "mask", "inpaint"]
Contrast = Literal["keep", "percentile"]

SMALLEST_RESOLUTION = 8
LARGEST_RESOLUTION = 1024


@dataclass(frozen=True)
class Preparation:
    """Settings of the preparation of images."""

    resolution: int = 64
    """Height and width of every prepared image, in pixels."""
    image_channels: int = 1
    """Channels of every prepared image: 1 (grayscale) or 3 (RGB)."""
    fit: Fit = "squash"
    """How an image becomes square: stretched (squash), extended beside its longer sides in the tone
    of the border (pad), or cut to its middle (crop)."""
    markers: Markers = "keep"
    """What happens to burned-in letters: they are kept (keep), filled with one tone (mask) or
    filled from their surroundings (inpaint)."""
    contrast: Contrast = "keep"
    """What happens to the contrast: it is kept (keep), or stretched so that two percentiles become
    black and white (percentile)."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """Percentiles that become black and white with --contrast percentile."""

    def empty(self, count: int) -> npt.NDArray[np.uint8]:
        """Allocate room for `count` images, (count, C, R, R) uint8, without filling it."""
        return np.empty((count, self.image_channels, self.resolution, self.resolution), np.uint8)

    def recorded(self) -> dict[str, Any]:
        """Return the settings by the names that they have in files.

        `contrast` was called ``exposure`` in earlier versions. The name is part of the hash by
        which a set is found again, so a new one would make every user's cache anew.
        """
        return {"exposure" if name == "contrast" else name: v for name, v in asdict(self).items()}

    def validate(self) -> None:
        """Refuse settings that cannot be.

        Raises:
            UserError: naming the setting.
        """
        if not SMALLEST_RESOLUTION <= self.resolution <= LARGEST_RESOLUTION:
            raise UserError(
                f"resolution {self.resolution}: expected {SMALLEST_RESOLUTION} to "
                f"{LARGEST_RESOLUTION} pixels, for example 64"
            )
        if self.image_channels not in (1, 3):
            raise UserError(
                f"image channels {self.image_channels}: expected 1 (grayscale) or 3 (RGB)"
            )
        for name, value, known in (
            ("fit", self.fit, get_args(Fit)),
            ("markers", self.markers, get_args(Markers)),
            ("contrast", self.contrast, get_args(Contrast)),
        ):
            if value not in known:
                raise UserError(f"{name} {value!r}: expected one of {', '.join(known)}")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise UserError(
                f"percentiles {low} {high}: expected two numbers from 0 to 100, the lower first"
            )

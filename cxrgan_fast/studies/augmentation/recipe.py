"""How a classifier is trained: one recipe for all arms of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.studies.augmentation.networks import NETWORKS

POLICY = ("rotation", "scale", "translation", "brightness", "contrast", "cutout")
"""Classical augmentation, as `cxrgan_fast.augment.diffaugment` defines each: rotation by up to 10
degrees, scale by 2^(0.1 z), a shift by up to an eighth of the side, brightness, contrast, and a
hole of half the side. What lies outside of an image is filled with middle gray."""
DROPS = (0.6, 0.85)
"""Shares of the steps after which the learning rate falls to a tenth."""

_MOST = 10**7


@dataclass(frozen=True)
class Recipe:
    """A recipe, which is chosen by validation on the arm RA once and then fixed for all arms.

    Attributes:
        network: name in `NETWORKS`.
        steps: optimizer steps of every arm, whatever the number of its images.
        batch_size: images a step.
        learning_rate: Adam's, until it falls (`DROPS`).
        weight_decay: Adam's L2 penalty.
        dropout: share of the last features that is left out in training.
        augment_probability: probability of each change of `POLICY` to each image, in the augmented
            arms.
        curve_points: how often the validation AUC is taken during a training, for the steps that
            it takes until a given AUC.
    """

    network: str = "small"
    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    dropout: float = 0.3
    augment_probability: float = 0.5
    curve_points: int = 20

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise UserError(
                f"network {self.network!r}: expected {', '.join(NETWORKS)}"
                f"{did_you_mean(str(self.network), NETWORKS)}"
            )
        # Batch norm needs two images.
        for name, least in (("steps", 1), ("batch_size", 2), ("curve_points", 1)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= _MOST:
                raise UserError(
                    f"{_shown(name)} {value}: expected a whole number from {least} to {_MOST}"
                )
        for name, low, high in (
            ("learning_rate", 0.0, 1.0), ("weight_decay", 0.0, 1.0), ("dropout", 0.0, 0.95),
            ("augment_probability", 0.0, 1.0),
        ):  # fmt: skip
            value = getattr(self, name)
            number = type(value) in (int, float) and math.isfinite(value)
            if not (number and low <= value <= high) or (name == "learning_rate" and not value):
                over = "over 0, at most 1" if name == "learning_rate" else f"{low:g} to {high:g}"
                raise UserError(f"{_shown(name)} {value}: expected {over}")

    def drops(self) -> list[int]:
        """Return the steps after which the learning rate falls to a tenth."""
        return [max(1, round(share * self.steps)) for share in DROPS]

    def curve_steps(self) -> list[int]:
        """Return the steps after which the validation AUC is taken, the last one included."""
        count = min(self.curve_points, self.steps)
        return sorted({round(self.steps * number / count) for number in range(1, count + 1)})

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON, of which :meth:`from_plain` makes the recipe again."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Recipe:
        """Make a recipe of plain values by name.

        Raises:
            UserError: a name is unknown, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in plain:
            if name not in known:
                raise UserError(
                    f"recipe: there is no {name!r}; expected {', '.join(known)}"
                    f"{did_you_mean(name, known)}"
                )
        return cls(**plain)


def _shown(name: str) -> str:
    return f"recipe: {name.replace('_', ' ')}"

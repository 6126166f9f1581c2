"""What a training hands over to be evaluated.

Apart from the evaluation itself, so that training steps run where what it needs is not installed.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class GeneratorNow:
    """A generator between two steps of its training.

    Attributes:
        network: what maps latents and labels to images.
        value_range: least and greatest value of a pixel.
        autocast: gives the context in which the network runs, the precision of its training.
        step: steps done.
        images_seen: real images shown to the discriminator so far.
    """

    network: nn.Module
    value_range: tuple[float, float]
    autocast: Callable[[], AbstractContextManager[Any]]
    step: int
    images_seen: int

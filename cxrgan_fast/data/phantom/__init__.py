"""Synthetic chest radiographs: deterministic, with known anatomy, in two classes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLASS_NAMES = ("normal", "bacterial")


@dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph."""

    image: npt.NDArray[np.uint8]
    label: int


def phantom_image(seed: int, index: int, label: int) -> Phantom:
    """Draw phantom number `index` of a seed."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index])))
    height, width = int(rng.integers(180, 240)), int(rng.integers(200, 300))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y / height * 2 - 1, x / width * 2 - 1

    def bell(cx: float, cy: float, rx: float, ry: float) -> npt.NDArray[np.float32]:
        r = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
        return 1 / (1 + np.exp(np.minimum(8 * (r - 1), 60)))

    a, b, c = rng.uniform(-0.05, 0.05, 3)
    body = bell(0, 0.2, 0.85 + a, 1.4)
    lungs = bell(-0.4, b, 0.27, 0.6) + bell(0.4, b, 0.27, 0.6)
    spine = np.exp(-((x / 0.09) ** 2))
    heart = bell(0.15 + c, 0.3, 0.28, 0.36)
    ribs = 0.5 + 0.5 * np.sin(22 * (y - 0.35 * x**2) + a * 40)
    image = 0.65 * body - 0.42 * lungs * (1 - heart) + 0.12 * spine + 0.12 * ribs**3 * body
    if label == 1:
        side = -0.4 if rng.random() < 0.5 else 0.4
        image = image + 0.3 * bell(side, rng.uniform(-0.3, 0.4), 0.25, 0.3)
    image = image + rng.normal(0, 0.01, image.shape)
    return Phantom((np.clip(image, 0, 1) * 255).astype(np.uint8), label)

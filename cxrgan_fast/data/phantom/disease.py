"""Lobar consolidation: air replaced by fluid in one lobe, sometimes two."""

import numpy as np

from cxrgan_fast.data.phantom.frame import Field, Frame, bump, cloud, length, step
from cxrgan_fast.data.phantom.organs import Thorax

# Centre and half-size (u, v) of each lobe as it projects, and the v of the fissure that
# bounds it sharply, above (-) or below (+), if one is seen edge-on.
_LOBES = (
    (-0.50, 0.27, 0.36, 0.26, +0.46),  # right upper, above the horizontal fissure
    (-0.45, 0.72, 0.34, 0.22, -0.50),  # right middle, below it, beside the heart
    (-0.55, 0.86, 0.38, 0.27, None),  # right lower
    (0.48, 0.32, 0.36, 0.30, None),  # left upper
    (0.56, 0.84, 0.38, 0.28, None),  # left lower, partly behind the heart
)


def consolidation(frame: Frame, shape: Thorax, rng: np.random.Generator) -> Field:
    """Return which share of the air is gone, 0 to 1, (H, W).

    Soft-edged and patchy, with air bronchograms: the branching airways that stay open show as
    dark streaks. Bounded by the lung, and sharply by the horizontal fissure where it has one.
    """
    count = 2 if rng.random() < 0.3 else 1
    density = np.zeros_like(frame.u)
    for lobe in rng.choice(len(_LOBES), size=count, replace=False):
        center_u, center_v, half_u, half_v, fissure = _LOBES[lobe]
        size = rng.uniform(0.85, 1.15)
        x = (frame.u - np.float32(center_u + rng.normal(0, 0.04))) / np.float32(half_u * size)
        y = (frame.v - np.float32(center_v + rng.normal(0, 0.03))) / np.float32(half_v * size)
        edge = 1 - length(x, y) + np.float32(0.16) * cloud(rng, frame, 3.5, 3)
        part = step(edge - np.float32(0.12), rng.uniform(0.22, 0.45))
        if fissure is not None:
            tilt = frame.v + np.float32(0.06) * frame.u - np.float32(abs(fissure))
            part *= step(-np.sign(np.float32(fissure)) * tilt, 0.03)
        density = np.maximum(density, part * np.float32(rng.uniform(0.62, 0.92)))
    patches = 1 - np.float32(0.16) * np.clip(cloud(rng, frame, 11, 2), 0, 2)
    return np.clip(density * patches * (1 - _bronchograms(frame, rng)), 0, 1) * shape.lungs


def _bronchograms(frame: Frame, rng: np.random.Generator) -> Field:
    """Dark streaks that fan out from the hila, 0 to about 0.3."""
    side = np.where(frame.u < 0, np.float32(-1), np.float32(1))
    x = frame.a - np.float32(0.15)
    y = frame.v - np.float32(0.44)
    angle = np.arctan(y / np.maximum(x, np.float32(0.02)))
    wander = np.float32(0.25) * cloud(rng, frame, 4)
    fan = np.sin(np.float32(rng.uniform(8, 11)) * angle + wander * 4 + side)
    distance = length(x, y)
    return np.float32(0.3) * bump(fan - 1, 0.12) * bump(distance - np.float32(0.2), 0.16)

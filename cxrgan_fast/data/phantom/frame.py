"""The coordinates a phantom is drawn in, and the few brushes it is drawn with.

Everything is a function of two fields: u runs across the chest (0 on the midline, ±1 at the
inner rib cage where it is widest; negative is the patient's right, on the image's left) and v
runs down it (0 at the top of the lungs, 1 at the dome of the right diaphragm).
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Field: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """How a chest lies in its image.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        u: across, (H, W).
        v: down, (H, W).
        across: pixels in one unit of u.
        down: pixels in one unit of v.
        origin: column and row of u = v = 0.
    """

    height: int
    width: int
    u: Field
    v: Field
    across: float
    down: float
    origin: tuple[float, float]

    @property
    def a(self) -> Field:
        """The distance from the midline, |u|, (H, W)."""
        return np.abs(self.u)


def random_frame(rng: np.random.Generator) -> Frame:
    """Choose build, projection and framing, all within what the published set shows.

    The image is 170 to 280 pixels wide, with an aspect ratio of about 0.85 to 1.9.
    """
    across = rng.uniform(76, 100)
    down = across * rng.uniform(0.98, 1.34)  # infants have broad chests
    width = round(2 * across / rng.uniform(0.72, 0.95))
    height = round(down / rng.uniform(0.48, 0.66))
    column = width * (0.5 + rng.normal(0, 0.025))
    row = height * rng.uniform(0.13, 0.26)
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(column)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(row)
    turn = np.float32(np.deg2rad(rng.normal(0, 2.8)))
    u = (x * np.cos(turn) + y * np.sin(turn)) / np.float32(across)
    v = (y * np.cos(turn) - x * np.sin(turn)) / np.float32(down)
    # A slightly bent spine, and one side wider than the other, as in a turned patient.
    u = u + np.float32(rng.normal(0, 0.018)) * np.sin(
        np.float32(2.4) * v + np.float32(rng.uniform(0, 6))
    )
    lean = np.float32(rng.normal(0, 0.035))
    u = u * (1 + lean * np.tanh(3 * u))
    return Frame(height, width, u, v, across, down, (column, row))


def step(distance: Field, softness: float) -> Field:
    """Rise smoothly from 0 (far below zero) to 1 (far above); linear over ± `softness`.

    A cubic, cheaper than a logistic function and exactly 0 and 1 outside.
    """
    t = np.clip(distance * np.float32(0.5 / softness) + np.float32(0.5), 0, 1)
    return t * t * (3 - 2 * t)


def bump(distance: Field, width: float) -> Field:
    """A Gaussian ridge of height 1 around distance 0."""
    t = distance * np.float32(1 / width)
    return np.exp(np.float32(-0.5) * t * t)


def curve(at: Field, knots: list[float], values: list[float]) -> Field:
    """Interpolate between knots without corners (linear interpolation, then smoothed).

    The fields that this is asked for vary slowly, so a table of 256 places is enough.
    """
    fine = np.linspace(knots[0], knots[-1], 256)
    table = np.interp(fine, knots, values)
    reach = 24
    kernel = np.hanning(2 * reach + 1)
    table = np.convolve(np.pad(table, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
    place = (at - np.float32(knots[0])) * np.float32(255 / (knots[-1] - knots[0]))
    place = np.clip(place, 0, 254.999)
    below = place.astype(np.int32)
    table32 = table.astype(np.float32)
    low = table32[below]
    return low + (place - below) * (table32[below + 1] - low)


def capsule(
    frame: Frame, start: tuple[float, float], end: tuple[float, float]
) -> tuple[Field, Field]:
    """Return how far each pixel is from a line between two (u, v) points.

    Returns:
        The distance in units of u, (H, W), and the place along the line, 0 to 1, (H, W).
    """
    ratio = frame.down / frame.across
    dx, dy = end[0] - start[0], (end[1] - start[1]) * ratio
    x = frame.u - np.float32(start[0])
    y = (frame.v - np.float32(start[1])) * np.float32(ratio)
    along = np.clip((x * np.float32(dx) + y * np.float32(dy)) / np.float32(dx**2 + dy**2), 0, 1)
    return length(x - along * np.float32(dx), y - along * np.float32(dy)), along


def length(x: Field, y: Field) -> Field:
    """Return the length of (x, y); several times faster than np.hypot."""
    return np.sqrt(x * x + y * y)


def tube(distance: Field, radius: float | Field, hollow: float) -> Field:
    """The X-ray path through a cylinder seen from the side, 1 at the axis of a solid one.

    Args:
        distance: from the axis.
        radius: of the cylinder.
        hollow: how much of its inside (of 0.72 the radius) is taken out: bones have a dense
            shell, which shows as two bright edges.
    """
    q = distance / radius
    q *= q
    path = np.sqrt(np.clip(1 - q, 0, None))
    if hollow:
        path -= np.float32(hollow * 0.72) * np.sqrt(
            np.clip(1 - q * np.float32(1 / 0.72**2), 0, None)
        )
    return path


def cloud(rng: np.random.Generator, frame: Frame, cells: float, octaves: int = 1) -> Field:
    """Smooth noise with mean 0 and deviation about 1.

    Args:
        rng: where the randomness comes from.
        frame: whose size it takes.
        cells: how many blobs fit across a unit of u.
        octaves: how many times finer noise of half the strength is added.

    Returns:
        (H, W).
    """
    total = np.zeros((frame.height, frame.width), np.float32)
    strength = 1.0
    for octave in range(octaves):
        size = frame.across / (cells * 2**octave)
        shape = (max(2, round(frame.height / size)), max(2, round(frame.width / size)))
        grid = rng.standard_normal(shape, dtype=np.float32)
        fine = Image.fromarray(grid).resize((frame.width, frame.height), Image.Resampling.BICUBIC)
        total += np.float32(strength) * np.asarray(fine)
        strength *= 0.5
    return total * np.float32(1.3)


def blurred(field: Field, radius: float) -> Field:
    """Blur widely by averaging down and interpolating back up: cheap at any radius."""
    height, width = field.shape
    small = (max(2, round(width / radius)), max(2, round(height / radius)))
    image = Image.fromarray(field).resize(small, Image.Resampling.BOX)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))

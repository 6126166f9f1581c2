"""The coordinates a phantom is rendered in, and the few brushes it is rendered with.

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
        height: height of the image, in pixels.
        width: width of the image, in pixels.
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
        """Return the distance from the midline, |u|, (H, W)."""
        return np.abs(self.u)

    def window(
        self,
        u_range: tuple[float, float] = (-np.inf, np.inf),
        v_range: tuple[float, float] = (-np.inf, np.inf),
    ) -> tuple[tuple[slice, slice], "Frame"]:
        """Cut out the smallest box of pixels that covers a range of u and v.

        Small parts are rendered in a window: the time is in the pixels.

        Returns:
            Where the window lies, as an index into (H, W), and the frame in it.
        """
        columns = _cover(self.u[0], self.u[-1], u_range)
        rows = _cover(self.v[:, 0], self.v[:, -1], v_range)
        where = (rows, columns)
        u, v = self.u[where], self.v[where]
        origin = (self.origin[0] - columns.start, self.origin[1] - rows.start)
        height, width = u.shape
        return where, Frame(height, width, u, v, self.across, self.down, origin)


def _cover(first: Field, last: Field, limits: tuple[float, float]) -> slice:
    """Return the places along two opposite edges whose values lie within `limits`.

    A margin of 3 pixels takes in the slight bend between the edges.
    """
    low, high = limits
    start = min(np.searchsorted(first, low), np.searchsorted(last, low))
    stop = max(np.searchsorted(first, high), np.searchsorted(last, high))
    return slice(max(int(start) - 3, 0), int(stop) + 3)


def random_frame(rng: np.random.Generator) -> Frame:
    """Choose build, projection and framing, all within what the published set shows.

    The image is 140 to 260 pixels wide, with an aspect ratio of about 0.85 to 1.9.
    """
    across = rng.uniform(68, 92)
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
    bend = np.sin(y * np.float32(2.4 / down) + np.float32(rng.uniform(0, 6)))  # (H, 1)
    u = u + np.float32(rng.normal(0, 0.018)) * bend
    lean = np.float32(rng.normal(0, 0.035))
    u = u * (1 + lean * np.tanh(3 * u))
    return Frame(height, width, u, v, across, down, (column, row))


def step(distance: Field, softness: float) -> Field:
    """Rise smoothly from 0 (at -`softness` and below) to 1 (at +`softness` and above).

    A cubic: cheaper than a logistic function. Brushes work in place: they are where the time
    goes, and most of an elementwise NumPy operation is getting memory for its result.
    """
    t = distance * np.float32(0.5 / softness)
    t += np.float32(0.5)
    np.maximum(t, 0, out=t)
    np.minimum(t, 1, out=t)
    weight = t * np.float32(-2)
    weight += np.float32(3)
    weight *= t
    weight *= t
    return weight


def bump(distance: Field, width: float) -> Field:
    """Compute a Gaussian ridge of height 1 around distance 0."""
    t = distance * np.float32(np.sqrt(0.5) / width)
    t *= t
    np.negative(t, out=t)
    return np.exp(t, out=t)


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
    y = frame.v - np.float32(start[1])
    y *= np.float32(ratio)
    squared = dx**2 + dy**2
    along = x * np.float32(dx / squared)
    along += y * np.float32(dy / squared)
    np.maximum(along, 0, out=along)
    np.minimum(along, 1, out=along)
    x -= along * np.float32(dx)
    y -= along * np.float32(dy)
    return length(x, y), along


def length(x: Field, y: Field) -> Field:
    """Return the length of (x, y); several times faster than np.hypot."""
    squared = x * x
    squared += y * y
    return np.sqrt(squared, out=squared)


def tube(distance: Field, radius: float | Field, hollow: float) -> Field:
    """Compute the X-ray path through a cylinder seen from the side, 1 at the axis of a solid one.

    Args:
        distance: from the axis.
        radius: radius of the cylinder.
        hollow: how much of its inside (of 0.72 the radius) is taken out: bones have a dense
            shell, which shows as two bright edges.
    """
    q = distance / radius
    q *= q
    path = _half_circle(q)
    if hollow:
        q *= np.float32(1 / 0.72**2)
        path -= np.float32(hollow * 0.72) * _half_circle(q)
    return path


def _half_circle(squared: Field) -> Field:
    height = 1 - squared
    np.maximum(height, 0, out=height)
    return np.sqrt(height, out=height)


def cloud(rng: np.random.Generator, frame: Frame, cells: float, octaves: int = 1) -> Field:
    """Smooth noise with mean 0 and deviation about 1.

    Args:
        rng: where the randomness comes from.
        frame: frame whose size the result has.
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

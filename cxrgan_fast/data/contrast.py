"""From the values of a detector to bytes: full range, window or percentiles."""

import numpy as np
import numpy.typing as npt
from PIL import Image

_BLOCK = 1 << 20  # values that are converted at once: what bounds the memory
_SAMPLE = 1 << 22  # values of which the percentiles are those of all

Percentiles = tuple[float, float]


def percentile_range(
    values: npt.NDArray[np.number], percentiles: Percentiles
) -> tuple[float, float] | None:
    """Find the values at two percentiles, by nearest rank; None if they are equal.

    Of more than four million values, every n-th is looked at.
    """
    flat = values.reshape(-1)
    flat = flat[:: -(-flat.size // _SAMPLE)]
    low, high = np.percentile(flat, percentiles, method="nearest")
    return (float(low), float(high)) if low < high else None


def to_bytes(values: npt.NDArray[np.number], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Map low to 0 and high to 255, linearly, rounded and clipped.

    Args:
        values: (H, W), any real dtype.
        low: black.
        high: white; above low.

    Returns:
        uint8, (H, W).
    """
    out = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, values.shape[1]))
    for top in range(0, len(values), rows):
        block = values[top : top + rows].astype(np.float64)
        block = np.floor((block - low) * (255 / (high - low)) + 0.5)
        out[top : top + rows] = block.clip(0, 255)
    return out


def stretch(image: Image.Image, percentiles: Percentiles) -> Image.Image:
    """Map two percentiles of an image's luma to 0 and 255, in all channels alike.

    Args:
        image: an image of mode L or RGB.
        percentiles: from 0 to 100.

    Returns:
        The same mode and size; an image of one tone comes back as it is.
    """
    counts = np.cumsum(image.convert("L").histogram())
    ranks = np.ceil(np.array(percentiles) / 100 * counts[-1]).clip(1, counts[-1])
    low, high = np.searchsorted(counts, ranks).tolist()
    if low >= high:
        return image
    table = to_bytes(np.arange(256)[None], low, high)[0].tolist()
    return image.point(table * len(image.getbands()))

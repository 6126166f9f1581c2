"""Burned-in letters and lead markers: found, and filled from what surrounds them.

A marker ("R", "L", "PORTABLE") is thin, very bright strokes with sharp edges beside the chest. The
white top-hat transform (F. Meyer, "Iterative image transformations for an automatic screening of
cervical smears", J. Histochem. Cytochem. 27, 1979) keeps what is brighter than its surroundings
and thinner than a disc: strokes, and also ribs and wires. Of its connected components those are
taken that have the size of a letter, stand out far from the tone around them, have edges as sharp
as print, and lie outside the middle of the image, where the lungs are. Filling is by A. Telea, "An
image inpainting technique based on the fast marching method", J. Graphics Tools 9, 2004.
"""

from types import ModuleType
from typing import Literal

import numpy as np
import numpy.typing as npt

from cxrgan_fast.errors import UserError

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_WORKING_SIDE = 512  # longer side at which markers are looked for
_SMALLEST_SIDE = 48  # below, letters have no strokes

# Lengths are shares of the geometric mean of width and height.
_STROKE = 0.030  # the disc is wider than any stroke of a letter
_HEIGHT = (0.020, 0.13)  # of a letter
_WIDTH = (0.006, 0.22)  # a letter to a short word
_MARGIN = 0.006  # what is filled around the strokes: their blurred edges

_SMALLEST_AREA = 8  # pixels of strokes

# (top-hat, share of the image's white) from which a pixel belongs to a stroke. A letter that
# touches a bright rib is one with it at the first and alone at another.
_LEVELS = ((24, 0.54), (48, 0.54), (24, 0.85), (24, 0.95), (32, 1.04))

_BRIGHT = 0.72  # of the image's white, its 99.5th percentile: what a marker reaches
_CONTRAST = 45  # between the strokes and the median around them
_MOST = 0.06  # of an image: where more looks like print, it is something else (noise, a document)
_PRINT = 0.57  # how sharp edges, how even the ground and how strong the contrast: together

# The middle, left to right and top to bottom: no markers there, whatever it looks like.
_MIDDLE = (0.20, 0.80, 0.16, 0.98)


def find_markers(image: Bytes) -> Mask:
    """Find the pixels of burned-in markers, with a narrow margin.

    Args:
        image: uint8, (H, W).

    Returns:
        bool, (H, W): True where there is a marker.

    Raises:
        UserError: OpenCV is not installed.
    """
    cv2 = _opencv()
    height, width = image.shape
    found = np.zeros(image.shape, bool)
    if min(image.shape) < _SMALLEST_SIDE:
        return found
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    small = image
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    mask = _strokes(cv2, small)
    if not mask.any():
        return found
    unit = float(np.sqrt(small.shape[0] * small.shape[1]))
    margin = 1 + 2 * max(1, round(_MARGIN * unit))
    mask = cv2.dilate(mask, np.ones((margin, margin), np.uint8))
    if mask.mean() > _MOST:
        return found
    if scale < 1:
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    return mask.astype(bool)


def remove_markers(image: Bytes, how: Literal["mask", "inpaint"]) -> Bytes:
    """Fill burned-in markers.

    Args:
        image: uint8, (H, W) or (H, W, 3); markers are found on its luma.
        how: "mask" for the median tone around each, "inpaint" for a continuation of what
            surrounds it.

    Returns:
        The same shape; the image itself if it has no markers.

    Raises:
        UserError: OpenCV is not installed.
    """
    cv2 = _opencv()
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    found = find_markers(luma)
    if not found.any():
        return image
    mask = found.astype(np.uint8)
    if how == "inpaint":
        radius = max(3.0, 0.01 * float(np.sqrt(luma.size)))
        return np.where(
            _spread(found, image), cv2.inpaint(image, mask, radius, cv2.INPAINT_TELEA), image
        )
    filled = image.copy()
    count, components = cv2.connectedComponents(mask, connectivity=8)
    for number in range(1, count):
        part = components == number
        filled[part] = np.median(image[_ring(cv2, part, found)], axis=0).astype(np.uint8)
    return filled


def _strokes(cv2: ModuleType, image: Bytes) -> Bytes:
    """uint8, (H, W): 1 on the strokes of markers."""
    height, width = image.shape
    unit = float(np.sqrt(height * width))
    disc = 1 + 2 * max(2, round(_STROKE * unit / 2))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (disc, disc))
    lifted = cv2.morphologyEx(image, cv2.MORPH_TOPHAT, kernel, borderType=cv2.BORDER_REPLICATE)
    white = float(np.percentile(image, 99.5))
    step = cv2.morphologyEx(image, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    # Letters of a word, and the strokes of one that is worn, become one component.
    near = 1 + 2 * max(1, round(0.004 * unit))
    taken = np.zeros(image.shape, np.uint8)
    for lift, brightness in _LEVELS:
        mask = ((lifted >= lift) & (image >= brightness * white)).astype(np.uint8)
        joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((near, near), np.uint8))
        _, components, stats, centers = cv2.connectedComponentsWithStats(joined, connectivity=8)
        for number in np.flatnonzero(_like_letters(stats, centers, height, width)).tolist():
            left, top, across, down, _ = stats[number].tolist()
            pad = max(3, round(0.015 * unit))
            rows = slice(max(0, top - pad), min(height, top + down + pad))
            columns = slice(max(0, left - pad), min(width, left + across + pad))
            part = (components[rows, columns] == number) & (mask[rows, columns] > 0)
            if _is_print(cv2, image[rows, columns], step[rows, columns], part, white):
                taken[rows, columns][part] = 1
    return taken


def _like_letters(
    stats: npt.NDArray[np.int32], centers: npt.NDArray[np.float64], height: int, width: int
) -> Mask:
    """Which components have a letter's size and lie where markers do, (components,)."""
    unit = np.sqrt(height * width)
    across, down, area = stats[:, 2] / unit, stats[:, 3] / unit, stats[:, 4]
    x, y = centers[:, 0] / width, centers[:, 1] / height
    left, right, top, bottom = _MIDDLE
    in_the_middle = (left < x) & (x < right) & (top < y) & (y < bottom)
    right_size = (_HEIGHT[0] <= down) & (down <= _HEIGHT[1])
    right_size &= (_WIDTH[0] <= across) & (across <= _WIDTH[1]) & (area >= _SMALLEST_AREA)
    chosen = right_size & ~in_the_middle
    chosen[0] = False  # the background
    return chosen


def _is_print(cv2: ModuleType, image: Bytes, step: Bytes, part: Mask, white: float) -> bool:
    """Whether strokes are bright, stand out from an even ground and have the edges of print."""
    peak = float(np.percentile(image[part], 90))
    if peak < _BRIGHT * white:
        return False
    filled = part.astype(np.uint8)
    around = ~cv2.dilate(filled, np.ones((5, 5), np.uint8)).astype(bool)
    edge = cv2.dilate(filled, np.ones((3, 3), np.uint8)).astype(bool) & ~part
    if not around.any() or not edge.any():
        return False
    dark, ground, light = np.percentile(image[around], (10, 50, 90)).tolist()
    contrast = peak - ground
    if contrast < _CONTRAST:
        return False
    sharpness = float(np.median(step[edge])) / contrast
    unevenness = (light - dark) / contrast
    return sharpness - 0.5 * unevenness + 0.001 * min(contrast, 150) >= _PRINT


def _ring(cv2: ModuleType, part: Mask, found: Mask) -> Mask:
    """The pixels around a component that belong to no marker."""
    wide = 1 + 2 * max(2, round(0.012 * float(np.sqrt(part.size))))
    ring = cv2.dilate(part.astype(np.uint8), np.ones((wide, wide), np.uint8)).astype(bool) & ~found
    return ring if ring.any() else ~found


def _spread(mask: Mask, image: Bytes) -> Mask:
    return mask[..., None] if image.ndim == 3 else mask


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError:
        raise UserError(
            "--markers mask and inpaint need OpenCV: pip install 'cxrgan_fast[data]'"
        ) from None
    return cv2

"""The training image that an image is most like, by pixels, and what was done to it.

Images are stretched to 64 pixels and made gray. The likeness of two images is the mean, over the
best three quarters of the windows of 8 x 8 pixels of the inner 56 x 56, of

    (σ₁₂ + C) / √((σ₁² + C)·(σ₂² + C))      C = 0.02², for pixels from 0 to 1

the correlation of the pixels in the window (each the mean of 2 x 2) as if both had noise of
deviation 0.02 in common. So neither brightness nor contrast matters, a window that is flat in one
image and not in the other counts as different, and what covers a quarter of an image hides no copy.

The first image may be the second one mirrored or not, turned by up to 3°, zoomed by up to 7.5 %
and shifted by up to 7 pixels: the likeness is the largest over these. The search for it has three
steps.

1. Locally normalized images of 14 x 14 pixels, mirrored and not, at 25 shifts of up to 4 pixels,
   are correlated with those of all training images, one matrix product each.
2. The 8 training images with the largest correlation are compared by the likeness, at angles of -2,
   0 and 2°, zooms of 0.95, 1 and 1.05, and shifts 2 pixels about the one of the first step.
3. The best 3 of them are compared at half of these steps about the best place of each.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.extractor import extractor_input

SIDE = 64
"""Side in pixels to which images are stretched before they are compared."""

SEARCH_VERSION = 1
"""Of `find_nearest`: another one wherever a likeness may differ, since thresholds are kept."""

_INNER = 56  # pixels of a side that are compared, so that a shift brings no border in
_CELL = 2  # pixels of a side whose mean is compared
_WINDOW = 4  # cells of a side
_KEPT = 36  # of the 49 windows: three quarters
_COMMON_NOISE = 0.02**2

_CANDIDATES = 8
_FINALISTS = 3
_MOST_SHIFT = 2  # cells of the first step's shifts
_ANGLE_STEP = 2.0  # degrees
_ZOOM_STEP = 0.05
_QUERIES_AT_ONCE = 64  # their correlations with 4,000 images stay in a cache of 1 MB
_NORMALIZED_WITHIN = 2.0  # cells, the deviation of the Gaussian of the local normalization
_LEAST_DEVIATION = 0.03  # of the local normalization: noise of flat parts stays small


class Transform(NamedTuple):
    """What was done to a training image to make the image that is most like it.

    Attributes:
        mirrored: left and right were exchanged, before anything else.
        angle: in degrees, by which it was then turned, from the x axis towards the y axis (down).
        zoom: factor by which it was then enlarged about its center.
        right: pixels, of 64, by which it was then shifted to the right.
        down: pixels by which it was shifted down.
    """

    mirrored: bool
    angle: float
    zoom: float
    right: float
    down: float

    def __str__(self) -> str:
        """Say it in words; "as it is" where nothing was done."""
        parts = ["mirrored"] if self.mirrored else []
        parts += [f"turned by {self.angle:g}°"] if self.angle else []
        parts += [f"zoom {self.zoom:g}"] if self.zoom != 1 else []
        parts += [f"shifted by {self.right:g}, {self.down:g}"] if self.right or self.down else []
        return ", ".join(parts) or "as it is"


@dataclass(frozen=True)
class Nearest:
    """The training image that each of Q images is most like.

    Attributes:
        rows: (Q,) int64, of the training images.
        likeness: (Q,) float32, up to 1.
        transforms: what was done to that training image, one an image.
    """

    rows: Tensor
    likeness: Tensor
    transforms: list[Transform]


def find_nearest(
    images: Tensor,
    train: Tensor,
    *,
    image_patients: Tensor | None = None,
    train_patients: Tensor | None = None,
    progress: str | None = None,
) -> Nearest:
    """Find the training image that each image is most like, by pixels.

    Args:
        images: (Q, 1 or 3, H, W) uint8.
        train: (N, 1 or 3, H, W) uint8, on the same device.
        image_patients: (Q,) int64; a training image of the same patient is not taken.
        train_patients: (N,) int64; given if `image_patients` is.
        progress: title of a progress bar on standard error; None for none.

    Raises:
        TypeError, ValueError: as `extractor_input`, or one kind of patients without the other.
        UserError: there are no training images, or all are of an image's own patient.
    """
    if (image_patients is None) != (train_patients is None):
        raise ValueError("image_patients and train_patients: expected both or neither, got one")
    if not len(train):
        raise UserError("copies: there are no training images that might be copied")
    pixels = extractor_input(train, SIDE, 1)
    candidates = _Candidates(pixels, _coarse(_normalized(pixels)), train_patients)
    found: list[_Found] = []
    hidden = None if progress else True  # None: shown on a terminal only
    with tqdm(total=len(images), desc=progress, unit="img", disable=hidden, leave=False) as bar:
        for start in range(0, len(images), _QUERIES_AT_ONCE):
            rows = slice(start, start + _QUERIES_AT_ONCE)
            patients = None if image_patients is None else image_patients[rows]
            found.append(_search(extractor_input(images[rows], SIDE, 1), patients, candidates))
            bar.update(len(found[-1].rows))
    if not found:
        none = torch.empty(0, device=train.device)
        return Nearest(none.long(), none, [])
    rows_found, likeness, places = (torch.cat(part) for part in zip(*found, strict=True))
    return Nearest(rows_found, likeness, [_transform(place) for place in places.tolist()])


class _Candidates(NamedTuple):
    pixels: Tensor  # (N, 1, 64, 64)
    coarse: Tensor  # (N, 196), as `_coarse` gives them unshifted
    patients: Tensor | None


class _Found(NamedTuple):
    """Of the images of a block: rows (B,), likeness (B,), and the places (B, 5) of `_Places`."""

    rows: Tensor
    likeness: Tensor
    places: Tensor


def _search(pixels: Tensor, patients: Tensor | None, candidates: _Candidates) -> _Found:
    """The three steps for the images of a block, (B, 1, 64, 64)."""
    n = len(candidates.pixels)
    normalized = _normalized(pixels)
    variants = torch.stack(
        [
            _coarse(normalized.flip(3) if mirrored else normalized, down, right)
            for mirrored, down, right in _VARIANTS
        ]
    )  # (50, B, 196)
    correlation = variants.new_full((len(pixels), n), -torch.inf)
    for variant in variants:
        torch.maximum(correlation, variant @ candidates.coarse.T, out=correlation)
    if patients is not None and candidates.patients is not None:
        correlation[patients[:, None] == candidates.patients] = -torch.inf
    best, rows = correlation.topk(min(_CANDIDATES, n))  # (B, K)
    rows, order = rows.sort(1)  # so that of equal images the first is found
    best = best.gather(1, order)
    if not best.isfinite().any(1).all():
        raise UserError(
            "copies: the training images are all of an image's own patient, so that there is none "
            "of another; give training images of more patients"
        )
    # The variant of each candidate, from the few products that matter.
    few = torch.einsum("vbd,bkd->vbk", variants, candidates.coarse[rows])
    of_variant = pixels.new_tensor(
        [
            (-1.0 if m else 1.0, 0.0, 1.0, _CELL * (-r if m else r), _CELL * d)
            for m, d, r in _VARIANTS
        ]
    )
    places = of_variant[few.argmax(0)]  # (B, K, 5)
    likeness, places = _refine_each(pixels, candidates.pixels[rows], places, 1)
    likeness = likeness.masked_fill(~best.isfinite(), -torch.inf)
    # Half a step beside the best place another image may be more alike than the original.
    order = likeness.sort(dim=1, descending=True, stable=True).indices[:, :_FINALISTS]
    rows, valid = rows.gather(1, order), best.gather(1, order).isfinite()
    places = places.gather(1, order[:, :, None].expand(-1, -1, 5))
    likeness, places = _refine_each(pixels, candidates.pixels[rows], places, 0.5)
    likeness = likeness.masked_fill(~valid, -torch.inf)
    chosen = likeness.sort(dim=1, descending=True, stable=True).indices[:, :1]
    each = torch.arange(len(rows), device=rows.device)
    return _Found(
        rows.gather(1, chosen)[:, 0],
        likeness.gather(1, chosen)[:, 0],
        places[each, chosen[:, 0]],
    )


_VARIANTS = [
    (mirrored, down, right)
    for mirrored in (False, True)
    for down in range(-_MOST_SHIFT, _MOST_SHIFT + 1)
    for right in range(-_MOST_SHIFT, _MOST_SHIFT + 1)
]


def _place(mirrored: bool, down: int, right: int) -> list[float]:
    """The place of a variant: what lies to the right of a mirror image is to the left of it."""
    mirror = -1 if mirrored else 1
    return [mirror, 0, 1, mirror * _CELL * right, _CELL * down]


def _normalized(pixels: Tensor) -> Tensor:
    """Cells of (B, 1, 64, 64) about their local mean, over their local deviation: (B, 1, 32, 32).

    So a covered part spoils itself and not the rest.
    """
    cells = F.avg_pool2d(pixels, _CELL)
    mean = _blur(cells)
    deviation = _blur((cells - mean).square_()).sqrt_()
    return (cells - mean).div_(deviation + _LEAST_DEVIATION)


def _blur(cells: Tensor) -> Tensor:
    reach = int(2 * _NORMALIZED_WITHIN)
    offsets = torch.arange(-reach, reach + 1, device=cells.device)
    kernel = torch.exp(-0.5 * (offsets / _NORMALIZED_WITHIN) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(cells, [reach] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])


def _coarse(normalized: Tensor, down: int = 0, right: int = 0) -> Tensor:
    """The inner part at a shift, in cells, as vectors of length 1: (B, 196)."""
    inner = _INNER // _CELL
    margin = (SIDE - _INNER) // _CELL // 2
    top, left = margin + down, margin + right
    part = F.avg_pool2d(normalized[:, :, top : top + inner, left : left + inner], 2).flatten(1)
    part = part - part.mean(1, keepdim=True)
    return part / part.norm(dim=1, keepdim=True).clamp(min=1e-6)


class _Template:
    """The windows of training images, (P, 1, 64, 64), to which places of others are compared.

    Images are the last dimension here: sums over windows are then sums of whole vectors.
    """

    def __init__(self, pixels: Tensor) -> None:
        margin = (SIDE - _INNER) // 2
        self.cells = _cells(pixels[:, :, margin : SIDE - margin, margin : SIDE - margin])
        self.mean = _window_means(self.cells)  # (7, 7, P)
        variance = _window_means(self.cells.square()) - self.mean.square()
        # Rounding may leave a flat window with less than nothing.
        self.variance = variance.clamp_(min=0).add_(_COMMON_NOISE)

    def windows(self, cells: Tensor) -> Tensor:
        """The correlation in each window with (28, 28, P) cells of other images: (P, 49)."""
        mean = _window_means(cells)
        variance = _window_means(cells.square()) - mean.square()
        covariance = _window_means(cells * self.cells) - mean * self.mean
        product = variance.clamp_(min=0).add_(_COMMON_NOISE).mul_(self.variance)
        return covariance.add_(_COMMON_NOISE).div_(product.sqrt_()).flatten(0, 1).T


def _cells(inner: Tensor) -> Tensor:
    """The cells of (P, 1, S, S), (S/2, S/2, P); of an odd S without the last row and column."""
    return F.avg_pool2d(inner, _CELL)[:, 0].permute(1, 2, 0).contiguous()


def _window_means(cells: Tensor) -> Tensor:
    """The mean of each window of (28, 28, P) cells, (7, 7, P)."""
    rows = cells.unflatten(0, (-1, _WINDOW)).sum(1)
    return rows.unflatten(1, (-1, _WINDOW)).sum(2).div_(_WINDOW**2)


def _refine_each(
    pixels: Tensor, candidates: Tensor, places: Tensor, step: float
) -> tuple[Tensor, Tensor]:
    """Refine (B, 1, 64, 64) with each of (B, K, 1, 64, 64): likeness (B, K), places (B, K, 5)."""
    b, k = candidates.shape[:2]
    likeness, best = _refine(
        pixels.repeat_interleave(k, 0),
        _Template(candidates.flatten(0, 1)),
        places.flatten(0, 1),
        step,
    )
    return likeness.view(b, k), best.view(b, k, 5)


def _refine(
    pixels: Tensor, templates: _Template, places: Tensor, step: float
) -> tuple[Tensor, Tensor]:
    """Compare at 81 places about the given ones; give the best likeness (P,) and places (P, 5).

    Args:
        pixels: (P, 1, 64, 64), each with its template.
        templates: of P training images.
        places: (P, 5): -1 where mirrored, else 1; angle; zoom; pixels to the right; pixels down.
        step: of the angle, zoom and shift, in units of 2°, 0.05 and 2 pixels.
    """
    reach = round(_CELL * step)
    size, inner = _INNER + 2 * reach, _INNER // _CELL
    remainders = {shift % _CELL for shift in (0, reach, 2 * reach)}
    best = pixels.new_full((len(pixels),), -torch.inf)
    best_places = places.clone()
    for angle in (0, -1, 1):  # nothing done comes first: of equal ones the first stays
        for zoom in (0, -1, 1):
            here = places.clone()
            here[:, 1] += angle * step * _ANGLE_STEP
            here[:, 2] += zoom * step * _ZOOM_STEP
            sampled = _sample(pixels, here, size)
            # Shifts by whole cells share them: of each remainder they are taken once.
            cells = {
                (down, right): _cells(sampled[:, :, down:, right:])
                for down in remainders
                for right in remainders
            }
            for down in (0, -reach, reach):
                for right in (0, -reach, reach):
                    top, odd_top = divmod(reach + down, _CELL)
                    left, odd_left = divmod(reach + right, _CELL)
                    here_cells = cells[odd_top, odd_left]
                    windows = templates.windows(here_cells[top : top + inner, left : left + inner])
                    likeness = windows.topk(_KEPT, sorted=False).values.mean(1)
                    better = likeness > best
                    best = torch.where(better, likeness, best)
                    moved = here.clone()
                    moved[:, 3:] += _offset(here, right, down)
                    best_places[better] = moved[better]
    return best, best_places


def _offset(places: Tensor, right: float, down: float) -> Tensor:
    """How far the image moves, (P, 2), where the template's grid moves by so many pixels."""
    return (_matrices(places) @ places.new_tensor([right, down])[:, None])[..., 0]


def _matrices(places: Tensor) -> Tensor:
    """The linear part of the transforms, (P, 2, 2): mirrored, then turned and zoomed."""
    mirror, angle, zoom = places[:, 0], places[:, 1].deg2rad(), places[:, 2]
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    return torch.stack([cos * mirror, -sin, sin * mirror, cos], 1).view(-1, 2, 2)


def _sample(pixels: Tensor, places: Tensor, size: int) -> Tensor:
    """The images where the inner pixels of the training images would be in them.

    Args:
        pixels: (P, 1, 64, 64).
        places: (P, 5).
        size: S of the inner part that is looked at.

    Returns:
        (P, 1, S, S).
    """
    axis = torch.arange(size, device=pixels.device) - (size - 1) / 2
    # What a column and what a row adds: (P, 2, S) each. grid_sample counts from -1 to 1.
    columns, rows = (_matrices(places) * (2 / SIDE))[:, :, :, None].mul(axis).unbind(2)
    columns = columns + places[:, 3:, None] * (2 / SIDE)
    grid = pixels.new_empty(len(places), size, size, 2)
    for axis_of in range(2):
        torch.add(columns[:, axis_of, None], rows[:, axis_of, :, None], out=grid[..., axis_of])
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _transform(place: list[float]) -> Transform:
    mirror, angle, zoom, right, down = place
    right, down = (round(shift, 1) + 0.0 for shift in (right, down))  # 0.0 makes 0 of -0
    return Transform(mirror < 0, round(angle, 3) + 0.0, round(zoom, 3), right, down)

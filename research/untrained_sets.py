"""Real X-rays spoilt in a dozen ways that no extractor of the package was trained to feel.

Strength 1/2 of each is what a person sees who looks at the images: the amounts are chosen so.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cxrgan_fast.data import ImageDataset, to_float, to_uint8
from research.disturbed_sets import Disturbance, DisturbedSet, Parts, unchanged

# What strength 1 is. Lengths are shares of the image's side: half of the shift is 4 of 64 pixels.
GAMMA = 1.0  # added to an exponent of 1
SHIFT = 1 / 8
ZOOM = 0.2  # added to a magnification of 1
ROTATION = 20.0  # degrees
JPEG = 14 / 3  # quality is 100 / (1 + this): 30 at half the strength
BOX = 1 / 4  # side of a black square in a corner
GRID = 0.08  # of brightness, by which every second row and column are brighter
MIXED_IN = 0.2  # share of the images that are of another class


def untrained(dataset: ImageDataset, parts: Parts, seed: int) -> dict[str, Disturbance]:
    """The disturbances by name, each a function of the strength, 0 (none) to 1.

    Of every image, as `AMOUNTS` has them: gamma, shift to the right, zoom, rotation, JPEG, a black
    box in a corner, the grid that transposed convolutions leave, and one exposure (means and
    deviations of gray levels drawn towards those of all images). Of a share of the images, which is
    the strength: mirror; half_mirrored, where the right half is the left one's mirror image;
    chimera_sides and chimera_halves, whose right or lower half is of another patient of the same
    class. And other_class: strength x 20 % of the images are replaced by images of the first class
    with the labels of those that they replace.

    Args:
        dataset: all images.
        parts: which of them are what; those of ``base`` are disturbed.
        seed: of all choices. A greater strength disturbs what a smaller one does, and more.
    """
    found: dict[str, Disturbance] = {
        name: _of_every_image(dataset, parts.base, function) for name, function in AMOUNTS.items()
    }
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(parts.base), generator=generator)
    for name, join in _JOINED.items():
        partners = parts.base
        if name.startswith("chimera"):
            partners = _partners(dataset, parts.base, generator)
        joined = join(dataset.images[parts.base], dataset.images[partners])
        found[name] = _of_a_share(dataset, parts.base, joined, order)
    found["other_class"] = _other_class(dataset, parts, generator)
    return found


def _gamma(images: Tensor, strength: float) -> Tensor:
    return images ** (1 + GAMMA * strength)


def _shift(images: Tensor, strength: float) -> Tensor:
    return _mapped(images, torch.tensor([[1.0, 0, -2 * SHIFT * strength], [0, 1, 0]]))


def _zoom(images: Tensor, strength: float) -> Tensor:
    return _mapped(images, torch.eye(2, 3) / (1 + ZOOM * strength))


def _rotate(images: Tensor, strength: float) -> Tensor:
    angle = torch.deg2rad(torch.tensor(ROTATION * strength))
    cos, sin = float(torch.cos(angle)), float(torch.sin(angle))
    return _mapped(images, torch.tensor([[cos, -sin, 0], [sin, cos, 0]]))


def _mapped(images: Tensor, matrix: Tensor) -> Tensor:
    """Look up each pixel where a matrix (2, 3) says, in units of half a side.

    Bicubic, so that what is seen is the movement rather than a blur.
    """
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)


def _jpeg(images: Tensor, strength: float) -> Tensor:
    quality = round(100 / (1 + JPEG * strength))
    return to_float(
        torch.stack([_compressed(image, quality) for image in to_uint8(images, (0, 1))]), (0, 1)
    )


def _compressed(image: Tensor, quality: int) -> Tensor:
    planes = []
    for plane in image:
        file = io.BytesIO()
        Image.fromarray(plane.numpy()).save(file, "JPEG", quality=quality)
        planes.append(torch.from_numpy(np.array(Image.open(file))))
    return torch.stack(planes)


def _box(images: Tensor, strength: float) -> Tensor:
    side = round(BOX * strength * images.shape[-1])
    spoilt = images.clone()
    spoilt[..., :side, :side] = 0
    return spoilt


def _grid(images: Tensor, strength: float) -> Tensor:
    height, width = images.shape[-2:]
    down = 1 + GRID * strength * (1 - 2 * (torch.arange(height) % 2))
    across = 1 + GRID * strength * (1 - 2 * (torch.arange(width) % 2))
    return images * down[:, None] * across


def _one_exposure(images: Tensor, strength: float) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    deviation = images.std((1, 2, 3), keepdim=True).clamp(min=1e-3)
    same = (images - mean) / deviation * deviation.mean() + mean.mean()
    return torch.lerp(images, same, strength)


AMOUNTS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gamma": _gamma,
    "shift": _shift,
    "zoom": _zoom,
    "rotation": _rotate,
    "jpeg": _jpeg,
    "corner_box": _box,
    "checkerboard": _grid,
    "one_exposure": _one_exposure,
}
"""Of float32 images (N, C, H, W), 0 to 1, and a strength over 0."""


def _mirrored(images: Tensor, _: Tensor) -> Tensor:
    return images.flip(-1)


def _half_mirrored(images: Tensor, _: Tensor) -> Tensor:
    return _sides(images, images.flip(-1))


def _sides(images: Tensor, others: Tensor) -> Tensor:
    middle = images.shape[-1] // 2
    return torch.cat([images[..., :middle], others[..., middle:]], -1)


def _halves(images: Tensor, others: Tensor) -> Tensor:
    middle = images.shape[-2] // 2
    return torch.cat([images[..., :middle, :], others[..., middle:, :]], -2)


_JOINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mirror": _mirrored,
    "half_mirrored": _half_mirrored,
    "chimera_sides": _sides,
    "chimera_halves": _halves,
}


def _of_every_image(
    dataset: ImageDataset, base: Tensor, function: Callable[[Tensor, float], Tensor]
) -> Disturbance:
    def disturb(strength: float) -> list[DisturbedSet]:
        if strength == 0:
            return [unchanged(dataset, base)]
        images = function(to_float(dataset.images[base], (0, 1)), strength)
        return [DisturbedSet(to_uint8(images.clamp(0, 1), (0, 1)), dataset.labels[base], None)]

    return disturb


def _of_a_share(dataset: ImageDataset, base: Tensor, joined: Tensor, order: Tensor) -> Disturbance:
    def disturb(strength: float) -> list[DisturbedSet]:
        images = dataset.images[base]
        chosen = order[: round(strength * len(base))]
        images[chosen] = joined[chosen]
        return [DisturbedSet(images, dataset.labels[base], None)]

    return disturb


def _partners(dataset: ImageDataset, base: Tensor, generator: torch.Generator) -> Tensor:
    """Rows of `base`, for each a random one of the same class and another patient."""
    chosen = []
    labels = dataset.labels[base]
    patients = [dataset.patients[row] for row in base.tolist()]
    shuffled = torch.randperm(len(base), generator=generator).tolist()
    for place, patient in enumerate(patients):
        start = int(torch.randint(len(base), (), generator=generator))
        turn = shuffled[start:] + shuffled[:start]
        fitting = (
            other for other in turn if labels[other] == labels[place] and patients[other] != patient
        )
        chosen.append(next(fitting, place))  # a class of one patient has no other
    return base[torch.tensor(chosen)]


def _other_class(dataset: ImageDataset, parts: Parts, generator: torch.Generator) -> Disturbance:
    others = parts.source[dataset.labels[parts.source] == 0]
    others = others[~torch.isin(others, parts.base)]
    others = others[torch.randperm(len(others), generator=generator)]
    places = (dataset.labels[parts.base] != 0).nonzero().flatten()
    places = places[torch.randperm(len(places), generator=generator)]

    def disturb(strength: float) -> list[DisturbedSet]:
        count = min(round(strength * MIXED_IN * len(parts.base)), len(others), len(places))
        rows = parts.base.clone()
        rows[places[:count]] = others[:count]
        return [DisturbedSet(dataset.images[rows], dataset.labels[parts.base], rows)]

    return disturb

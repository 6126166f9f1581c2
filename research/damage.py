"""Five ways to spoil an image by a known amount: what metrics of image quality ought to feel."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["blur", "noise", "occlusion", "contrast", "warping"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What strength 1 is. Lengths are shares of the image's side, so that strengths mean the same at
# every resolution; brightness is from 0 to 1.
BLUR_DEVIATION = 0.03
NOISE_DEVIATION = 0.15
OCCLUDED_AREA = 0.25
CONTRAST_LOSS = 0.7
WARP_DEVIATION = 0.04
_WARP_NODES = 5  # a side: displacements between them are interpolated


def damage(
    images: Tensor, kind: Kind, strength: float | Tensor, generator: torch.Generator
) -> Tensor:
    """Damage images.

    - blur: a Gaussian whose deviation is strength x 3 % of the side;
    - noise: Gaussian, white, of deviation strength x 0.15;
    - occlusion: a rectangle of strength x 25 % of the area in one gray;
    - contrast: differences from the image's mean times 1 - 0.7 strength;
    - warping: smooth random displacements whose deviation is strength x 4 % of the side.

    Args:
        images: (N, C, H, W) float32, 0 to 1.
        kind: one of `KINDS`.
        strength: 0 (leaves the image) to 1; one number, or (N,) one an image.
        generator: on the CPU; the same state gives the same damage on any device.

    Returns:
        A new tensor of the shape of `images`, 0 to 1.

    Raises:
        ValueError: an unknown kind, a strength outside 0 to 1.
    """
    if kind not in _DAMAGES:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    strengths = torch.as_tensor(strength, dtype=torch.float32, device=images.device)
    strengths = strengths.expand(len(images))
    if not bool(((strengths >= 0) & (strengths <= 1)).all()):
        raise ValueError(f"strength: expected 0 to 1, got {strength}")
    return _DAMAGES[kind](images, strengths, generator).clamp(0, 1)


def _blur(images: Tensor, strengths: Tensor, _: torch.Generator) -> Tensor:
    n, channels, height, width = images.shape
    side = min(height, width)
    radius = min(math.ceil(3 * BLUR_DEVIATION * side), side - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    # A deviation of 0 divides by next to nothing: all weight comes to lie at the centre.
    deviations = (strengths * BLUR_DEVIATION * side).clamp(min=1e-3)
    kernels = torch.exp(-0.5 * (offsets / deviations[:, None]) ** 2)  # (N, K)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    planes = F.pad(images, [radius] * 4, mode="reflect").flatten(0, 1)[None]  # (1, N*C, H', W')
    planes = F.conv2d(planes, kernels[:, None, None, :], groups=n * channels)
    planes = F.conv2d(planes, kernels[:, None, :, None], groups=n * channels)
    return planes.reshape(images.shape)


def _noise(images: Tensor, strengths: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return images + strengths[:, None, None, None] * NOISE_DEVIATION * noise


def _occlude(images: Tensor, strengths: Tensor, generator: torch.Generator) -> Tensor:
    n, _, height, width = images.shape
    shape, x, y, gray = torch.rand(4, n, generator=generator).to(images.device)
    aspect = 2.0 ** (2 * shape - 1)  # width over height, 1/2 to 2
    area = strengths * OCCLUDED_AREA
    across, down = (area * aspect).sqrt(), (area / aspect).sqrt()  # shares of the side, below 1

    def inside(start: Tensor, share: Tensor, size: int) -> Tensor:
        centers = (torch.arange(size, device=images.device) + 0.5) / size
        first = (start * (1 - share))[:, None]
        return (centers >= first) & (centers < first + share[:, None])  # (N, size)

    covered = inside(y, down, height)[:, None, :, None] & inside(x, across, width)[:, None, None]
    return torch.where(covered, gray[:, None, None, None], images)


def _reduce_contrast(images: Tensor, strengths: Tensor, _: torch.Generator) -> Tensor:
    mean = images.mean((2, 3), keepdim=True)
    return mean + (images - mean) * (1 - CONTRAST_LOSS * strengths)[:, None, None, None]


def _warp(images: Tensor, strengths: Tensor, generator: torch.Generator) -> Tensor:
    n, _, height, width = images.shape
    nodes = torch.randn(n, 2, _WARP_NODES, _WARP_NODES, generator=generator).to(images.device)
    field = F.interpolate(nodes, (height, width), mode="bicubic", align_corners=True)
    # grid_sample counts from -1 to 1: a side is 2.
    field = field * (2 * WARP_DEVIATION * strengths)[:, None, None, None]
    identity = torch.eye(2, 3, device=images.device).expand(n, 2, 3)
    grid = F.affine_grid(identity, list(images.shape), align_corners=False)
    grid = grid + field.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


_DAMAGES: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "blur": _blur,
    "noise": _noise,
    "occlusion": _occlude,
    "contrast": _reduce_contrast,
    "warping": _warp,
}

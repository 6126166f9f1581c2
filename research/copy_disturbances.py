"""What may be done to a copy so that no byte of it is equal: eleven disturbances, and two mixed."""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Disturb = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Of (N, C, H, W) float32, 0 to 1, and as many other training images; the same shape."""

_PIXELS = 64  # sides that lengths in pixels are of


def disturb(images: Tensor, others: Tensor, name: str, generator: torch.Generator) -> Tensor:
    """Disturb copies.

    Args:
        images: (N, C, H, W) uint8, H = W.
        others: as many other images, which are blended in.
        name: one of `DISTURBANCES` or `MIXED`.
        generator: on the CPU, of what is random.

    Returns:
        A new tensor of the same shape and type.
    """
    pixels = (DISTURBANCES | MIXED)[name](images.float() / 255, others.float() / 255, generator)
    return pixels.clamp(0, 1).mul(255).round().byte()


def _jpeg(pixels: Tensor, quality: int) -> Tensor:
    out = []
    for image in pixels.mul(255).round().byte():
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()).save(
            file, "JPEG", quality=quality
        )
        read = torch.from_numpy(np.array(Image.open(file))).view(*image.shape[1:], -1)
        out.append(read.permute(2, 0, 1))
    return torch.stack(out).float() / 255


def _blur(pixels: Tensor, deviation: float) -> Tensor:
    """Blur with a Gaussian of so many pixels, of 64 a side."""
    deviation *= pixels.shape[-1] / _PIXELS
    reach = math.ceil(4 * deviation)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    kernel = kernel / kernel.sum()
    planes = F.pad(pixels, [reach] * 4, mode="replicate").flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, kernel[None, None, None]), kernel[None, None, :, None])
    return planes.view(pixels.shape)


def _move(pixels: Tensor, angle: float = 0, zoom: float = 1, shift: float = 0) -> Tensor:
    """Turn by degrees, enlarge, and shift right and down by pixels, of 64 a side."""
    cos, sin = (f(math.radians(angle)) / zoom for f in (math.cos, math.sin))
    to = -2 * shift / _PIXELS
    matrix = torch.tensor([[cos, sin, to], [-sin, cos, to]]).expand(len(pixels), 2, 3)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _cut_out(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Blacken a square of 20 pixels, of 64 a side, a tenth of the area, anywhere inside."""
    side = pixels.shape[-1]
    covered = round(20 * side / _PIXELS)
    cut = pixels.clone()
    corners = torch.randint(side - covered + 1, (len(pixels), 2), generator=generator)
    for image, (top, left) in zip(cut, corners.tolist(), strict=True):
        image[:, top : top + covered, left : left + covered] = 0
    return cut


def _noise(pixels: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    return pixels + deviation * torch.randn(pixels.shape, generator=generator)


DISTURBANCES: dict[str, Disturb] = {
    "nothing": lambda pixels, _, __: pixels,
    "JPEG of quality 30": lambda pixels, _, __: _jpeg(pixels, 30),
    "noise of 0.02": lambda pixels, _, g: _noise(pixels, 0.02, g),
    "blur of 0.7 pixels": lambda pixels, _, __: _blur(pixels, 0.7),
    "gamma 1.2": lambda pixels, _, __: pixels**1.2,
    "brightness 0.9": lambda pixels, _, __: pixels * 0.9,
    "turned by 2°": lambda pixels, _, __: _move(pixels, angle=2),
    "shifted by 2 pixels": lambda pixels, _, __: _move(pixels, shift=2),
    "zoom 1.05": lambda pixels, _, __: _move(pixels, zoom=1.05),
    "mirrored": lambda pixels, _, __: pixels.flip(3),
    "blended 80 to 20": lambda pixels, others, _: 0.8 * pixels + 0.2 * others,
    "cutout of 20 pixels": lambda pixels, _, g: _cut_out(pixels, g),
}
"""Each alone, by what it does; lengths are in pixels of 64 a side."""

MIXED: dict[str, Disturb] = {
    "turned by -1.3°, zoom 0.97, shifted by 0.7 pixels": (
        lambda pixels, _, __: _move(pixels, -1.3, 0.97, 0.7)
    ),
    "mirrored, shifted by -3 pixels, gamma 1.2, noise of 0.02": (
        lambda pixels, _, g: _noise(_move(pixels.flip(3), shift=-3) ** 1.2, 0.02, g)
    ),
}
"""Several together, and between the places that are searched."""

"""How an image of any shape becomes a square.

`squash`, the default, stretches the whole image. Radiographs are framed on the thorax, so the
alternatives lose more. `crop` cuts off lateral lung and the costophrenic angles, where disease is
read. `pad` adds bars whose width tells the class (in the published set pneumonia images are wider
than normal ones), which a GAN learns to imitate and a classifier learns to cheat with; they have
the tone of the border that they continue. Stretching keeps every structure, and is how square
copies of the published set are made, so originals and copies give the same training image.
"""

import numpy as np
from PIL import Image

from cxrgan_fast.data.preparation import Fit

_BICUBIC = Image.Resampling.BICUBIC  # antialiased: Pillow widens the kernel by the scale


def to_square(image: Image.Image, resolution: int, fit: Fit) -> Image.Image:
    """Resize an image to (R, R).

    Args:
        image: an image of mode L or RGB.
        resolution: R.
        fit: squash, pad or crop.
    """
    if image.size == (resolution, resolution):
        return image
    width, height = image.size
    if fit == "pad" and width != height:
        return _padded(image, resolution)
    box = None
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    return image.resize((resolution, resolution), _BICUBIC, box)


def _padded(image: Image.Image, resolution: int) -> Image.Image:
    longer = max(image.size)
    width, height = (max(1, round(side * resolution / longer)) for side in image.size)
    inner = np.asarray(image.resize((width, height), _BICUBIC))
    wide = width > height
    if wide:  # bars above and below: the same as at the sides of the image turned
        inner = inner.swapaxes(0, 1)
    before = (resolution - inner.shape[1]) // 2
    after = resolution - inner.shape[1] - before
    edge = max(1, inner.shape[1] // 50)
    square = np.concatenate(
        [_bar(inner[:, :edge], before), inner, _bar(inner[:, -edge:], after)], axis=1
    )
    return Image.fromarray(np.ascontiguousarray(square.swapaxes(0, 1) if wide else square))


def _bar(border: np.ndarray, width: int) -> np.ndarray:
    """A bar in the median tone of a border, (R, width) or (R, width, 3)."""
    tone = np.median(border.reshape(-1, *border.shape[2:]), axis=0)
    return np.broadcast_to(
        (tone + 0.5).astype(np.uint8), (border.shape[0], width, *border.shape[2:])
    )

"""One image file in, one square array of bytes out.

Aspect ratio: the whole image is stretched to the square. Radiographs are framed on the thorax,
so both alternatives lose more. A centre crop cuts off lateral lung and the costophrenic angles,
where disease is read. Padding adds bars whose width tells the class (in the published set
pneumonia images are wider than normal ones), which a GAN learns to draw and a classifier learns
to cheat with. Stretching keeps every structure, and is how square copies of the published set
are made, so originals and copies give the same training image.
"""

import io
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrgan_fast.errors import UserError

Bytes: TypeAlias = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""File name endings (in lower case) that are read as images."""

MAX_PIXELS = 64_000_000
"""Larger images are refused: the biggest X-ray detectors have some 20 million pixels."""

_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(content: bytes, resolution: int, image_channels: int = 1) -> Bytes:
    """Turn the bytes of an image file into a square of bytes.

    Any mode is accepted: grayscale, RGB, palette, CMYK, 1-bit, 16-bit (scaled by the bits in
    use, so that 12-bit detector data fills the range). Transparency is laid over black, which
    is air in a radiograph. The EXIF orientation is applied. Resizing is antialiased (bicubic)
    and stretches the image to the square; the module's docstring says why.

    Args:
        content: of the file.
        resolution: height and width of the result, R.
        image_channels: 1 (luma) or 3 (RGB).

    Returns:
        uint8, (image_channels, R, R).

    Raises:
        UserError: why it cannot be decoded whole, or that it is larger than `MAX_PIXELS`; the
            file's name is for the caller to put before it.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            _refuse_enormous(image)
            # JPEG can decode straight to a smaller size. Twice the target leaves the last
            # factor to the antialiased filter, which is what Pillow's thumbnails do too.
            image.draft("L" if image_channels == 1 else "RGB", (2 * resolution, 2 * resolution))
            orientation = _orientation(image)
            image.load()
            square = prepare(_upright(image, orientation), resolution, image_channels)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(_too_large("more than 178 million")) from None
    except Exception as error:  # a decoder fed with damaged bytes may raise anything
        raise UserError(_reason(error)) from None
    return square


def prepare(image: Image.Image, resolution: int, image_channels: int) -> Bytes:
    """Bring a decoded image to bytes, to its channels and to the square.

    Args:
        image: any mode that `read_image` accepts.
        resolution: height and width of the result, R.
        image_channels: 1 or 3.

    Returns:
        uint8, (image_channels, R, R).

    Raises:
        UserError: a floating-point image, whose black and white are unknown.
    """
    image = _eight_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    image = image.convert("L" if image_channels == 1 else "RGB")
    if image.size != (resolution, resolution):
        image = image.resize((resolution, resolution), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, dtype=np.uint8)  # (R, R) or (R, R, 3)
    return pixels[None] if image_channels == 1 else pixels.transpose(2, 0, 1)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale an image of more than 8 bits by the even number of bits that its maximum needs.

    Detectors deliver 10, 12 or 14 bits, commonly stored in 16: dividing those by 65535 would
    leave a nearly black image.
    """
    if image.mode == "F":
        raise UserError("floating-point pixels have no known black and white: save it as 16-bit")
    if image.mode != "I" and not image.mode.startswith("I;"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0:
        raise UserError("negative pixel values have no known black: save it as unsigned 16-bit")
    bits = max(8, (int(values.max()).bit_length() + 1) // 2 * 2)
    scaled = (values * 255 + (1 << (bits - 1))) // ((1 << bits) - 1)
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels, which may be whole
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def _refuse_enormous(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UserError(_too_large(f"{image.width} x {image.height}"))


def _too_large(size: str) -> str:
    return (
        f"claims {size} pixels, more than the {MAX_PIXELS:,} that are read: "
        "make it smaller or remove it"
    )


def _reason(error: Exception) -> str:
    """Put a decoder's complaint in a few words of one line."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image that can be read (damaged, or another format under this name)"
    detail = " ".join(str(error).split()) or type(error).__name__
    return f"damaged or incomplete image ({detail})"

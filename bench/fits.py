"""``python -m bench.fits FOLDER PNG``: the images of a folder through every --fit, on one sheet."""

import io
import sys
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image, ImageDraw

from bench.command import check, parser_of
from cxrgan_fast.command import run_command
from cxrgan_fast.data.preparation import Fit, Preparation
from cxrgan_fast.data.readers import Decoded, look_at, read_image
from cxrgan_fast.data.sources import open_source
from cxrgan_fast.files import write_named

FITS: tuple[Fit, ...] = get_args(Fit)
SIDE = 112
COLUMNS = 4  # images, each with its original and every fit


def main() -> None:
    """Read, plot and write."""
    parser = parser_of("bench.fits", __doc__)
    parser.add_argument("folder", help="of class folders, or another source")
    parser.add_argument("png", type=Path, help="where the sheet goes")
    arguments = parser.parse_args()
    check(arguments, out="png")
    source = open_source(arguments.folder)
    width, height = (1 + len(FITS)) * SIDE + 8, SIDE + 14
    rows = -(-len(source.files) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * width, rows * height), 40)
    pen = ImageDraw.Draw(sheet)
    for place, file in enumerate(source.files):
        left, top = place % COLUMNS * width, place // COLUMNS * height
        content = source.read(file)
        original = look_at(content, 2 * SIDE, None, _small)
        small = original.image
        sheet.paste(small, (left + (SIDE - small.width) // 2, top + 13))
        for number, fit in enumerate(FITS, 1):
            pixels = read_image(content, Preparation(SIDE, fit=fit)).pixels[0]
            sheet.paste(
                Image.fromarray(np.ascontiguousarray(pixels)), (left + number * SIDE, top + 13)
            )
        pen.text(
            (left + 2, top),
            f"{original.width} x {original.height}: as it is, {', '.join(FITS)}",
            255,
        )
    save(sheet, arguments.png, colors=64)


def save(sheet: Image.Image, path: Path, *, colors: int) -> None:
    """Write a picture as a PNG of a few colors, whatever its file is called."""
    content = io.BytesIO()
    few = sheet.convert("P", palette=Image.Palette.ADAPTIVE, colors=colors)
    few.save(content, "PNG", optimize=True)
    write_named(path, content.getvalue())


def _small(found: Decoded) -> Decoded:
    found.image.thumbnail((SIDE, SIDE))
    return found


if __name__ == "__main__":
    sys.exit(run_command(main))

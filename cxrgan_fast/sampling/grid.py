"""Sample grids: a row a class, its name at the left; and the GIF of a grid over training."""

import io
import itertools
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import write_atomic

_T = TypeVar("_T")

_CELL = 128  # smallest side at which the ribs of a 64-pixel X-ray can be made out on a screen
_GAP = 4
_PADDING = 10  # around text
_FONT_SIZE = 18
_NAME_WIDTH = 20  # characters before a row's name is broken into lines
_PAPER, _INK = "white", "black"

_MOST_ROWS = 40
_MOST_PIXELS = 64_000_000  # of a file; the largest grid, 40 rows at 256 pixels, has 28 million
_GRID_NAME = re.compile(r"grid-([0-9]{6,18})")

_GIF_FRAMES = 48
_GIF_PIXELS = 4_000_000  # over all frames; LZW makes up to 0.8 bytes of each
_GIF_GRAYS = 64
_GIF_LAST_FRAME = 8  # the result is shown this many times as long as the frames before it


def grid_path(folder: Path, step: int) -> Path:
    """Name the sample grid of a step, so that names sort by step and `write_gif` can read it."""
    return folder / f"grid-{step:06d}.png"


def rows_shown(n_classes: int) -> list[int]:
    """Choose the labels that have rows in a sample grid: all, or 40 evenly spaced ones.

    A thousand rows are a picture that nobody looks at and many programs refuse to open.
    """
    return evenly(range(n_classes), _MOST_ROWS)


def evenly(items: Sequence[_T], most: int) -> list[_T]:
    """Choose at most so many items, evenly spaced, with the first and the last among them."""
    count = min(most, len(items))
    last = len(items) - 1
    return [items[round(i * last / max(1, count - 1))] for i in range(count)]


def image_grid(
    images: Tensor, row_names: Sequence[str], column_names: Sequence[str] = ()
) -> Image.Image:
    """Lay images out row by row with the rows' names at the left.

    Images smaller than 128 pixels are enlarged by a whole factor without interpolation: a grid is
    there to be inspected, and smoothing would hide a checkerboard that the generator makes.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3, row after row; N a multiple of the number of rows.
        row_names: one name for each row. Long ones are broken into lines; none is ever cut.
        column_names: one for each column, written above it; empty for none.

    Returns:
        The grid, in mode L for C = 1 and RGB for C = 3.

    Raises:
        TypeError: `images` is not uint8.
        ValueError: a shape or a count that does not fit.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected torch.uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images: expected (N, 1 or 3, H, W), got {tuple(images.shape)}")
    n, channels, height, width = images.shape
    if n == 0 or not row_names or n % len(row_names):
        raise ValueError(f"images: expected a multiple of {len(row_names)} rows, got {n} images")
    n_columns = n // len(row_names)
    if column_names and len(column_names) != n_columns:
        raise ValueError(
            f"column_names: expected {n_columns}, one a column, got {len(column_names)}"
        )

    scale = max(1, math.ceil(_CELL / min(height, width)))
    cell_width, cell_height = width * scale, height * scale
    names = ["\n".join(textwrap.wrap(name, _NAME_WIDTH)) for name in row_names]
    name_sizes = [_text_size(name) for name in names]
    header_sizes = [_text_size(name) for name in column_names]

    # Each cell is as large as its picture and its texts need, so that no text meets another.
    left = max(w for w, _ in name_sizes) + 2 * _PADDING
    top = max(h for _, h in header_sizes) + _PADDING if column_names else _GAP
    column_pitch = max([cell_width, *(w + _PADDING for w, _ in header_sizes)]) + _GAP
    row_pitch = max([cell_height, *(h + _PADDING for _, h in name_sizes)]) + _GAP

    mode = "L" if channels == 1 else "RGB"
    size = (left + n_columns * column_pitch, top + len(names) * row_pitch)
    grid = Image.new(mode, size, _PAPER)
    pen = ImageDraw.Draw(grid)
    font = ImageFont.load_default(_FONT_SIZE)
    centers_x = [left + column * column_pitch + column_pitch // 2 for column in range(n_columns)]
    centers_y = [top + row * row_pitch + row_pitch // 2 for row in range(len(names))]
    for x, name in zip(centers_x, column_names, strict=False):
        pen.text((x, top // 2), name, fill=_INK, font=font, anchor="mm")
    for y, name in zip(centers_y, names, strict=True):
        pen.text((left - _PADDING, y), name, fill=_INK, font=font, anchor="rm", align="right")
    pixels = images.cpu().permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    centers = itertools.product(centers_y, centers_x)
    for cell, (y, x) in zip(pixels, centers, strict=True):
        picture = Image.fromarray(cell[:, :, 0] if channels == 1 else cell)
        picture = picture.resize((cell_width, cell_height), Image.Resampling.NEAREST)
        grid.paste(picture, (x - cell_width // 2, y - cell_height // 2))
    return grid


def write_grid(
    path: Path, images: Tensor, row_names: Sequence[str], column_names: Sequence[str] = ()
) -> None:
    """Write `image_grid` as a PNG, atomically.

    Raises:
        UserError: when the file cannot be written.
    """
    png = io.BytesIO()
    image_grid(images, row_names, column_names).save(png, "PNG")
    write_atomic(path, png.getvalue())


def write_gif(
    path: Path, grids: Sequence[Path], *, seconds: float = 8.0, skip_bad: bool = False
) -> None:
    """Make an animation of the sample grids of a run, each with its step, atomically.

    Its size is bounded however long the run: at most 48 frames, evenly taken with the first and
    the last among them, made smaller until all of them together have 4 million pixels, in 64 greys
    (a file of 1 to 3 MB).

    Args:
        path: file to write.
        grids: the PNGs at the paths that `grid_path` gives; at least one, in any order.
        seconds: how long the animation takes, the longer pause at its end aside.
        skip_bad: leave out what is no whole picture; of nothing, nothing is made.

    Raises:
        ValueError: `grids` is empty or has a name that `grid_path` did not give.
        UserError: a grid cannot be read, or the file cannot be written.
    """
    if not grids:
        raise ValueError("grids: expected at least one PNG, got none")
    chosen = evenly(sorted((_step_of(grid), grid) for grid in grids), _GIF_FRAMES)
    frames: list[Image.Image] = []
    for step, grid in chosen:
        try:
            frames.append(_frame(grid, step, _GIF_PIXELS // len(chosen)))
        except UserError:  # noqa: PERF203 - making it takes longer
            if not skip_bad:
                raise
    if not frames:
        return
    milliseconds = max(40, round(seconds * 1000 / len(frames)))
    durations = [milliseconds] * (len(frames) - 1) + [milliseconds * _GIF_LAST_FRAME]
    gif = io.BytesIO()
    first, *rest = frames
    first.save(gif, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    write_atomic(path, gif.getvalue())


def animate(run: Path) -> None:
    """Write a run's `progress.gif` of the grids that it has, if it has any.

    Other pictures that lie there are none of its business.

    Raises:
        UserError: as `write_gif`.
    """
    grids = [
        path
        for path in (run / "grids").glob("grid-*.png")
        if _GRID_NAME.fullmatch(path.stem) and path.is_file()
    ]
    if grids:
        write_gif(run / "progress.gif", grids, skip_bad=True)


def _text_size(text: str) -> tuple[int, int]:
    canvas = ImageDraw.Draw(Image.new("L", (1, 1)))
    font = ImageFont.load_default(_FONT_SIZE)
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    return math.ceil(right - left), math.ceil(bottom - top)


def _step_of(grid: Path) -> int:
    match = _GRID_NAME.fullmatch(grid.stem)
    if match is None:
        raise ValueError(f"grids: expected names like grid-000100.png, got {grid.name}")
    return int(match[1])


def _frame(grid: Path, step: int, pixels: int) -> Image.Image:
    try:
        with Image.open(grid, formats=["PNG"]) as file:
            if file.width * file.height > _MOST_PIXELS:
                raise ValueError(f"it has {file.width} x {file.height} pixels")
            picture = file.convert("L" if file.mode in ("1", "L", "I;16") else "RGB")
    except Exception as error:  # Pillow raises a dozen kinds for bytes that it cannot read
        raise UserError(f"cannot read the sample grid {grid}: {error}; delete it") from error
    shrink = min(1.0, (pixels / (picture.width * picture.height)) ** 0.5)
    size = (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink)))
    picture = picture.resize(size, Image.Resampling.BOX)

    # The step goes below the picture after the shrinking, so that it can always be read.
    text = f"step {step:,}"
    text_width, text_height = _text_size(text)
    strip = text_height + _PADDING
    frame = Image.new(picture.mode, (max(size[0], text_width + _PADDING), size[1] + strip), _PAPER)
    frame.paste(picture, (0, 0))
    pen = ImageDraw.Draw(frame)
    font = ImageFont.load_default(_FONT_SIZE)
    pen.text((_PADDING // 2, size[1] + strip // 2), text, fill=_INK, font=font, anchor="lm")
    return frame.quantize(_GIF_GRAYS)

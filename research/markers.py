"""``python -m research.markers FILE [--data PATH --sheet PNG]``: how many markers are found.

On phantoms, whose markers are known: a marker counts as found if at least 80 % of its bright
pixels, those beyond the middle between its brightest tone and the median around it, are filled.
Of real images it draws a sheet of some, before and after, to be counted by eye: what such a count
gave is put into the file by ``--counted JSON``.
"""

import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from bench.command import check, parser_of, recorded
from bench.fits import save
from bench.record import read_result, write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import phantom_image
from cxrgan_fast.data.markers import find_markers, remove_markers
from cxrgan_fast.data.sources import open_source
from cxrgan_fast.errors import UserError

PHANTOMS = 1000
SEED = 2026  # not one that the detector was made with
FOUND = 0.8
SQUARE = 224  # as the public copies are
A_CLASS = 20  # real images of each class on the sheet
_TILE = 300


def bright_pixels(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Where a marker of a known box is bright, bool (H, W)."""
    left, top, right, bottom = box
    inside = image[top:bottom, left:right].astype(int)
    around = image[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2].astype(int)
    ring = np.ones(around.shape, bool)
    ring[min(2, top) :, min(2, left) :][: bottom - top, : right - left] = False
    middle = (inside.max() + np.median(around[ring])) / 2
    found = np.zeros(image.shape, bool)
    found[top:bottom, left:right] = inside > middle
    return found


def squared(mask: np.ndarray) -> np.ndarray:
    """A mask stretched as its image is."""
    stretched = Image.fromarray(mask.astype(np.uint8) * 255).resize((SQUARE, SQUARE))
    return np.asarray(stretched) > 127


def on_phantoms(count: int, seed: int, square: bool) -> dict[str, Any]:
    """Recall, and how much of the lungs is touched."""
    found = touched = lungs = 0
    worst, seconds = 0.0, []
    for index in range(count):
        phantom = phantom_image(seed, index, index % 2)
        image, lung = phantom.image, phantom.lung_mask
        bright = bright_pixels(image, phantom.marker_box)
        if square:
            image = np.asarray(Image.fromarray(image).resize((SQUARE, SQUARE)))
            bright, lung = squared(bright), squared(lung)
        start = time.perf_counter()
        mask = find_markers(image)
        seconds.append(time.perf_counter() - start)
        found += bool((mask & bright).sum() >= FOUND * bright.sum())
        in_lung = int((mask & lung).sum())
        touched, lungs = touched + in_lung, lungs + int(lung.sum())
        worst = max(worst, in_lung / max(1, int(lung.sum())))
    return {
        "images": count,
        "recall": found / count,
        "lung_pixels_touched": touched / lungs,
        "lung_pixels_touched_in_the_worst_image": worst,
        "milliseconds_an_image": round(float(np.median(seconds)) * 1e3, 3),
    }


def drawn(data: str) -> list[tuple[str, np.ndarray]]:
    """The real images of the sheet: a seeded draw of each class."""
    source = open_source(data)
    rng = random.Random(SEED)
    chosen = []
    for name in source.classes:
        of_class = [f for f in source.files if f.class_name == name and f.split == "train"]
        chosen += rng.sample(of_class, min(A_CLASS, len(of_class)))
    images = []
    for file in chosen:
        path = Path(data) / file.name
        with Image.open(path) as image:
            images.append((path.name, np.asarray(image.convert("L"))))
    return images


def write_sheet(images: list[tuple[str, np.ndarray]], path: Path, columns: int = 6) -> None:
    """Each image with what will be filled outlined, and filled, side by side."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * 2 * _TILE, rows * (_TILE + 14)))
    pen = ImageDraw.Draw(sheet)
    for number, (name, image) in enumerate(images):
        left, top = number % columns * 2 * _TILE, number // columns * (_TILE + 14)
        mask = Image.fromarray(find_markers(image).astype(np.uint8) * 255)
        inner = np.asarray(mask.resize((_TILE, _TILE), Image.Resampling.NEAREST)) > 127
        grown = np.asarray(Image.fromarray(inner).convert("L").filter(ImageFilter.MaxFilter(3))) > 0
        before = np.array(Image.fromarray(image).resize((_TILE, _TILE)).convert("RGB"))
        before[grown & ~inner] = (255, 60, 60)
        after = Image.fromarray(remove_markers(image, "inpaint")).resize((_TILE, _TILE))
        sheet.paste(Image.fromarray(before), (left, top + 14))
        sheet.paste(after, (left + _TILE, top + 14))
        pen.text((left + 2, top + 1), f"{number + 1} {name}", fill=(255, 255, 255))
    small = sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS)
    save(small, path, colors=128)


def main() -> None:
    """Measure, draw and write."""
    parser = parser_of("research.markers", __doc__)
    parser.add_argument("file", type=Path, help="where the JSON goes")
    parser.add_argument("--data", help="the published X-rays, for the sheet")
    parser.add_argument("--sheet", type=Path, help="where the sheet goes")
    parser.add_argument("--counted", type=Path, help="JSON of what was counted on the sheet by eye")
    parser.add_argument("--phantoms", type=int, default=PHANTOMS)
    arguments = parser.parse_args()
    check(arguments, least={"phantoms": 1}, out="file")
    check(arguments, out="sheet")
    if bool(arguments.data) != bool(arguments.sheet):
        raise UserError("--data and --sheet: give both or neither")
    counted = read_result(arguments.counted) if arguments.counted else None
    measurements: dict[str, Any] = {"found_means_share_of_bright_pixels": FOUND, "seed": SEED}
    for name, square in (("phantoms", False), (f"phantoms_at_{SQUARE}", True)):
        measurements[name] = on_phantoms(arguments.phantoms, SEED, square)
        print(name, measurements[name])
    if counted:
        measurements["counted_by_eye_on_the_sheet"] = counted
    if arguments.sheet:
        write_sheet(drawn(arguments.data), arguments.sheet)
    places = ("--sheet", "--counted")
    command = recorded("research.markers", hidden=places, file=arguments.file)
    write_result(arguments.file, command, measurements)


if __name__ == "__main__":
    sys.exit(run_command(main))

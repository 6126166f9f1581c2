"""A blinded reading: people say of each image of a sheet whether it is real or generated.

`write_sheet` mixes real and generated images in an order of chance and gives each a number, in a
picture (`sheet.png`) with a table to fill in (`answers.csv`). What each image is lies in
`sealed/key.json`, which nobody who reads opens before. Some images are there twice, for how far a
reader agrees with himself. `reading_scores` scores the tables that come back.
"""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.image_sets import (
    generate_set,
    image_size,
    is_run,
)
from cxrgan_fast.evaluation.matching import choose_rows, subset
from cxrgan_fast.evaluation.opponents import find_opponent
from cxrgan_fast.evaluation.request import Request, make_output, real_path
from cxrgan_fast.evaluation.sides import folder_of, sources_of, write_json
from cxrgan_fast.files import write_atomic
from cxrgan_fast.sampling.grid import image_grid

FORMAT = "cxrgan_fast.reading/1"
REAL, GENERATED = "real", "generated"
COLUMNS = ("sheet", "image", "answer")
SHEET, ANSWERS, KEY = "sheet.png", "answers.csv", Path("sealed") / "key.json"
DEFAULT_IMAGES = 60
_MOST_IMAGES = 1000
_REPEATED = 10  # one image in so many is shown twice
_A_ROW = 8
_KEEP_OUT = (
    "Do not open before all readers have answered: this file says which images are generated."
)


def default_reading(subject: Path) -> Path:
    """Return where the reading of a run or folder of images lies unless told otherwise."""
    if subject.is_dir() and is_run(subject):
        return subject / "reading"
    whole = real_path(subject)
    return whole.with_name(f"{whole.stem if subject.is_file() else whole.name}-reading")


def write_sheet(
    request: Request, images: int, device: torch.device, out: Path
) -> tuple[str, list[Path]]:
    """Write the sheet, the table to fill in and the key.

    As many generated as real images, each class as often as the others. The real ones are training
    images, each of another patient where there are enough. The key is written last: a folder
    that has one has all three files.

    Args:
        request: what is read, and by which seed it is chosen and mixed.
        images: different images, of both kinds together; as many as go evenly into the classes.
        device: where images are generated.
        out: folder for the files.

    Returns:
        What is to be done with them, and the files.

    Raises:
        UserError: there is a key already; too few images; or as `evaluate`.
    """
    request.check()
    if not 2 <= images <= _MOST_IMAGES:
        raise UserError(f"--reader-images {images}: expected 2 to {_MOST_IMAGES}")
    if (out / KEY).exists():
        raise UserError(
            f"{out / KEY} is there already: readers may be at work on its sheet; give another --out"
        )
    opponent = find_opponent(request, device)
    if is_run(request.subject):
        sources = sources_of(request, request.checkpoint, opponent, device)
        resolution, channels = image_size(sources, request.resolution)
        names = [source.class_name for source in sources]
        each = _of_each(images, len(names))
        real = opponent.load(names, resolution, channels).train
        counts = [each] * len(names)
        fake = generate_set(sources, counts, real.class_names, request.seed, request.progress)
    else:
        folder = folder_of(request, opponent)
        each = _of_each(images, len(folder.classes))
        fake = folder.read(opponent.skip_bad, request.progress)
        names = list(fake.class_names)
        real = opponent.load(names, folder.resolution, 1).train
    make_output(out / KEY.parent)
    chosen = {
        REAL: _choose(_one_a_patient(real, each, request.seed), each, request.seed, "real"),
        GENERATED: _choose(fake, each, request.seed + 1, "generated"),
    }
    rows, pictures = _mixed(chosen, request.seed)
    sheet = _sheet_number(pictures)
    for row in rows:
        row["sheet"] = sheet
    write_atomic(out / SHEET, _picture(pictures))
    write_atomic(out / ANSWERS, _table(rows))
    key = {
        "format": FORMAT,
        "note": _KEEP_OUT,
        "sheet": sheet,
        "classes": list(real.class_names),
        "images": [{name: row[name] for name in row if name != "sheet"} for row in rows],
    }
    write_json(out / KEY, key)
    told = (
        f"{len(rows)} images to read, {len(rows) - 2 * each * len(real.class_names)} of them shown "
        f"twice. Give readers {SHEET} and a copy of {ANSWERS} each, and keep {KEY} from them. They "
        f"write {REAL} or {GENERATED} into the column answer. Then: --score-reading FILE ..."
    )
    return told, [out / SHEET, out / ANSWERS, out / KEY]


def _of_each(images: int, n_classes: int) -> int:
    """How many of each class and kind."""
    each = images // (2 * n_classes)
    if not each:
        raise UserError(
            f"--reader-images {images}: expected {2 * n_classes} or more, a real and a generated "
            f"one of each of {n_classes} classes"
        )
    return each


def _one_a_patient(real: ImageDataset, each: int, seed: int) -> ImageDataset:
    """One image of each patient and class, at random; all images where those are too few."""
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed)).tolist()
    first: dict[tuple[str, int], int] = {}
    for row in order:
        first.setdefault((real.patients[row], int(real.labels[row])), row)
    alone = subset(real, torch.tensor(sorted(first.values())))
    return alone if min(alone.class_counts().values()) >= each else real


def _choose(dataset: ImageDataset, each: int, seed: int, kind: str) -> ImageDataset:
    for name, count in dataset.class_counts().items():
        if count < each:
            raise UserError(
                f"--reader-images: {each} {kind} images of {name} are wanted, there are {count}; "
                "ask for fewer"
            )
    return subset(dataset, choose_rows(dataset.labels, [each] * len(dataset.class_names), seed))


def _mixed(chosen: dict[str, ImageDataset], seed: int) -> tuple[list[dict[str, Any]], Tensor]:
    """The images of the sheet in its order, and what each is."""
    shown = [
        {"kind": kind, "class": side.class_names[int(side.labels[row])], "file": side.files[row]}
        for kind, side in chosen.items()
        for row in range(len(side))
    ]
    pictures = torch.cat([side.images for side in chosen.values()])
    rng = torch.Generator().manual_seed(seed + 2)
    n, half = len(shown), len(shown) // 2
    count = n // (2 * _REPEATED)  # of each kind
    again = torch.cat([torch.randperm(half, generator=rng)[:count] + start for start in (0, half)])
    order = torch.cat([torch.arange(n), again])
    order = order[torch.randperm(len(order), generator=rng)]
    places: dict[int, int] = {}
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(order.tolist(), 1):
        rows.append({"image": number, **shown[row], "repeats": places.get(row)})
        places.setdefault(row, number)
    return rows, pictures[order]


def _sheet_number(pictures: Tensor) -> str:
    """By which a table is known to be of this sheet."""
    return hashlib.sha256(pictures.contiguous().numpy().tobytes()).hexdigest()[:8]


def _picture(pictures: Tensor) -> bytes:
    """Rows of images, each with its number above."""
    numbers = [str(number) for number in range(1, len(pictures) + 1)]
    rows = [
        image_grid(pictures[start : start + _A_ROW], [""], numbers[start : start + _A_ROW])
        for start in range(0, len(pictures), _A_ROW)
    ]
    paper = 255 if rows[0].mode == "L" else (255, 255, 255)
    size = max(row.width for row in rows), sum(row.height for row in rows)
    whole = Image.new(rows[0].mode, size, paper)
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    png = io.BytesIO()
    whole.save(png, "PNG")
    return png.getvalue()


def _table(rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(COLUMNS)
    table.writerows((row["sheet"], row["image"], "") for row in rows)
    return text.getvalue().encode()


def read_key(out: Path, content: bytes) -> dict[str, Any]:
    """Return what a key says.

    Raises:
        UserError: it is none.
    """
    try:
        key = json.loads(content)
        kinds = {row["kind"] for row in key["images"]}
        numbers = [row["image"] for row in key["images"]]
        whole = key["format"] == FORMAT and kinds == {REAL, GENERATED}
        whole = whole and numbers == list(range(1, len(numbers) + 1))
        whole = whole and all({"class", "repeats"} <= row.keys() for row in key["images"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise UserError(
            f"{out / KEY}: not the key of a reading, or damaged; write a sheet: --reader-sheet"
        )
    return key

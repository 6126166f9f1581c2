"""A small set out of a large one: so many images a class, of like size, small enough to mail."""

import csv
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cxrgan_fast.data.patients import settle_patients
from cxrgan_fast.data.readers import image_size, patient_of
from cxrgan_fast.data.reading import in_threads
from cxrgan_fast.data.sources import ImageFile, Source, folder_names, select
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import made_whole, require_free, write_atomic

_SIDES_APART = 1.25  # images of like size: the largest side at most so many times the smallest
_POOL = 3  # images that are drawn from, for each that is wanted
_RECORD = 330  # bytes of an image in the manifest at most, but for its own names
_DESCRIPTION = 1000  # bytes of subset.json, but for the names of classes


@dataclass(frozen=True)
class Candidate:
    """An image that could be chosen."""

    file: ImageFile
    width: int
    height: int
    size: int
    sha256: str

    @property
    def cost(self) -> int:
        """Return an upper bound of the bytes of the file and of its line in the manifest."""
        names = (self.file.name, self.file.patient, self.file.class_name)
        return self.size + _RECORD + sum(2 + 2 * len(printable(name).encode()) for name in names)

    @property
    def side(self) -> float:
        """Return the geometric mean of width and height, in pixels."""
        return math.sqrt(self.width * self.height)


@dataclass(frozen=True)
class Subset:
    """What was made.

    Attributes:
        path: its folder.
        counts: images of each class.
        total: bytes of everything in the folder.
        unusable: (name, reason) of what could not be looked at.
    """

    path: Path
    counts: dict[str, int]
    total: int
    unusable: list[tuple[str, str]]


def make_subset(
    source: Source,
    out: Path,
    *,
    per_class: int = 100,
    max_bytes: int = 10_000_000,
    image_bytes: int = 50_000,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Subset:
    """Copy a few images of the most common size into a folder with a manifest.

    Images are sorted by size; of the range of like sizes (largest side at most 1.25 times the
    smallest) that holds most of the images that are wanted, three times as many as are wanted,
    those whose files come nearest to `image_bytes`, one a patient as far as there are enough
    patients, go into the draw. Large ones give way to smaller ones until all stay under
    `max_bytes`. Files are copied as they are.

    Args:
        source: opened.
        out: folder, absent or empty. It gets a folder a class; `manifest.csv`, which is a source
            by itself; and `subset.json`.
        per_class: images of each class.
        max_bytes: most bytes of everything in the folder.
        image_bytes: size of file that is preferred.
        classes: names; None for the source's default.
        split: only of this split; None for all.
        seed: random seed of the draw.
        workers: threads; None for one a core.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        UserError: too few images, or none small enough (it says how many would fit); `out` is not
            empty or cannot be written; settings that cannot be.
    """
    for name, value in (("per class", per_class), ("max bytes", max_bytes)):
        if value < 1:
            raise UserError(f"{name} {value}: expected 1 or more")
    if image_bytes < 1:
        raise UserError(f"image bytes {image_bytes}: expected 1 or more")
    if not 0 <= seed < 2**63:
        raise UserError(f"seed {seed}: expected 0 or more, below 2^63")
    require_free(out)
    selected = select(source, split, classes)
    names, files = selected.class_names, selected.files
    found, unusable = _look(source, files, workers, progress)
    chosen = _choose(found, names, per_class, image_bytes, max_bytes, seed, source.where)
    settings = {
        "name": source.name,
        "per_class": per_class,
        "max_bytes": max_bytes,
        "image_bytes": image_bytes,
        "classes": list(names),
        "split": split,
        "seed": seed,
    }
    folders = _folders(names)
    with made_whole(out, [*folders.values(), "manifest.csv", "subset.json"]):
        total = _write(source, out, chosen, folders, settings)
    counts = Counter(each.file.class_name for each in chosen)
    unusable = sorted([*source.problems, *unusable])
    return Subset(out, {name: counts[name] for name in names}, total, unusable)


def _look(
    source: Source, files: Sequence[ImageFile], workers: int | None, progress: bool
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Look at images; give those that can be read, with their patients, and why not others."""

    def look(index: int) -> tuple[Candidate, str | None] | str:
        file = files[index]
        try:
            with source.held(file) as content:
                width, height = image_size(content)
                digest = hashlib.sha256(content).hexdigest()
                candidate = Candidate(file, width, height, len(content), digest)
                return candidate, patient_of(content)
        except UserError as error:
            return str(error).removeprefix(f"{printable(file.name)}: ")

    found: list[Candidate] = []
    told: list[str | None] = []
    unusable: list[tuple[str, str]] = []
    results = in_threads(look, len(files), "looking", workers=workers, progress=progress)
    for file, result in zip(files, results, strict=True):
        if isinstance(result, str):
            unusable.append((file.name, result))
        else:
            found.append(result[0])
            told.append(result[1])
    # The manifest's patients go before what the copies themselves tell: they must be the same.
    patients = settle_patients([each.file for each in found], told)
    return [
        replace(each, file=replace(each.file, patient=patient))
        for each, patient in zip(found, patients, strict=True)
    ], unusable


def _choose(
    found: Sequence[Candidate],
    names: Sequence[str],
    per_class: int,
    image_bytes: int,
    max_bytes: int,
    seed: int,
    where: str,
) -> list[Candidate]:
    for name in names:
        number = sum(each.file.class_name == name for each in found)
        if number < per_class:
            raise UserError(
                f"{where}: class {name!r} has {number} images that can be read, {per_class} are "
                "wanted; give a smaller --per-class"
            )
    ranges = _like_sizes(found, names, per_class)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[Candidate]] = {}
    spare: dict[str, list[Candidate]] = {}
    for name in names:
        pool = _pool(ranges[name], per_class, image_bytes)
        order = rng.permutation(len(pool)).tolist()
        # Of one patient each first, in the order of the draw.
        mixed = _patients_first([pool[place] for place in order])
        drawn[name], spare[name] = mixed[:per_class], mixed[per_class:]
    room = max_bytes - _DESCRIPTION - sum(12 * len(name) + 20 for name in names)
    _shrink(drawn, spare, room, where, per_class)
    return [each for name in names for each in sorted(drawn[name], key=lambda each: each.file.name)]


def _like_sizes(
    found: Sequence[Candidate], names: Sequence[str], per_class: int
) -> dict[str, list[Candidate]]:
    """Of each class the images in the best range of sizes, and the nearest ones if too few."""
    ordered = sorted(found, key=lambda each: (each.side, each.file.name))
    best, best_score, end = (0, 0), (-1, -1), 0
    inside: Counter[str] = Counter()
    for start, first in enumerate(ordered):
        while end < len(ordered) and ordered[end].side <= first.side * _SIDES_APART:
            inside[ordered[end].file.class_name] += 1
            end += 1
        wanted = sum(min(inside[name], _POOL * per_class) for name in names)
        score = (wanted, end - start)
        if score > best_score:
            best, best_score = (start, end), score
        inside[first.file.class_name] -= 1
    middle = ordered[(best[0] + best[1] - 1) // 2].side
    chosen: dict[str, list[Candidate]] = {}
    for name in names:
        of_class = [each for each in ordered[slice(*best)] if each.file.class_name == name]
        if len(of_class) < per_class:
            all_of = [each for each in ordered if each.file.class_name == name]
            all_of.sort(key=lambda each: (abs(math.log(each.side / middle)), each.file.name))
            of_class = all_of[:per_class]
        chosen[name] = of_class
    return chosen


def _pool(candidates: Sequence[Candidate], per_class: int, image_bytes: int) -> list[Candidate]:
    def distance(each: Candidate) -> tuple[float, str]:
        return abs(math.log(each.size / image_bytes)), each.file.name

    return _patients_first(sorted(candidates, key=distance))[: _POOL * per_class]


def _patients_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first image of each patient before second ones."""
    times: Counter[str] = Counter()
    ranked = []
    for each in candidates:
        ranked.append((times[each.file.patient], each))
        times[each.file.patient] += 1
    return [each for _, each in sorted(ranked, key=lambda pair: pair[0])]


def _shrink(
    drawn: dict[str, list[Candidate]],
    spare: dict[str, list[Candidate]],
    room: int,
    where: str,
    per_class: int,
) -> None:
    """Put smaller files for the largest until all fit."""
    for others in spare.values():
        others.sort(key=lambda each: (each.cost, each.file.name))
    while sum(each.cost for part in drawn.values() for each in part) > room:
        gains = [
            (max(part, key=_cost).cost - spare[name][0].cost, name)
            for name, part in drawn.items()
            if spare[name]
        ]
        gain, name = max(gains, default=(0, ""))
        if gain <= 0:
            sizes = sorted(each.cost for part in drawn.values() for each in part)
            fit = int(np.searchsorted(np.cumsum(sizes), room)) // len(drawn)
            raise UserError(
                f"{where}: {per_class} images of each class do not fit into so few bytes; about "
                f"{fit} would: give a smaller --per-class or a larger --max-bytes"
            )
        part = drawn[name]
        part.remove(max(part, key=_cost))
        part.append(spare[name].pop(0))


def _cost(each: Candidate) -> int:
    return each.cost


def _write(
    source: Source,
    out: Path,
    chosen: Sequence[Candidate],
    folders: dict[str, str],
    settings: dict[str, object],
) -> int:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    columns = ("path", "label", "patient", "source", "width", "height", "bytes", "sha256")
    writer.writerow(columns)
    taken: set[str] = set()
    for each in chosen:
        file = each.file
        place = _free_place(file, folders[file.class_name], taken)
        (out / place).parent.mkdir(exist_ok=True)
        with source.held(file) as content:
            if hashlib.sha256(content).hexdigest() != each.sha256:
                raise UserError(f"{printable(file.name)}: changed while it was read: run again")
            write_atomic(out / place, content)
        about = (each.width, each.height, each.size, each.sha256)
        about_source = (printable(file.patient), printable(file.name))
        writer.writerow((place, file.class_name, *about_source, *about))
    manifest = text.getvalue().encode("utf-8", "backslashreplace")
    write_atomic(out / "manifest.csv", manifest)
    counts = Counter(each.file.class_name for each in chosen)
    described = {**settings, "images": dict(counts), "image_sizes": sum(e.size for e in chosen)}
    description = (json.dumps(described, indent=1) + "\n").encode()
    write_atomic(out / "subset.json", description)
    return sum(each.size for each in chosen) + len(manifest) + len(description)


def _folders(names: Sequence[str]) -> dict[str, str]:
    """The folder of each class: of letters that every archive and mailer keeps."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for name, folder in folder_names(names).items():
        plain, number = _safe(folder), 1
        while plain.casefold() in taken:
            number += 1
            plain = f"{_safe(folder)}-{number}"
        taken.add(plain.casefold())
        folders[name] = plain
    return folders


def _free_place(file: ImageFile, folder: str, taken: set[str]) -> str:
    """A path that is safe on every system, and not given to another file."""
    stem, dot, suffix = _safe(file.name.rpartition("/")[2]).rpartition(".")
    place, number = f"{folder}/{stem}{dot}{suffix}", 1
    while place.casefold() in taken:
        number += 1
        place = f"{folder}/{stem}-{number}{dot}{suffix}"
    taken.add(place.casefold())
    return place


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[-100:].lstrip(".") or "image"

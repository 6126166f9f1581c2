"""Scores of a blinded reading: how well people tell generated images from real ones."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.evaluation.reading import COLUMNS, FORMAT, GENERATED, KEY, REAL, read_key
from cxrgan_fast.evaluation.request import real_path
from cxrgan_fast.evaluation.sides import write_json
from cxrgan_fast.evaluation.table import aligned
from cxrgan_fast.files import read_small

_MOST_BYTES = 16 << 20
_CALLED = {"real": REAL, "r": REAL, "generated": GENERATED, "g": GENERATED, "fake": GENERATED}


def score_reading(files: Sequence[Path], out: Path) -> tuple[str, list[Path]]:
    """Score the tables of one or more readers, and write `scores.json` beside the sheet.

    Args:
        files: filled-in copies of `answers.csv`, one a reader.
        out: folder of the sheet, with its key.

    Returns:
        The table for the terminal, and the file.

    Raises:
        UserError: there is no key; a table cannot be read, is of another sheet, has images without
            an answer or with one that is none, names an image twice or one that there is not; or
            two are one file.
    """
    try:
        key = read_key(out, read_small(out / KEY, _MOST_BYTES))
    except UserError as error:
        if (out / KEY).exists():
            raise
        raise UserError(
            f"--score-reading: {out} has no {KEY} ({error}); name what the sheet is of, and the "
            "folder of the sheet with --out"
        ) from None
    if len({real_path(path) for path in files}) < len(files):
        raise UserError("--score-reading: a file is named twice; give one of each reader")
    names = _names(files)
    answers = {name: read_answers(path, key) for name, path in zip(names, files, strict=True)}
    readers = {name: score_reader(given, key) for name, given in answers.items()}
    pairs = [
        {"readers": [first, second], **agreement(answers[first], answers[second], key)}
        for first, second in combinations(names, 2)
    ]
    record = {"format": FORMAT, "sheet": key["sheet"], "readers": readers, "agreement": pairs}
    write_json(out / "scores.json", record)
    return _shown(readers, pairs), [out / "scores.json"]


def read_answers(path: Path, key: Mapping[str, Any]) -> dict[int, str]:
    """Return the answer to each image of the sheet: "real" or "generated".

    The columns may be divided by commas, semicolons or tabs, as spreadsheets write them.

    Raises:
        UserError: as `score_reading`.
    """
    try:
        text = read_small(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; save the table as CSV (UTF-8)") from None
    first = text.partition("\n")[0]
    divider = max(",;\t", key=first.count)
    try:
        rows = list(csv.DictReader(io.StringIO(text), delimiter=divider))
    except csv.Error as error:
        raise UserError(f"{path}: not a table of answers ({error}); save it as CSV") from None
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise UserError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, got {printable(first.strip())!r}; "
            "fill in a copy of answers.csv"
        )
    n = len(key["images"])
    given: dict[int, str] = {}
    empty: list[int] = []
    for line, row in enumerate(rows, 2):
        sheet, image, answer = ((row[name] or "").strip() for name in COLUMNS)
        if not (sheet or image or answer):
            continue
        if sheet != key["sheet"]:
            raise UserError(
                f"{path}, line {line}: of the sheet {printable(sheet)!r}, and the key is of "
                f"{key['sheet']!r}; give the folder of its own sheet with --out"
            )
        number = int(image) if image.isdecimal() and len(image) < 9 else 0
        if not 1 <= number <= n or number in given or number in empty:
            twice = "twice" if number in given or number in empty else f"expected 1 to {n}"
            raise UserError(f"{path}, line {line}: image {printable(image)!r}: {twice}")
        if not answer:
            empty.append(number)
        elif answer.casefold() in _CALLED:
            given[number] = _CALLED[answer.casefold()]
        else:
            raise UserError(
                f"{path}, line {line}: answer {printable(answer)!r}: expected {REAL} or {GENERATED}"
            )
    left = sorted(set(range(1, n + 1)) - set(given))
    if left:
        shown = ", ".join(map(str, left[:8])) + (", ..." if len(left) > 8 else "")
        raise UserError(
            f"{path}: {len(left)} of {n} images have no answer ({shown}); a guess counts, too"
        )
    return given


def score_reader(given: Mapping[int, str], key: Mapping[str, Any]) -> dict[str, Any]:
    """Score one reader, by the first showing of each image.

    Returns:
        `accuracy`, `sensitivity` (generated images called so), `specificity` (real ones called so),
        and `classes`, the accuracy of each; each with `right`, `of`, `share` and the exact 95 %
        `interval`. `itself`: how often an image shown twice got the same answer; None where none
        was.
    """
    first = [row for row in key["images"] if row["repeats"] is None]
    again = [row for row in key["images"] if row["repeats"] is not None]
    right = {row["image"]: given[row["image"]] == row["kind"] for row in first}

    def share(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return _share(sum(right[row["image"]] for row in rows), len(rows))

    same = sum(given[row["image"]] == given[row["repeats"]] for row in again)
    return {
        "accuracy": share(first),
        "sensitivity": share([row for row in first if row["kind"] == GENERATED]),
        "specificity": share([row for row in first if row["kind"] == REAL]),
        "classes": {
            name: share([row for row in first if row["class"] == name])
            for name in dict.fromkeys(row["class"] for row in first)
        },
        "itself": _share(same, len(again)) if again else None,
    }


def agreement(
    one: Mapping[int, str], other: Mapping[int, str], key: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how often two readers say the same, and Cohen's kappa (1960), by first showings.

    Returns:
        `same`, a share as in `score_reader`; `kappa`, agreement beyond that of chance: 1 for the
        same answers, 0 for what chance gives; None where both always say one and the same.
    """
    numbers = [row["image"] for row in key["images"] if row["repeats"] is None]
    n = len(numbers)
    same = sum(one[number] == other[number] for number in numbers)
    calls = [sum(given[number] == REAL for number in numbers) / n for given in (one, other)]
    chance = calls[0] * calls[1] + (1 - calls[0]) * (1 - calls[1])
    kappa = None if chance == 1 else (same / n - chance) / (1 - chance)
    return {"same": _share(same, n), "kappa": kappa}


def exact_interval(right: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson (1934) for a share.

    Args:
        right: number of right answers, 0 to `of`.
        of: number of answers, 1 or more.
        confidence: probability that it holds the true share, at least.
    """
    tail = (1 - confidence) / 2
    low = 0.0 if right == 0 else _bisect(lambda p: _at_least(right, of, p) < tail)
    high = 1.0 if right == of else _bisect(lambda p: 1 - _at_least(right + 1, of, p) > tail)
    return low, high


def _bisect(is_below: Any) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def _at_least(right: int, of: int, p: float) -> float:
    """The probability of so many or more, by a binomial distribution."""
    if p in (0.0, 1.0):
        return p if right else 1.0
    logs = (
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)
        + k * math.log(p) + (of - k) * math.log1p(-p)
        for k in range(right, of + 1)
    )  # fmt: skip
    return math.fsum(map(math.exp, logs))


def _share(right: int, of: int) -> dict[str, Any]:
    return {"right": right, "of": of, "share": right / of, "interval": exact_interval(right, of)}


def _names(files: Sequence[Path]) -> list[str]:
    """The files' names, or the whole paths where names are equal."""
    short = [path.stem for path in files]
    return short if len(set(short)) == len(short) else [str(path) for path in files]


def _shown(readers: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> str:
    titles = ["reader", "accuracy", "generated called generated", "real called real"]
    classes = list(next(iter(readers.values()))["classes"])
    rows = [[*titles, *classes, "same answer to the same image"]]
    for name, found in readers.items():
        cells = [found[each] for each in ("accuracy", "sensitivity", "specificity")]
        cells += [found["classes"][each] for each in classes]
        rows.append([name, *map(_cell, [*cells, found["itself"]])])
    lines = aligned(rows)
    for pair in pairs:
        kappa = "" if pair["kappa"] is None else f", Cohen's kappa {pair['kappa']:.2f}"
        lines.append(f"{' and '.join(pair['readers'])} say the same: {_cell(pair['same'])}{kappa}")
    for name, found in readers.items():
        low, high = found["accuracy"]["interval"]
        if low <= 0.5 <= high:
            lines.append(f"{name} is not shown to tell them apart: the interval holds 50 %")
    return "\n".join([*lines, "", "in brackets the exact 95 % interval (Clopper and Pearson)"])


def _cell(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return "-"
    low, high = share["interval"]
    return f"{share['right']}/{share['of']} = {share['share']:.0%} [{low:.0%}, {high:.0%}]"

"""A CSV file that names the images: columns path and label, optionally patient and split."""

import csv
import io
from collections.abc import Callable

from cxrgan_fast.data.sources.layout import SPLITS, ImageFile, Listing
from cxrgan_fast.data.sources.store import MAX_ENTRIES
from cxrgan_fast.errors import UserError, printable

COLUMNS = ("path", "label", "patient", "split")


def is_table(content: bytes) -> bool:
    """Whether a file's first line names the columns path and label."""
    try:
        return {"path", "label"} <= set(_header(content[:4096].decode("utf-8-sig", "ignore"))[0])
    except csv.Error:
        return False


def read_table(
    content: bytes, where: str, problem_of: Callable[[str], str | None]
) -> tuple[Listing, list[tuple[str, str]]]:
    """Read the table.

    Columns may come in any order, separated by commas, semicolons or tabs, beside others, which
    are passed over. Empty patients are taken for the file's own. Labels that are all integers
    are sorted as numbers.

    Args:
        content: of the CSV file, in UTF-8.
        where: its path, for messages.
        problem_of: why the file of a name cannot be used; None if it can.

    Returns:
        The listing, and the (name, reason) of files that cannot be used.

    Raises:
        UserError: with the line's number, something that cannot be understood.
    """
    if (lines := content.count(b"\n")) > MAX_ENTRIES:
        raise UserError(
            f"{where}: has {lines:,} lines, more than the {MAX_ENTRIES:,} that are read"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{where}, line {line}: not UTF-8: save the table as UTF-8") from None
    try:
        files, problems, has_splits = _rows(text, where, problem_of)
    except csv.Error as error:
        raise UserError(f"{where}: not a table that can be read ({error})") from None
    if not files:
        first = (
            f" (first problem: {printable(problems[0][0])}: {problems[0][1]})" if problems else ""
        )
        raise UserError(f"{where}: names no image that is there{first}")
    labels = {file.class_name for file in files}
    numbers = all(label.isascii() and label.isdigit() for label in labels)
    classes = tuple(sorted(labels, key=_as_number) if numbers else sorted(labels))
    files.sort(key=lambda file: file.name)
    return Listing(classes, classes, has_splits, files), problems


def _as_number(digits: str) -> tuple[int, str, str]:
    """What sorts digits as numbers, however many they are."""
    significant = digits.lstrip("0")
    return len(significant), significant, digits


def _rows(
    text: str, where: str, problem_of: Callable[[str], str | None]
) -> tuple[list[ImageFile], list[tuple[str, str]], bool]:
    header, separator = _header(text)
    for needed in ("path", "label"):
        if needed not in header:
            raise UserError(
                f"{where}: has no column {needed!r} (it has {printable(', '.join(header))}): "
                "expected path,label and, if known, patient and split"
            )
    for column in COLUMNS:
        if header.count(column) > 1:
            raise UserError(f"{where}: has the column {column!r} more than once")
    places = {column: header.index(column) for column in COLUMNS if column in header}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    next(reader)
    files: list[ImageFile] = []
    problems: list[tuple[str, str]] = []
    seen: set[str] = set()
    for row in reader:
        if not any(row):
            continue
        line = reader.line_num
        if len(row) != len(header):
            raise UserError(
                f"{where}, line {line}: has {len(row)} values, the header {len(header)}"
            )
        value = {column: row[place].strip() for column, place in places.items()}
        name = value["path"].replace("\\", "/")
        split = value.get("split", "train").lower()
        if not name or not value["label"]:
            empty = "label" if name else "path"
            raise UserError(f"{where}, line {line}: the {empty} is empty")
        if split not in SPLITS:
            raise UserError(
                f"{where}, line {line}: split {split!r}: expected one of {', '.join(SPLITS)}"
            )
        problem = "is named more than once" if name in seen else problem_of(name)
        seen.add(name)
        if problem is not None:
            problems.append((name, problem))
        else:
            files.append(ImageFile(name, value["label"], value.get("patient") or name, split))
    return files, problems, "split" in places


def _header(text: str) -> tuple[list[str], str]:
    """The columns' names in lower case, and what separates them."""
    first = text.partition("\n")[0]
    best: tuple[list[str], str] = ([], ",")
    for separator in (",", ";", "\t"):
        names = next(csv.reader([first], delimiter=separator), [])
        columns = [name.strip().lower() for name in names]
        if len(columns) > len(best[0]):
            best = (columns, separator)
    return best

"""A CSV file that names the images: a path and a label a row, and if known patient and split."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Annotated

from cxrgan_fast.data.sources.listing import ImageFile, as_unused, merge_spellings
from cxrgan_fast.data.sources.names import (
    SPLITS,
    is_patient_folder,
    parent,
    patient_of_file,
    split_of,
    suffix,
)
from cxrgan_fast.data.sources.source import Source
from cxrgan_fast.data.sources.store import MAX_ENTRIES, Store
from cxrgan_fast.errors import UserError, did_you_mean, printable
from cxrgan_fast.setting import Needs, Setting, Settings

# What each column is called, in lower case and without what is no letter or digit. The first that
# is there is taken.
_NAMES = {
    "path": ("path", "file", "filepath", "filename", "imagepath", "imagefile", "imagename",
             "imagefilename", "imageindex", "image", "imgpath", "img", "dicompath"),
    "label": ("label", "class", "classname", "classlabel", "findinglabels", "labels", "diagnosis",
              "target"),
    "patient": ("patient", "patientid", "patientnumber", "patientno", "patientname", "patients",
                "subject", "subjectid", "personid"),
    "split": ("split",),
}  # fmt: skip
# What is named where no column is read as the one: parts of names, or whole words of them.
_NEAR = {
    "patient": (("patient", "subject", "person"), {"pid", "ptid", "pt", "mrn", "case", "caseid"}),
    "split": (("split", "subset", "partition"), {"set", "phase", "fold", "datasettype", "dataset"}),
}


def _column(unset: str) -> Setting:
    return Setting(resumable=True, needs=Needs("data", but="phantom"), unset=unset)


@dataclass(frozen=True)
class Columns(Settings):
    """Which columns of a table say what, by name; an empty name leaves it to the usual ones."""

    path_column: Annotated[str, _column("the one called path, file, Image Index or the like")] = ""
    """Column with the paths of the files."""
    label_column: Annotated[str, _column("the one called label, class or the like")] = ""
    """Column with the class of each image; images without a value there are left out."""
    patient_column: Annotated[
        str, _column("the one called patient, Patient ID, subject_id or the like, if there is one")
    ] = ""
    """Column with the patient of each image."""
    split_column: Annotated[str, _column("the one called split, if there is one")] = ""
    """Column with the split of each image: train, test or val."""


def is_table(content: bytes) -> bool:
    """Tell whether a file's first line names a column of paths and one of labels."""
    try:
        header, _ = _header(content[:4096].decode("utf-8-sig", "ignore"))
    except csv.Error:
        return False
    return _usual("path", header) is not None and _usual("label", header) is not None


def read_table(
    content: bytes,
    where: str,
    store: Store,
    problem_of: Callable[[str], str | None],
    columns: Columns | None = None,
) -> Source:
    """Read the table.

    Columns may come in any order, separated by commas, semicolons or tabs, beside others, which
    are passed over. Where the patient is not given, it is told by a folder of the path
    (patient00001) or by the file's name, and else the file's own. Labels that are all integers
    are sorted as numbers.

    Args:
        content: bytes of the CSV file, in UTF-8.
        where: its path, for messages.
        store: what it names the files of.
        problem_of: why the file of a name cannot be used; None if it can. Asked once for each.
        columns: what the user says of the columns.

    Returns:
        The source, which is called what `where` says; what cannot be used is in `refused`.

    Raises:
        UserError: something cannot be understood; the message has the line's number.
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
        source = _rows(text, where, store, problem_of, columns or Columns())
    except csv.Error as error:
        raise UserError(f"{where}: not a table that can be read ({error})") from None
    if not source.files:
        problems = source.refused
        first = (
            f" (first problem: {printable(problems[0][0])}: {problems[0][1]})" if problems else ""
        )
        raise UserError(
            f"{where}: names no image that is there{first}; paths count from the table's folder"
        )
    return source


def _rows(
    text: str, where: str, store: Store, problem_of: Callable[[str], str | None], columns: Columns
) -> Source:
    header, separator = _header(text)
    places, notes = _places(header, where, columns)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    next(reader)
    files: list[ImageFile] = []
    problems: list[tuple[str, str]] = []
    unused: Counter[tuple[str, str, str]] = Counter()
    seen: set[str] = set()
    spelled: dict[str, str] = {}
    unnamed = 0
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
        if not name:
            raise UserError(f"{where}, line {line}: the path is empty")
        problem = "is named more than once" if name in seen else problem_of(name)
        seen.add(name)
        if not value["label"] and columns.label_column:
            reason = f"without a value in the column {columns.label_column}"
            unused[reason, parent(name), suffix(name)] += 1
            continue
        if not value["label"]:
            raise UserError(f"{where}, line {line}: the label is empty")
        split = split_of(value.get("split", "train"))
        if split is None:
            raise UserError(
                f"{where}, line {line}: split {value['split'].lower()!r}: expected one of "
                f"{', '.join(SPLITS)}"
            )
        if problem is not None:
            problems.append((name, problem))
            continue
        given = value.get("patient") or ""
        if given:
            given = spelled.setdefault(_plain_patient(given), given)
        else:
            unnamed += "patient" in places
        patient = given or _patient_of_path(name)
        files.append(ImageFile(name, value["label"], patient, split, patient_given=bool(given)))
    if unnamed:
        notes.append(
            f"{unnamed} images have no value in the column of patients: their paths tell whose "
            "they are, or each counts as a patient"
        )
    names, merged = merge_spellings(Counter(file.class_name for file in files))
    classes = _in_order(set(names.values()))
    return Source(
        where,
        where,
        store,
        classes,
        classes,
        "split" in places,
        [
            replace(file, class_name=names[file.class_name])
            for file in sorted(files, key=lambda file: file.name)
        ],
        unused=as_unused(unused),
        remarks=[*notes, *merged],
        refused=problems,
    )


def _in_order(labels: set[str]) -> tuple[str, ...]:
    numbers = all(label.isascii() and label.isdigit() for label in labels)
    return tuple(sorted(labels, key=_as_number) if numbers else sorted(labels))


def _places(header: list[str], where: str, columns: Columns) -> tuple[dict[str, int], list[str]]:
    """Where each column is, and what was decided about the columns."""
    places: dict[str, int] = {}
    notes = []
    shown = printable(", ".join(header))
    for field in fields(columns):
        column, given = field.name.removesuffix("_column"), getattr(columns, field.name).strip()
        if given:
            wanted = given.lower()
            if wanted not in header:
                hint = did_you_mean(given, header)
                raise UserError(
                    f"{where}: has no column {printable(given)!r} (it has {shown}){hint}"
                )
        else:
            usual = _usual(column, header)
            if usual is None:
                if column in ("path", "label"):
                    raise UserError(
                        f"{where}: has no column {column!r} (it has {shown}): expected path,label "
                        "and, if known, patient and split; or say which they are by --path-column "
                        "and --label-column"
                    )
                continue
            wanted = usual
            if wanted != column:
                notes.append(f"the column {printable(wanted)!r} is read as the {column}")
        if header.count(wanted) > 1:
            raise UserError(f"{where}: has the column {printable(wanted)!r} more than once")
        places[column] = header.index(wanted)
    for column, (parts, words) in _NEAR.items():
        near = [name for name in header if _is_near(name, parts, words)]
        near = [name for name in near if header.index(name) not in places.values()]
        if column not in places and near:
            how = "--patient-column" if column == "patient" else "--split-column"
            notes.append(
                f"no column is read as the {column} (near: {printable(', '.join(near))}): call it "
                f"{column}, or say which by {how} NAME"
            )
    return places, notes


def _is_near(name: str, parts: tuple[str, ...], words: set[str]) -> bool:
    found = {re.sub(r"[^a-z]", "", name), *re.split(r"[^a-z]+", name)}
    return any(part in name for part in parts) or bool(words & found)


def _usual(column: str, header: list[str]) -> str | None:
    """The column of a usual name; the plain name goes before others, and before their order."""
    plain = {re.sub(r"[^a-z0-9]", "", name): name for name in reversed(header)}
    return next((plain[name] for name in _NAMES[column] if name in plain), None)


def _plain_patient(name: str) -> str:
    """What P7 and p7 have in common, and 7, 007 and 7.0, as spreadsheets and pandas write it."""
    number = re.fullmatch(r"0*(\d+?)(?:\.0+)?", name)
    return number[1] if number else name.casefold()


def _patient_of_path(name: str) -> str:
    folders = parent(name).split("/")
    told = next((folder for folder in folders if is_patient_folder(folder)), None)
    return told or patient_of_file(name) or name


def _as_number(digits: str) -> tuple[int, str, str]:
    """What sorts digits as numbers, however many they are."""
    significant = digits.lstrip("0")
    return len(significant), significant, digits


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

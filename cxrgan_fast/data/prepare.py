"""From a source to a packed set: in parallel, resumable, and whole or not there.

While it is made, the set lies in OUT/.partial: `job.json` (what is being made), `pixels` (the
images, each in its place) and `journal.jsonl` (a line for each finished image, with a checksum of
its pixels). Whoever is killed goes on from there; what another source or other settings left is
thrown away. The result depends on neither the number of threads nor on interruptions.
"""

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from cxrgan_fast import locks
from cxrgan_fast.data import packed, unfinished
from cxrgan_fast.data.packed import PackedSet, Row, open_packed
from cxrgan_fast.data.patients import settle_patients
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import READER_VERSION
from cxrgan_fast.data.reading import check_workers, read_set
from cxrgan_fast.data.sources import ImageFile, Source, select
from cxrgan_fast.data.splits import assign_splits, check_shares
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import PlaceError, write_atomic, write_error

Splits = Literal["patient", "source"]


class UnusableFilesError(UserError):
    """Files that cannot be used, all of them, where none may be left out.

    Attributes:
        problems: (name, reason) of each.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """Put the first into the message."""
        name, reason = problems[0]
        others = len(problems) - 1
        more = f" ({others} other files cannot be used either)" if others else ""
        super().__init__(
            f"{printable(name)}: {reason}{more}; repair or remove what cannot be used, or go on "
            "without: --skip-bad"
        )
        self.problems = list(problems)


@dataclass(frozen=True)
class Division:
    """How images are divided into splits."""

    splits: Splits = "patient"
    """How the images are split: anew, so that no patient is in two splits (patient), or as the
    source has them (source)."""
    val_share: float = 0.1
    """Share of each class that goes to val with --splits patient."""
    test_share: float = 0.2
    """Share of each class that goes to test with --splits patient."""
    seed: int = 0
    """Random seed of the patient split."""


def prepare_set(
    source: Source,
    out: str | Path,
    preparation: Preparation,
    *,
    division: Division | None = None,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> PackedSet:
    """Prepare the images of a source into a packed set.

    Args:
        source: opened.
        out: the set's folder: absent, empty, or what an interrupted call for the same left.
        preparation: what is done to each image.
        division: into splits; by default by patient.
        classes: which classes, in the order of their labels; None for the source's default.
        split: only the images of this split of the source; None for all.
        skip_bad: leave out what cannot be used; it is listed in the set.
        workers: threads; None for one a core.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        The set; the one that is there, if it is what would be made.

    Raises:
        UnusableFilesError: files that cannot be used. What was prepared stays for the next call.
        SourceChangedError: the source changed meanwhile.
        UserError: settings that cannot be, `out` is in use or holds something else, a full disk.
    """
    out = Path(out)
    preparation.validate()
    check_workers(workers)
    division = division or Division()
    if division.splits == "patient":
        check_shares(division.val_share, division.test_share, division.seed)
    elif not source.has_splits and split is None:
        raise UserError(
            f"splits {division.splits}: {source.where} has no splits of its own; divide by patient"
        )
    chosen = select(source, split, classes)
    names, files = chosen.class_names, chosen.files
    problems = source.problems + source.without_kind(classes, split)
    if problems and not skip_bad:
        raise UnusableFilesError(problems)
    job = _job(source, names, files, preparation, division)
    try:
        with locked(out):
            if packed.is_packed(out):
                made = _existing(out, job, skip_bad)
                # What is left where the program was killed in its last moment.
                shutil.rmtree(out / ".partial", ignore_errors=True)
                return made
            partial = unfinished.work_folder(out, job)
            rows, bad, notes = _read_all(source, files, preparation, partial, workers, progress)
            if bad and not skip_bad:
                raise UnusableFilesError(bad)
            problems = sorted([*problems, *bad])
            _refuse_empty_class(names, rows, problems)
            rows = _divided(rows, division)
            about = {
                "source": str(Path(source.where).absolute()),
                "unused": source.notes(classes, split),
                "notes": notes,
            }
            _finish(out, partial, source.name, names, rows, problems, job, preparation, about)
    except OSError as error:
        raise write_error(out, error) from error
    return open_packed(out, verify=False)


def _job(
    source: Source,
    names: Sequence[str],
    files: Sequence[ImageFile],
    preparation: Preparation,
    division: Division,
) -> dict[str, Any]:
    """What is being made: the settings, and a hash of all that the result depends on."""
    settings = {**preparation.recorded(), "percentiles": list(preparation.percentiles)}
    settings |= asdict(division)
    made_by = [packed.VERSION, READER_VERSION, source.name, names, settings]
    digest = hashlib.sha256(json.dumps(made_by).encode())
    for file in files:
        about = (file.name, file.class_name, file.patient, file.split, source.stamp(file))
        digest.update(repr(about).encode("utf-8", "surrogateescape"))
        if file.patient_given:  # what DICOM files tell then counts no more
            digest.update(b"given")
    for file in source.files:  # all of them have a say in which value is white
        digest.update(repr((file.name, source.stamp(file))).encode("utf-8", "surrogateescape"))
    return {"settings": settings, "listing": digest.hexdigest()}


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes from making a set in the same folder.

    Raises:
        PlaceError: another one is.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locks.locked(out) as alone:
        if not alone:
            raise PlaceError(
                f"{out}: another program is preparing a set there; wait for it, or choose "
                "another folder"
            )
        yield


def _existing(out: Path, job: dict[str, Any], skip_bad: bool) -> PackedSet:
    there = open_packed(out)
    if there.settings.get("listing") != job["listing"]:
        raise UserError(
            f"{out}: holds another set already, of {there.name} with other images or settings; "
            "remove it, or choose another folder"
        )
    if there.left_out and not skip_bad:
        raise UnusableFilesError(there.left_out)
    return there


def _read_all(
    source: Source,
    files: Sequence[ImageFile],
    preparation: Preparation,
    partial: Path,
    workers: int | None,
    progress: bool,
) -> tuple[dict[int, Row], list[tuple[str, str]], dict[str, int]]:
    """Read what is not there yet; give the rows by place, what cannot be used, and the notes."""
    size = preparation.empty(1).nbytes
    bad: list[tuple[str, str]] = []
    (partial / "pixels").touch()
    with (partial / "pixels").open("r+b", buffering=0) as pixels:
        unfinished.reserve(pixels, size * len(files))
        done = unfinished.take_up(partial / "journal.jsonl", pixels, size, len(files))
        with (partial / "journal.jsonl").open("a", encoding="utf-8") as journal:
            if journal.tell():
                journal.write("\n")  # after a line that was cut off
            left = [place for place in range(len(files)) if place not in done]
            outcomes = read_set(
                source,
                [files[place] for place in left],
                preparation,
                workers=workers,
                progress=progress,
            )
            for index, outcome in outcomes:
                place, picture = left[index], outcome.picture
                if picture is None:
                    bad.append((files[place].name, outcome.reason))
                    continue
                content = np.ascontiguousarray(picture.pixels).tobytes()
                unfinished.write_at(pixels, content, place * size)
                line = unfinished.Done(
                    place,
                    outcome.sha256,
                    picture.width,
                    picture.height,
                    picture.patient,
                    list(picture.notes),
                    zlib.crc32(content),
                )
                journal.write(json.dumps(list(asdict(line).values())) + "\n")
                journal.flush()
                done[place] = line
    places = sorted(done)
    patients = settle_patients(
        [files[place] for place in places], [done[place].patient for place in places]
    )
    rows = {
        place: Row(
            file=files[place].name,
            class_name=files[place].class_name,
            patient=patient,
            split=files[place].split,
            width=done[place].width,
            height=done[place].height,
            sha256=done[place].sha256,
        )
        for place, patient in zip(places, patients, strict=True)
    }
    notes = Counter(note for line in done.values() for note in line.notes)
    return rows, sorted(bad), dict(sorted(notes.items()))


def _refuse_empty_class(
    names: Sequence[str], rows: dict[int, Row], problems: Sequence[tuple[str, str]]
) -> None:
    left = {row.class_name for row in rows.values()}
    for name in names:
        if name not in left:
            first = f"{printable(problems[0][0])}: {problems[0][1]}"
            raise UserError(
                f"class {name!r}: none of its images can be read (first problem: {first}); check "
                "the copy of the data"
            )


def _divided(rows: dict[int, Row], division: Division) -> dict[int, Row]:
    if division.splits == "source":
        return rows
    splits = assign_splits(
        [row.patient for row in rows.values()],
        [row.class_name for row in rows.values()],
        val_share=division.val_share,
        test_share=division.test_share,
        seed=division.seed,
    )
    pairs = zip(rows.items(), splits, strict=True)
    return {place: replace(row, split=split) for (place, row), split in pairs}


def _finish(
    out: Path,
    partial: Path,
    name: str,
    names: Sequence[str],
    rows: dict[int, Row],
    left_out: Sequence[tuple[str, str]],
    job: dict[str, Any],
    preparation: Preparation,
    about: dict[str, Any],
) -> None:
    """Write the set's files beside the work, move them up, and describe them last."""
    shape = (len(rows), *preparation.empty(1).shape[1:])
    with (partial / "pixels").open("rb") as pixels, (partial / "images.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        size = preparation.empty(1).nbytes
        for place in rows:
            file.write(unfinished.read_at(pixels, size, place * size))
        _sync(file)
    labels = np.array([names.index(row.class_name) for row in rows.values()], np.int64)
    with (partial / "labels.npy").open("wb") as file:
        np.save(file, labels)
        _sync(file)
    with (partial / "images.csv").open("wb") as file:
        file.write(packed.rows_as_csv(list(rows.values())))
        _sync(file)
    for content in packed.CONTENT:
        (partial / content).replace(out / content)
    described = {
        "format": packed.FORMAT,
        "version": packed.VERSION,
        "name": name,
        "class_names": list(names),
        "shape": list(shape),
        "settings": {**job["settings"], "listing": job["listing"]},
        "left_out": [list(each) for each in left_out],
        **about,
        "sha256": {each: packed.file_digest(out / each) for each in packed.CONTENT},
    }
    write_atomic(out / packed.DESCRIPTION, (json.dumps(described, indent=1) + "\n").encode())
    shutil.rmtree(partial, ignore_errors=True)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())

"""Prepared sets that are kept in the user's cache, so that the next start need not make them.

A set's name there is the hash of the content of its images, of their classes, patients and
splits, and of the settings: nothing has to be invalidated.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from cxrgan_fast.data.decoding import may_be_deep
from cxrgan_fast.data.packed import VERSION, PackedSet, is_packed, open_packed
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division, UnusableFilesError, prepare_set
from cxrgan_fast.data.readers import READER_VERSION
from cxrgan_fast.data.reading import in_threads
from cxrgan_fast.data.sources import ImageFile, Source
from cxrgan_fast.data.sources.store import SourceChangedError
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import PlaceError, cache_folder


def kept_set(
    source: Source,
    preparation: Preparation,
    *,
    classes: Sequence[str] | None,
    split: str,
    skip_bad: bool,
    progress: bool,
) -> tuple[PackedSet, str]:
    """The images of one split of a source, prepared: from the cache if they are there.

    Where the cache cannot be written they are prepared all the same, and not kept.

    Args:
        source: opened.
        preparation: what is done to each image.
        classes: names in the order of their labels; None for the default.
        split: "train", "test" or "val".
        skip_bad: leave out what cannot be used.
        progress: show bars on standard error, if that is a terminal.

    Returns:
        The set, and where it came from or was kept, in words.

    Raises:
        UserError: as `prepare_set`.
    """
    preparation.validate()
    names, files = source.choose(split, classes)
    folder = (
        cache_folder()
        / "sets"
        / _key(
            source, names, files, source.without_kind(classes, split=None), preparation, progress
        )
    )
    if is_packed(folder):
        try:
            made = open_packed(folder)
        except UserError:  # damaged: it is made anew
            shutil.rmtree(folder, ignore_errors=True)
        else:
            if made.left_out and not skip_bad:
                raise UnusableFilesError(made.left_out)
            return made, f"as kept in {folder}"
    elif folder.is_dir() and any(folder.iterdir()) and not (folder / ".partial").is_dir():
        shutil.rmtree(folder, ignore_errors=True)  # what is left of a damaged one

    def prepare(out: Path) -> PackedSet:
        return prepare_set(
            source,
            out,
            preparation,
            division=Division("source"),
            classes=classes,
            split=split,
            skip_bad=skip_bad,
            progress=progress,
        )

    try:
        return prepare(folder), f"kept in {folder}"
    except PlaceError as error:
        # What is mapped into memory stays there when the folder goes.
        with tempfile.TemporaryDirectory() as aside:
            return prepare(Path(aside)), f"not kept ({error}; CXRGAN_CACHE names the place)"


def _key(
    source: Source,
    names: Sequence[str],
    files: Sequence[ImageFile],
    without_kind: Sequence[tuple[str, str]],
    preparation: Preparation,
    progress: bool,
) -> str:
    def digest(file: ImageFile) -> tuple[str, bool]:
        try:
            with source.held(file) as content:
                return hashlib.sha256(content).hexdigest(), may_be_deep(content)
        except SourceChangedError:
            raise
        except UserError as error:
            return str(error), False

    def digests(of: Sequence[ImageFile]) -> Iterator[tuple[str, bool]]:
        def work(index: int) -> tuple[str, bool]:
            return digest(of[index])

        return in_threads(work, len(of), "checking", workers=None, progress=progress)

    made_by = [VERSION, READER_VERSION, source.name, names, asdict(preparation)]
    whole = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode())
    deep = False
    for file, (content, may_be) in zip(files, digests(files), strict=True):
        deep = deep or may_be
        about = (file.name, file.class_name, file.patient, file.split, content)
        whole.update(repr(about).encode("utf-8", "surrogateescape"))
        if file.patient_given:  # what DICOM files tell then counts no more
            whole.update(b"given")
    if deep:  # what is white is then decided by all images of the source
        there = {file.name for file in files}
        others = [file for file in source.files if file.name not in there]
        for content, _ in digests(others):
            whole.update(content.encode("utf-8", "surrogateescape"))
    # What cannot be used is listed in the set as well.
    problems = [*source.problems, *without_kind]
    whole.update(repr(problems).encode("utf-8", "surrogateescape"))
    return whole.hexdigest()[:40]

"""The cache of prepared sets on the user's disk, so that the next start need not make them.

A set's name in it is the hash of the content of its images, of their classes, patients and
splits, and of the settings: nothing has to be invalidated.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxrgan_fast import locks
from cxrgan_fast.data.decoding import may_be_deep
from cxrgan_fast.data.packed import VERSION, PackedSet, is_packed, open_packed
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division, UnusableFilesError, locked, prepare_set
from cxrgan_fast.data.readers import READER_VERSION
from cxrgan_fast.data.reading import in_threads
from cxrgan_fast.data.sources import ImageFile, Selection, Source, select
from cxrgan_fast.data.sources.store import SourceChangedError
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import PlaceError, cache_folder


def cached_set(
    source: Source,
    preparation: Preparation,
    *,
    classes: Sequence[str] | None,
    split: str,
    skip_bad: bool,
    progress: bool,
) -> tuple[PackedSet, str]:
    """Return the images of one split of a source, prepared: from the cache if they are there.

    Where the cache cannot be written they are prepared all the same, and not cached.

    Args:
        source: opened.
        preparation: what is done to each image.
        classes: names in the order of their labels; None for the default.
        split: "train", "test" or "val".
        skip_bad: leave out what cannot be used.
        progress: show bars on standard error, if that is a terminal.

    Returns:
        The set, and in words whether it was cached, is cached now, or could not be.

    Raises:
        UserError: as `prepare_set`.
    """
    preparation.validate()
    chosen = select(source, split, classes)
    without_kind = source.without_kind(classes, split=None)
    key = _key(source, chosen, without_kind, preparation, progress)
    folder = cache_folder() / "sets" / key
    _sweep_others(folder)
    made = _whole(folder)
    if made is not None:
        if made.left_out and not skip_bad:
            raise UnusableFilesError(made.left_out)
        return made, f"from the cache {folder}"

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
        return prepare(folder), f"cached in {folder}"
    except PlaceError as error:
        # What is mapped into memory stays there when the folder goes.
        with tempfile.TemporaryDirectory() as aside:
            return prepare(Path(aside)), f"not cached ({error}; CXRGAN_CACHE names the place)"


def _whole(folder: Path) -> PackedSet | None:
    """The set in a folder; None if there is none that is whole, and what could be in the way goes.

    Another training may be finishing this set at this moment. So nothing is removed but under the
    lock under which sets are made, and after a second look.
    """
    made = _opened(folder)
    if made is None and not folder.is_dir():
        return None
    try:
        with locked(folder):
            made = made or _opened(folder)
            damaged = made is None and is_packed(folder)
            for entry in folder.iterdir():
                is_work = entry.name == ".partial"
                # The work of a call that did not end is gone on with; where the set is whole it
                # is what a kill in the last moment has left.
                if (is_work and (made is not None or damaged)) or (not is_work and made is None):
                    _remove(entry)
    except PlaceError:
        pass  # another program is at it: `prepare_set` says so, or finds the set
    return made


def _sweep_others(folder: Path) -> None:
    """Remove the unfinished work of all other sets of which no living program is the writer.

    Nobody may ever ask for those sets again. Their folders stay, empty: a program that is about
    to lock one would hold a folder that is gone, and another one a new one of the same name.
    """
    with contextlib.suppress(OSError):  # no cache yet, or none that can be read
        for other in folder.parent.iterdir():
            if other == folder or other.is_symlink() or not (other / ".partial").is_dir():
                continue
            with contextlib.suppress(OSError), locks.locked(other) as alone:
                if alone and (other / ".partial").is_dir():
                    whole = is_packed(other)
                    for entry in other.iterdir():
                        if entry.name == ".partial" or not whole:
                            _remove(entry)


def _opened(folder: Path) -> PackedSet | None:
    try:
        return open_packed(folder) if is_packed(folder) else None
    except UserError:  # damaged: it is made anew
        return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _key(
    source: Source,
    chosen: Selection,
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

    made_by = [VERSION, READER_VERSION, source.name, chosen.class_names, preparation.recorded()]
    whole = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode())
    deep = False
    for file, (content, may_be) in zip(chosen.files, digests(chosen.files), strict=True):
        deep = deep or may_be
        about = (file.name, file.class_name, file.patient, file.split, content)
        whole.update(repr(about).encode("utf-8", "surrogateescape"))
        if file.patient_given:  # what DICOM files tell then counts no more
            whole.update(b"given")
    if deep:  # what is white is then decided by all images of the source
        there = {file.name for file in chosen.files}
        others = [file for file in source.files if file.name not in there]
        for content, _ in digests(others):
            whole.update(content.encode("utf-8", "surrogateescape"))
    # What cannot be used is listed in the set as well.
    problems = [*source.problems, *without_kind]
    whole.update(repr(problems).encode("utf-8", "surrogateescape"))
    return whole.hexdigest()[:40]

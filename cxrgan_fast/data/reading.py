"""Reading and preparing many images in threads, in bounded memory."""

import hashlib
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from cxrgan_fast.data.depth import Brightest, UnknownWhiteError, whites_of
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import (
    Picture,
    Whites,
    brightest_value,
    read_image,
)
from cxrgan_fast.data.sources import ImageFile, Source
from cxrgan_fast.data.sources.store import SourceChangedError
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.threads import available_cores

MOST_WORKERS = 64

_AHEAD = 4  # results a thread that wait to be taken
_AHEAD_BYTES = 64 << 20  # and what they take in all

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        picture: the prepared image; None if it cannot be used.
        sha256: SHA-256 of the file, in hexadecimal.
        reason: why it cannot be used.
        brightest: where the image waits for its set, what the set needs to know of it.
    """

    picture: Picture | None
    sha256: str = ""
    reason: str = ""
    brightest: Brightest | None = None


def read_set(
    source: Source,
    files: Sequence[ImageFile],
    preparation: Preparation,
    *,
    workers: int | None,
    progress: bool,
) -> Iterator[tuple[int, Outcome]]:
    """Read and prepare images of a source.

    Images of more than 8 bits whose headers do not say what is white come last: they are scaled
    alike, by the brightest of the whole source, so that it does not matter which splits and
    classes are chosen.

    Args:
        source: what they come from.
        files: which.
        preparation: valid settings.
        workers: threads; None for one a core.
        progress: show a bar on standard error, if that is a terminal.

    Yields:
        The index of a file in `files`, and what became of it.

    Raises:
        SourceChangedError: a file is not what it was when the source was opened.
    """

    def outcomes(indices: Sequence[int], whites: Whites) -> Iterator[tuple[int, Outcome]]:
        def read(place: int) -> Outcome:
            return _outcome(source, files[indices[place]], preparation, whites)

        results = in_threads(
            read,
            len(indices),
            "reading",
            workers=workers,
            progress=progress,
            size=preparation.empty(1).nbytes,
        )
        return zip(indices, results, strict=True)

    waiting: list[int] = []
    found: list[Brightest] = []
    for index, outcome in outcomes(range(len(files)), {}):
        if outcome.brightest is None:
            yield index, outcome
        else:
            waiting.append(index)
            found.append(outcome.brightest)
    if waiting:
        read = {file.name for file in files}
        others = [file for file in source.files if file.name not in read]
        found += _brightest(source, others, workers, progress)
        yield from outcomes(waiting, whites_of(found))


def _outcome(source: Source, file: ImageFile, preparation: Preparation, whites: Whites) -> Outcome:
    try:
        with source.held(file) as content:
            picture = read_image(content, preparation, whites)
            return Outcome(picture, hashlib.sha256(content).hexdigest())
    except SourceChangedError:
        raise
    except UnknownWhiteError as error:
        return Outcome(None, brightest=error.brightest)
    except UserError as error:
        return Outcome(None, reason=str(error).removeprefix(f"{printable(file.name)}: "))


def _brightest(
    source: Source, files: Sequence[ImageFile], workers: int | None, progress: bool
) -> list[Brightest]:
    """The brightest values of images that are not prepared; without those that cannot be read."""

    def look(index: int) -> Brightest | None:
        try:
            with source.held(files[index]) as content:
                return brightest_value(content)
        except SourceChangedError:
            raise
        except UserError:
            return None

    results = in_threads(look, len(files), "looking", workers=workers, progress=progress)
    return [result for result in results if result is not None]


def in_threads(
    work: Callable[[int], T],
    count: int,
    title: str,
    *,
    workers: int | None,
    progress: bool,
    size: int = 0,
) -> Iterator[T]:
    """Yield work(0), ..., work(count - 1) in order, computed by several threads.

    Threads, not processes: decoding and resizing run outside the interpreter lock, and nothing
    is copied or imported again. (Phantoms, made of short NumPy operations, gain less.) Only a few
    results are computed ahead, so that a slow taker does not fill the memory.

    Args:
        work: what is done for an index.
        count: number of indices.
        title: title of the bar.
        workers: threads; None for one a core.
        progress: show a bar on standard error, if that is a terminal.
        size: bytes of a result, where they matter.
    """
    threads = min(workers or available_cores(), MOST_WORKERS)
    hidden = None if progress else True  # None: shown on a terminal only
    ahead = _AHEAD * threads
    if size:
        ahead = max(1, min(ahead, _AHEAD_BYTES // size))
    waiting: deque[Future[T]] = deque()
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=count, desc=title, unit="image", disable=hidden, leave=False) as bar,
    ):
        # Pillow's warnings about huge images and damaged EXIF: the reader deals with both.
        warnings.simplefilter("ignore")
        try:
            for index in range(count):
                waiting.append(pool.submit(work, index))
                if len(waiting) >= ahead:
                    result = waiting.popleft().result()
                    bar.update()
                    yield result
            while waiting:
                result = waiting.popleft().result()
                bar.update()
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def check_workers(workers: int | None) -> None:
    """Refuse a number of threads that cannot be.

    Raises:
        UserError: naming it.
    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UserError(f"workers {workers}: expected 1 to {MOST_WORKERS}")

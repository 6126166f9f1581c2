"""Reading and preparing many images in threads, in bounded memory."""

import hashlib
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import Picture, read_image
from cxrgan_fast.data.sources import ImageFile, Source
from cxrgan_fast.data.sources.store import SourceChangedError
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.threads import available_cores

MOST_WORKERS = 64

_AHEAD = 4  # results a thread that wait to be taken

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        picture: the prepared image; None if it cannot be used.
        sha256: of the file, in hex.
        reason: why it cannot be used.
    """

    picture: Picture | None
    sha256: str = ""
    reason: str = ""


def read_pictures(
    source: Source,
    files: Sequence[ImageFile],
    preparation: Preparation,
    *,
    workers: int | None,
    progress: bool,
) -> Iterator[Outcome]:
    """Read and prepare images, in order.

    Args:
        source: what they come from.
        files: which.
        preparation: valid settings.
        workers: threads; None for one a core.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        SourceChangedError: a file is not what it was when the source was opened.
    """

    def read(index: int) -> Outcome:
        file = files[index]
        try:
            content = source.read(file)
            return Outcome(read_image(content, preparation), hashlib.sha256(content).hexdigest())
        except SourceChangedError:
            raise
        except UserError as error:
            return Outcome(None, reason=str(error).removeprefix(f"{printable(file.name)}: "))

    return in_threads(read, len(files), "reading", workers=workers, progress=progress)


def in_threads(
    work: Callable[[int], T], count: int, title: str, *, workers: int | None, progress: bool
) -> Iterator[T]:
    """Yield work(0), ..., work(count - 1) in order, computed by several threads.

    Threads, not processes: decoding and resizing run outside the interpreter lock, and nothing
    is copied or imported again. (Phantoms, made of short NumPy operations, gain less.) Only a few
    results are computed ahead, so that a slow taker does not fill the memory.
    """
    threads = min(workers or available_cores(), MOST_WORKERS)
    hidden = None if progress else True  # None: shown on a terminal only
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
                if len(waiting) >= _AHEAD * threads:
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

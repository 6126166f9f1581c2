"""Fetching the public paediatric set from Kaggle, and saying what came.

The set: D. S. Kermany, K. Zhang, M. Goldbaum, "Labeled Optical Coherence Tomography (OCT) and
Chest X-Ray Images for Classification", Mendeley Data, doi 10.17632/rscbjbr9sj, CC BY 4.0.
"""

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from cxrgan_fast.data.packed import file_digest
from cxrgan_fast.data.reading import in_threads
from cxrgan_fast.data.sources import SPLITS, Source, open_source
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import read_small, write_atomic

KAGGLE = "paultimothymooney/chest-xray-pneumonia"
PUBLISHED = {"train": 5216, "test": 624, "val": 16}
RECORD = "download.json"

_MOST_RECORD = 1 << 20  # bytes
_BY_HAND = (
    "or fetch the set by hand from Mendeley Data (doi 10.17632/rscbjbr9sj), unpack it, and name "
    "its folder"
)


@dataclass(frozen=True)
class Download:
    """What came.

    Attributes:
        path: folder of the set.
        counts: images of each split.
        size: bytes of all images.
        sha256: over the names, sizes and SHA-256 of all images, in the order of names.
        changed: whether it is not what an earlier download there was.
        notes: what of it is not used unless asked for, a line each.
    """

    path: Path
    counts: dict[str, int]
    size: int
    sha256: str
    changed: bool
    notes: list[str] = field(compare=False)

    def warnings(self) -> list[str]:
        """List what differs from the published set."""
        found = [
            f"{split} has {self.counts.get(split, 0)} images, {expected} were published"
            for split, expected in PUBLISHED.items()
            if self.counts.get(split, 0) != expected
        ]
        if self.changed:
            found.append("the images are not those of the earlier download there")
        return found


def download(out: Path, *, progress: bool = True) -> Download:
    """Download the public set from Kaggle into a folder.

    What is there already is not fetched again. Beside the images goes `download.json`: counts,
    bytes and a checksum, with which the next call compares.

    Args:
        out: the folder; it is made.
        progress: show bars on standard error, if that is a terminal.

    Raises:
        UserError: kagglehub is not installed; there is no network, no permission or no room;
            what came cannot be read.
    """
    record = out / RECORD
    earlier = _earlier(record)
    if earlier is None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: is there, and no earlier download; choose another folder")
        _fetch(_kagglehub(), out)
    source = open_source(out)
    counts = Counter(file.split for file in (*source.files, *source.unnamed))
    size, digest = _checksum(source, progress)
    described = {
        "source": f"kaggle:{KAGGLE}",
        "images": {split: counts[split] for split in SPLITS},
        "bytes": size,
        "sha256": digest,
    }
    changed = earlier is not None and earlier.get("sha256") != digest
    if not changed:
        write_atomic(record, (json.dumps(described, indent=1) + "\n").encode())
    return Download(out, dict(counts), size, digest, changed, source.notes())


def _fetch(kagglehub: ModuleType, out: Path) -> None:
    """Let kagglehub fetch into a folder beside `out`, which it becomes when it is whole."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            kagglehub.dataset_download(KAGGLE, output_dir=str(partial))
        except FileExistsError:  # what an interrupted download left, which it does not take up
            shutil.rmtree(partial)
            kagglehub.dataset_download(KAGGLE, output_dir=str(partial))
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except Exception as error:  # of requests and kagglehub, which are imported late
        raise UserError(_reason(error, out)) from None


def _reason(error: Exception, out: Path) -> str:
    # An answer of the server first: the exceptions of requests are OSErrors too.
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"Kaggle refuses the download ({status}): make an API token at "
            "https://www.kaggle.com/settings, set KAGGLE_USERNAME and KAGGLE_KEY, and accept the "
            f"terms of {KAGGLE} there; {_BY_HAND}"
        )
    if status is not None:
        return f"Kaggle answers {status} for {KAGGLE}: try again later, {_BY_HAND}"
    of_the_network = isinstance(error, ConnectionError | TimeoutError)
    if isinstance(error, OSError) and error.errno is not None and not of_the_network:
        return (
            f"{out}: cannot be written ({error.strerror or error}); free some space or choose "
            "another folder, then run the same command again"
        )
    detail = " ".join(str(error).split())[:160] or type(error).__name__
    return f"{KAGGLE} cannot be fetched ({detail}): is there a network? Try again, {_BY_HAND}"


def _earlier(record: Path) -> dict[str, object] | None:
    try:
        found = json.loads(read_small(record, _MOST_RECORD))
    except (UserError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _checksum(source: Source, progress: bool) -> tuple[int, str]:
    root = Path(source.where)
    names = sorted(file.name for file in (*source.files, *source.unnamed))

    def about(index: int) -> tuple[int, str]:
        path = root / names[index]
        return path.stat().st_size, file_digest(path)

    whole, size = hashlib.sha256(), 0
    results = in_threads(about, len(names), "checking", workers=None, progress=progress)
    for name, (length, digest) in zip(names, results, strict=True):
        size += length
        whole.update(f"{name}\0{length}\0{digest}\n".encode("utf-8", "surrogateescape"))
    return size, whole.hexdigest()


def _kagglehub() -> ModuleType:
    try:
        import kagglehub
    except ImportError:
        raise UserError(
            f"download needs kagglehub: pip install 'cxrgan_fast[kaggle]'; {_BY_HAND}"
        ) from None
    return kagglehub

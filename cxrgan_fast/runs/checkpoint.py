"""Checkpoints: all that a run needs to go on, written so that no crash leaves half of one.

A checkpoint is what `torch.save` writes, a zip archive, whose comment (at its very end) holds the
SHA-256 of all bytes before it. Nothing else would notice a flipped bit: PyTorch reads an archive
without comparing its checksums. Version 2 of the format had no digest; it is still read.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_error, write_atomic, write_error

_FAMILY = "cxrgan_fast.checkpoint/"
FORMAT = _FAMILY + "3"
_WITHOUT_DIGEST = _FAMILY + "2"

_NAME = re.compile(r"step-([0-9]{1,18})\.pt")
_MARK = b"cxrgan_fast sha256 "
_COMMENT = len(_MARK) + 64
_LENGTH = 2  # bytes at the end of an archive that say how long its comment is


class DamagedError(Exception):
    """A checkpoint is not what was written; the message says how that was noticed."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole.

    Attributes:
        path: its file.
        state: what `save_checkpoint` was given.
        damaged: newer checkpoints that are not whole, each with the reason.
    """

    path: Path
    state: dict[str, Any]
    damaged: list[tuple[Path, str]]


def checkpoint_path(run: Path, step: int) -> Path:
    """Return the path of the checkpoint of ``step``."""
    return run / "checkpoints" / f"step-{step:08d}.pt"


def generator_path(run: Path, step: int) -> Path:
    """Return the path of the averaged generator of ``step``."""
    return run / "checkpoints" / f"generator-{step:08d}.safetensors"


def best_generator_path(run: Path) -> Path:
    """Return the path of the averaged generator with the lowest FID of a run's evaluations."""
    return run / "best_generator.safetensors"


def saved_steps(run: Path) -> list[int]:
    """Return the steps that have a checkpoint, oldest first."""
    found = (_NAME.fullmatch(path.name) for path in (run / "checkpoints").glob("step-*.pt"))
    steps = {int(match.group(1)) for match in found if match}
    return sorted(step for step in steps if checkpoint_path(run, step).is_file())


def save_checkpoint(run: Path, step: int, state: dict[str, Any]) -> None:
    """Write the checkpoint of ``step`` whole or not at all.

    Takes as much memory again as ``state``, for the file's content.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    # To memory first: a thread that the end of the program meets within torch.save, which is C++,
    # aborts it. That a slow disk is left behind at a second Ctrl-C is no reason for that.
    content = io.BytesIO()
    torch.save({"format": FORMAT, **state}, content)
    _sign(content)
    write_atomic(checkpoint_path(run, step), lambda file: file.write(content.getbuffer()))


def _sign(archive: io.BytesIO) -> None:
    """Give a zip archive without a comment one that holds the digest of what comes before."""
    archive.seek(-_LENGTH, io.SEEK_END)
    archive.write(_COMMENT.to_bytes(_LENGTH, "little") + _MARK)
    archive.write(hashlib.sha256(archive.getbuffer()).hexdigest().encode())


def prune_checkpoints(run: Path, keep: int, mark_every: int, best: int | None) -> None:
    """Delete all checkpoints but the newest ``keep``, multiples of ``mark_every`` and ``best``."""
    for step in saved_steps(run)[:-keep]:
        if step != best and not (mark_every and step % mark_every == 0):
            checkpoint_path(run, step).unlink(missing_ok=True)
            generator_path(run, step).unlink(missing_ok=True)


def load_newest_checkpoint(
    run: Path, device: torch.device, *, purpose: str = "resume"
) -> Checkpoint:
    """Load the newest checkpoint of ``run`` that is whole.

    Only tensors and plain values are read: a checkpoint cannot run code.

    Args:
        run: its folder.
        device: where the tensors come to.
        purpose: what it is loaded for, for messages: "cannot resume RUN".

    Raises:
        UserError: There is no checkpoint, none is whole, or one cannot be read or is of another
            version of this program. Only what is certainly damaged is passed over.
    """
    damaged: list[tuple[Path, str]] = []
    for path in _newest_first(run):
        try:
            return Checkpoint(path, _load(path, device), damaged)
        except DamagedError as error:  # noqa: PERF203 - reading takes longer
            damaged.append((path, str(error)))
    if damaged:
        path, reason = damaged[0]
        raise UserError(
            f"cannot {purpose} {run}: {path} is damaged or not a checkpoint of this program "
            f"({reason}), and there is no older one that is whole; put a copy of it in its place, "
            "or start a new run"
        )
    raise UserError(f"cannot {purpose} {run}: it has no checkpoint yet; start a new run")


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that the run that goes on does not write over it.

    It counts no more among those that are kept, either: they would be the fewer.

    Returns:
        Its new path: the old with ``.damaged`` after it, and a number if that is taken.

    Raises:
        UserError: It cannot be renamed.
    """
    aside, number = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    try:
        return path.rename(aside)
    except OSError as error:
        raise write_error(aside, error) from None


def _load(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        # One file for both, so that what is loaded is what was checked.
        with path.open("rb") as file:
            signed = _check_digest(file)
            _check_archive(file, checksums=not signed)
            try:
                state = torch.load(file, map_location=device, weights_only=True)
            except OSError:
                raise
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # torch raises a dozen kinds for bytes that it cannot read
                raise DamagedError(printable(str(error).split("\n")[0])) from None
    except OSError as error:
        # Not damaged: whoever repairs the permissions, or mounts the disk again, has it back.
        raise read_error(path, error) from None
    if not isinstance(state, dict):
        raise DamagedError("it holds no state")
    version = state.get("format")
    if version == (FORMAT if signed else _WITHOUT_DIGEST):
        return state
    if version == FORMAT:
        raise DamagedError("its digest is missing")
    if signed and isinstance(version, str) and version.startswith(_FAMILY):
        raise UserError(
            f"{path} is in format {printable(version)} and this version of cxrgan_fast reads "
            f"{FORMAT}: install the version that wrote it"
        )
    raise DamagedError("it is of no known format")


def _check_digest(file: BinaryIO) -> bool:
    """Whether the file has a digest, which is then right. The file is left at its start.

    Raises:
        DamagedError: The digest is that of other bytes.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _COMMENT))
    mark, said = file.read(len(_MARK)), file.read(64)
    file.seek(0)
    if mark != _MARK:
        return False
    digest, left = hashlib.sha256(), size - 64
    while left and (block := file.read(min(left, 1 << 20))):
        digest.update(block)
        left -= len(block)
    file.seek(0)
    if digest.hexdigest().encode() != said:
        raise DamagedError("its checksum differs")
    return True


def _check_archive(file: BinaryIO, checksums: bool) -> None:
    """Refuse an archive that would unfold to more than its size, or whose parts are damaged.

    Args:
        file: read from its start, and left there.
        checksums: compare the CRC-32 of every part, which zip has of its own.

    Raises:
        DamagedError: Naming what is wrong.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise DamagedError("it is compressed, which this program's never are")
            if checksums and archive.testzip() is not None:
                raise DamagedError("the checksum of a part differs")
    except OSError:
        raise
    except DamagedError:
        raise
    except Exception as error:  # of a dozen kinds, as torch's
        raise DamagedError(printable(f"no whole zip archive: {error}")) from None
    file.seek(0)


def _newest_first(run: Path) -> Iterator[Path]:
    for step in reversed(saved_steps(run)):
        yield checkpoint_path(run, step)

"""The run folder: a name nobody else has."""

import os
import re
from pathlib import Path

from cxrgan_fast.errors import printable
from cxrgan_fast.files import PlaceError, file_name_safe, write_error


def create_run_folder(
    root: Path, data_name: str, resolution: int, family: str, name: str = ""
) -> Path:
    """Make and return a new folder such as `root/00003-phantom-64-resnet`, or `...-NAME`.

    The number is one more than the highest in `root` and is given out once, even to programs that
    start at the same moment: the bare number is made as a folder first, which only one of them
    can do, and renamed to the full name when the number is still free. Nothing is overwritten.

    Args:
        root: folder of the runs; made when missing.
        data_name: name of the data set; anything but letters, digits, `.`, `_` and `-` becomes `_`.
        resolution: side of the images in pixels.
        family: network family.
        name: the user's, treated as `data_name`; none if empty.

    Raises:
        UserError: when `root` cannot be written.
    """
    description = f"{file_name_safe(data_name) or 'data'}-{resolution}-{family}{_ending(name)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            number = max(_numbers(root), default=-1) + 1
            reserved = root / f"{number:05d}"
            try:
                reserved.mkdir()
            except FileExistsError:
                continue  # someone else is between the two steps: their number shows up next time
            if _numbers(root).count(number) == 1:
                return reserved.rename(root / f"{number:05d}-{description}")
            reserved.rmdir()  # someone finished both steps between our look and our mkdir
    except OSError as error:
        raise write_error(root, error) from error


def check_folder_name(folder: Path) -> None:
    """Refuse a folder in which some file of a run could not be.

    Raises:
        UserError: its path holds bytes that are no text, which TensorBoard's files do not take.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise PlaceError(
            f"cannot write {printable(str(folder))}: its path is no text in UTF-8, which "
            "TensorBoard needs; choose another folder"
        ) from None


def _numbers(root: Path) -> list[int]:
    matches = (re.match(r"(\d{5,})(-|$)", name) for name in os.listdir(root))
    return [int(match[1]) for match in matches if match]


def newest_run(root: Path, name: str = "", *, begun: bool = False) -> Path | None:
    """Find the run with the highest number in a folder of runs.

    Args:
        root: folder of the runs.
        name: the user's; only runs of this name count. Any if empty.
        begun: whether only runs with a checkpoint count; those of `--per-class` have theirs in
            the folders of the classes.
    """
    found = [
        path
        for path in (root.iterdir() if root.is_dir() else ())
        if re.match(r"\d{5,}-", path.name) and path.is_dir() and path.name.endswith(_ending(name))
    ]
    for path in sorted(found, key=lambda path: -int(path.name.partition("-")[0])):
        if (
            not begun
            or any(path.glob("checkpoints/step-*.pt"))
            or any(path.glob("*/checkpoints/step-*.pt"))
        ):
            return path
    return None


def _ending(name: str) -> str:
    return f"-{file_name_safe(name)}" if name else ""

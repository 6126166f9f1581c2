"""Which class names can be worked with, and the folder that each one gets.

One predicate for all that bring class names: sources, packed sets, data sets in memory, generator
files. A name may hold "/" or be "..": it is shown and stored as it is, and never used as a path;
what is written goes into the folder that `folder_names` gives.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from cxrgan_fast.data.sources.names import is_mask_folder, no_data, split_of
from cxrgan_fast.errors import UserError, printable

MOST_CHARACTERS = 200
"""Longer class names are refused."""

_MOST_BYTES = 100  # of a folder's name: file names hold it twice, and file systems take 255
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_WINDOWS = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
_FILE = re.compile(r"\.(?:csv|gif|jpe?g|jsonl?|npy|png|pt|safetensors|ya?ml|zip)$", re.IGNORECASE)
_TAKEN = frozenset({"__macosx", "checkpoints", "grids", "evaluation", "runs"})


def check_class_names(names: object, where: object) -> tuple[str, ...]:
    """Return class names that can be shown, stored and told apart.

    Args:
        names: a list or tuple, in the order of the labels; what comes from a file may be anything.
        where: what has them, for messages.

    Raises:
        UserError: there are none, or no list of them; one is no string, empty, too long or cannot
            be printed; two are the same.
    """
    if not isinstance(names, list | tuple) or not names:
        raise UserError(f"{where}: has no class names; expected a list of one or more")
    found: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"{where}: class {name!r}: expected a name, got {type(name).__name__}")
        shown = printable(name[:MOST_CHARACTERS])
        if not name.strip():
            raise UserError(f"{where}: class {shown!r}: a name without a character; rename it")
        if len(name) > MOST_CHARACTERS:
            raise UserError(
                f"{where}: class {shown!r}…: a name of {len(name)} characters; expected at most "
                f"{MOST_CHARACTERS}; rename it"
            )
        if not name.isprintable():
            raise UserError(
                f"{where}: class {shown!r}: a name that cannot be printed, and not be stored with "
                "a generator; rename it"
            )
        if name in found:
            raise UserError(
                f"{where}: class {name!r} is named more than once; name each class once"
            )
        found[name] = None
    return tuple(found)


def folder_names(names: Iterable[str]) -> dict[str, str]:
    """Return the folder of each class: its own name where that is safe on every system.

    A folder's name is one part of a path, never hidden, taken by another system, the same as
    another's in another case, or one that means something else to who reads it (train, masks,
    config.yaml). Where the class's name is not like that, the folder's ends in 8 digits of a hash.

    Args:
        names: class names, each once.
    """
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        folder = name if _is_safe(name) else _mapped(name, name)
        while _folded(folder) in taken:
            folder = _mapped(name, folder + name)
        taken.add(_folded(folder))
        folders[name] = folder
    return folders


def check_folder_name(folder: str, what: str) -> str:
    """Return a folder's name that a user gives, if it is one part of a path and safe everywhere.

    Raises:
        UserError: it is not.
    """
    if not _is_one_part(folder) or _FILE.search(folder):
        raise UserError(
            f"{what} {printable(folder)!r}: expected the name of one folder, without / and other "
            "characters that some system refuses, and not hidden"
        )
    return folder


def _is_safe(name: str) -> bool:
    meant = split_of(name) or is_mask_folder(name) or no_data(name) or name.casefold() in _TAKEN
    return _is_one_part(name) and not meant and not _FILE.search(name)


def _is_one_part(name: str) -> bool:
    return (
        0 < len(name.encode("utf-8", "surrogateescape")) <= _MOST_BYTES
        and name.isprintable()
        and not _UNSAFE.search(name)
        and name[0] not in ". ~-"
        and name[-1] not in ". "
        and not _WINDOWS.fullmatch(name)
    )


def _mapped(name: str, unique: str) -> str:
    digest = hashlib.sha256(unique.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    readable = re.sub(r"[^\w.+-]+", "_", name).strip("._-~")
    readable = readable.encode("utf-8", "ignore")[:60].decode("utf-8", "ignore")
    return f"{readable or 'class'}-{digest}"


def _folded(folder: str) -> str:
    return unicodedata.normalize("NFC", folder).casefold()

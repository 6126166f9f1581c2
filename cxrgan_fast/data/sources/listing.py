"""What a source holds: its images, what of its files is not used, and which classes are wanted."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cxrgan_fast.data.sources.class_names import check_class_names
from cxrgan_fast.errors import UserError, did_you_mean, printable

_SHOWN_PLACES = 4
# What file names of the published set call its classes; parts of a joined class may go by them.
_KINDS = {"bacteria": "bacterial", "virus": "viral"}


@dataclass(frozen=True)
class ImageFile:
    """An image in a source.

    Attributes:
        name: path in the source, "/"-separated; no two are the same.
        class_name: its class.
        patient: whose it is, as far as columns, folders and names tell; else the file's own name.
        split: "train", "test" or "val"; "train" where the source has no splits.
        patient_given: whether a column of the user's table names the patient: nothing goes before.
        folder: name of its class folder; "" in a table.
    """

    name: str
    class_name: str
    patient: str
    split: str
    patient_given: bool = False
    folder: str = ""


@dataclass(frozen=True)
class Unused:
    """Files of a source that are not used.

    Attributes:
        reason: why, in words.
        folder: where they lie; "" for the source's top folder.
        suffix: of all of them, in lower case, or "no suffix".
        files: how many there are.
    """

    reason: str
    folder: str
    suffix: str
    files: int


@dataclass
class Listing:
    """What a source holds.

    Attributes:
        classes: in the order of class folders; a class may have no images.
        default_classes: those to use when none are named.
        has_splits: whether the source tells train, test and val apart.
        files: the images, sorted by name.
        unnamed: images of pneumonia of which the name does not tell the kind.
        unused: all other files that were listed.
        notes: what was decided about folders and columns, a line each.
    """

    classes: tuple[str, ...]
    default_classes: tuple[str, ...]
    has_splits: bool
    files: list[ImageFile]
    unnamed: list[ImageFile] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def unused_lines(unused: Sequence[Unused]) -> list[str]:
    """Say what is not used, a line for each reason: how many files of which suffix lie where."""
    by_reason: dict[str, list[Unused]] = {}
    for each in unused:
        by_reason.setdefault(each.reason, []).append(each)
    lines = []
    for reason, group in sorted(by_reason.items()):
        group.sort(key=lambda each: (-each.files, each.folder, each.suffix))
        shown = [
            f"{each.files} {each.suffix} in {each.folder or 'the top folder'}"
            for each in group[:_SHOWN_PLACES]
        ]
        more = group[_SHOWN_PLACES:]
        if more:
            shown.append(f"{sum(each.files for each in more)} in {len(more)} other places")
        total = sum(each.files for each in group)
        lines.append(f"not used, {reason}: {_count(total, 'file')} ({', '.join(shown)})")
    return lines


def read_classes(
    wanted: Sequence[str], known: Sequence[str], where: object
) -> dict[str, tuple[str, ...]]:
    """Read what a user asks for: names, lists of names with commas, and NAME=CLASS+CLASS.

    Args:
        wanted: as a user gives them; case does not matter. A class whose own name holds a comma,
            "=" or "+" goes before any other reading of it.
        known: the class names there are.
        where: what has them, for messages.

    Returns:
        In the order of the labels, the classes that make up each class.

    Raises:
        UserError: an unknown class, a name or a class that is given twice, or none at all.
    """
    folded = {name.casefold() for name in known}
    pieces = split_names(wanted, known)
    if not pieces:
        raise UserError(f"classes: none named; {where} has {enumerate_names(known)}")
    found: list[tuple[str, tuple[str, ...]]] = []
    for piece in pieces:
        name, joins, parts = piece.partition("=")
        if not joins or piece.strip().casefold() in folded:
            only = match_class(piece, known, where)
            found.append((only, (only,)))
            continue
        members = tuple(match_class(_kind(part, folded), known, where) for part in parts.split("+"))
        found.append((name.strip(), members))
    for what, names in (
        ("is named", [name for name, _ in found]),
        ("is taken", [member for _, members in found for member in members]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                raise UserError(f"classes: {name!r} {what} {count} times; name each class once")
    check_class_names([name for name, _ in found], where)
    return dict(found)


def split_names(wanted: Sequence[str], known: Collection[str]) -> list[str]:
    """Divide lists with commas into their names, but for a known name that holds a comma.

    Args:
        wanted: as a user gives them.
        known: the class names there are; case does not matter.
    """
    folded = {name.casefold() for name in known}
    pieces: list[str] = []
    for text in wanted:
        whole = text.strip().casefold() in folded or text in known
        pieces += [text] if whole else [piece for piece in text.split(",") if piece.strip()]
    return pieces


def _kind(part: str, known: Collection[str]) -> str:
    word = part.strip().casefold()
    return _KINDS[word] if word not in known and _KINDS.get(word) in known else part


def match_class(name: str, known: Sequence[str], where: object) -> str:
    """Return the known class that `name` means; case does not matter.

    Args:
        name: as a user gives it.
        known: the class names there are.
        where: what has them, for the message.

    Raises:
        UserError: there is no such class; the nearest is named.
    """
    if name in known:
        return name
    folded = {other.casefold(): other for other in known}
    if name.strip().casefold() in folded:
        return folded[name.strip().casefold()]
    hint = did_you_mean(name, known)
    shown = enumerate_names(known)
    raise UserError(f"classes: no class {printable(name)!r} in {where} (it has {shown}){hint}")


def merge_spellings(counts: Mapping[str, int]) -> tuple[dict[str, str], list[str]]:
    """Join class names that differ in case or outer spaces alone.

    Args:
        counts: images of each name.

    Returns:
        The name to use for each: the one with most images; and a line for each that was joined.
    """
    spellings: dict[str, list[str]] = {}
    for name in sorted(counts):
        spellings.setdefault(name.strip().casefold() or name, []).append(name)
    chosen: dict[str, str] = {}
    notes = []
    for names in spellings.values():
        best = max(names, key=lambda name: counts[name])
        chosen |= dict.fromkeys(names, best)
        if len(names) > 1:
            shown = ", ".join(f"{printable(name)} ({counts[name]} images)" for name in names)
            notes.append(f"one class, {printable(best)}, under names of different case: {shown}")
    return chosen, notes


def as_unused(counts: Mapping[tuple[str, str, str], int]) -> list[Unused]:
    """Return counts by (reason, folder, suffix) as records, sorted."""
    return [Unused(*key, files) for key, files in sorted(counts.items())]


def enumerate_names(names: Iterable[str]) -> str:
    """Return a dozen of the names, with commas between, and how many more there are."""
    shown = [printable(name) for name in names]
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return ", ".join(shown[:12]) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

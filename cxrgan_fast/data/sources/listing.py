"""What a source lists: its images, and what of its files is not used."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cxrgan_fast.errors import printable

_SHOWN_PLACES = 4


@dataclass(frozen=True)
class ImageFile:
    """An image that a source lists.

    Attributes:
        name: path in the source, "/"-separated; no two are the same.
        class_name: its class.
        patient: the patient that columns, folders or names tell; without any, the file's own name.
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
        suffix: the suffix of all of them, in lower case, or "no suffix".
        files: how many there are.
    """

    reason: str
    folder: str
    suffix: str
    files: int


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

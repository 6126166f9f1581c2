"""Folders of files, and what a source says of them."""

from collections import Counter
from pathlib import Path

from cxrgan_fast.data.sources import Source


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def used(source: Source) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in source.classes}
    for file in source.files:
        found[file.class_name].append(f"{file.split}:{file.name}")
    return found


def unused(source: Source) -> dict[str, int]:
    found: Counter[str] = Counter()
    for each in source.unused:
        found[each.reason] += each.files
    return dict(found)


def assert_all_counted(source: Source, root: Path) -> None:
    there = [path for path in root.rglob("*") if path.is_file()]
    told = len(source.files) + len(source.unnamed) + sum(unused(source).values())
    assert told + len(source.problems) == len(there)

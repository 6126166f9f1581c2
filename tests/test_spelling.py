"""Identifiers are in American spelling, as those of PyTorch are; so is every word of the core."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for room in ("cxrgan_fast", "kernels", "bench", "research", "tests")
    for path in (ROOT / room).rglob("*.py")
    if "cxrgan_fast/kernels" not in path.as_posix()  # kernels/ by another name
)
# Whole files of these, comments too: what no parser of Python reads, and what goes with it.
WHOLE = {
    "csrc": ("*.h", "*.cpp", "*.cuh", "*.cu"),
    "kernels": ("*.py",),
    "bench": ("*.cu",),
    "tests/cuda_standin": ("*.h", "*.cpp", "*.cu"),
}
BRITISH = re.compile(
    r"colour|grey|centre|centring|neighbour|behaviour|honour|favour|labelled|paediatr"
    r"|(memor|normal|initial|optim|maxim|minim|penal|regular|random|synchron|general|real|organ)"
    r"is(e|ed|es|er|ing|ation)(_|$|s)|memoris",
    re.IGNORECASE,
)
# Modules that carry the names from before, for scripts that import them.
FROM_BEFORE = {
    "cxrgan_fast/metrics/memorisation.py",
    "cxrgan_fast/metrics/nearest_neighbour.py",
    "cxrgan_fast/metrics/neighbours.py",
}


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that a file defines, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


@pytest.mark.parametrize("room", ["cxrgan_fast", "kernels", "bench", "research", "tests"])
def test_no_identifier_and_no_module_is_in_british_spelling(room):
    found = []
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == room]
    assert files
    for path in files:
        place = path.relative_to(ROOT).as_posix()
        if place in FROM_BEFORE:
            continue
        names = [(1, path.stem), *identifiers(ast.parse(path.read_text(encoding="utf-8")))]
        found += [f"{place}:{line}: {name}" for line, name in names if BRITISH.search(name)]
    assert not found


def test_names_from_before_are_there():
    assert all((ROOT / place).is_file() for place in FROM_BEFORE)


@pytest.mark.parametrize("folder", WHOLE)
def test_no_word_of_the_kernels_is_in_british_spelling(folder):
    kinds = {kind: sorted((ROOT / folder).rglob(kind)) for kind in WHOLE[folder]}
    assert all(kinds.values())
    found = []
    for path in (path for paths in kinds.values() for path in paths):
        lines = path.read_text(encoding="utf-8").splitlines()
        found += [
            f"{path.relative_to(ROOT).as_posix()}:{number}: {word}"
            for number, line in enumerate(lines, 1)
            for word in re.findall(r"\w+", line)
            if BRITISH.search(word)
        ]
    assert not found

"""Docstrings of public functions begin with an imperative verb and are sentences."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# metrics and evaluation are written anew; take a room out of here when its docstrings are.
FILES = [
    path
    for room in ("cxrgan_fast", "kernels")
    for path in sorted((ROOT / room).rglob("*.py"))
    if "cxrgan_fast/kernels" not in path.as_posix()  # kernels/ by another name
]
# No rule tells a verb from a noun ("Group", "Groups"), so verbs are listed; add what is missing.
VERBS = re.compile(
    r"""(
    Add|Allocate|Apply|Assign|Augment|Average|Bin|Blur|Bring|Build
   |Capture|Change|Check|Choose|Collect|Compare|Compute|Connect|Continue|Convert
   |Convolve|Copy|Correct|Count|Cut|Darken|Decide|Decode|Delete|Derive|Describe|Divide
   |Download|Draw|Embed|End|Enlarge|Escape|Estimate|Evaluate|Extract|Fall|Fill|Find|Fit|Format
   |Generate|Give|Go|Group|Have|Hold|Import|Initialize|Interpolate|Join|Judge
   |Keep|Lay|Leave|Let|List|Load|Locate|Look|Make|Map|Match|Measure|Merge|Move
   |Multiply|Number|Pair|Name|Normalize|Note|Open|Order|Parse|Plot|Prepare|Put|Queue|Quote|Raise
   |Read|Refuse|Remove|Rename|Render|Replace|Report|Resize|Resolve|Restore|Return|Rise|Rotate
   |Round|Run|Sample|Save|Say|Scale|Score|See|Select|Set|Shape|Show|Shrink|Smooth
   |Split|Start|Stop|Store|Subtract|Sum|Take|Tell|Train|Turn|Undo|Update|Upsample|Wait
   |Warn|Word|Write|Yield
    )\b""",
    re.VERBOSE,
)
# Phrases that lean on another line ("seed: of the order"), or that nobody says.
UNCLEAR = re.compile(
    r"^ +\w+: (of|whose|and|also)\b|\blikewise\b|what can be had|as can be\b|\bcomes to about\b"
    r"|; (without,|not given|else\b)",
    re.IGNORECASE | re.MULTILINE,
)


def public(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes of a file, and the public methods of those classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


@pytest.fixture(scope="module")
def docstrings() -> list[tuple[str, ast.FunctionDef | ast.ClassDef, str]]:
    """The place of each public function and class, itself, and what is said of it, if anything."""
    found = []
    for path in FILES:
        place = path.relative_to(ROOT).as_posix()
        for node in public(ast.parse(path.read_text(encoding="utf-8"))):
            if said := ast.get_docstring(node):
                about = f"{place}:{node.lineno} {node.name}"
                found.append((about, node, said))
    assert len(found) > 300
    return found


def test_a_function_says_in_the_imperative_what_it_does(docstrings) -> None:
    found = [
        f"{place}: {said.splitlines()[0]}"
        for place, node, said in docstrings
        if isinstance(node, ast.FunctionDef) and not VERBS.match(said)
    ]
    assert not found, f"begin with an imperative verb, one of VERBS or a new one: {found}"


def test_the_first_paragraph_is_a_sentence(docstrings) -> None:
    firsts = [(place, said.split("\n\n")[0]) for place, _, said in docstrings]
    found = [
        f"{place}: {first}"
        for place, first in firsts
        if not re.match(r"[A-Z`]", first) or first[-1] not in ".:"
    ]
    assert not found, f"a capital letter first, a period last: {found}"


def test_no_docstring_needs_another_line_to_be_read(docstrings) -> None:
    found = [
        f"{place}: {said[max(0, match.start() - 40) : match.end() + 10]!r}"
        for place, _, said in docstrings
        if (match := UNCLEAR.search(said))
    ]
    assert not found

"""The rooms of the package see only those that the README's map lets them see."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cxrgan_fast"
COMPILED = {"_C", "kernels"}


def map_of_rooms(readme: str) -> dict[str, set[str]]:
    """What each room may see, by a table like the README's."""
    rows = re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", readme, re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", seen)) for room, seen in rows}


def imported(source: str) -> Iterator[str]:
    """Modules of the package that a source imports anywhere in it, in functions as well."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "an import relative to the folder above hides what is seen"
            if node.level == 1:
                continue  # of the same folder
            assert node.module is not None
            # `from cxrgan_fast import ops` names a room as well.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "cxrgan_fast" else [node.module]


def rooms_in(source: str, rooms: set[str]) -> set[str]:
    parts = (name.split(".") for name in imported(source))
    return {p[1] for p in parts if p[0] == "cxrgan_fast" and len(p) > 1 and p[1] in rooms}


ROOMS = map_of_rooms((ROOT / "README.md").read_text())


def test_the_map_has_every_room():
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - COMPILED
    assert set(ROOMS) == there


def test_nobody_sees_in_a_circle():
    left = {room: seen - COMPILED for room, seen in ROOMS.items()}
    while left:
        ground = {room for room, seen in left.items() if not seen & left.keys()}
        assert ground, f"these see each other: {sorted(left)}"
        left = {room: seen for room, seen in left.items() if room not in ground}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_sees_what_the_map_says(room):
    seen: dict[str, set[str]] = {}
    for file in sorted((PACKAGE / room).rglob("*.py")):
        for other in rooms_in(file.read_text(), ROOMS.keys() | COMPILED) - {room}:
            seen.setdefault(other, set()).add(file.relative_to(PACKAGE).as_posix())
    beyond = {other: sorted(files) for other, files in seen.items() if other not in ROOMS[room]}
    assert not beyond, f"{room} sees what the README's map does not let it see"
    assert set(seen) == ROOMS[room], "the README's map lets it see more than it needs"


def test_git_ignores_no_source_of_the_package():
    """A pattern such as ``runs/`` for what a training leaves also means the room of that name."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout of git")
    sources = sorted(
        file for top in ("cxrgan_fast", "tests", "bench") for file in python_files(top)
    )
    names = "\n".join(file.relative_to(ROOT).as_posix() for file in sources)
    ask = ["git", "check-ignore", "--no-index", "--stdin"]
    found = subprocess.run(ask, input=names, cwd=ROOT, capture_output=True, text=True)
    assert (found.stdout, found.stderr, found.returncode) == ("", "", 1)  # 1: it ignores none


def python_files(top: str) -> Iterator[Path]:
    for file in (ROOT / top).rglob("*.py"):
        if not file.is_relative_to(PACKAGE / "kernels"):  # installed there, not written there
            yield file


def test_the_modules_outside_of_rooms_are_commands_or_know_no_room():
    for file in sorted(PACKAGE.glob("*.py")):
        source = file.read_text()
        is_command = 'if __name__ == "__main__":' in source
        assert is_command or not rooms_in(source, set(ROOMS)), file.name


def test_no_room_sees_a_command():
    commands = {
        file.stem for file in PACKAGE.glob("*.py") if '__name__ == "__main__"' in file.read_text()
    }
    assert {"train", "generate", "evaluate", "env"} <= commands
    for room in ROOMS:
        for file in (PACKAGE / room).rglob("*.py"):
            assert not rooms_in(file.read_text(), commands), file


def test_kernels_know_only_themselves():
    for file in (ROOT / "kernels").glob("*.py"):
        assert rooms_in(file.read_text(), set(ROOMS) | COMPILED) <= {"kernels"}, file.name


def test_the_reference_program_knows_only_the_data():
    files = list((ROOT / "bench").glob("reference_*.py"))
    seen = {name for file in files for name in imported(file.read_text())}
    of_package = {name for name in seen if name.split(".")[0] == "cxrgan_fast"}
    assert of_package == {"cxrgan_fast.data", "cxrgan_fast.errors"}  # whose UserError it raises
    of_bench = {name for name in seen if name.split(".")[0] == "bench"}
    assert of_bench <= {f"bench.{file.stem}" for file in files}


def test_the_map_is_read_and_imports_are_found():
    assert map_of_rooms("| `gan/` | losses | `ops`, `nn` |\n| other | `x` |\n") == {
        "gan": {"ops", "nn"}
    }
    source = (
        "import cxrgan_fast.ops\nfrom cxrgan_fast.data.packed import a\n"
        "def f():\n    from cxrgan_fast import nn, errors\n"
    )
    assert rooms_in(source, {"ops", "data", "nn"}) == {"ops", "data", "nn"}

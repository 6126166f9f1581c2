"""What is built here runs elsewhere: no instruction that a processor may lack outside its level."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrgan_fast.ops.backend import load_native

pytestmark = pytest.mark.long  # compiles

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SOURCES = sorted(each.name for each in (CSRC / "cpu").glob("*.cpp"))
ON_X86 = platform.machine() in ("x86_64", "AMD64")

core, why_not = load_native()


def x86_compiler() -> list[str]:
    name = os.environ.get("CXX") or "c++"
    if not ON_X86 or shutil.which(name) is None:
        pytest.skip(f"no {name} for x86-64 here")
    return [name, "-march=x86-64", "-mno-avx"]


def aarch64_compiler() -> list[str]:
    if shutil.which("aarch64-linux-gnu-g++"):
        return ["aarch64-linux-gnu-g++"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu"]
    pytest.skip(
        "no compiler for aarch64 here: neither aarch64-linux-gnu-g++ nor `pip install ziglang`"
    )


def compile_baseline(compiler: list[str], source: str, to: Path) -> None:
    command = [
        *compiler, "-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-DCXRGAN_SIMD=baseline",
        f"-I{CSRC}", f"-I{CSRC / 'include'}",
        "-c", str(CSRC / "cpu" / source), "-o", str(to),
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def instructions(binary: Path | str) -> Iterator[tuple[str, str]]:
    """(function, instruction) of everything in a binary; functions by their demangled names."""
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("no objdump here")
    run = subprocess.run(
        [objdump, "-d", "-C", "--no-show-raw-insn", str(binary)],
        capture_output=True,
        text=True,
        check=True,
    )
    function = ""
    for line in run.stdout.splitlines():
        if line.endswith(">:"):
            function = line.split(" ", 1)[1].strip("<>:")
        elif "\t" in line:
            yield function, line.split("\t", 1)[1]


def is_vex(instruction: str) -> bool:
    """Whether it came with AVX or later: their names start with v."""
    return instruction.startswith("v") and not instruction.startswith("ver")


@pytest.mark.parametrize("source", SOURCES)
def test_compiles_for_baseline_x86_64(source: str, tmp_path: Path) -> None:
    compile_baseline(x86_compiler(), source, tmp_path / "object.o")
    assert not [each for each in instructions(tmp_path / "object.o") if is_vex(each[1])]


@pytest.mark.parametrize("source", SOURCES)
def test_compiles_for_aarch64(source: str, tmp_path: Path) -> None:
    compile_baseline(aarch64_compiler(), source, tmp_path / "object.o")
    assert (tmp_path / "object.o").read_bytes()[18:20] == b"\xb7\x00"  # the machine of the ELF file


# The registers that a level may use at most, and those that show that it does.
REGISTERS = {"baseline": "xmm", "avx2": "ymm", "avx512": "zmm"}


@pytest.mark.skipif(core is None, reason=why_not)
@pytest.mark.skipif(not ON_X86, reason="levels are built for x86-64 only")
def test_every_level_keeps_to_its_instructions() -> None:
    """A function that the linker merges across levels would crash where the higher is not."""
    assert core is not None
    levels = core.build_info()["simd_levels"]
    longest_first = "|".join(sorted(levels, key=len, reverse=True))
    of_level = re.compile(rf"cxrgan(?:::|\d+)({longest_first})")  # demangled, or as it is
    widest: dict[str, set[str]] = {}
    outside = set()
    for function, instruction in instructions(str(core.__file__)):
        found = of_level.search(function)
        level = found.group(1) if found else ""
        registers = widest.setdefault(level, set())
        registers.update(re.findall(r"%([xyz]mm)", instruction))
        if not level.startswith("avx") and is_vex(instruction):
            outside.add(function)
    if "baseline" not in widest:
        pytest.skip("the extension has been stripped of its functions' names")
    assert not outside
    assert set(widest) - {""} == set(levels)
    for level, registers in widest.items():
        if level:
            assert max(registers) == REGISTERS[level.split("_")[0]], level

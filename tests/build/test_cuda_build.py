"""The CUDA kernels as nvcc compiles them: no warnings, no spills, whole packets at once."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pybind11 import get_cmake_dir

pytestmark = pytest.mark.long  # compiles

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
SOURCES = sorted((CSRC / "cuda").glob("*.cu"))

# What ptxas -v says of a kernel for an architecture.
USAGE = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)' for '(?P<architecture>\w+)'"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads",
    re.DOTALL,
)


# The kernels are fitted to the registers of what they have been tuned for. For these ptxas keeps
# some bytes of a few kernels in memory, and moves them a few times.
STACK = {"sm_100": 64, "sm_120": 64}
MOVES = 4


@functools.cache
def architectures() -> list[str]:
    """Those that CMake builds for by default, such as 75-real; without a suffix, PTX too."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["cmake", "-S", str(ROOT), "-B", folder, f"-Dpybind11_DIR={get_cmake_dir()}",
                   f"-DPython_EXECUTABLE={sys.executable}"]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = re.search(r"-- CUDA architectures: (.*)", run.stdout)
    assert found is not None, run.stdout
    return found.group(1).split()


def run_nvcc(source: Path, *options: str) -> str:
    """Compile; what nvcc and ptxas wrote."""
    nvcc = shutil.which("nvcc")
    assert nvcc is not None
    command = [
        nvcc, "-std=c++17", "-O3", f"-I{CSRC}", f"-I{CSRC / 'include'}",
        "-Xcompiler=-Wall,-Wextra", "-Werror=all-warnings", *options, str(source),
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What compiling each source for every architecture printed."""
    if shutil.which("nvcc") is None:
        pytest.skip("no CUDA compiler (nvcc) here")
    folder = tmp_path_factory.mktemp("cuda")
    targets = []
    for each in architectures():
        number = each.removesuffix("-real")
        targets.append(f"-gencode=arch=compute_{number},code=sm_{number}")

    def compile_for_all(source: Path) -> str:
        to = folder / f"{source.stem}.o"
        return run_nvcc(source, *targets, "-Xptxas", "-v", "-c", "-o", str(to))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        printed = pool.map(compile_for_all, SOURCES)
        return {source.name: each for source, each in zip(SOURCES, printed, strict=True)}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_compiles_without_warnings_or_spills(source: Path, outputs: dict[str, str]) -> None:
    printed = outputs[source.name]
    assert "warning" not in printed
    usages = list(USAGE.finditer(printed))
    kernels = {usage["kernel"] for usage in usages}
    assert bool(kernels) == ("__global__" in source.read_text() or "_kernel<" in source.read_text())
    assert len(usages) == len(kernels) * len(architectures())
    for usage in usages:
        most = STACK.get(usage["architecture"], 0)
        assert int(usage["stack"]) <= most, usage[0]
        assert int(usage["stores"]) + int(usage["loads"]) <= MOVES * most, usage[0]


@pytest.mark.parametrize(
    "source",
    ["bias_leaky_relu.cu", "conditional_batch_norm.cu", "conditional_batch_norm_backward.cu"],
)
def test_packets_are_16_bytes(source: str, tmp_path: Path) -> None:
    """Every kernel of images with packets of more than one value loads and stores them whole."""
    if shutil.which("nvcc") is None:
        pytest.skip("no CUDA compiler (nvcc) here")
    ptx = tmp_path / "kernels.ptx"
    run_nvcc(CSRC / "cuda" / source, "-arch=compute_75", "-ptx", "-o", str(ptx))
    kernels = ptx.read_text().split(".entry ")[1:]
    checked = 0
    for kernel in kernels:
        name = kernel.split("(")[0].strip()
        view = re.search(r"4ViewI\w+?Li([148])ELb", name)
        if view is None or view[1] == "1":
            continue
        assert re.search(r"ld\.(global|local)?\S*v(4\.[bufs]32|2\.[bufs]64)", kernel), name
        if "statistics_kernel" not in name and "backward_reduce_kernel" not in name:
            assert re.search(r"st\.(global)\S*v(4\.[bufs]32|2\.[bufs]64)", kernel), name
        checked += 1
    assert checked >= 6  # two layouts, three dtypes

"""How the extension is built: what setup.py does without a compiler, and what is in the product."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cxrgan_fast.ops.backend import load_native

pytest.importorskip("setuptools")

ROOT = Path(__file__).resolve().parents[2]

core, why_not = load_native()
needs_native = pytest.mark.skipif(core is None, reason=why_not)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what a build reads, so that nothing is written into the tree."""
    for name in ("setup.py", "pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    shutil.copytree(
        ROOT / "cxrgan_fast",
        tmp_path / "cxrgan_fast",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    return tmp_path


def run_setup(source: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", *command],
        cwd=source,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler_nothing_is_compiled(source: Path, tmp_path: Path) -> None:
    # An empty PATH: no compiler, no cmake.
    run = run_setup(source, "build", "--build-lib", "out", CXRGAN_NATIVE="0", PATH=str(tmp_path))
    assert run.returncode == 0, run.stderr
    built = {each.relative_to(source / "out") for each in (source / "out").rglob("*")}
    assert not [each for each in built if each.suffix == ".so"]
    # Every module is packaged, and the marker of types.
    modules = {each.relative_to(source) for each in (source / "cxrgan_fast").rglob("*.py")}
    assert modules <= built
    assert Path("cxrgan_fast/py.typed") in built
    assert Path("cxrgan_fast/_C.pyi") in built


@pytest.mark.parametrize("variables", [{}, {"CXX": "no-such-compiler"}])
def test_a_missing_compiler_is_named_with_the_way_out(
    source: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    run = run_setup(source, "build_ext", PATH=str(tmp_path), **variables)
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert "no C++ compiler found" in last
    assert variables.get("CXX", "g++") in last
    assert "CXRGAN_NATIVE=0" in last


@pytest.mark.long
def test_a_failed_build_names_the_way_out(source: Path) -> None:
    pytest.importorskip("pybind11")  # with build isolation it is gone after the installation
    (source / "csrc" / "bindings.cpp").write_text("#error broken\n")
    run = run_setup(source, "build_ext", CXRGAN_CUDA_ARCHS="none")
    assert run.returncode != 0
    assert "broken" in run.stdout + run.stderr or not shutil.which("cmake")
    assert "CXRGAN_NATIVE=0" in run.stderr.strip().splitlines()[-1]


def test_knows_neither_torch_nor_python_but_in_the_bindings() -> None:
    for path in (ROOT / "csrc").rglob("*.*"):
        includes = [line for line in path.read_text().splitlines() if line.startswith("#include")]
        assert not [line for line in includes if "torch" in line or "ATen" in line], path
        if not path.name.startswith("bindings"):
            assert not [line for line in includes if "Python.h" in line or "pybind" in line], path


@needs_native
def test_links_no_openmp_runtime_of_its_own() -> None:
    assert core is not None
    dynamic = subprocess.run(
        ["readelf", "-d", str(core.__file__)], capture_output=True, text=True, check=False
    )
    if dynamic.returncode != 0:
        pytest.skip("no readelf here")
    needed = [line for line in dynamic.stdout.splitlines() if "NEEDED" in line]
    assert needed
    assert not [line for line in needed if "omp" in line or "torch" in line or "libcuda" in line]


def test_numbers_of_an_op_are_fields_of_its_struct() -> None:
    """A number that launchers take one by one is in every file between the binding and a kernel."""
    steps, by_themselves = 0, []
    for path in [*(ROOT / "csrc" / "include").rglob("*.h"), *(ROOT / "csrc").rglob("*_kernels.h")]:
        code = re.sub(r"//.*", "", path.read_text())
        for arguments in re.findall(r"\(const \w+& (?:op|batch)\b([^()]*)\)", code):
            steps += 1
            numbers = re.findall(r"\b(?:float|double) \w+", arguments)
            by_themselves += [f"{path.name}: {number}" for number in numbers]
    assert steps > 20
    assert not by_themselves


def test_every_function_of_the_core_is_in_the_build() -> None:
    # An extension that refers to what was not compiled does not load, and every test skips itself.
    found = importlib.util.find_spec("cxrgan_fast._C")
    if found is None or found.origin is None:
        pytest.skip("no extension here")
    symbols = subprocess.run(
        ["nm", "-uC", found.origin], capture_output=True, text=True, check=False
    )
    if symbols.returncode != 0:
        pytest.skip("no nm here")
    assert "PyErr_" in symbols.stdout
    assert "cxrgan::" not in symbols.stdout


IMAGES = 0, 0, 1, 1, 1  # float32, contiguous, one of one pixel
GPU = 0, 0  # the first one's default stream


def norm(core: Any) -> Any:
    return core.ConditionalBatchNorm(*IMAGES, 1e-5, 0.2, 1, 0, 0, 0, *GPU, 0)


CALLS_OF_A_GPU: dict[str, Callable[[Any], object]] = {
    "cuda_devices": lambda core: core.cuda_devices(),
    "bias_leaky_relu": lambda core: core.bias_leaky_relu(*IMAGES, 0.2, 1.0, 0, 0, 0, *GPU),
    "workspace": lambda core: core.bias_leaky_relu_workspace(*IMAGES, 0),
    "loss": lambda core: core.generator_loss(0, 0, 1, 0, 0, 0, (0, 0), *GPU),
    "given_statistics": lambda core: core.given_statistics(1, 1e-5, 0, 0, 0, *GPU),
    "paths": lambda core: norm(core).paths(0),
    "linear": lambda core: core.AugmentedBatch(0, 1, 1, 1, 1, 0, 0, 0, 0, *GPU).linear(*[0] * 6),
}


@needs_native
@pytest.mark.parametrize("call", CALLS_OF_A_GPU)
def test_a_build_without_cuda_says_so(call: str) -> None:
    assert core is not None
    if core.build_info()["cuda_compiler"]:
        pytest.skip("CUDA is in this build")
    with pytest.raises(RuntimeError, match="no CUDA in it"):
        CALLS_OF_A_GPU[call](core)
    assert "no CUDA in it" in core.cuda_probe_error(0)


@needs_native
def test_a_machine_without_a_driver_gets_an_error_it_can_catch() -> None:
    assert core is not None
    if torch.cuda.is_available():
        pytest.skip("there is a driver here")
    with pytest.raises(RuntimeError, match=r"CUDA|driver"):
        core.cuda_devices()

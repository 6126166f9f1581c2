"""How the stand-in for the CUDA runtime, tests/cuda_standin, compiles csrc without nvcc."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cuda_standin import building

pytestmark = pytest.mark.long  # compiles

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "cuda_standin"
CACHE = ROOT / "build" / "cuda_standin"  # `make clean` removes it


def available(make: Callable[[], Path]) -> Path:
    """What make builds; skips with the reason where nothing can be built."""
    try:
        return make()
    except building.UnavailableError as error:
        pytest.skip(str(error))


def test_only_what_changed_is_compiled(tmp_path: Path) -> None:
    header, one, two = (tmp_path / name for name in ("common.cuh", "one.cu", "two.cu"))
    header.write_text("inline int number() { return 1; }\n")
    one.write_text('#include "common.cuh"\nint one() { return number(); }\n')
    two.write_text("int two() { return 2; }\n")

    def objects() -> set[str]:
        sources = [building.kernel(one), building.kernel(two)]
        available(lambda: building.link(sources, tmp_path / "cache", "library.so"))
        return {each.name for each in (tmp_path / "cache").glob("*.o")}

    first = objects()
    assert len(first) == 2
    assert objects() == first
    two.write_text("int two() { return 3; }\n")
    second = objects()
    assert [name[:4] for name in second - first] == ["two-"]
    header.write_text("inline int number() { return 4; }\n")
    assert [name[:4] for name in objects() - second] == ["one-"]


def test_what_does_not_compile_is_said(tmp_path: Path) -> None:
    source = tmp_path / "broken.cu"
    source.write_text("#include <cuda_runtime.h>\n__global__ void broken() { __nanosleep(1); }\n")
    available(lambda: Path(building.compiler()[0]))
    with pytest.raises(building.CompileError, match="__nanosleep"):
        building.link([building.kernel(source)], tmp_path / "cache", "library.so")


def test_no_compiler_is_a_reason_to_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(building.UnavailableError, match=r"looked for c\+\+, g\+\+, clang\+\+"):
        building.build(ROOT / "csrc", tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(building.UnavailableError, match="no-such-compiler"):
        building.build(ROOT / "csrc", tmp_path)


def test_the_whole_extension_is_built_and_loaded_beside_the_real_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = building.load(available(lambda: building.build(ROOT / "csrc", CACHE)))
    monkeypatch.setenv("CXRGAN_STANDIN_DEVICE", "sms=7,cc=80")
    (device,) = core.cuda_devices()
    assert device["compute_capability"] == (8, 0)
    assert device["multiprocessors"] == 7
    assert device["runs_our_code"]
    assert core.build_info()["simd_levels"] == ["baseline"]
    assert "cxrgan_fast._C" not in sys.modules or sys.modules["cxrgan_fast._C"] is not core


@pytest.mark.parametrize("flag", ["", "-DCXRGAN_STANDIN_UCONTEXT"], ids=["assembly", "ucontext"])
@pytest.mark.parametrize("source", sorted(path.name for path in FOLDER.glob("*.cpp")))
def test_compiles_for_aarch64(source: str, flag: str, tmp_path: Path) -> None:
    if shutil.which("aarch64-linux-gnu-g++"):
        compiler = ["aarch64-linux-gnu-g++"]
    elif importlib.util.find_spec("ziglang"):
        compiler = [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu"]
    else:
        pytest.skip("no compiler for aarch64 here: `pip install ziglang`")
    command = [*compiler, *building.FLAGS, *filter(None, [flag]), f"-I{FOLDER}", "-c"]
    run = subprocess.run(
        [*command, str(FOLDER / source), "-o", str(tmp_path / "object.o")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr

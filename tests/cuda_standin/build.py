"""Compiles csrc, CUDA kernels included, with the host's C++ compiler against the stand-in here.

What comes out is an extension module like ``cxrgan_fast._C`` whose kernels take CPU addresses.

    python tests/cuda_standin/build.py csrc build/cuda_standin    prints the module's path
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent

FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-pthread")

# nvcc's C++ may look at 16 bytes of half precision through any pointer. A device traps at an
# address that is not a multiple of what it loads; so does the code compiled here (by clang not
# where a whole struct is copied).
KERNEL_FLAGS = (
    "-x", "c++", "-fno-strict-aliasing", "-ffp-contract=off", "-Wno-unknown-pragmas",
    "-fsanitize=alignment", "-fsanitize-undefined-trap-on-error", f"-I{HERE}",
)  # fmt: skip

JOBS = 2


class UnavailableError(RuntimeError):
    """Why nothing can be compiled here; tests skip with it."""


class CompileError(RuntimeError):
    """What the compiler had to say."""


@dataclass(frozen=True)
class Source:
    """A file and the flags it is compiled with."""

    path: Path
    flags: tuple[str, ...]


def compiler() -> list[str]:
    """The command of the C++ compiler: CXX, else the first of the usual names.

    Raises:
        UnavailableError: there is none.
    """
    named = os.environ.get("CXX", "").split()
    candidates = [named] if named else [["c++"], ["g++"], ["clang++"]]
    for command in candidates:
        if shutil.which(command[0]):
            return command
    looked_for = ", ".join(command[0] for command in candidates)
    raise UnavailableError(f"no C++ compiler here (looked for {looked_for})")


def standin(*flags: str) -> list[Source]:
    """The stand-in's own sources."""
    return [Source(path, (*FLAGS, f"-I{HERE}", *flags)) for path in sorted(HERE.glob("*.cpp"))]


def kernel(path: Path, *flags: str) -> Source:
    """A .cu file that is to run on the stand-in."""
    return Source(path, (*FLAGS, *KERNEL_FLAGS, *flags))


def link(sources: Sequence[Source], cache: Path, name: str) -> Path:
    """Compile what is not yet in cache, and link all into a shared library.

    Args:
        sources: what to compile.
        cache: a folder for the objects, and for each library a folder named after its contents,
            so that none is replaced while a process has it loaded.
        name: the library's file name.

    Raises:
        CompileError: a source does not compile, or they do not link.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(JOBS) as pool:
        objects = list(pool.map(lambda source: _object(source, cache), sources))
    key = _digest(" ".join(compiler()), *(each.name for each in objects))
    library = cache / key / name
    if not library.exists():
        library.parent.mkdir(exist_ok=True)
        flags = ["-shared", "-pthread", *map(str, objects), "-ldl"]
        _write(library, [*compiler(), *flags])
    return library


def build(csrc: Path, out: Path) -> Path:
    """Compile a whole csrc into an importable module ``_C`` below out.

    Objects stay in out: what has not changed since, in whichever copy of csrc, is not compiled
    again.

    Raises:
        UnavailableError: there is no C++ compiler or no pybind11 here.
        CompileError: csrc does not compile.
    """
    sources = [*_host_sources(csrc), *standin()]
    include = (f"-I{csrc}", f"-I{csrc / 'include'}")
    sources += [kernel(path, *include) for path in sorted((csrc / "cuda").glob("*.cu"))]
    return link(sources, out, "_C" + sysconfig.get_config_var("EXT_SUFFIX"))


def why_not() -> str:
    """Say why the stand-in cannot be built here, or ""."""
    try:
        compiler()
        _python_flags()
    except UnavailableError as reason:
        return str(reason)
    return ""


@functools.cache
def load(path: Path) -> ModuleType:
    """Import what build made, beside the package's own ``_C`` and other builds."""
    # The last part of the name is what the extension's entry point is called after.
    spec = importlib.util.spec_from_file_location(f"cuda_standin_{path.parent.name}._C", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _python_flags() -> tuple[str, ...]:
    """Where the headers lie that the bindings include."""
    if importlib.util.find_spec("pybind11") is None:
        raise UnavailableError("no pybind11 here: pip install pybind11")
    import pybind11

    python = sysconfig.get_paths()["include"]
    if not (Path(python) / "Python.h").exists():
        raise UnavailableError(f"no headers of Python in {python}")
    return f"-I{python}", f"-I{pybind11.get_include()}"


def _host_sources(csrc: Path) -> list[Source]:
    """What CMakeLists.txt compiles with the C++ compiler, at the lowest SIMD level."""
    flags = (
        *FLAGS, "-ffp-contract=fast", "-DCXRGAN_SIMD=baseline",
        f"-I{csrc}", f"-I{csrc / 'include'}", *_python_flags(),
        '-DCXRGAN_COMPILER="for tests"', '-DCXRGAN_CUDA_COMPILER="a stand-in on the CPU"',
        '-DCXRGAN_CUDA_ARCHITECTURES=""', "-DCXRGAN_CUDA",
    )  # fmt: skip
    paths = [*sorted(csrc.glob("bindings*.cpp")), *sorted((csrc / "cpu").glob("*.cpp"))]
    return [Source(path, flags) for path in paths]


def _object(source: Source, cache: Path) -> Path:
    """The source's object file, named after everything that it is made of."""
    preprocessed = _run([*compiler(), *source.flags, "-E", "-P", str(source.path)])
    # Where the headers lie shows in what they add, and nowhere else.
    flags = [flag for flag in source.flags if not flag.startswith("-I")]
    key = _digest(_compiler_version(), *flags, preprocessed)
    result = cache / f"{source.path.stem}-{key}.o"
    if not result.exists():
        _write(result, [*compiler(), *source.flags, "-c", str(source.path)])
    return result


@functools.cache
def _version(*command: str) -> str:
    return _run([*command, "--version"])


def _compiler_version() -> str:
    return _version(*compiler())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _write(to: Path, command: list[str]) -> None:
    """Run a command that writes a file; another process never sees half of it."""
    with tempfile.TemporaryDirectory(dir=to.parent) as folder:
        part = Path(folder) / to.name
        _run([*command, "-o", str(part)])
        part.replace(to)


def _run(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise CompileError(f"{' '.join(command)}\n{run.stderr}")
    return run.stdout


if __name__ == "__main__":
    print(build(Path(sys.argv[1]), Path(sys.argv[2])))

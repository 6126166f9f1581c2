"""Builds cxrgan_fast._C with CMake; everything else about the package is in pyproject.toml.

CXRGAN_NATIVE=0        no extension: no compiler is needed, and the ops run in plain PyTorch. The
                       default elsewhere than on Linux, whose way to PyTorch's threads it takes.
CXRGAN_CUDA_ARCHS      CUDA architectures, such as "80;90", or "none" to build without CUDA. By
                       default that of the GPU present, else a list of common ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
WITHOUT = (
    "Set CXRGAN_CUDA_ARCHS=none to build without CUDA, or CXRGAN_NATIVE=0 to install without the "
    "extension; the ops then run in plain PyTorch."
)


class CMakeBuild(build_ext):
    """Configures, builds and installs the extension's CMake project."""

    def build_extension(self, ext: Extension) -> None:
        """Leave the built module where setuptools expects it."""
        require_compiler()
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        options = [
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCXRGAN_CUDA_ARCHS={cuda_architectures()}",
            "-DCMAKE_BUILD_TYPE=Release",
        ]
        ninja = shutil.which("ninja")
        if ninja:
            # Named anew each time: a build folder remembers that of an isolated build, long gone.
            options += ["-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        run("cmake", "-S", str(ROOT), "-B", str(build), *options)
        run("cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1))
        run("cmake", "--install", str(build), "--prefix", str(target))


def require_compiler() -> None:
    """Stop with a line that says what to do where there is no C++ compiler."""
    named = os.environ.get("CXX", "").split()
    candidates = named[:1] or ["c++", "g++", "clang++"]
    if not any(shutil.which(each) for each in candidates):
        looked_for = ", ".join(candidates)
        raise SystemExit(f"error: no C++ compiler found (looked for {looked_for}). {WITHOUT}")


def run(*command: str) -> None:
    """Run a step of the build, or stop with what to do instead."""
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"error: building cxrgan_fast._C failed: {error}. {WITHOUT}") from None


def cuda_architectures() -> str:
    """CXRGAN_CUDA_ARCHS, else those of the GPUs present, else "" for the defaults."""
    wanted = os.environ.get("CXRGAN_CUDA_ARCHS", "")
    if wanted:
        return wanted.replace(",", ";").replace(" ", ";")
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, check=True, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    capabilities = {line.strip().replace(".", "") for line in answer.stdout.splitlines()}
    return ";".join(sorted(each for each in capabilities if each.isdigit()))


packages = find_packages(include=["cxrgan_fast", "cxrgan_fast.*"])
package_dir: dict[str, str] = {}
if (ROOT / "kernels" / "__init__.py").exists():
    packages.append("cxrgan_fast.kernels")  # never installed as a top-level `kernels`
    package_dir["cxrgan_fast.kernels"] = "kernels"

native = os.environ.get("CXRGAN_NATIVE", "1" if sys.platform == "linux" else "0") != "0"
setup(
    packages=packages,
    package_dir=package_dir,
    package_data={
        "cxrgan_fast": ["py.typed", "*.pyi"],
        "cxrgan_fast.metrics": ["weights/*.safetensors"],
        "cxrgan_fast.studies": ["*.html", "*.yaml"],
    },
    ext_modules=[Extension("cxrgan_fast._C", sources=[])] if native else [],
    cmdclass={"build_ext": CMakeBuild},
)

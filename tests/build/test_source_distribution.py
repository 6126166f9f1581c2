"""The source distribution, from which pip builds where there is no wheel: is all of it there?"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution of the files that git tracks, unpacked."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("out")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if tracked.returncode:
        pytest.skip("this is no git checkout: which files belong to the source is not known")
    for name in tracked.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    setup(tree, "-q", "sdist", "--dist-dir", str(out))
    (archive,) = out.iterdir()
    with tarfile.open(archive) as file:
        file.extractall(out, filter="data")
    return out / archive.name.removesuffix(".tar.gz")


def setup(folder: Path, *words: str, **variables: str) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", *words],
        cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def files(folder: Path) -> set[Path]:
    kinds = (each for each in folder.rglob("*") if each.is_file() and each.suffix != ".so")
    return {each.relative_to(folder) for each in kinds if "__pycache__" not in each.parts}


def test_it_has_what_the_build_reads(unpacked: Path) -> None:
    for name in ("setup.py", "pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()
    assert (unpacked / "constraints.txt").exists()
    for name in ("csrc", "kernels"):
        assert files(unpacked / name) == files(ROOT / name)


def test_what_is_built_from_it_has_all_of_the_package(unpacked: Path) -> None:
    setup(unpacked, "-q", "build", "--build-lib", "out", CXRGAN_NATIVE="0")
    ours = files(ROOT / "cxrgan_fast")
    ours = {each for each in ours if each.parts[0] != "kernels"}
    ours |= {Path("kernels") / each for each in files(ROOT / "kernels")}
    assert files(unpacked / "out" / "cxrgan_fast") == ours


@pytest.mark.slow
def test_its_extension_compiles_and_runs(unpacked: Path) -> None:
    setup(unpacked, "-q", "build", "--build-lib", "compiled", CXRGAN_CUDA_ARCHS="none")
    program = (
        "import torch, cxrgan_fast; from cxrgan_fast.ops import bias_leaky_relu, use_backend\n"
        "with use_backend('native'):\n"
        "    output = bias_leaky_relu(-torch.ones(1, 2, 3, 3), torch.zeros(2))\n"
        "print(cxrgan_fast.__file__, output.sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=unpacked / "compiled", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    place, total = done.stdout.split()
    assert Path(place).is_relative_to(unpacked / "compiled")
    assert float(total) == pytest.approx(-18 * 0.2)

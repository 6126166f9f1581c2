"""A backend that cannot be imported is a reason that env gives; everything else goes on."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cxrgan_fast.ops import backend

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = "cxrgan_fast._C"


class Loads(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the extension, and fails to load it, or loads an empty module."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def find_spec(self, name, path=None, target=None):
        """See `importlib.abc.MetaPathFinder`."""
        return importlib.util.spec_from_loader(name, self) if name == EXTENSION else None

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader`."""
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImportError("undefined symbol: x\nmore"), "(ImportError: undefined symbol: x)"),
        (ModuleNotFoundError("No module named 'numpy'", name="numpy"), "No module named 'numpy')"),
        (OSError("libgomp.so.1: cannot open"), "(OSError: libgomp.so.1: cannot open)"),
        (SystemError("initialization of _C raised"), "(SystemError: initialization of _C raised)"),
        (RuntimeError(), "(RuntimeError)"),
        # One that another version of the package was built for.
        (None, "(AttributeError: module 'cxrgan_fast._C' has no attribute 'borrow_openmp_of')"),
    ],
    ids=repr,
)
def test_an_extension_that_fails_to_load_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, reason: str
) -> None:
    monkeypatch.setattr(sys, "meta_path", [Loads(error), *sys.meta_path])
    monkeypatch.delitem(sys.modules, EXTENSION, raising=False)
    module, why = backend.load_native.__wrapped__()
    assert module is None
    assert why.startswith("the C++ extension cannot be loaded (")
    assert why.endswith(reason)
    assert "\n" not in why


def test_a_damaged_extension_is_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By Python's own loader: what is left of a build that ran out of disk."""
    path = tmp_path / ("_C" + importlib.machinery.EXTENSION_SUFFIXES[0])
    path.write_bytes(b"\x7fELF")

    class Damaged(Loads):
        def find_spec(self, name, path=None, target=None):
            if name != EXTENSION:
                return None
            return importlib.util.spec_from_file_location(name, damaged)

    damaged = path
    monkeypatch.setattr(sys, "meta_path", [Damaged(None), *sys.meta_path])
    monkeypatch.delitem(sys.modules, EXTENSION, raising=False)
    module, why = backend.load_native.__wrapped__()
    assert module is None
    assert "ImportError" in why
    assert path.name in why


def run(module: str, *arguments: str, preamble: str = "", **variables: str) -> str:
    """What `python -m module` printed, after a preamble in the same process."""
    source = f"{preamble}\nimport runpy\nrunpy.run_module({module!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments],
        env={**os.environ, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def triton_that(folder: Path, statement: str) -> dict[str, str]:
    """Variables with which a Triton of one statement is the one that Python finds."""
    (folder / "triton").mkdir()
    (folder / "triton" / "__init__.py").write_text(statement)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "TRITON_INTERPRET": "1"}


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("raise RuntimeError('0 active drivers')", "(RuntimeError: 0 active drivers)"),
        ("raise ImportError('GLIBC_2.38 not found')", "(ImportError: GLIBC_2.38 not found)"),
        ("import a_part_that_is_missing", "No module named 'a_part_that_is_missing')"),
        ("1 / 0", "(ZeroDivisionError: division by zero)"),
    ],
)
def test_a_triton_that_fails_to_import_is_the_reason(
    tmp_path: Path, statement: str, reason: str
) -> None:
    printed = run("cxrgan_fast.env", **triton_that(tmp_path, statement))
    (line,) = [line for line in printed.splitlines() if line.startswith("  triton ")]
    assert "does not run; not on cpu or cuda: Triton cannot be loaded " in line
    assert line.endswith(reason)


@pytest.mark.long
def test_training_goes_on_without_a_broken_triton(tmp_path: Path) -> None:
    """PyTorch's own optimizers would look for it, and fail."""
    flags = "--data phantom --phantom-images 8 --steps 1 --resolution 32 --base-channels 8"
    printed = run(
        "cxrgan_fast.train",
        *flags.split(), "--batch-size", "4", "--device", "cpu", "--out", str(tmp_path / "runs"),
        **triton_that(tmp_path, "raise RuntimeError('0 active drivers')"),
    )  # fmt: skip
    assert "samples: " in printed


DECORATOR_RAISES = """
from triton.runtime import Autotuner
def fail(self, *arguments, **options):
    raise RuntimeError("0 active drivers ([]). There should only be one.")
Autotuner.__init__ = fail
"""


@pytest.mark.long
def test_a_kernel_whose_decorator_raises_is_the_reason() -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed: `pip install triton`")
    printed = run("cxrgan_fast.env", preamble=DECORATOR_RAISES, TRITON_INTERPRET="1")
    assert "a Triton kernel cannot be loaded (RuntimeError: 0 active drivers ([])." in printed
    assert "cxrgan_fast.train" in run(
        "cxrgan_fast.train", "--help", preamble=DECORATOR_RAISES, TRITON_INTERPRET="1"
    )


@pytest.mark.parametrize(
    ("triton_version", "numpy_version", "fails"),
    [("3.6.0", "2.4.0", True), ("3.3.1", "2.4.6", True), ("3.6.0", "2.3.5", False),
     ("3.7.1", "2.4.6", False), ("3.10.0+git1", "3.0.0rc1", False)],
)  # fmt: skip
def test_an_interpreter_that_its_numpy_breaks_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, triton_version: str, numpy_version: str, fails: bool
) -> None:
    triton = pytest.importorskip("triton", reason="Triton is not installed: `pip install triton`")
    monkeypatch.setattr(triton, "__version__", triton_version)
    monkeypatch.setattr(np, "__version__", numpy_version)
    monkeypatch.setattr(backend, "triton_interpreter", lambda: True)
    reason = backend.load_triton.__wrapped__()
    assert bool(reason) == fails
    if fails:
        assert reason == (
            f"the interpreter of Triton {triton_version} fails with NumPy {numpy_version}; "
            "install triton>=3.7 or numpy<2.4"
        )

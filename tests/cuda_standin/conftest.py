"""The kernels of selftest.cu, built and called."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cuda_standin import building

FOLDER = Path(__file__).resolve().parent
CACHE = FOLDER.parents[1] / "build" / "cuda_standin"  # `make clean` removes it

ORDERS = ("forwards", "backwards", "1", "2", "eager")
"""Values of CXRGAN_STANDIN_ORDER."""

InEachOrder = Callable[[Callable[[], bool]], list[bool]]


@functools.cache
def build_selftest(*flags: str) -> Path:
    sources = [building.kernel(FOLDER / "selftest.cu"), *building.standin(*flags)]
    try:
        path: Path = building.link(sources, CACHE, "selftest.so")
    except building.UnavailableError as error:
        pytest.skip(str(error))
    return path


class Selftest:
    """Calls the functions of selftest.cu by name, with arrays and numbers.

    Each returns the name of a cudaError_t; message() has the text of the last one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.error_name.restype = ctypes.c_char_p
        self._library.error_text.restype = ctypes.c_char_p
        self._last = 0

    def __getattr__(self, name: str) -> Callable[..., str]:
        function = getattr(self._library, name)

        def call(*values: np.ndarray | int | float) -> str:
            self._last = function(*map(_argument, values))
            error: bytes = self._library.error_name(self._last)
            return error.decode()

        return call

    def message(self) -> str:
        """What cudaGetErrorString says of the last call's result."""
        text: bytes = self._library.error_text(self._last)
        return text.decode()


def _argument(value: np.ndarray | int | float) -> object:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_int64(
        value
    )  # where an int is wanted, the calling convention takes its low half


@pytest.fixture(params=["", "-DCXRGAN_STANDIN_UCONTEXT"], ids=["assembly", "ucontext"])
def cuda(request: pytest.FixtureRequest) -> Iterator[Selftest]:
    """The selftests, with both ways of switching between fibers."""
    selftest = Selftest(build_selftest(*filter(None, [request.param])))
    yield selftest
    selftest.reset()


@pytest.fixture(params=ORDERS)
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every order in which threads and blocks may take turns, in force."""
    name: str = request.param
    monkeypatch.setenv("CXRGAN_STANDIN_ORDER", name)
    return name


@pytest.fixture
def in_each_order(monkeypatch: pytest.MonkeyPatch) -> InEachOrder:
    """What a function returns in each of ORDERS."""

    def run(function: Callable[[], bool]) -> list[bool]:
        results = []
        for name in ORDERS:
            monkeypatch.setenv("CXRGAN_STANDIN_ORDER", name)
            results.append(function())
        return results

    return run

"""Which implementation of an op runs: native (C++/CUDA), triton, or reference (plain PyTorch).

``auto`` takes the first of :data:`BACKENDS` that can run on the tensor at hand. A backend that is
asked for by name is used or refused, never silently replaced. The choice holds for the whole
process; it is made when an op is called, and a gradient is computed by the backend that computed
the forward pass.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from cxrgan_fast.errors import UserError

BACKENDS = ("native", "triton", "reference")
"""Every backend, the fastest first."""

NATIVE_DTYPES = {
    torch.float32: "FLOAT32",
    torch.bfloat16: "BFLOAT16",
    torch.float16: "FLOAT16",
}
"""The image dtypes of the native kernels, and their names in the extension."""

BACKEND_VARIABLE = "CXRGAN_BACKEND"
"""The environment variable that chooses a backend where the program does not."""

_DEVICES = ("cpu", "cuda")

_selected = os.environ.get(BACKEND_VARIABLE) or "auto"  # checked when an op is called


@dataclass(frozen=True)
class BackendStatus:
    """Where one backend can run here."""

    runs_on: tuple[str, ...]
    """Device types of tensors that it takes, e.g. ``("cpu",)``."""
    why_not: dict[str, str]
    """For every other device type, the reason."""


@functools.cache
def load_native() -> tuple[ModuleType | None, str]:
    """Import the compiled extension: the module and "", or None and the reason why not."""
    try:
        module = importlib.import_module("cxrgan_fast._C")
    except ModuleNotFoundError:
        return None, "the C++ extension was not built (CXRGAN_NATIVE=0, or run `pip install -e .`)"
    except ImportError as error:
        return None, f"the C++ extension cannot be loaded: {error}"
    # Its loops run on PyTorch's own threads: a second pool would oversubscribe the cores.
    module.borrow_openmp_of(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    return module, ""


def native() -> ModuleType:
    """The compiled extension, for an op that choose_backend has sent there."""
    module, reason = load_native()
    if module is None:
        raise RuntimeError(reason)
    return module


@functools.cache
def _status(backend: str) -> BackendStatus:
    no_gpu = "" if torch.cuda.is_available() else "PyTorch sees no GPU here"
    if backend == "reference":
        if no_gpu:
            return BackendStatus(("cpu",), {"cuda": no_gpu})
        return BackendStatus(_DEVICES, {})
    if backend == "triton":
        reason = "the Triton kernels are not provided by this version"
        return BackendStatus((), dict.fromkeys(_DEVICES, reason))
    module, reason = load_native()
    if module is None:
        return BackendStatus((), dict.fromkeys(_DEVICES, reason))
    return BackendStatus(
        ("cpu",), {"cuda": no_gpu or "the CUDA kernels are not provided by this version"}
    )


def available_backends() -> dict[str, BackendStatus]:
    """Where each backend can run on this machine, and why not elsewhere."""
    return {backend: _status(backend) for backend in BACKENDS}


def check_backend(name: str, source: str) -> str:
    """Return name if it is a backend that can run here; source says where the name came from.

    Raises:
        UserError: it is not.
    """
    if name not in (*BACKENDS, "auto"):
        choices = ", ".join((*BACKENDS, "auto"))
        raise UserError(f"{source}: unknown backend {name!r}; expected one of {choices}")
    if name != "auto" and not _status(name).runs_on:
        reasons = "; ".join(dict.fromkeys(_status(name).why_not.values()))
        raise UserError(f"{source}: backend {name!r} cannot run here: {reasons}")
    return name


def selected_backend() -> str:
    """The backend asked for: by set_backend or use_backend, else by CXRGAN_BACKEND, else auto."""
    return _selected


def set_backend(name: str) -> None:
    """Choose the backend of every op from now on.

    Args:
        name: ``"native"``, ``"triton"``, ``"reference"`` or ``"auto"``.

    Raises:
        UserError: the name is unknown, or that backend cannot run on this machine.
    """
    global _selected
    _selected = check_backend(name, "set_backend")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose the backend of every op called in the block; see :func:`set_backend`."""
    global _selected
    before = _selected
    _selected = check_backend(name, "use_backend")
    try:
        yield
    finally:
        _selected = before


def choose_backend(tensor: torch.Tensor, op: str) -> str:
    """The backend that op runs on for this tensor.

    Raises:
        UserError: the backend asked for by name cannot take this tensor's device or dtype.
    """
    return _resolve(_selected, tensor.device.type, tensor.dtype, op)


# torch.compile takes the answer as a constant; it guards on _selected, and recompiles when it
# changes.
@torch.compiler.assume_constant_result
def _resolve(selected: str, device: str, dtype: torch.dtype, op: str) -> str:
    return _cached_resolve(selected, device, dtype, op)


@functools.cache
def _cached_resolve(selected: str, device: str, dtype: torch.dtype, op: str) -> str:
    if selected == "auto":
        return next(each for each in BACKENDS if not _why_not(each, device, dtype))
    reason = _why_not(check_backend(selected, BACKEND_VARIABLE), device, dtype)
    if reason:
        raise UserError(f"{op}: backend {selected!r} cannot take this input: {reason}")
    return selected


def _why_not(backend: str, device: str, dtype: torch.dtype) -> str:
    if backend == "reference":
        return ""  # plain PyTorch: wherever the tensor is
    status = _status(backend)
    if device not in status.runs_on:
        return status.why_not.get(device, f"it does not run on {device!r} tensors")
    if dtype not in NATIVE_DTYPES:
        return f"it takes float32, bfloat16 and float16, not {dtype}"
    return ""

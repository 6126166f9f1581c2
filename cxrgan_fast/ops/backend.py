"""Which implementation of an op runs: native (C++/CUDA), triton, or reference (plain PyTorch).

``auto`` takes the first of :data:`BACKENDS` that can run on the tensor; in an export to ONNX,
plain PyTorch. A backend that is asked for by name is used or refused, never silently replaced. The
choice holds for the whole process; it is made when an op is called, and a gradient is computed by
the backend that computed the forward pass.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError

if TYPE_CHECKING:
    from cxrgan_fast.ops.extension import Extension

BACKENDS = ("native", "triton", "reference")
"""Every backend, the fastest first."""

NATIVE_DTYPES = {
    torch.float32: "FLOAT32",
    torch.bfloat16: "BFLOAT16",
    torch.float16: "FLOAT16",
}
"""The image dtypes of the native and Triton kernels, and their names in the extension."""

BACKEND_VARIABLE = "CXRGAN_BACKEND"
"""The environment variable that chooses a backend where the program does not."""

_DEVICES = ("cpu", "cuda")
_EXTENSION = "cxrgan_fast._C"
_KERNELS = "cxrgan_fast.kernels"

_selected = os.environ.get(BACKEND_VARIABLE) or "auto"  # checked when an op is called


@dataclass(frozen=True)
class BackendStatus:
    """Where one backend can run here."""

    runs_on: tuple[str, ...]
    """Device types of tensors that it takes, e.g. ``("cpu",)``."""
    why_not: dict[str, str]
    """For every other device type, the reason."""


@functools.cache
def load_native() -> tuple[Extension | None, str]:
    """Import the compiled extension: the module and "", or None and the reason why not."""
    try:
        module = cast("Extension", importlib.import_module(_EXTENSION))
        # Its loops run on PyTorch's own threads: a second pool would oversubscribe the cores.
        module.borrow_openmp_of(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    except ModuleNotFoundError as error:
        if error.name == _EXTENSION:
            return (
                None,
                "the C++ extension was not built (CXRGAN_NATIVE=0, or run `pip install -e .`)",
            )
        return None, _broken("the C++ extension", error)
    except Exception as error:  # built for another Python, machine or version of this package
        return None, _broken("the C++ extension", error)
    return module, ""


def native() -> Extension:
    """Return the compiled extension, for an op that choose_backend has sent there."""
    module, reason = load_native()
    if module is None:
        raise RuntimeError(reason)
    return module


def place(tensor: Tensor) -> tuple[int, int]:
    """Return where a native kernel runs: (-1, threads) on the CPU, or a GPU and its stream.

    The stream is read here, inside an op and as late as possible: outside of it, a compiler or a
    capture may use another stream (pytorch#157363).
    """
    if tensor.is_cuda:
        index = tensor.get_device()
        return index, torch._C._cuda_getCurrentRawStream(index)
    return -1, torch.get_num_threads()


@dataclass(frozen=True)
class Workspace:
    """Memory for a kernel's intermediate results.

    It must outlive the launch, not the kernel: what comes after on the stream may have it.
    """

    memory: tuple[int, int]
    """Its address and its size in bytes."""
    tensor: Tensor | None = None
    """What owns it."""


_NO_WORKSPACE = Workspace((0, 0))


def workspace(size: int, tensor: Tensor) -> Workspace:
    """Allocate so many bytes on the device of ``tensor``."""
    if size == 0:
        return _NO_WORKSPACE
    owner = torch.empty(size, dtype=torch.uint8, device=tensor.device)
    return Workspace((owner.data_ptr(), size), owner)


@functools.cache
def triton_interpreter() -> bool:
    """Tell whether Triton's kernels run in its slow interpreter, on CPU tensors, as in tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def import_triton() -> str:
    """Import Triton: the reason why that fails, or "".

    PyTorch takes a Triton that raises an ImportError to be absent, but anything else takes its
    optimizers and torch.compile down. So such a Triton is made to be absent.
    """
    try:
        importlib.import_module("triton")
    except ModuleNotFoundError as error:
        return "Triton is not installed" if error.name == "triton" else _broken("Triton", error)
    except Exception as error:
        sys.modules["triton"] = None  # type: ignore[assignment]  # imports raise an ImportError
        return _broken("Triton", error)
    return ""


@functools.cache
def load_triton() -> str:
    """Import the Triton kernels. Return why they cannot be used here, or "" if they can."""
    if import_triton():
        return import_triton()
    if importlib.util.find_spec(_KERNELS) is None:
        return "the Triton kernels are not installed; run `pip install -e .`"
    if not triton_interpreter() and torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch was built without GPUs"
    if triton_interpreter() and _interpreter_fails():
        return _interpreter_fails()
    try:
        importlib.import_module(_KERNELS)
    except Exception as error:  # of a decorator of Triton's, say, which looks for a driver
        return _broken("a Triton kernel", error)
    return ""


def _interpreter_fails() -> str:
    """Why Triton's interpreter cannot run the kernels; "" if it can."""
    triton = importlib.import_module("triton").__version__
    release = [tuple(map(int, each.split(".")[:2])) for each in (triton, np.__version__)]
    if release[0] < (3, 7) and release[1] >= (2, 4):  # takes an array of one element for a number
        return (
            f"the interpreter of Triton {triton} fails with NumPy {np.__version__}; "
            "install triton>=3.7 or numpy<2.4"
        )
    return ""


def _broken(what: str, error: Exception) -> str:
    """The reason that env gives for what raised an error when it was imported, in one line."""
    first = _first_line(error)
    return f"{what} cannot be loaded ({type(error).__name__}{': ' if first else ''}{first})"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


@functools.cache
def _native_on_gpu(index: int) -> str:
    """Why the native kernels cannot run on a GPU; "" if they can."""
    module, reason = load_native()
    if module is None:
        return reason
    if not module.build_info()["cuda_compiler"]:
        return "the extension was built without CUDA: no CUDA compiler (nvcc) was found"
    error = module.cuda_probe_error(index)
    if error:
        archs = module.build_info()["cuda_architectures"]
        return f"{error} (built for {archs}; CXRGAN_CUDA_ARCHS=native builds for the GPUs here)"
    return ""


@functools.cache
def _why_not_on(backend: str, device: str) -> str:
    """Why a backend cannot run on any device of that type; "" if it can.

    GPUs are looked at only for tensors on one: PyTorch must be left to initialise CUDA when it is
    needed, or processes forked before that could not.
    """
    if device == "cpu":
        if backend == "native":
            return load_native()[1]
        if backend == "triton":
            on_cpu = "on the CPU it runs in its interpreter only (TRITON_INTERPRET=1), for tests"
            return load_triton() or ("" if triton_interpreter() else on_cpu)
        return ""
    missing = {"native": load_native()[1], "triton": load_triton(), "reference": ""}[backend]
    if missing:
        return missing
    if backend == "triton" and triton_interpreter():
        return "its kernels run in the interpreter (TRITON_INTERPRET=1), on CPU tensors"
    if not torch.cuda.is_available():
        return "PyTorch sees no GPU here"
    if backend == "native":
        return _native_on_any_gpu()
    return ""


def _native_on_any_gpu() -> str:
    """Why the native kernels can run on none of the GPUs; "" if they can on one.

    To look at a GPU makes a context there, hundreds of megabytes of its memory. So PyTorch's
    current one comes first, the first that can is the last, and of GPUs of a kind one is asked.
    """
    try:
        current = torch.cuda.current_device()
    except RuntimeError as error:  # in a process that was forked after its parent used a GPU, say
        return f"PyTorch cannot use its GPUs: {_first_line(error)}"
    reasons: dict[tuple[int, int], str] = {}
    for index in sorted(range(torch.cuda.device_count()), key=lambda index: index != current):
        capability = torch.cuda.get_device_capability(index)  # needs no context
        if capability not in reasons:
            reasons[capability] = _native_on_gpu(index)
            if not reasons[capability]:
                return ""
    return next(iter(reasons.values()))


@functools.cache
def _status(backend: str) -> BackendStatus:
    reasons = {device: _why_not_on(backend, device) for device in _DEVICES}
    return BackendStatus(
        tuple(device for device, reason in reasons.items() if not reason),
        {device: reason for device, reason in reasons.items() if reason},
    )


def available_backends() -> dict[str, BackendStatus]:
    """Tell where each backend can run on this machine, and why not elsewhere."""
    return {backend: _status(backend) for backend in BACKENDS}


def automatic_choices() -> dict[str, str]:
    """Return the backend that ``auto`` takes on each type of device that is here."""
    return {
        device: _cached_resolve("auto", device, None, torch.float32, "")
        for device in _status("reference").runs_on
    }


def check_backend(name: str, source: str) -> str:
    """Return name if it is a backend that can run here; source says where the name came from.

    Raises:
        UserError: it is not.
    """
    if name not in (*BACKENDS, "auto"):
        choices = ", ".join((*BACKENDS, "auto"))
        raise UserError(f"{source}: unknown backend {name!r}; expected one of {choices}")
    if name != "auto" and all(_why_not_on(name, device) for device in _DEVICES):
        reasons = "; ".join(dict.fromkeys(_status(name).why_not.values()))
        raise UserError(f"{source}: backend {name!r} cannot run here: {reasons}")
    return name


def selected_backend() -> str:
    """Return the backend set by set_backend or use_backend, else by CXRGAN_BACKEND, else auto."""
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


def choose_backend(tensor: Tensor, op: str) -> str:
    """Return the backend that an op runs on for a tensor.

    Raises:
        UserError: the backend asked for by name cannot take this tensor's device or dtype.
    """
    device = tensor.device
    return _resolve(_selected, device.type, device.index, tensor.dtype, op)


import_triton()  # before PyTorch does: see there


def _resolve(selected: str, device: str, index: int | None, dtype: torch.dtype, op: str) -> str:
    if selected == "auto" and _in_onnx_export():
        return "reference"  # ONNX has no name for our kernels
    return _cached_resolve(selected, device, index, dtype, op)


# torch.compile takes the answer as a constant; it guards on _selected, and recompiles when it
# changes. This is all that torch.compiler.assume_constant_result does, which imports the compiler
# for it: a second of every command's start.
_resolve._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _in_onnx_export() -> bool:
    """Whether either of PyTorch's exporters to ONNX looks at this call."""
    if not torch.compiler.is_compiling() and torch._C._get_tracing_state() is None:
        return False  # what an eager call can say at once
    return torch.onnx.is_in_onnx_export()


@functools.cache
def _cached_resolve(
    selected: str, device: str, index: int | None, dtype: torch.dtype, op: str
) -> str:
    if selected == "auto":
        # An interpreter is for those who ask for it.
        candidates = [each for each in BACKENDS if (each, device) != ("triton", "cpu")]
        return next(each for each in candidates if not _why_not(each, device, index, dtype))
    reason = _why_not(check_backend(selected, BACKEND_VARIABLE), device, index, dtype)
    if reason:
        raise UserError(f"{op}: backend {selected!r} cannot take this input: {reason}")
    return selected


def _why_not(backend: str, device: str, index: int | None, dtype: torch.dtype) -> str:
    if backend == "reference":
        return ""  # plain PyTorch: wherever the tensor is
    if device not in _DEVICES:
        return f"it does not run on {device!r} tensors"
    if dtype not in NATIVE_DTYPES:
        return f"it takes float32, bfloat16 and float16, not {dtype}"
    if backend == "native" and device == "cuda":
        return _native_on_gpu(index or 0)  # that one alone
    return _why_not_on(backend, device)

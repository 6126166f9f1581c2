"""The native backend's CUDA kernels on CPU tensors: tests/cuda_standin in place of a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from unittest import mock

from cxrgan_fast.ops import backend

# Where native calls are made. Some of these names are also those of functions.
CALLERS = (
    "adversarial_loss",
    "bias_leaky_relu",
    "conditional_batch_norm_kernels",
    "augmented_batch",
)


def _load_building() -> ModuleType:
    path = Path(__file__).parents[1] / "cuda_standin" / "build.py"
    spec = importlib.util.spec_from_file_location("cuda_standin_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


building = _load_building()


@contextmanager
def standing_in(module: ModuleType) -> Iterator[None]:
    """Send what the native ops get to the kernels of a module that building.build has made."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(backend, "load_native", return_value=(module, "")))
        for name in CALLERS:
            caller = importlib.import_module(f"cxrgan_fast.ops.{name}")
            stack.enter_context(mock.patch.object(caller, "place", _first_gpu))
        yield


def _first_gpu(_: object) -> tuple[int, int]:
    return 0, 0

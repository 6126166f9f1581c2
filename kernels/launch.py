"""How kernels are tuned and launched: on a GPU, traced by PyTorch's compiler, or interpreted.

Elementwise kernels are tuned at the first call of each class of shapes. With ``CXRGAN_TRITON_TUNE``
set to 0 before the first import they are not, and take one tile at all shapes: it saves compiling
the others, and may cost some of a kernel's speed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

try:
    from triton import knobs

    _interpret = bool(knobs.runtime.interpret)
except ImportError:  # Triton before 3.4
    _interpret = os.environ.get("TRITON_INTERPRET", "0") == "1"

INTERPRETED = tl.constexpr(_interpret)
"""Whether kernels run in Triton's interpreter, on CPU tensors."""

# Elements in a program's tile. The interpreter runs one program after another, each of its
# operations a call of NumPy's: few and large ones are fast there.
if _interpret:
    LARGEST_TILE = 1 << 16
    REDUCTION_TILE = PAIR_REDUCTION_TILE = LARGEST_TILE
    PLANES_AT_ONCE = 16
    TUNED_TILES = (LARGEST_TILE,)
else:
    LARGEST_TILE = 4096
    REDUCTION_TILE = 4096
    PAIR_REDUCTION_TILE = 2048  # of two images at once, with two sums in registers
    PLANES_AT_ONCE = 1  # channels in a tile of contiguous images
    TUNED_TILES = (2048, 1024, 4096)  # first the one that is taken where nothing can be measured

# A sum's order follows from its tile and the warps that hold it. Were these tuned, a process could
# get other last bits than the one before it; so they are not, but for tiles that sum up nothing.
WARPS = 4

if os.environ.get("CXRGAN_TRITON_TUNE") == "0":
    TUNED_TILES = TUNED_TILES[:1]


def _measure(kernel_call: Callable[[], object], quantiles: Sequence[float]) -> Any:
    """Milliseconds of a kernel, at some quantiles: a tenth of what Triton would spend on it."""
    if torch.cuda.is_current_stream_capturing():
        # To measure is to wait, which would break the capture. The first of equals is taken.
        return [0.0] * len(quantiles)
    return triton.testing.do_bench(kernel_call, warmup=1, rep=5, quantiles=quantiles)


# Not by warmup= and rep=, which PyTorch's tracing refuses.
tuned = triton.autotune(
    configs=[triton.Config({"TILE": each}, num_warps=WARPS) for each in TUNED_TILES],
    key=["BLOCK_PIXELS", "BLOCK_CHANNELS", "CHANNELS_LAST"],
    do_bench=_measure,
)
"""Chooses the tile of an elementwise kernel, once for each class of shapes and its dtypes.

That is at the first call. Call once before capturing a CUDA graph: a first call that is captured
keeps the first tile from then on, and has to compile in the middle of the capture.
"""


def wrap_triton(kernel: Any) -> Any:
    """Return the kernel, in ``torch.library.wrap_triton`` if a tracer listens.

    Wrapping is work for every call. Interpreted kernels cannot be traced, and
    older versions of PyTorch refuse to wrap them.
    """
    if _interpret or not torch._C._len_torch_dispatch_stack():
        return kernel
    return torch.library.wrap_triton(kernel)


def on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Make the tensor's GPU the current one, where Triton launches whatever the pointers are."""
    if tensor.is_cuda and torch.cuda.device_count() > 1:
        return torch.cuda.device(tensor.device)
    return nullcontext()

"""How an op becomes known to PyTorch: its schema, kernels, shapes and derivative, in one place.

Registered ops are functional and opaque: ``torch.compile(fullgraph=True)``, ``opcheck`` and CUDA
graphs take them as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_library = torch.library.Library("cxrgan_fast", "FRAGMENT")


@dataclass(frozen=True)
class Op:
    """One op of the ``cxrgan_fast`` namespace."""

    name: str
    signature: str
    """The schema without the name: ``(Tensor input) -> Tensor``."""
    cpu: Callable[..., Any]
    """What runs on CPU tensors."""
    fake: Callable[..., Any]
    """Empty outputs of the right shape, dtype and layout."""
    save: Callable[..., None]
    """Keeps what the derivative needs: ``setup_context`` of ``torch.library.register_autograd``."""
    backward: Callable[..., Any]


def register(op: Op) -> None:
    """Make ``torch.ops.cxrgan_fast.NAME`` callable, differentiable and compilable."""
    _library.define(op.name + op.signature, tags=torch.Tag.pt2_compliant_tag)
    _library.impl(op.name, op.cpu, "CPU")
    qualified = f"cxrgan_fast::{op.name}"
    torch.library.register_fake(qualified, op.fake, lib=_library)
    torch.library.register_autograd(qualified, op.backward, setup_context=op.save, lib=_library)


def dense(image: Tensor) -> Tensor:
    """The image as it is if contiguous or channels_last, else made contiguous."""
    if image.is_contiguous() or image.is_contiguous(memory_format=torch.channels_last):
        return image
    return image.contiguous()

"""Which device computes, in which precision, and how much memory that has taken."""

import importlib
import sys
from typing import Literal

import torch

from cxrgan_fast.errors import UserError


def resolve_device(device: str) -> torch.device:
    """Return the torch device that ``--device`` names.

    Raises:
        UserError: There is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("expected cpu, cuda or mps")
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device {device} cannot be used here: {reason}; "
            "'python -m cxrgan_fast.env' shows what can"
        ) from None
    return resolved


def resolve_precision(precision: str, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """Return the precision that ``auto`` stands for on ``device``; check and keep any other."""
    if precision in ("fp32", "fp16", "bf16"):
        return precision  # type: ignore[return-value]  # one of the literals
    if device.type == "cuda":
        # torch.cuda.is_bf16_supported() counts emulation, which is slower than fp32 on a T4. Its
        # tensor cores take fp16, whose losses are scaled.
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu":
        amx, avx512 = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
        return "bf16" if amx or avx512 else "fp32"
    return "fp32"


def peak_memory(device: torch.device) -> int | None:
    """Return the most memory that this process has held so far, in bytes.

    That is the memory that PyTorch has reserved of a GPU, and of any other device the memory of
    the whole process.

    Returns:
        None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    try:
        resource = importlib.import_module("resource")  # not on Windows
    except ImportError:
        return None
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak

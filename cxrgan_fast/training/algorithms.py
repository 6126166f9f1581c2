"""Which algorithms PyTorch's libraries take: the fastest, or those that repeat themselves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def algorithms(deterministic: bool) -> Iterator[None]:
    """Let cuDNN take its fastest algorithms within the block, or make everything deterministic.

    Call it before anything has run on a GPU: cuBLAS reads its environment once.

    Args:
        deterministic: whether the same work has to give the same bits, every time and in a CUDA
            graph. What has no such algorithm then raises a RuntimeError.
    """
    cudnn: Any = torch.backends.cudnn
    settings: Any = torch.utils.deterministic  # a module whose attribute is a property
    before = (
        cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        settings.fill_uninitialized_memory,
    )
    cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # Every tensor would be filled with NaN first; here nothing is read before it is written.
        settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])
        settings.fill_uninitialized_memory = before[2]

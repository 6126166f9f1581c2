"""Where the kernels run: without a GPU in Triton's interpreter (see tests/conftest.py)."""

import pytest
import torch

from cxrgan_fast.ops.backend import load_triton


@pytest.fixture
def device() -> str:
    """The type of device that has tensors for the kernels here."""
    if load_triton():
        pytest.skip(load_triton())
    return "cuda" if torch.cuda.is_available() else "cpu"

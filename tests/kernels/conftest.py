"""Where the kernels run: without a GPU in Triton's interpreter (see tests/conftest.py)."""

import pytest
import torch


@pytest.fixture
def device() -> str:
    """The type of device that has tensors for the kernels here."""
    return "cuda" if torch.cuda.is_available() else "cpu"

"""Fixtures for every room's tests."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

# One thread, here and in the programs that tests start: a second one waits spinning for its share
# of such small tensors, and on busy cores that costs ten times what it gains. Tests of threads set
# their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_numbers_every_run() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def chest_xrays() -> Path:
    """The published chest X-ray folders, where this machine has them."""
    path = Path(os.environ.get("CXRGAN_DATA") or ROOT.parent / "shared" / "data" / "chest_xray")
    if not path.is_dir():
        pytest.skip(f"no chest X-rays at {path}: set CXRGAN_DATA to the folder of train/ and test/")
    return path

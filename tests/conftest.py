"""Fixtures for every room's tests."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


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

"""``bench.data``: the memory that it tells is that of the command, and so are its errors."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from bench import data
from cxrgan_fast.errors import UserError
from evaluations import write_images


@pytest.mark.long
def test_the_peak_is_not_that_of_the_program_that_measures(tmp_path: Path) -> None:
    """A program begins with what the one that started it had taken, by getrusage."""
    images = write_images(tmp_path / "images", "train", 8)
    ballast = b"x" * (500 << 20)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert own > len(ballast) >> 20
    assert 50 < data._run(["inspect", str(images), "--workers", "1"]) < own - 100
    with pytest.raises(UserError, match=r"inspect .*/none: error: .*/none: no such folder or file"):
        data._run(["inspect", str(tmp_path / "none")])

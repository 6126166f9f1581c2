"""macOS and Windows, as far as they can be had here: this Linux without what they lack."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrgan_fast.runs.checkpoint import saved_steps

PROGRAM = Path(__file__).resolve().parent.parent / "support" / "elsewhere.py"
ROOT = PROGRAM.parent.parent.parent
TINY = ["--device", "cpu", "--resolution", "32", "--base-channels", "8", "--latent-size", "8",
        "--batch-size", "4"]  # fmt: skip


def run(system: str, module: str, *arguments: str | Path) -> str:
    """What a command prints there; it has to succeed."""
    done = subprocess.run(
        [sys.executable, PROGRAM, system, module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        # Text files are not UTF-8 by default.
        env={**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def class_folders(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("gesund", "Entzuendung"):
        (root / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.mark.long
def test_windows_prepares_trains_resumes_and_generates(tmp_path):
    system = "windows"
    data, packed = class_folders(tmp_path / "images"), tmp_path / "packed"
    options = ["--resolution", 32, "--val-share", 0, "--test-share", 0]
    run(system, "cxrgan_fast.data", "prepare", data, packed, *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "packed"]
    more = ["--data", packed, "--log-every", 1, "--checkpoint-every", 1, "--keep-checkpoints", 1]
    out = run(system, "cxrgan_fast.train", *TINY, *more, "--steps", 3, "--out", tmp_path / "runs")
    assert "ops: reference" in out
    (folder,) = (tmp_path / "runs").iterdir()
    assert saved_steps(folder) == [3]
    run(system, "cxrgan_fast.train", "--resume", folder, "--steps", 4)
    assert saved_steps(folder) == [4]
    drawn = tmp_path / "drawn"
    run(system, "cxrgan_fast.generate", folder, "--n-per-class", 2, "--out", drawn)
    assert len(list(drawn.rglob("*.png"))) == 4


@pytest.mark.long
@pytest.mark.parametrize("system", ["macos", "windows"])
def test_images_are_trained_on_as_they_lie_and_streamed(tmp_path, system):
    """Also where folders' entries have no inodes, and the system does not say its memory."""
    data = class_folders(tmp_path / "images")
    config = tmp_path / "settings.yaml"
    config.write_bytes("steps: 2  # für die erste Größe\n".encode())
    more = ["--data", data, "--resident-share", 0, "--config", config, "--out", tmp_path / "runs"]
    out = run(system, "cxrgan_fast.train", *TINY, *more)
    assert "12 images (6 Entzuendung, 6 gesund)" in out


@pytest.mark.long
@pytest.mark.parametrize("system", ["macos", "windows"])
def test_the_environment_is_described(system):
    out = run(system, "cxrgan_fast.env")
    assert "not glibc" in out
    assert "auto: reference for cpu" in out

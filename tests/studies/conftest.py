"""What tests of sweeps share: a small sweep as a command, whose trainings run in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from commands import call
from cxrgan_fast import sweep
from cxrgan_fast.studies import ownership, trial, worker
from trainings import train_here

TINY = (
    "--resolution 32 --family dcgan --base-channels 8 --batch-size 4 --latent-size 8 "
    "--phantom-images 24 --precision fp32 --r1-gamma 0"
)


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a small sweep: of the phantom set, by pixels, of a space of two settings."""
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    space = tmp_path / "space.yaml"
    space.write_text("g_lr: {low: 1.0e-4, high: 1.0e-2}\nlatent_size: [8, 16]\n")
    return [
        "--data", "phantom", "--device", "cpu", "--features", "pixels", "--threads", "1",
        "--space", str(space), "--out", str(tmp_path / "runs"), "--train", TINY,
    ]  # fmt: skip


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Flags of each training that has begun; they run in this process."""
    found: list[list[str]] = []
    train_here(monkeypatch, found.append)
    monkeypatch.setattr(trial, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(worker, "_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(ownership, "_SETTLE_SECONDS", 0.0)  # nobody else wants the trials
    return found


@pytest.fixture
def command(words: list[str]) -> Callable[..., int]:
    """Run the small sweep with further words; its exit code."""
    return lambda *more: call(sweep.main, *words, *more)

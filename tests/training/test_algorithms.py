"""``--deterministic``: what holds while a training runs, and that nothing of it stays."""

from __future__ import annotations

import os

import pytest
import torch

from cxrgan_fast.training import loop
from cxrgan_fast.training.algorithms import algorithms


def settings() -> tuple[bool, bool, bool]:
    return (
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # restored afterwards, though it is unset
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


@pytest.mark.parametrize(
    ("deterministic", "within"), [(True, (False, True, False)), (False, (True, False, True))]
)
def test_what_holds_within_and_not_after(deterministic: bool, within: tuple[bool, ...]) -> None:
    before = settings()
    with algorithms(deterministic):
        assert settings() == within
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)
    assert settings() == before


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_training_runs_under_what_it_was_asked_for(train, tmp_path, monkeypatch, deterministic):
    """With all that might have no deterministic algorithm: R1, a spectral norm, noise."""
    seen, run = [], loop._train_one

    def noted(*arguments, **named):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return run(*arguments, **named)

    monkeypatch.setattr(loop, "_train_one", noted)
    flags = ["--resolution", 32, "--base-channels", 8, "--latent-size", 8, "--batch-size", 4]
    flags += ["--phantom-images", 12, "--device", "cpu", "--precision", "bf16", "--mirror"]
    flags += ["--spectral-norm", "--noise-std", 0.1, "--class-balance", "--resident-share", 0]
    flags += ["--deterministic"] if deterministic else []
    code, _, err = train(*flags, "--steps", 2, "--out", tmp_path)
    assert code == 0, err
    assert seen == [deterministic]

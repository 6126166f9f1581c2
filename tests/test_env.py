"""python -m cxrgan_fast.env, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from cxrgan_fast.ops import available_backends
from cxrgan_fast.ops.backend import automatic_choices, load_native


def run_env(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cxrgan_fast.env", *flags],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_says_what_is_here_and_what_is_not() -> None:
    run = run_env(CXRGAN_BACKEND="fast")
    assert run.returncode == 0, run.stderr
    assert f"torch {torch.__version__}" in run.stdout
    assert "allocator" in run.stdout
    for name, status in available_backends().items():
        assert name in run.stdout
        for reason in status.why_not.values():
            assert reason in run.stdout
    # A bad choice of backend is reported here, not raised: this is where one looks for the cause.
    assert "backend      fast (CXRGAN_BACKEND: unknown backend 'fast'; expected" in run.stdout
    for device, name in automatic_choices().items():
        assert f"{name} for {device}" in run.stdout


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """What it says of itself with the slowest of the native kernels."""
    run = run_env("--json", CXRGAN_SIMD="baseline")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_json_holds_the_same_facts(facts: dict[str, Any]) -> None:
    assert facts["packages"]["torch"] == str(torch.__version__)
    assert facts["threads"] >= 1
    assert facts["backend_error"] is None
    native = facts["backends"]["native"]
    assert tuple(native["runs_on"]) == available_backends()["native"].runs_on


def test_tells_the_native_build(facts: dict[str, Any]) -> None:
    core, reason = load_native()
    if core is None:
        pytest.skip(reason)
    assert facts["cpu"]["simd_of_native_ops"] == "baseline"
    assert facts["build"]["simd_levels"][0] == "baseline"
    assert "libgomp" in facts["build"]["openmp_runtime"]
    # Either the GPUs, or the reason why there are none: never both, never neither.
    assert bool(facts["gpus"]["native"]) != bool(facts["gpus"]["native_error"])

"""The choice of backend: by name, by environment variable, or the first that can run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.ops import available_backends, conditional_batch_norm_act, set_backend, use_backend
from cxrgan_fast.ops.backend import BACKENDS, choose_backend, selected_backend

NATIVE = available_backends()["native"]
needs_native = pytest.mark.skipif("cpu" not in NATIVE.runs_on, reason="the extension is not built")


def test_every_backend_says_where_it_runs_and_why_not_elsewhere() -> None:
    statuses = available_backends()
    assert tuple(statuses) == BACKENDS
    for status in statuses.values():
        assert set(status.runs_on) | set(status.why_not) == {"cpu", "cuda"}
        assert not set(status.runs_on) & set(status.why_not)
        assert all(status.why_not.values())
    assert "cpu" in statuses["reference"].runs_on


@needs_native
def test_auto_takes_the_fastest_that_can() -> None:
    assert choose_backend(torch.zeros(1), "op") == "native"
    assert choose_backend(torch.zeros(1, dtype=torch.float64), "op") == "reference"
    assert choose_backend(torch.zeros(1, device="meta"), "op") == "reference"


def test_chosen_for_a_block() -> None:
    before = selected_backend()
    with use_backend("reference"):
        assert choose_backend(torch.zeros(1), "op") == "reference"
        with use_backend("auto"):
            assert selected_backend() == "auto"
        assert selected_backend() == "reference"
    assert selected_backend() == before


def test_a_block_that_fails_leaves_the_choice_as_it_was() -> None:
    before = selected_backend()

    def fail() -> None:
        with use_backend("reference"):
            raise RuntimeError("from the block")

    with pytest.raises(RuntimeError, match="from the block"):
        fail()
    assert selected_backend() == before


def test_chosen_from_now_on() -> None:
    before = selected_backend()
    try:
        set_backend("reference")
        assert selected_backend() == "reference"
    finally:
        set_backend(before)


@pytest.mark.parametrize("name", ["cuda", "Native", ""])
def test_unknown_name(name: str) -> None:
    with pytest.raises(UserError, match="expected one of native, triton, reference, auto"):
        set_backend(name)


def test_a_backend_that_cannot_run_is_refused_with_the_reason() -> None:
    before = selected_backend()
    for name, status in available_backends().items():
        if not status.runs_on:
            with pytest.raises(UserError) as refused, use_backend(name):
                pass
            assert status.why_not["cpu"] in str(refused.value)
    assert selected_backend() == before


@needs_native
def test_a_forced_backend_is_never_replaced() -> None:
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.float64), torch.tensor([0, 1])
    with (
        use_backend("native"),
        pytest.raises(UserError, match=r"conditional_batch_norm_act: backend 'native' .*float64"),
    ):
        conditional_batch_norm_act(images, labels, torch.ones(2, 3), torch.zeros(2, 3))


@needs_native
def test_compiled_code_follows_a_change_of_backend() -> None:
    compiled = torch.compile(lambda x: choose_backend(x, "op"), fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1)) == "native"
    with use_backend("reference"):
        assert compiled(torch.zeros(1)) == "reference"
    assert compiled(torch.zeros(1)) == "native"


CHOOSE = """
import torch
from cxrgan_fast.ops.backend import choose_backend
print(choose_backend(torch.zeros(1), "op"))
"""


@pytest.mark.parametrize(
    ("value", "printed", "error"),
    [
        ("reference", "reference", ""),
        ("bogus", "", "CXRGAN_BACKEND: unknown backend 'bogus'"),
    ],
)
def test_environment_variable(value: str, printed: str, error: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", CHOOSE],
        env={**os.environ, "CXRGAN_BACKEND": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == printed
    assert error in run.stderr

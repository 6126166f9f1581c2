"""The choice of backend: by name, by environment variable, or the first that can run."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest.mock import create_autospec

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.ops import (
    available_backends,
    backend,
    conditional_batch_norm_act,
    set_backend,
    use_backend,
)
from cxrgan_fast.ops.backend import BACKENDS, choose_backend, load_native, selected_backend
from programs import run_program

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


def test_the_choice_is_marked_as_pytorch_marks_a_constant() -> None:
    """Without torch.compiler.assume_constant_result, which imports the compiler to do it."""
    assumed = torch.compiler.assume_constant_result(lambda: None)
    assert vars(assumed)
    assert vars(backend._resolve) == vars(assumed)


STARTS = """
import sys
import cxrgan_fast.train
print(sorted({"torch._dynamo", "torch._inductor"} & set(sys.modules)))
"""


@pytest.mark.long
def test_the_compiler_is_not_imported_before_something_needs_it() -> None:
    assert run_program(STARTS) == "[]\n"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        # Where each of native, triton and reference runs, and what auto takes there.
        ((["cpu", "cuda"], ["cuda"], ["cpu", "cuda"]), {"cpu": "native", "cuda": "native"}),
        ((["cpu"], ["cuda"], ["cpu", "cuda"]), {"cpu": "native", "cuda": "triton"}),
        ((["cpu"], [], ["cpu", "cuda"]), {"cpu": "native", "cuda": "reference"}),
        (([], ["cpu"], ["cpu"]), {"cpu": "reference"}),  # never Triton's interpreter
    ],
)
def test_auto_takes_the_first_that_can_run(
    monkeypatch: pytest.MonkeyPatch, where: tuple[list[str], ...], expected: dict[str, str]
) -> None:
    statuses = {
        name: backend.BackendStatus(tuple(runs_on), {})
        for name, runs_on in zip(backend.BACKENDS, where, strict=True)
    }

    def why_not(name: str, device: str) -> str:
        return "" if device in statuses[name].runs_on else "a reason"

    monkeypatch.setattr(backend, "_status", statuses.__getitem__)
    monkeypatch.setattr(backend, "_why_not_on", why_not)
    monkeypatch.setattr(backend, "_native_on_gpu", lambda index: why_not("native", "cuda"))
    monkeypatch.setattr(backend, "_cached_resolve", backend._cached_resolve.__wrapped__)
    assert backend.automatic_choices() == expected


def test_a_gpu_that_the_build_is_not_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_why_not_on", lambda name, device: "")
    monkeypatch.setattr(backend, "_native_on_gpu", lambda index: ["", "no kernel image"][index])
    resolve = backend._cached_resolve.__wrapped__
    assert resolve("auto", "cuda", 0, torch.float32, "op") == "native"
    assert resolve("auto", "cuda", 1, torch.float32, "op") == "triton"
    with pytest.raises(UserError, match=r"op: backend 'native' .*no kernel image"):
        resolve("native", "cuda", 1, torch.float32, "op")


@pytest.mark.parametrize(
    ("current", "capabilities", "able", "looked_at"),
    [
        (0, ["9.0", "9.0", "9.0"], {0, 1, 2}, [0]),
        (2, ["9.0", "9.0", "9.0"], {0, 1, 2}, [2]),  # not a context on the first for each process
        (0, ["9.0", "9.0", "7.5", "7.5"], {2, 3}, [0, 2]),
        (1, ["9.0", "7.5", "9.0"], set(), [1, 0]),
    ],
)
def test_as_few_gpus_are_looked_at_as_tell(
    monkeypatch: pytest.MonkeyPatch,
    current: int,
    capabilities: list[str],
    able: set[int],
    looked_at: list[int],
) -> None:
    """To look is to make a context, hundreds of megabytes on a GPU that others may be using."""
    seen: list[int] = []

    def why_not(index: int) -> str:
        seen.append(index)
        return "" if index in able else f"nothing for {capabilities[index]}"

    stand_ins = {
        "is_available": lambda: True,
        "device_count": lambda: len(capabilities),
        "current_device": lambda: current,
        "get_device_capability": lambda index: tuple(map(int, capabilities[index].split("."))),
    }
    for name, stand_in in stand_ins.items():
        double = create_autospec(getattr(torch.cuda, name), side_effect=stand_in)
        monkeypatch.setattr(torch.cuda, name, double)
    monkeypatch.setattr(backend, "_native_on_gpu", why_not)
    monkeypatch.setattr(backend, "load_native", lambda: (object(), ""))
    expected = "" if able else f"nothing for {capabilities[current]}"
    assert backend._why_not_on.__wrapped__("native", "cuda") == expected
    assert seen == looked_at


def test_gpus_that_pytorch_refuses_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("Cannot re-initialize CUDA in forked subprocess.\nMore")
    for name, answer in (("is_available", [True]), ("current_device", error)):
        double = create_autospec(getattr(torch.cuda, name), side_effect=answer)
        monkeypatch.setattr(torch.cuda, name, double)
    monkeypatch.setattr(backend, "load_native", lambda: (object(), ""))
    assert backend._why_not_on.__wrapped__("native", "cuda") == (
        "PyTorch cannot use its GPUs: Cannot re-initialize CUDA in forked subprocess."
    )


def test_a_cpu_tensor_looks_at_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch must be left to initialise CUDA when it is needed."""

    def looked(*_: object) -> None:
        raise AssertionError("looked at a GPU")

    for module, name in ((backend, "_native_on_gpu"), (torch.cuda, "is_available")):
        monkeypatch.setattr(module, name, looked)
    monkeypatch.setattr(backend, "_why_not_on", backend._why_not_on.__wrapped__)
    resolve = backend._cached_resolve.__wrapped__
    assert resolve("auto", "cpu", None, torch.float32, "op") in ("native", "reference")
    with use_backend("native" if load_native()[0] else "reference"):
        pass


CHOOSE = """
import torch
from cxrgan_fast.ops.backend import choose_backend
print(choose_backend(torch.zeros(1), "op"))
"""


@pytest.mark.first_tier(1)
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

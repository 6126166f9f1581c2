"""``python -m bench.kernels --device cuda``, on the CPU: its order, its file, its lines."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import cases, gpu_case, kernels, plot_kernels
from bench.cases import Case
from bench.report import report
from cxrgan_fast.ops import available_backends

CPU = torch.device("cpu")


def test_compiled_on_some_shapes_and_then_on_one_loss(monkeypatch) -> None:
    asked: dict[Case, list[str]] = {}

    def measured(case: Case, beside: list[str], device: object, seconds: float) -> Case:
        asked[case] = list(beside)
        return case

    monkeypatch.setattr(gpu_case, "measure_case", measured)
    every = cases.all_cases(["bias_leaky_relu", "generator_loss"], dtypes=["float32"])
    done: list[Any] = []
    kernels.run(
        every,
        torch.device("cuda"),
        compiled_shapes=[cases.SHAPES[2]],
        seconds=1,
        finished=done.append,
    )
    compiled = [case for case, beside in asked.items() if "compiled" in beside]
    assert {(case.shape, case.kind) for case in compiled} == {
        (cases.SHAPES[2], ""),
        ((64,), "non_saturating"),
    }
    assert compiled == [case for case, beside in asked.items() if "triton" in beside]
    assert done[-len(compiled) :] == compiled  # an interruption costs the others nothing
    assert set(done) == set(every)
    assert all("eager" in beside for beside in asked.values())


def test_without_a_shape_to_compile_for_nothing_compiles(monkeypatch) -> None:
    """As bench/gpu.sh measures first what a training runs in."""
    asked: list[list[str]] = []
    monkeypatch.setattr(gpu_case, "measure_case", lambda case, beside, *_: asked.append(beside))
    arguments = kernels._parser().parse_args(["--against", "eager", "--compiled-shapes"])
    kernels.run(
        cases.all_cases(dtypes=["bfloat16"], layouts=["channels_last"]),
        torch.device("cuda"),
        baselines=arguments.against,
        compiled_shapes=arguments.compiled_shapes,
        seconds=1,
        finished=lambda row: None,
    )
    assert len(asked) == 2 * len(cases.SHAPES) + 2 * 5
    assert all(beside == ["eager"] for beside in asked)


def test_what_is_compiled_comes_in_turns_and_first_in_bfloat16(monkeypatch) -> None:
    monkeypatch.setattr(gpu_case, "measure_case", lambda case, *_: case)
    shapes = cases.SHAPES[2:4]
    done: list[Any] = []
    kernels.run(
        cases.all_cases(cases.IMAGE_OPS, shapes, layouts=["contiguous"]),
        torch.device("cuda"),
        compiled_shapes=shapes,
        seconds=1,
        finished=done.append,
    )
    assert [(case.dtype, case.shape, case.op) for case in done] == [
        (dtype, shape, op)
        for dtype in ("bfloat16", "float32")
        for shape in shapes
        for op in cases.IMAGE_OPS
    ]


@pytest.fixture
def command(captured, monkeypatch, tmp_path):
    """``bench.kernels`` on a GPU that is the CPU, and the file that it is to write."""
    available_backends()  # looked for once in a process: not on a GPU that is not there
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(kernels.torch, "device", lambda name: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(kernels, "overheads", lambda *_, **__: [])
    monkeypatch.setattr(kernels.gc, "freeze", lambda: None)
    monkeypatch.setattr(kernels, "keep_large_tensors_off_mmap", lambda: False)
    measure = gpu_case.measure_case
    monkeypatch.setattr(
        gpu_case, "measure_case", lambda case, beside, _, seconds: measure(case, beside, CPU, 0.001)
    )
    out = tmp_path / "kernels.json"
    flags = "--device cuda --ops bias_leaky_relu generator_loss --shapes 2x3x4x4 --dtypes float32"
    words = f"{flags} --against eager --layouts contiguous --out {out}"
    monkeypatch.setattr(sys, "argv", ["kernels", *words.split()])
    return kernels.main, out


def test_the_command_on_a_gpu(command, capsys) -> None:
    """From flags to a file."""
    main, out = command
    main()
    record = json.loads(out.read_text())
    assert record["complete"] is True
    assert record["method"]["shapes_of_compiled_and_triton"] == "all"
    assert len(record["cases"]) == 6
    assert "replayed as CUDA graphs" in plot_kernels.title(record)
    printed = capsys.readouterr().out
    assert "losses, replayed, forward + backward" in printed
    assert "summary of replays" in printed
    assert "1/6 bias_leaky_relu, 2x3x4x4, float32, contiguous: eager " in printed
    assert [each.name for each in out.parent.iterdir()] == [out.name]


def test_every_case_is_in_the_file_before_the_next_is_measured(command, monkeypatch) -> None:
    main, out = command
    measure, found = gpu_case.measure_case, []

    def measured(*arguments: Any) -> dict[str, Any]:
        found.append(len(json.loads(out.read_text())["cases"]) if out.exists() else 0)
        return measure(*arguments)

    monkeypatch.setattr(gpu_case, "measure_case", measured)
    main()
    assert found == [0, 1, 2, 3, 4, 5]


def test_what_is_left_of_a_killed_run_can_be_drawn(command, monkeypatch) -> None:
    main, out = command
    found = []
    write = kernels.replace

    def replace(path: Any, text: str) -> None:
        write(path, text)
        found.append(json.loads(out.read_text()))

    monkeypatch.setattr(kernels, "replace", replace)
    main()
    *partial, whole = found
    assert [each["complete"] for each in partial] == [False] * 6
    assert partial[2].keys() == whole.keys()
    assert "(incomplete)" in plot_kernels.title(partial[2])
    assert "bias_leaky_relu, replayed" in report(partial[2])


def test_a_report_that_fails_takes_no_figures_along(command, monkeypatch) -> None:
    main, out = command

    def broken(record: object) -> str:
        raise KeyError("copy")

    monkeypatch.setattr(kernels, "report", broken)
    with pytest.raises(KeyError, match="copy"):
        main()
    record = json.loads(out.read_text())
    assert len(record["cases"]) == 6
    assert record["summary"]

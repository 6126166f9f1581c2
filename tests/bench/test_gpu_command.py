"""``python -m bench.kernels --device cuda``, on the CPU: its order, its file, its lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch

from bench import cases, gpu_case, kernels, plot_kernels, record
from bench.cases import Case
from bench.kernels_report import report
from commands import call
from cxrgan_fast.ops import available_backends

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases and overheads are measured there, whatever device is said."""
    measure, dispatch = gpu_case.measure_case, kernels.overheads

    def measure_case(
        case: Case, beside: Sequence[str], device: torch.device, seconds: float
    ) -> dict[str, object]:
        assert device.type == "cuda"
        return measure(case, beside, CPU, 0.0)

    def overheads(
        names: Sequence[str], device: torch.device, *, smallest: tuple[int, ...], seconds: float
    ) -> list[Any]:
        assert device.type == "cuda"
        return dispatch(names, CPU, smallest=smallest, seconds=0.0)

    monkeypatch.setattr(gpu_case, "MOST_STEPS", 2)
    monkeypatch.setattr(kernels, "STREAMED_MB", 1)
    monkeypatch.setattr(kernels, "overheads", create_autospec(dispatch, side_effect=overheads))
    measured = create_autospec(measure, side_effect=measure_case)
    monkeypatch.setattr(gpu_case, "measure_case", measured)


def answers(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[Case, Sequence[str]], object]
) -> None:
    """Have a case measured by asking that for its measurements."""
    measured = create_autospec(
        gpu_case.measure_case, side_effect=lambda case, beside, *_: answer(case, beside)
    )
    monkeypatch.setattr(gpu_case, "measure_case", measured)


def test_compiled_on_some_shapes_and_then_on_one_loss(monkeypatch) -> None:
    asked: dict[Case, list[str]] = {}

    def answer(case: Case, beside: Sequence[str]) -> Case:
        asked[case] = list(beside)
        return case

    answers(monkeypatch, answer)
    every = cases.all_cases(["bias_leaky_relu", "generator_loss"], dtypes=["float32"])
    done: list[Any] = []
    kernels.run(
        every,
        CUDA,
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
    answers(monkeypatch, lambda case, beside: asked.append(beside))
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
    answers(monkeypatch, lambda case, beside: case)
    shapes = cases.SHAPES[2:4]
    done: list[Any] = []
    kernels.run(
        cases.all_cases(cases.IMAGE_OPS, shapes, layouts=["contiguous"]),
        CUDA,
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
def command(captured, on_the_cpu, monkeypatch, tmp_path):
    """``bench.kernels`` on a GPU that is the CPU, and the file that it is to write."""
    available_backends()  # while PyTorch still says that there is no GPU
    found = create_autospec(torch.cuda.is_available, return_value=True)
    monkeypatch.setattr(torch.cuda, "is_available", found)
    out = tmp_path / "kernels.json"
    flags = "--device cuda --ops bias_leaky_relu generator_loss --shapes 2x3x4x4 --dtypes float32"
    words = f"{flags} --against eager --layouts contiguous --out {out}"
    return partial(call, kernels.main, *words.split()), out


def test_the_command_on_a_gpu(command, capsys) -> None:
    """From flags to a file."""
    main, out = command
    assert main() == 0
    record = json.loads(out.read_text())
    assert record["complete"] is True
    assert record["method"]["shapes_of_compiled_and_triton"] == "all"
    assert {row["op"] for row in record["dispatch"]} == {"bias_leaky_relu", "generator_loss"}
    assert len(record["cases"]) == 6
    assert "replayed as CUDA graphs" in plot_kernels.title(record)
    printed = capsys.readouterr().out
    assert "losses, replayed, forward + backward" in printed
    assert "summary of replays" in printed
    assert "1/6 bias_leaky_relu, 2x3x4x4, float32, contiguous: eager " in printed
    assert [each.name for each in out.parent.iterdir()] == [out.name]


@pytest.mark.long
def test_every_op_from_its_kernels_to_the_report(command, standin, capsys) -> None:
    """All of the command but torch.compile, with the CUDA kernels' source, on small tensors."""
    _, out = command
    words = "--device cuda --shapes 12x40x8x8 --dtypes bfloat16 --layouts channels_last"
    words = f"{words} --against eager --out {out}"
    assert call(kernels.main, *words.split()) == 0
    record = json.loads(out.read_text())
    assert record["complete"] is True
    assert {row["op"] for row in record["dispatch"]} == set(cases.OPS)
    assert {row["op"] for row in record["cases"]} == set(cases.OPS)
    everywhere = {"eager", "fused"}
    if "cpu" in available_backends()["triton"].runs_on:
        everywhere.add("triton")
    for row in record["cases"]:
        ways = everywhere
        if row["op"] == "conditional_batch_norm_act":
            assert set(row["paths"]["fused"]) <= set(gpu_case.PATHS)
            ways = ways | {f"native {path}" for path in gpu_case.PATHS}  # all take this shape
        assert row["left_out"] == {"native": "it is what auto takes here: see fused"}
        assert row["launches"].keys() == ways
        copied = {"copy"} if row["op"] in cases.IMAGE_OPS else set()
        for timed in (row["median_ms"], *(each["median_us"] for each in row["replayed"].values())):
            assert timed.keys() == ways | copied
    printed = capsys.readouterr().out
    assert all(f"{op}, replayed" in printed for op in cases.IMAGE_OPS)
    assert "losses, replayed" in printed


def test_every_case_is_in_the_file_before_the_next_is_measured(command) -> None:
    main, out = command
    measure, found = gpu_case.measure_case.side_effect, []

    def measured(*arguments: Any) -> dict[str, Any]:
        found.append(len(json.loads(out.read_text())["cases"]) if out.exists() else 0)
        return measure(*arguments)

    gpu_case.measure_case.side_effect = measured
    assert main() == 0
    assert found == [0, 1, 2, 3, 4, 5]


def test_what_is_left_of_a_killed_run_can_be_plotted(command, monkeypatch) -> None:
    main, out = command
    found = []
    write = record.write_named

    def written(path: Any, content: bytes) -> None:
        write(path, content)
        found.append(json.loads(out.read_text()))

    monkeypatch.setattr(record, "write_named", create_autospec(write, side_effect=written))
    assert main() == 0
    *partial, whole = found
    assert [each["complete"] for each in partial] == [False] * 6
    assert partial[2].keys() == whole.keys()
    assert "(incomplete)" in plot_kernels.title(partial[2])
    assert "bias_leaky_relu, replayed" in report(partial[2])


def test_a_report_that_fails_takes_no_figures_along(command, monkeypatch) -> None:
    main, out = command

    broken = create_autospec(kernels.report, side_effect=KeyError("copy"))
    monkeypatch.setattr(kernels, "report", broken)
    with pytest.raises(KeyError, match="copy"):
        main()
    record = json.loads(out.read_text())
    assert len(record["cases"]) == 6
    assert record["summary"]

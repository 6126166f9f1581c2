"""What the benchmark does on a GPU, on the CPU: with graphs that call what they have captured."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch

from bench import cases, gpu_case, graphs, kernels
from bench.cases import Case
from bench.gpu_measurements import gpu_measurements
from bench.kernels_report import report
from bench.measurements import passes, summaries
from bench.timing import measure
from cxrgan_fast.ops import conditional_batch_norm_kernels as batch_norm_kernels
from cxrgan_fast.ops.backend import choose_backend, selected_backend
from cxrgan_fast.ops.conditional_batch_norm_kernels import _problem

CPU = torch.device("cpu")
IMAGES = Case("conditional_batch_norm_act", (5, 3, 4, 6), "float32")
LARGE = Case("conditional_batch_norm_act", (20, 3, 36, 36), "float32")
"""Whose x alone fits into a block's shared memory, and x and dy into a cluster's."""
MANY = Case("conditional_batch_norm_act", (8, 8, 12, 12), "float32")
"""Of more channels than blocks run at once."""
WAYS = ["eager", "fused", "native"]
"""With a backend that auto would not take; where it does, native is not measured twice."""


@pytest.fixture
def auto_takes_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the benchmark can tell."""
    choose = create_autospec(choose_backend, return_value="triton")
    monkeypatch.setattr(gpu_case, "choose_backend", choose)


@pytest.mark.usefixtures("auto_takes_triton")
def test_every_way_is_launched_and_replayed_cold_and_warm(captured) -> None:
    measurements = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert measurements["left_out"] == {}
    assert list(measurements["samples_us"]) == [*WAYS, "copy"]
    assert measurements["peak_mb"].keys() == set(WAYS)
    assert set(measurements["replayed"]) == {"cold", "warm"}
    for state in measurements["replayed"].values():
        assert state["steps_in_a_graph"] == 3  # 3 images of x and 3 of dy are twice L2
        assert list(state["samples_us"]) == [*WAYS, "copy"]
        assert state["fastest"] in WAYS
        assert state["fraction_of_copy_bandwidth"].keys() == {"fused", "native"}
    # 12 in a graph of 3 steps are 4; minus the 12 of the forward pass alone.
    assert measurements["launches"] == {name: [12, -8] for name in WAYS}
    assert [each.backend for each in captured[:4]] == ["auto", "auto", "native", "auto"]


def test_what_auto_takes_is_not_measured_twice(captured) -> None:
    measurements = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert list(measurements["samples_us"]) == ["eager", "fused", "copy"]
    assert measurements["left_out"] == {"native": "it is what auto takes here: see fused"}


def test_copies_write_to_one_place_as_the_steps_of_training_do() -> None:
    inputs = [cases.inputs(IMAGES) for _ in range(3)]
    copies = [each["copy"] for each in gpu_case._copies(IMAGES, inputs)]
    assert len({copy().data_ptr() for copy in copies}) == 1
    for copy, (_, image) in zip(copies, inputs, strict=True):
        assert torch.equal(copy(), image)


def test_a_step_of_a_graph_is_a_third_of_one_of_three(captured, monkeypatch) -> None:
    def measured(variants: dict[str, Any], *_: Any, **options: Any) -> dict[str, list[float]]:
        return {name: [30.0] for name in variants}

    monkeypatch.setattr(gpu_case, "measure", create_autospec(measure, side_effect=measured))
    measurements = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert measurements["median_ms"]["fused"] == 0.03
    assert measurements["replayed"]["cold"]["median_us"]["fused"] == 10.0


def test_cold_steps_have_tensors_of_their_own_and_warm_ones_share_them(captured) -> None:
    first = cases.inputs(IMAGES)
    inputs = gpu_case._inputs_of_graphs(IMAGES, first, CPU)
    addresses = {
        state: {(each[0][0].data_ptr(), each[1].data_ptr()) for each in of}
        for state, of in inputs.items()
    }
    assert (len(addresses["warm"]), len(addresses["cold"])) == (1, 3)
    for arguments, grad in inputs["cold"]:
        assert torch.equal(grad, first[1])
        for each, other in zip(arguments, first[0], strict=True):
            assert torch.equal(each, other)
            assert each.stride() == other.stride()
            assert each.requires_grad == other.requires_grad
    large = Case("bias_leaky_relu", (50, 30, 4, 6))
    assert list(gpu_case._inputs_of_graphs(large, cases.inputs(large), CPU)) == ["cold"]
    loss = Case("generator_loss", (64,), kind="hinge")
    assert list(gpu_case._inputs_of_graphs(loss, cases.inputs(loss), CPU)) == ["warm"]


def paths_of(case: Case) -> list[str]:
    """Which paths the extension says that it takes."""
    (x, labels, weight, bias, *_), _ = cases.inputs(case)
    return list(_problem(x, labels, weight, bias, cases.SLOPE).paths(x.data_ptr()))


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(
    ("case", "impossible"),
    [(IMAGES, "cluster"), (LARGE, "slab"), (MANY, "persistent")],
    ids=["small", "large", "many"],
)
def test_paths_are_forced_where_there_are_some_and_named_where_they_cannot(
    captured, standin, case: Case, impossible: str
) -> None:
    """With the CUDA kernels' source and its answer to which paths it takes."""
    measurements = gpu_case.measure_case(case, ["eager"], CPU, 0.001)
    paths = [f"native {path}" for path in gpu_case.PATHS if path != impossible]
    assert list(measurements["median_ms"]) == ["eager", "fused", *paths, "copy"]
    assert list(measurements["replayed"]["cold"]["median_us"]) == ["eager", "fused", *paths, "copy"]
    reasons = measurements["left_out"]
    assert reasons.keys() == {"native", f"native {impossible}"}
    assert reasons["native"] == "it is what auto takes here: see fused"
    reason = reasons[f"native {impossible}"]
    assert reason.startswith(f"{case.op}: path {impossible!r} cannot take input")
    assert measurements["paths"] == {
        "fused": paths_of(case),
        **{path: [path.removeprefix("native ")] * 2 for path in paths},
    }
    assert selected_backend() == "auto"
    assert batch_norm_kernels._cuda_path == ("auto", 0)


def test_paths_are_reported_beside_ops_that_have_none(captured, standin) -> None:
    of_images = gpu_case.measure_case(LARGE, ["eager"], CPU, 0.001)
    of_bias = gpu_case.measure_case(Case("bias_leaky_relu", (2, 3, 4, 4)), [], CPU, 0.001)
    assert list(of_bias["median_ms"]) == ["fused", "copy"]
    assert "paths" not in of_bias
    text = report({"cases": [of_images, of_bias], "summary": summaries([of_images, of_bias])})
    assert "path 'slab' cannot take input of shape" in text
    assert "native two_pass µs" in text
    forward, backward = paths_of(LARGE)
    assert forward != backward
    assert f"{forward}+{backward}" in text


@pytest.mark.usefixtures("auto_takes_triton")
def test_native_measured_beside_another_backend_tells_its_paths(captured, standin) -> None:
    measurements = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert measurements["paths"]["native"] == paths_of(IMAGES)
    assert measurements["paths"]["fused"] == ["two_pass", "two_pass"]


@pytest.mark.usefixtures("auto_takes_triton")
def test_what_cannot_be_captured_is_still_launched(captured, monkeypatch) -> None:
    capture, spoiled = graphs.Capturer.capture, set[object]()

    def refused(self: object, work: Any) -> object:
        assert self not in spoiled  # what comes after it is captured anew
        if selected_backend() == "native":
            spoiled.add(self)
            raise RuntimeError("operation not permitted when stream is capturing")
        return capture(self, work)

    monkeypatch.setattr(graphs.Capturer, "capture", create_autospec(capture, side_effect=refused))
    measurements = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert list(measurements["median_ms"]) == [*WAYS, "copy"]
    assert list(measurements["replayed"]["cold"]["median_us"]) == ["eager", "fused", "copy"]
    assert "capturing" in measurements["left_out"]["native, replayed"]
    assert measurements["launches"].keys() == {"eager", "fused"}
    assert len(spoiled) == 2  # cold and warm


def test_launches_that_cannot_be_counted_are_left_out_alone(captured) -> None:
    graphs.launches.side_effect = [RuntimeError("the CUDA driver answers with error 1"), 12, 36]
    measurements = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert "error 1" in measurements["left_out"]["eager, launches"]
    assert measurements["launches"] == {"fused": [12, 0]}


def test_nothing_captured_is_still_reported(captured, monkeypatch) -> None:
    capture = create_autospec(graphs.Capturer.capture, side_effect=RuntimeError("no graphs here"))
    monkeypatch.setattr(graphs.Capturer, "capture", capture)
    measurements = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    left_out = measurements["left_out"].keys()
    assert {"eager, replayed", "fused, replayed", "copy, replayed"} <= left_out
    text = report({"cases": [measurements], "summary": summaries([measurements])})
    assert "RuntimeError: no graphs here" in text
    assert "launched" in kernels._line(measurements)


def test_the_fused_op_is_indispensable(captured, monkeypatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(cases, "fused", create_autospec(cases.fused, return_value=broken))
    with pytest.raises(RuntimeError, match="no kernel image"):
        gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)


def test_each_way_is_credited_its_own_passes() -> None:
    paths = {"fused": ("slab", "two_pass"), "triton": ("two_pass",) * 2, "c": ("cluster",) * 2}
    paths |= {"p": ("persistent", "persistent"), "q": ("two_pass", "persistent")}
    assert [passes(way, paths) for way in ("copy", "eager", "fused", "triton", "c", "p", "q")] == [
        *(2, 2 + 3, 2 + 5, 3 + 5, 2 + 3, 2 + 3, 3 + 3)
    ]


def test_measurements_of_a_gpu() -> None:
    case = Case("conditional_batch_norm_act", (10, 25, 20, 50))  # 1 MB
    launched = {"eager": [90.0], "fused": [30.0], "triton": [32.0], "copy": [5.0]}
    cold = {"eager": [60.0], "fused": [20.0], "triton": [16.0], "copy": [4.0]}
    warm = {"eager": [40.0], "fused": [10.0], "triton": [12.0], "copy": [2.0]}
    replayed = {"warm": (3, warm), "cold": (3, cold)}
    counts = {"eager": (6, 9), "fused": (3, 3)}
    paths = {"triton": ("two_pass", "two_pass"), "fused": ("slab", "slab")}
    measurements = gpu_measurements(
        case, launched, replayed, {"eager": 4, "fused": 1}, counts, {}, paths
    )
    assert measurements["ratio_to_fused"] == {"eager": 3.0}
    assert measurements["gb_per_s"] == {"eager": 55.56, "fused": 166.67, "triton": 250, "copy": 400}
    found = measurements["replayed"]["cold"]
    assert (found["fastest"], found["fused_over_fastest"]) == ("triton", 1.25)
    assert found["gb_per_s"] == {"eager": 83.33, "fused": 250.0, "triton": 500.0, "copy": 500.0}
    assert found["fraction_of_copy_bandwidth"] == {"fused": 0.5, "triton": 1.0}
    assert measurements["replayed"]["warm"]["fastest"] == "fused"
    tiny = gpu_measurements(Case("bias_leaky_relu", (1, 1, 1, 1)), warm, replayed, {}, {}, {}, {})
    assert tiny["replayed"]["cold"]["fraction_of_copy_bandwidth"]["fused"] == 0.5  # of rates near 0
    assert measurements["peak_fused_over_eager"] == 0.25

    (whole, _) = summaries([measurements])
    assert whole["replayed"] == {
        "eager": 3.0,
        "least_eager": 3.0,
        "cases_eager": 1,
        "cases": 1,
        "fused_as_fast_as_the_fastest": 0,
        "most_fused_over_fastest": 1.25,
    }
    # One that L2 cannot hold is cold alone; such are what the rate is told of.
    larger = {"cold": (1, {name: [2 * each[0]] for name, each in cold.items()} | {"copy": [6.0]})}
    of_larger = gpu_measurements(case, launched, larger, {}, counts, {}, paths)
    whole = summaries([measurements, of_larger])[0]["replayed"]
    assert whole["fraction_of_copy_bandwidth"] == 0.375
    assert (whole["cases"], whole["cases_larger_than_l2"]) == (2, 1)
    lines = report({"cases": [measurements], "summary": summaries([measurements])}).splitlines()
    rows = [line.split()[3:] for line in lines if line.startswith("10x25x20x50")]
    assert rows[1] == ["60.0", "20.0", "16.0", "4.0", "3.00", "-", "triton", "1.25", "10.0"]
    assert rows[2] == ["slab", "500", "50", "100", "6+9", "3+3"]


def test_a_failed_capture_gives_the_stream_back(captured) -> None:
    """As PyTorch 2.11 has it: ending a capture that failed fails, before the stream is restored."""
    before = torch.cuda.current_stream()
    failed = RuntimeError("operation failed due to a previous error during capture")
    torch.cuda.graph.return_value.__exit__.side_effect = failed
    with pytest.raises(RuntimeError, match="previous error during capture"):
        graphs.Capturer().capture(lambda: None)
    torch.cuda.set_stream.assert_called_once_with(before)


def test_a_capture_leaves_other_threads_to_what_they_do(captured) -> None:
    """In PyTorch's default mode, a call that another thread makes of CUDA would break it."""
    graphs.Capturer().capture(lambda: None)
    torch.cuda.CUDAGraph.assert_called_once_with(keep_graph=True)
    torch.cuda.graph.assert_called_once_with(
        torch.cuda.graph.call_args.args[0],
        pool=torch.cuda.graph_pool_handle.return_value,
        stream=torch.cuda.Stream.return_value,
        capture_error_mode="thread_local",
    )
    assert [name for name, *_ in captured[0].method_calls] == ["instantiate"]


def test_launches_are_the_nodes_that_give_the_gpu_work(kept_graphs, monkeypatch) -> None:
    kinds = [0, 2, 5, 0, 1, 6]  # kernels, a memory set, an empty node, a copy, an event

    def nodes(handle: Any, into: Any, count: Any) -> int:
        assert handle.value == 0x1234
        count._obj.value = len(kinds)
        for index in range(len(kinds) if into else 0):
            into[index] = index + 1
        return 0

    def kind(node: Any, into: Any) -> int:
        into._obj.value = kinds[node.value - 1]
        return 0

    driver = SimpleNamespace(cuGraphGetNodes=nodes, cuGraphNodeGetType=kind)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    graph = create_autospec(torch.cuda.CUDAGraph, instance=True)
    graph.raw_cuda_graph.return_value = 0x1234
    assert graphs.launches(graph) == 4
    driver.cuGraphGetNodes = lambda *_: 400
    with pytest.raises(RuntimeError, match="error 400"):
        graphs.launches(graph)

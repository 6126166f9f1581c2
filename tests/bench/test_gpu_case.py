"""What the benchmark does on a GPU, on the CPU: with graphs that call what they have captured."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import cases, gpu_case, graphs, kernels
from bench.cases import Case
from bench.figures import summaries
from bench.gpu_figures import gpu_figures, passes
from bench.report import report
from cxrgan_fast.ops.backend import selected_backend

CPU = torch.device("cpu")
IMAGES = Case("conditional_batch_norm_act", (5, 3, 4, 6), "float32")
WAYS = ["eager", "fused", "native"]
"""With a backend that auto would not take; where it does, native is not measured twice."""


@pytest.fixture
def auto_takes_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the benchmark can tell."""
    monkeypatch.setattr(gpu_case, "choose_backend", lambda *_: "triton")


@pytest.mark.usefixtures("auto_takes_triton")
def test_every_way_is_launched_and_replayed_cold_and_warm(captured) -> None:
    figures = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert figures["left_out"] == {}
    assert list(figures["samples_us"]) == [*WAYS, "copy"]
    assert figures["peak_mb"].keys() == set(WAYS)
    assert set(figures["replayed"]) == {"cold", "warm"}
    for state in figures["replayed"].values():
        assert state["steps_in_a_graph"] == 3  # 3 images of x and 3 of dy are twice L2
        assert list(state["samples_us"]) == [*WAYS, "copy"]
        assert state["fastest"] in WAYS
        assert state["fraction_of_copy_bandwidth"].keys() == {"fused", "native"}
    # 12 in a graph of 3 steps are 4; minus the 12 of the forward pass alone.
    assert figures["launches"] == {name: [12, -8] for name in WAYS}
    assert [each.backend for each in captured[:4]] == ["auto", "auto", "native", "auto"]


def test_what_auto_takes_is_not_measured_twice(captured) -> None:
    figures = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert list(figures["samples_us"]) == ["eager", "fused", "copy"]
    assert figures["left_out"] == {"native": "it is what auto takes here: see fused"}


def test_copies_write_to_one_place_as_the_steps_of_training_do() -> None:
    inputs = [cases.inputs(IMAGES) for _ in range(3)]
    copies = [each["copy"] for each in gpu_case._copies(IMAGES, inputs)]
    assert len({copy().data_ptr() for copy in copies}) == 1
    for copy, (_, image) in zip(copies, inputs, strict=True):
        assert torch.equal(copy(), image)


def test_a_step_of_a_graph_is_a_third_of_one_of_three(captured, monkeypatch) -> None:
    def measured(variants: dict[str, Any], *_: Any, **options: Any) -> dict[str, list[float]]:
        return {name: [30.0] for name in variants}

    monkeypatch.setattr(gpu_case, "measure", measured)
    figures = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert figures["median_ms"]["fused"] == 0.03
    assert figures["replayed"]["cold"]["median_us"]["fused"] == 10.0


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


def test_paths_are_forced_where_there_are_some_and_named_where_they_cannot(
    captured, monkeypatch
) -> None:
    used: list[tuple[str, str]] = []

    @contextmanager
    def use_cuda_path(path: str):
        if path == "cluster":
            raise RuntimeError("a cluster does not hold\nthe slab")
        used.append((path, selected_backend()))
        yield

    problem = SimpleNamespace(paths=lambda: ("slab", "two_pass"))
    monkeypatch.setattr(gpu_case, "DEVICES_OF_PATHS", ("cpu",))
    monkeypatch.setattr(gpu_case.batch_norm_kernels, "use_cuda_path", use_cuda_path)
    monkeypatch.setattr(gpu_case, "_problem", lambda *_: problem)
    figures = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    paths = ["native two_pass", "native slab"]
    assert list(figures["median_ms"]) == ["eager", "fused", *paths, "copy"]
    assert figures["left_out"] == {
        "native": "it is what auto takes here: see fused",
        "native cluster": "RuntimeError: a cluster does not hold",
    }
    assert set(used) == {("two_pass", "native"), ("slab", "native")}
    assert figures["paths"] == {
        "fused": ["slab", "two_pass"],
        "native two_pass": ["two_pass", "two_pass"],
        "native slab": ["slab", "slab"],
    }
    assert selected_backend() == "auto"
    of_bias = gpu_case.measure_case(Case("bias_leaky_relu", (2, 3, 4, 4)), [], CPU, 0.001)
    assert list(of_bias["median_ms"]) == ["fused", "copy"]
    text = report({"cases": [figures, of_bias], "summary": summaries([figures, of_bias])})
    assert "RuntimeError: a cluster does not hold" in text
    assert "native two_pass µs" in text
    assert "slab+two_pass" in text


@pytest.mark.usefixtures("auto_takes_triton")
def test_what_cannot_be_captured_is_still_launched(captured, monkeypatch) -> None:
    capture, spoiled = graphs.Capturer.capture, set[object]()

    def refused(self: object, work: Any) -> object:
        assert self not in spoiled  # what comes after it is captured anew
        if selected_backend() == "native":
            spoiled.add(self)
            raise RuntimeError("operation not permitted when stream is capturing")
        return capture(self, work)

    monkeypatch.setattr(graphs.Capturer, "capture", refused)
    figures = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert list(figures["median_ms"]) == [*WAYS, "copy"]
    assert list(figures["replayed"]["cold"]["median_us"]) == ["eager", "fused", "copy"]
    assert "capturing" in figures["left_out"]["native, replayed"]
    assert figures["launches"].keys() == {"eager", "fused"}
    assert len(spoiled) == 2  # cold and warm


def test_launches_that_cannot_be_counted_are_left_out_alone(captured, monkeypatch) -> None:
    counts = iter([RuntimeError("the CUDA driver answers with error 1"), 12, 36])

    def launches(graph: object) -> int:
        count = next(counts)
        if isinstance(count, Exception):
            raise count
        return count

    monkeypatch.setattr(graphs, "launches", launches)
    figures = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert "error 1" in figures["left_out"]["eager, launches"]
    assert figures["launches"] == {"fused": [12, 0]}


def test_nothing_captured_is_still_reported(captured, monkeypatch) -> None:
    def refused(self: object, work: Any) -> object:
        raise RuntimeError("no graphs here")

    monkeypatch.setattr(graphs.Capturer, "capture", refused)
    figures = gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)
    assert {"eager, replayed", "fused, replayed", "copy, replayed"} <= figures["left_out"].keys()
    text = report({"cases": [figures], "summary": summaries([figures])})
    assert "RuntimeError: no graphs here" in text
    assert "launched" in kernels._line(figures)


def test_the_fused_op_is_indispensable(captured, monkeypatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(cases, "fused", lambda case: broken)
    with pytest.raises(RuntimeError, match="no kernel image"):
        gpu_case.measure_case(IMAGES, ["eager"], CPU, 0.001)


def test_each_way_is_credited_its_own_passes() -> None:
    paths = {"fused": ("slab", "two_pass"), "triton": ("two_pass",) * 2, "c": ("cluster",) * 2}
    assert [passes(way, paths) for way in ("copy", "eager", "fused", "triton", "c")] == [
        *(2, 2 + 3, 2 + 5, 3 + 5, 2 + 3)
    ]


def test_figures_of_a_gpu() -> None:
    case = Case("conditional_batch_norm_act", (10, 25, 20, 50))  # 1 MB
    launched = {"eager": [90.0], "fused": [30.0], "triton": [32.0], "copy": [5.0]}
    cold = {"eager": [60.0], "fused": [20.0], "triton": [16.0], "copy": [4.0]}
    warm = {"eager": [40.0], "fused": [10.0], "triton": [12.0], "copy": [2.0]}
    replayed = {"warm": (3, warm), "cold": (3, cold)}
    counts = {"eager": (6, 9), "fused": (3, 3)}
    paths = {"triton": ("two_pass", "two_pass"), "fused": ("slab", "slab")}
    figures = gpu_figures(case, launched, replayed, {"eager": 4, "fused": 1}, counts, {}, paths)
    assert figures["ratio_to_fused"] == {"eager": 3.0}
    assert figures["gb_per_s"] == {"eager": 55.6, "fused": 166.7, "triton": 250.0, "copy": 400.0}
    found = figures["replayed"]["cold"]
    assert (found["fastest"], found["fused_over_fastest"]) == ("triton", 1.25)
    assert found["gb_per_s"] == {"eager": 83.3, "fused": 250.0, "triton": 500.0, "copy": 500.0}
    assert found["fraction_of_copy_bandwidth"] == {"fused": 0.5, "triton": 1.0}
    assert figures["replayed"]["warm"]["fastest"] == "fused"
    assert figures["peak_fused_over_eager"] == 0.25

    (whole, _) = summaries([figures])
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
    of_larger = gpu_figures(case, launched, larger, {}, counts, {}, paths)
    whole = summaries([figures, of_larger])[0]["replayed"]
    assert whole["fraction_of_copy_bandwidth"] == 0.375
    assert (whole["cases"], whole["cases_larger_than_l2"]) == (2, 1)
    lines = report({"cases": [figures], "summary": summaries([figures])}).splitlines()
    rows = [line.split()[3:] for line in lines if line.startswith("10x25x20x50")]
    assert rows[1] == ["60.0", "20.0", "16.0", "4.0", "3.00", "-", "triton", "1.25", "10.0"]
    assert rows[2] == ["slab", "500", "50", "100", "6+9", "3+3"]


def test_a_failed_capture_gives_the_stream_back(monkeypatch) -> None:
    """As PyTorch 2.11 has it: ending a capture that failed fails, before the stream is restored."""

    class Stream:
        wait_stream = staticmethod(lambda other: None)

    before = current = Stream()

    def set_stream(stream: Stream) -> None:
        nonlocal current
        current = stream

    @contextmanager
    def capture(graph: object, stream: Stream, **options: Any):
        set_stream(stream)
        yield
        raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    monkeypatch.setattr(torch.cuda, "set_stream", set_stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda **options: None)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    with pytest.raises(RuntimeError, match="previous error during capture"):
        graphs.Capturer().capture(lambda: None)
    assert current is before


def test_launches_are_the_nodes_that_give_the_gpu_work(monkeypatch) -> None:
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
    graph = SimpleNamespace(raw_cuda_graph=lambda: 0x1234)
    assert graphs.launches(graph) == 4
    driver.cuGraphGetNodes = lambda *_: 400
    with pytest.raises(RuntimeError, match="error 400"):
        graphs.launches(graph)

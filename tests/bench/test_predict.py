"""``python -m bench.predict`` on the product's launchers, as nvcc compiles them."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench import predict, predict_plans
from bench.cases import CUDA_SHAPES, DTYPES, LAYOUTS, Case, all_cases
from bench.gpu_case import PATHS
from bench.measurements import passes
from bench.predict_code import Part
from bench.predict_model import Hardware
from bench.predict_trips import Trips
from commands import call
from cxrgan_fast.errors import UserError
from programs import run_program

CASES = all_cases([predict.OP], CUDA_SHAPES, DTYPES, LAYOUTS)

# Paths of the same cases, in a process of its own: what a GPU has is asked for once.
ASK = """
import json, sys
from pathlib import Path
from cuda_standin import building
core = building.load(Path(sys.argv[1]))
for dtype, layout, samples, channels, pixels in json.loads(sys.argv[2]):
    problem = core.ConditionalBatchNorm(
        getattr(core, dtype), getattr(core, layout), samples, channels, pixels, 1e-5, 0.2, 2,
        0, 0, 0, 0, 0, core.NORM_PATHS["auto"],
    )
    aligned = 1 << 20
    print(json.dumps([*problem.paths(aligned), problem.forward_workspace(aligned),
                      problem.backward_workspace(aligned, aligned)]))
"""


@pytest.fixture(scope="module", autouse=True)
def _compilers() -> None:
    try:
        predict_plans.find("nvcc")
        predict_plans.find("nvdisasm")
    except UserError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def predictions() -> list[dict[str, Any]]:
    return predict.predict(CASES, Hardware())


@pytest.mark.long
@pytest.mark.parametrize("multiprocessors", [132, 40])
def test_paths_and_workspaces_are_those_of_the_extension(
    multiprocessors: int, cuda_standin: ModuleType
) -> None:
    asked = [
        (case.dtype.upper(), case.layout.upper(), *case.shape[:2], case.shape[2] * case.shape[3])
        for case in CASES
    ]
    printed = run_program(
        ASK,
        str(cuda_standin.__file__),
        json.dumps(asked),
        CXRGAN_STANDIN_DEVICE=f"cc=90,sms={multiprocessors}",
    )
    plans = predict_plans.plans(CASES, Hardware(multiprocessors=multiprocessors), 90, "auto")
    found = [[*plan.paths, *plan.workspace_bytes] for plan in plans]
    assert found == [json.loads(line) for line in printed.splitlines()]
    assert len({plan.paths for plan in plans}) > 1


def test_the_code_makes_the_passes_that_its_path_is_credited_with(
    predictions: list[dict[str, Any]],
) -> None:
    partly = 0
    for case, each in zip(CASES, predictions, strict=True):
        made = passes("fused", {"fused": tuple(each["paths"])})
        again = sum(
            (1 - kernel["kept"]) * (1 if kernel["direction"] == "forward" else 2)
            for kernel in each["kernels"]
            if kernel["kernel"].startswith("single_")
        )
        moved = each["bytes_read"] + each["bytes_written"]
        assert moved == pytest.approx((made + again) * case.image_bytes, rel=1e-3), case
        assert again == 0 or "persistent" in each["paths"], case
        copied = each["us"] / each["copy_us"] * 2 * case.image_bytes
        assert each["fraction_of_copy_bandwidth"] == pytest.approx(moved / copied, abs=1e-3)
        partly += again > 0
    assert 0 < partly < len(CASES)


def test_what_is_kept_is_what_fits_into_shared_memory(predictions: list[dict[str, Any]]) -> None:
    for case, each in zip(CASES, predictions, strict=True):
        for kernel in each["kernels"]:
            if kernel["kernel"].startswith("single_"):
                tensors = 1 if kernel["direction"] == "forward" else 2
                kept = kernel["kept"] * tensors * case.image_bytes
                assert kept <= 1.001 * kernel["blocks"] * kernel["shared_bytes"], (case, kernel)
                # Less is kept only where there is no room for another packet of each thread.
                packet = tensors * kernel["threads"] * 16
                full = kernel["shared_bytes"] + packet > Hardware().shared_kib << 10
                assert kernel["kept"] == 1 or full, (case, kernel)
            else:
                assert kernel["kept"] == 0, (case, kernel)


def test_every_launch_is_of_a_kernel_that_was_compiled(predictions: list[dict[str, Any]]) -> None:
    for case, each in zip(CASES, predictions, strict=True):
        directions = [kernel["direction"] for kernel in each["kernels"]]
        assert each["launches"] == [directions.count("forward"), directions.count("backward")]
        assert directions == sorted(directions, reverse=True), case
        for kernel in each["kernels"]:
            assert kernel["registers"] > 0, (case, kernel)
            assert kernel["spilled_bytes"] == 0, (case, kernel)
            assert kernel["resident"] > 0, (case, kernel)
            assert kernel["instructions"] > 0, (case, kernel)
            assert kernel["us"] >= Hardware().overlapping_launch_us, (case, kernel)
            packets = kernel["instructions_of"]["packet"]
            moved = kernel["bytes_read"] + kernel["bytes_written"]
            # A packet of eight values is converted, compared and stored in no fewer instructions.
            assert (packets > 20) == (moved > 0), (case, kernel)


def test_blocks_at_once_are_as_many_as_fit(predictions: list[dict[str, Any]]) -> None:
    def fit(kernel: dict[str, Any], blocks: int) -> bool:
        warps = blocks * kernel["threads"] // 32
        of_warp = -(-kernel["registers"] * 32 // 256) * 256  # registers are given out by 256
        shared = blocks * (kernel["shared_bytes"] + 1024)  # the driver keeps a KiB of each block
        return warps <= 64 and warps * of_warp <= 65536 and shared <= 228 << 10 and blocks <= 32

    for kernel in (kernel for each in predictions for kernel in each["kernels"]):
        assert fit(kernel, kernel["resident"]), kernel
        assert not fit(kernel, kernel["resident"] + 1), kernel


def test_blocks_wait_for_each_other_as_their_path_has_it(
    predictions: list[dict[str, Any]],
) -> None:
    seen = set()
    for case, each in zip(CASES, predictions, strict=True):
        for direction, path in zip(("forward", "backward"), each["paths"], strict=True):
            of_it = [k for k in each["kernels"] if k["direction"] == direction]
            assert (max(k["cluster"] for k in of_it) > 1) == (path == "cluster"), (case, direction)
            grids = [k for k in of_it if k["cooperative"]]
            assert len(grids) == (path in ("persistent", "two_pass")), (case, direction)
            for kernel in grids:
                barrier = kernel["limits_us"]["launch"] - Hardware().launch_us
                assert barrier == pytest.approx(Hardware().grid_barrier_us), (case, kernel)
                # All of them run at once, or they would wait for ever.
                assert kernel["blocks"] <= kernel["resident"] * Hardware().multiprocessors
            seen.add(path)
    assert {"cluster", "persistent", "slab"} <= seen


def test_two_passes_are_more_launches_and_slower_where_images_are_small() -> None:
    small = [Case(predict.OP, (64, 512, 4, 4), "bfloat16", layout) for layout in LAYOUTS]
    two_pass = predict.predict(small, Hardware(), path="two_pass")
    slab = predict.predict(small, Hardware(), path="slab")
    for two, one in zip(two_pass, slab, strict=True):
        assert (two["paths"], one["paths"]) == (["two_pass"] * 2, ["slab"] * 2)
        assert one["launches"] == [1, 1]
        # A plane a block is more blocks than run at once: they cannot wait, and combine in a launch
        # of their own.
        waits = two["layout"] == "channels_last"
        assert two["launches"] == ([2, 2] if waits else [3, 3])
        assert sum(kernel["cooperative"] for kernel in two["kernels"]) == (2 if waits else 0)
        launches = [sum(k["limits_us"]["launch"] for k in each["kernels"]) for each in (two, one)]
        assert launches[0] > launches[1]


def test_images_of_more_samples_are_never_faster() -> None:
    for layout in LAYOUTS:
        cases = [
            Case(predict.OP, (samples, 64, 64, 64), "bfloat16", layout)
            for samples in (8, 16, 32, 64, 128, 256)
        ]
        times = [each["us"] for each in predict.predict(cases, Hardware(), path="two_pass")]
        assert times == sorted(times), layout


def test_slower_hardware_is_slower(predictions: list[dict[str, Any]]) -> None:
    slower = Hardware(memory_gb_per_s=2000, clock_ghz=1.4, launch_us=2)
    for now, then in zip(predictions, predict.predict(CASES, slower), strict=True):
        assert then["us"] > now["us"]
        assert then["paths"] == now["paths"]


@pytest.mark.parametrize("shape", [(2, 3, 3, 3), (2, 8, 7, 9)])
def test_images_without_whole_packets_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="whose packets of 16 bytes are whole"):
        predict.predict([Case(predict.OP, shape, "bfloat16", "contiguous")], Hardware())


def test_a_kernel_whose_loops_are_not_known_is_named() -> None:
    (plan,) = predict_plans.plans(
        [Case(predict.OP, (64, 64, 32, 32), "bfloat16", "channels_last")],
        Hardware(),
        90,
        "two_pass",
    )
    code = plan.kernels[0].code
    asked = {**plan.asked[0], "kernel": "new_kernel<int>"}
    answer = {
        "channels_last": True,
        "width": 8,
        "classes": 2,
        "packets_in_flight": plan.packets_in_flight,
    }
    assert predict_plans.launch_of(code, Trips(asked, answer), 2).bytes_read == 2
    unknown = dataclasses.replace(code, parts=[Part("knots")])
    with pytest.raises(UserError, match="new_kernel: a loop over 'knots' in one over 'kernel'"):
        predict_plans.launch_of(unknown, Trips(asked, answer), 2)
    with pytest.raises(UserError, match="new_kernel: it has no Norm and no Tiling"):
        predict_plans.launch_of(code, Trips({**asked, "tiling": None}, answer), 2)
    uneven = {**answer, "packets_in_flight": (3, 2)}
    with pytest.raises(UserError, match="loads 4 and stores 0 packets, expected multiples of 3"):
        predict_plans.launch_of(code, Trips(asked, uneven), 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_the_way_through_each_kernel_is_that_of_its_path(path: str, dtype: str) -> None:
    """Loop by loop, as csrc/cuda has them."""
    single = path != "two_pass"
    grid = path == "persistent"
    combine = ["exchange", "once", *(["columns", "spin"] if grid else []), "group"]
    added = ["fold", "add"]
    share = [*added, *(["columns", "spin"] if grid else []), "blocks", *added, "columns"]
    for layout in LAYOUTS:
        case = Case(predict.OP, (16, 32, 8, 16), dtype, layout)
        plan = _plan(case, path)
        assert plan.paths == (path, path), case
        codes = [kernel.code for kernel in plan.kernels]
        kinds = [[each.kind for each in code.parts if each.kind != "other"] for code in codes]
        if not single:
            measured = ["unit", "exchange", "once", "columns", "spin", "channels"]
            assert kinds == [measured, ["unit"], ["unit", "spin", "channels"], ["unit"]], case
            continue
        assert kinds == [["unit", *combine, "unit"], ["unit", *share, "unit", "pairs"]], case
        for code, table in zip(codes, ("moments", "blocks"), strict=True):
            # What is handed over lies in global memory, or in that of the cluster's blocks.
            (hand_over,) = [each.cost for each in code.walk() if each.kind == table]
            assert (hand_over.far, hand_over.peer) == ((1, 0) if grid else (0, 1)), case
            # A grid has no barrier of a cluster, and a cluster one that it waits at and one at the
            # end.
            assert code.cost.peer == (0 if grid else 2), case


def test_blocks_that_cannot_wait_leave_the_combining_to_a_launch_of_its_own() -> None:
    """The same kernels end where others would wait: their way is a shorter one."""
    for dtype in DTYPES:
        plan = _plan(Case(predict.OP, (16, 512, 4, 4), dtype, "contiguous"), "two_pass")
        assert [
            [each.kind for each in kernel.code.parts if each.kind != "other"]
            for kernel in plan.kernels
        ] == [
            ["unit", "exchange", "once", "columns"],
            ["channels"],
            ["unit"],
            ["unit"],
            ["channels"],
            ["unit"],
        ]
        assert all(kernel.code.cost.instructions > 100 for kernel in plan.kernels[::3])


def _plan(case: Case, path: str) -> predict_plans.Plan:
    return predict_plans.plans([case], Hardware(), 90, path)[0]


def test_what_is_kept_is_not_waited_for() -> None:
    case = Case(predict.OP, (64, 128, 16, 16), "bfloat16", "channels_last")
    for kernel in _plan(case, "cluster").kernels:
        measure, write = [u for each in kernel.code.parts if each.kind == "unit" for u in each.parts
                          if u.kind == "packets"]  # fmt: skip
        assert measure.kept is not None
        assert measure.again is not None
        assert write.kept is not None
        assert write.again is not None
        assert measure.kept.loads == measure.again.loads == 4
        assert (write.kept.loads, write.again.loads) == (0, 4)
        assert write.kept.cost.far == 0 < write.again.cost.far
        assert write.kept.stores == write.again.stores > measure.kept.stores == 0
        # To keep them takes instructions.
        assert measure.kept.cost.instructions > measure.again.cost.instructions


def test_the_command_predicts_writes_and_compares(tmp_path: Path, capsys) -> None:
    out, gpu = tmp_path / "out.json", tmp_path / "kernels.json"
    words = ["--shapes", "4x16x8x8", "--dtypes", "float32", "--multiprocessors", "64"]

    command = partial(call, predict.main, *words, "--out", out)
    assert command() == 0
    record = json.loads(out.read_text())
    assert record["command"] == f"python -m bench.predict {' '.join(words)}"
    assert record["hardware"]["multiprocessors"] == 64
    assert len(record["commit"]) >= 7
    assert [case["layout"] for case in record["predictions"]] == list(LAYOUTS)
    assert "4x16x8x8" in capsys.readouterr().out

    def case_of(each: dict[str, Any], factor: float) -> dict[str, Any]:
        medians = {"fused": factor * each["us"], "copy": each["copy_us"]}
        named = {name: each[name] for name in ("shape", "layout", "dtype")}
        return {"op": predict.OP, **named, "replayed": {"warm": {"median_us": medians}}}

    for case in record["predictions"]:
        # What auto takes is one of the paths, in the same time.
        times = case["us_by_path"]
        assert list(times) == list(PATHS)
        for index, direction in enumerate(("forward", "backward")):
            assert times[case["paths"][index]][index] == case[f"{direction}_us"]

    first, second = record["predictions"]
    cases = [case_of(first, 1.2), case_of(second, 5.0)]
    gpu.write_text(
        json.dumps({"command": "python -m bench.kernels", "device": "cuda", "cases": cases})
    )
    assert command("--against", gpu) == 1
    assert "OFF by 400 %" in capsys.readouterr().out
    compared = json.loads(out.read_text())["compared"]
    assert [each["ratio"] for each in compared] == [1.2, 5.0]

    older = tmp_path / "older.json"
    older.write_text(json.dumps(record | {"commit": "0123456789", "predictions": [first]}))
    assert command("--before", str(older)) == 0
    found = json.loads(out.read_text())
    assert found["command"] == record["command"]
    assert found["before"]["commit"] == "0123456789"
    assert [case["us"] for case in found["before"]["predictions"]] == [first["us"]]
    assert len(found["before"]["now"]) == 2
    assert found["before"]["now"][0]["us"] >= found["predictions"][0]["us"]
    assert "before (commit 0123456) → after" in capsys.readouterr().out


def test_a_path_that_cannot_take_a_case_has_no_time() -> None:
    """Blocks of a plane each are more than run at once; what is large fits into none."""
    cases = [
        Case(predict.OP, (64, 512, 4, 4), "bfloat16", "contiguous"),
        Case(predict.OP, (64, 32, 64, 64), "bfloat16", "channels_last"),
    ]
    planes, large = predict.by_path(cases, Hardware())
    assert planes["persistent"] == [None, None]
    assert large["slab"] == large["cluster"] == [None, None]
    for times in (planes["slab"], planes["cluster"], large["persistent"], planes["two_pass"]):
        assert all(each is not None and each > Hardware().launch_us for each in times)

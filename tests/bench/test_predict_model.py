"""The arithmetic of ``bench.predict``: the four limits, its tables, and comparisons."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import predict
from bench.cases import Case
from bench.gpu_measurements import gpu_measurements
from bench.predict_cost import Cost
from bench.predict_model import Hardware, Launch, copy_us, share_in_l2, time_of
from bench.predict_report import comparison, in_short, is_off, report
from bench.record import ROOT
from cxrgan_fast.errors import UserError

BEFORE = ROOT / "bench" / "results" / "predicted_kernels_before.json"
H100 = Hardware()
LAUNCH = Launch(
    kernel="some_kernel", direction="forward", blocks=264, threads=256, resident=2,
    warp=Cost(1000, 2, 10), around=Cost(100, 1, 0), instructions=800, bytes_read=10**7,
)  # fmt: skip


def test_the_four_limits() -> None:
    of = dataclasses.replace(
        H100, multiprocessors=132, clock_ghz=2, l2_cycles=400, memory_cycles=800, near_cycles=30,
        warp_cycles=3, issue_share=0.5, launch_us=1.5, l2_gb_per_s=5000, memory_gb_per_s=4000,
        memory_share=0.5, fill_bytes_per_cycle=64,
    )  # fmt: skip
    time = time_of(LAUNCH, of, from_l2=1)
    assert time.launch == 1.5
    assert time.chain == pytest.approx((3 * 1000 + 10 * 30 + 2 * 400) / 2000)
    assert time.issue == pytest.approx(2 * 8 * 800 / (4 * 0.5 * 2000))
    assert time.memory == pytest.approx((3 * 100 + 400) / 2000 + 10 / 5)
    assert time.total == 1.5 + time.issue
    assert time.limit == "issue"
    half = time_of(LAUNCH, of, from_l2=0.5)
    assert half.chain == pytest.approx((3 * 1000 + 10 * 30 + 2 * 600) / 2000)
    assert half.memory == pytest.approx((3 * 100 + 600) / 2000 + 5 / 5 + 5 / 2)
    # On few multiprocessors their own rate is the limit; a second wave waits for the first.
    other = dataclasses.replace(LAUNCH, warp=Cost(1000, 2, 10, 4), cluster=2)
    assert time_of(other, of, 1).chain == pytest.approx(time.chain + 4 * of.peer_cycles / 2000)
    alone = time_of(dataclasses.replace(other, cluster=1), of, 1)
    assert alone.chain == pytest.approx(time.chain + 4 * 30 / 2000)
    few = time_of(dataclasses.replace(LAUNCH, blocks=10, warp=Cost(), around=Cost()), of, 1)
    assert few.memory == pytest.approx(1e7 / (10 * 64 * 2000))
    assert time_of(dataclasses.replace(LAUNCH, blocks=265), of, 1).chain == 2 * time.chain


def test_what_a_launch_itself_takes() -> None:
    def launch_us(**changes: Any) -> float:
        return time_of(dataclasses.replace(LAUNCH, **changes), H100, 1).launch

    assert launch_us() == H100.launch_us
    assert launch_us(cluster=2) == H100.launch_us + H100.cluster_us
    assert launch_us(overlapping=True) == H100.overlapping_launch_us
    assert launch_us(spins=2) == H100.launch_us + 2 * H100.grid_barrier_us


def test_a_copy_and_what_l2_has() -> None:
    assert share_in_l2(0, H100) == share_in_l2(35_000_000, H100) == 1
    assert share_in_l2(70_000_000, H100) == 0.5
    in_l2 = H100.launch_us + 400 / 1980 + 2 * 10 / 5
    assert copy_us(10_000_000, H100) == pytest.approx(in_l2)
    half = 70 * (0.5 / 5.0 + 0.5 / (3.35 * 0.9))
    assert copy_us(35_000_000, H100) == pytest.approx(H100.launch_us + 400 / 1980 + half)


@given(
    more=st.sampled_from(
        ["blocks", "bytes_read", "bytes_written", "spins", "warp", "around", "instructions"]
    ),
    blocks=st.integers(1, 5000),
    resident=st.integers(1, 32),
    moved=st.integers(0, 10**9),
    from_l2=st.floats(0, 1),
    warp=st.tuples(st.integers(0, 10**5), st.integers(0, 100), st.integers(0, 100)),
)
def test_more_is_never_faster(
    more: str, blocks: int, resident: int, moved: int, from_l2: float, warp: tuple[int, int, int]
) -> None:
    less = dataclasses.replace(
        LAUNCH, blocks=blocks, resident=resident, bytes_read=moved, warp=Cost(*warp)
    )
    value = getattr(less, more)
    added = Cost(1, 1, 1, 1) if isinstance(value, Cost) else 1 + value // 10
    larger = dataclasses.replace(less, **{more: value + added})
    time = time_of(less, H100, from_l2).total
    # Another block, on a multiprocessor that did nothing, has a way to L2 of its own.
    few = more == "blocks" and blocks < H100.multiprocessors
    assert time > 0
    assert few or time_of(larger, H100, from_l2).total >= time - 1e-9
    assert time_of(less, H100, from_l2 / 2).total >= time - 1e-9
    of_two_halves = dataclasses.replace(less, bytes_read=math.ceil(moved / 2))
    assert 2 * time_of(of_two_halves, H100, from_l2).total > time


# --- Held against a measurement -----------------------------------------------------------------


@pytest.fixture(scope="module")
def predicted() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(BEFORE.read_text())
    return record


def measured_of(case: dict[str, Any], factor: float, **changes: Any) -> dict[str, Any]:
    """A case as ``bench.kernels`` writes it on a GPU, had it taken so many times the prediction."""
    us = {"eager": 9 * case["us"], "fused": factor * case["us"], "copy": 2 * case["copy_us"]}
    samples = {name: [each] for name, each in us.items()}
    of = Case(predict.OP, tuple(case["shape"]), case["dtype"], case["layout"])
    launches = {"fused": tuple(case["launches"])} | changes.get("launches", {})
    paths = {"fused": tuple(case["paths"])} | changes.get("paths", {})
    replayed = {"cold": (3, samples), "warm": (3, samples)}
    return gpu_measurements(of, samples, replayed, {}, launches, {}, paths)


def test_a_planted_difference_is_marked(predicted: dict[str, Any]) -> None:
    first, second, third, fourth = predicted["predictions"][:4]
    cases = [
        measured_of(first, 1.39),
        measured_of(second, 1.41),
        measured_of(third, 0.7),
        measured_of(fourth, 1.0, launches={"fused": (9, 9)}, paths={"fused": ("slab", "two_pass")}),
    ]
    compared = predict.against(predicted["predictions"], {"cases": cases})
    assert [each["ratio"] for each in compared] == [1.39, 1.41, 0.7, 1.0]
    assert [each["off"] for each in compared] == [
        [],
        ["OFF by 41 %"],
        ["OFF by 30 %"],
        ["OFF: path slab+two_pass", "OFF: launches 9+9"],
    ]
    assert compared[0]["copy_ratio"] == 2
    text = comparison(compared)
    assert "within 40 %" in text
    assert "OFF: path slab+two_pass; OFF: launches 9+9" in text


def test_native_is_what_is_compared_where_another_backend_is_the_fused_one(
    predicted: dict[str, Any],
) -> None:
    case = predicted["predictions"][0]
    measured = measured_of(case, 3.0)
    measured["replayed"]["warm"]["median_us"]["native"] = 1.1 * case["us"]
    measured["paths"]["native"], measured["launches"]["native"] = case["paths"], case["launches"]
    measured["paths"]["fused"] = ["two_pass", "two_pass"]
    (compared,) = predict.against([case], {"cases": [measured]})
    assert compared["ratio"] == pytest.approx(1.1, abs=1e-3)
    assert compared["off"] == []


def test_where_only_cold_was_measured_that_is_compared(predicted: dict[str, Any]) -> None:
    case = predicted["predictions"][0]
    measured = measured_of(case, 1.0)
    del measured["replayed"]["warm"]
    (compared,) = predict.against([case], {"cases": [measured]})
    assert compared["state"] == "cold"
    measured["replayed"] = {}
    with pytest.raises(UserError, match="no predicted case of conditional_batch_norm_act"):
        predict.against([case], {"cases": [measured]})


@pytest.mark.parametrize(("ratio", "off"), [(1.4, False), (1 / 1.4, False), (1.41, True)])
def test_off_is_more_than_40_percent_either_way(ratio: float, off: bool) -> None:
    assert is_off(ratio) == off
    assert is_off(float("nan"))


def test_the_table_has_a_line_for_each_case(predicted: dict[str, Any]) -> None:
    lines = report(predicted).splitlines()
    assert "predicted, not measured" in lines[0]
    assert len(lines) == 3 + len(predicted["predictions"])
    for line, case in zip(lines[3:], predicted["predictions"], strict=True):
        assert line.split()[0] == "x".join(map(str, case["shape"]))
        assert f"{case['us']:.1f}" in line.split()


def test_slower_paths_and_what_was_before_stand_beside_it(predicted: dict[str, Any]) -> None:
    first, second, third = (dict(case) for case in predicted["predictions"][:3])
    first |= {"paths": ["slab", "cluster"], "forward_us": 11.4, "backward_us": 12.0}
    first["us_by_path"] = {
        "two_pass": [20.0, 10.0], "slab": [11.4, None], "cluster": [10.0, 12.0],
    }  # fmt: skip
    second["us_by_path"] = {"slab": [second["forward_us"], second["backward_us"]]}
    third["us_by_path"] = {"slab": [third["forward_us"], third["backward_us"]]}
    older = in_short(first) | {"us": 2 * first["us"], "paths": ["two_pass", "two_pass"]}
    record = predicted | {
        "predictions": [first, second, third],
        "before": {
            "commit": "89abcdef",
            "predictions": [older, in_short(third)],
            "now": [in_short(each) for each in (first, second, third)],
        },
    }
    whole, slower, beside = report(record).split("\n\n")
    assert len(whole.splitlines()) == 3 + 3
    # 14 % slower forward than a cluster is not much, 20 % slower backward than two passes is.
    (row,) = (line.split() for line in slower.splitlines()[3:])
    assert row[3:] == ["backward", "cluster", "two_pass", "12.0", "10.0", "1.20"]
    rows = [line.split() for line in beside.splitlines()[3:]]
    assert "before (commit 89abcde)" in beside
    assert [row[0] for row in rows] == [
        "x".join(map(str, case["shape"])) for case in (first, third)
    ]
    assert rows[0][3:5] == ["two_pass", "slab+cluster"]
    assert [row[-1] for row in rows] == ["2.00", "1.00"]
    nowhere = report(predicted | {"predictions": [second]}).split("\n\n")[1]
    assert nowhere.endswith(": nowhere")


def test_in_short_every_path_is_credited_the_least_passes(predicted: dict[str, Any]) -> None:
    for case in predicted["predictions"]:
        short = in_short(case)
        kernels = case["kernels"]
        packets = sum(kernel["instructions_of"]["packet"] for kernel in kernels)
        assert short["instructions_of_packet"] == pytest.approx(packets, abs=0.1)
        assert short["bytes"] == case["bytes_read"] + case["bytes_written"]
        # Before, no path read a part again: those of two passes were credited eight.
        made = 5 if case["paths"][0] != "two_pass" else 8
        least = case["fraction_of_copy_bandwidth"] * 5 / made
        assert short["least_fraction_of_copy_bandwidth"] == pytest.approx(least, abs=2e-3)

"""What the turns say: medians, ratios, targets, growth; and how it is told."""

from __future__ import annotations

from typing import Any

import pytest

from bench.throughput_measurements import growth, targets, variant_measurements, with_ratios
from bench.throughput_report import report


def point(resolution: int = 64, batch_size: int = 64, **milliseconds: float) -> dict[str, Any]:
    """Variants that take so long for a step; the reference's peak is 100 MB, ours 50."""
    variants = {}
    for name, ms in milliseconds.items():
        measurements = variant_measurements([(16 * ms / 1e3, 0.0)], 16, batch_size, on_gpu=False)
        peak = 100.0 if name.startswith("reference") else 50.0
        variants[name] = {"peak_mb": peak, "host_busy": 0.02, **measurements}
    return {
        "resolution": resolution,
        "batch_size": batch_size,
        "variants": with_ratios(variants),
        "left_out": {},
        "targets": [],
    }


def test_a_variants_measurements_are_those_of_its_median_turn() -> None:
    turns = [(1.6, 0.4), (3.2, 0.4), (0.8, 0.4)]
    measurements = variant_measurements(turns, 16, 32, on_gpu=True)
    assert measurements == {
        "images_per_second": 320.0,
        "ms_per_step": 100.0,
        "steps_per_turn": 16,
        "host_busy": 0.25,
        "samples_ms": [100.0, 200.0, 50.0],
    }
    assert "host_busy" not in variant_measurements(turns, 16, 32, on_gpu=False)


def test_ratios_are_to_the_reference_and_to_the_floor() -> None:
    variants = point(reference=60.0, graph=10.0, floor=8.0)["variants"]
    assert variants["graph"]["times_reference"] == 6.0
    assert variants["graph"]["times_floor"] == 1.25
    assert variants["reference"]["times_reference"] == 1.0
    assert list(variants["graph"])[-1] == "samples_ms"
    assert "times_reference" not in point(graph=10.0, floor=8.0)["variants"]["graph"]
    assert "times_floor" not in point(graph=10.0)["variants"]["graph"]


def verdicts(rows: list[dict[str, Any]]) -> dict[str, bool]:
    return {row["what"]: row["met"] for row in rows}


def test_targets_on_two_cores_are_of_the_compiled_reference_in_bfloat16() -> None:
    here = {"device": "cpu", "preset": "small", "threads": 2}
    times = {"reference": 31.0, "reference_compiled": 9.0, "reference_amp_compiled": 12.9}
    rows = targets(point(**times, eager=11.0, compile=10.0), **here)
    assert verdicts(rows) == {
        "compile: times as fast as reference": True,
        "compile: times as fast as reference_amp_compiled": False,
    }
    assert rows[0] == {
        "what": "compile: times as fast as reference",
        "wanted": "at least 3.0",
        "got": 3.1,
        "met": True,
    }
    for elsewhere in ({"preset": "base"}, {"threads": 4}):
        assert targets(point(**times, eager=1.0), **{**here, **elsewhere}) == []
    assert targets(point(resolution=32, **times, eager=1.0), **here) == []
    assert targets(point(**times), **here) == []  # nothing of ours


def test_targets_on_a_gpu_are_of_the_faster_compiled_reference() -> None:
    here = {"device": "cuda", "preset": "base", "threads": 16}
    times = {"reference": 60.0, "reference_amp": 29.0, "reference_compiled": 15.0, "graph": 10.0}
    measured = point(**times, reference_amp_compiled=16.0, eager=20.0, floor=7.0)
    assert verdicts(targets(measured, **here)) == {
        "graph: times as fast as reference": True,
        "graph: times as fast as reference_amp": False,
        "graph: times as fast as reference_compiled": True,
        "graph: step over the floor": False,
        "graph: peak memory over reference_amp": True,
        "graph: share of the time the host works": True,
    }
    at_128 = point(resolution=128, **times)
    assert verdicts(targets(at_128, **here))["graph: times as fast as reference_amp"] is True
    assert targets(point(batch_size=32, **times), **here) == []
    measured["variants"]["graph"]["host_busy"] = 0.4
    measured["variants"]["graph"]["peak_mb"] = 61.0
    fallen = verdicts(targets(measured, **here))
    assert fallen["graph: share of the time the host works"] is False
    assert fallen["graph: peak memory over reference_amp"] is False


def test_growth_is_of_the_time_of_an_image_and_of_a_pixel() -> None:
    points = [
        point(64, 8, graph=8.0),
        point(64, 16, graph=14.0),
        point(64, 32, graph=28.0, eager=30.0),
        point(32, 16, graph=4.0),
    ]
    along_batch, along_resolution = growth(points)
    assert along_batch == {
        "variant": "graph",
        "along": "batch_size",
        "resolution": 64,
        "from": 8,
        "to": 32,
        "overall": 0.875,
        "most": 1.0,
        "grows_no_faster": True,
    }
    # 3.5 times the time for 4 times the pixels.
    assert along_resolution["overall"] == pytest.approx(0.875)
    assert (along_resolution["from"], along_resolution["to"]) == (32, 64)
    (worse,) = growth([point(64, 8, graph=8.0), point(64, 16, graph=17.0)])
    assert worse["grows_no_faster"] is False
    assert growth(points[:1]) == []


def test_growth_that_is_small_from_each_point_to_the_next_adds_up() -> None:
    times = {8: 8.0, 16: 14.0, 32: 28.6, 64: 58.4, 128: 119.0}  # 2 % an image, three times
    (row,) = growth([point(64, size, graph=ms) for size, ms in times.items()])
    assert row["overall"] < 1
    assert row["most"] == pytest.approx(119 / 128 / (14 / 16), abs=1e-3)
    assert row["grows_no_faster"] is False


def test_the_report_says_all_of_it() -> None:
    measured = point(reference=60.0, graph=10.0, floor=8.0)
    measured["left_out"] = {"compile": "no compiler"}
    measured["targets"] = targets(measured, device="cuda", preset="base", threads=1)
    small = point(batch_size=8, graph=2.0)
    text = report({"points": [measured, small], "growth": growth([measured, small])})
    for words in ("64 pixels, batch 64", "64 pixels, batch 8", "left out", "no compiler"):
        assert words in text
    squeezed = " ".join(text.split())
    assert "graph: times as fast as reference at least 6.0 6.00 met" in squeezed
    lines = [line.split() for line in text.splitlines()]
    assert ["graph", "6400.0", "10.00", "6.00", "1.25", "50", "2%"] in lines
    assert ["graph", "64", "pixels", "images", "8", "to", "64", "0.62", "0.62", "met"] in lines

"""The benchmark's own arithmetic."""

import json

import pytest

from bench.cases import Case
from bench.kernels_report import report
from bench.measurements import case_measurements, floor, gigabytes_per_second, summaries
from bench.record import as_text

IMAGES = Case("bias_leaky_relu", (10, 25, 20, 50), "float32")  # 1 MB


def _measurements(case: Case = IMAGES, *, eager: float, compiled: float = 4.0, fused: float = 1.0):
    samples = {"eager": eager, "compiled": compiled, "fused": fused, "copy": 0.3}
    if not case.of_images:
        del samples["copy"]
    return case_measurements(case, {name: [1e3 * each] * 3 for name, each in samples.items()})


def test_the_floor_is_two_and_a_half_copies() -> None:
    assert floor(2.0) == 5.0


def test_bytes_a_second() -> None:
    assert gigabytes_per_second(IMAGES, {"fused": 1.0, "copy": 0.5}, {}) == {"fused": 5, "copy": 4}


def test_medians_ratios_and_rates_of_one_case() -> None:
    samples = {
        "eager": [9000.04, 3000.0, 3001.0],
        "fused": [1000.0, 999.0, 5000.0],
        "copy": [200.0, 200.0, 300.0],
    }
    found = case_measurements(IMAGES, samples, {"eager": 4_000_000, "fused": 1_000_000})
    assert found["median_ms"] == {"eager": 3.001, "fused": 1.0, "copy": 0.2}
    assert found["ratio_to_fused"] == {"eager": 3.001}
    # 5 passes over 1 MB in 1 ms, 2 in 0.2 ms.
    assert found["gb_per_s"] == {"eager": 1.67, "fused": 5.0, "copy": 10.0}
    assert found["floor_ms"] == 0.5
    assert found["fused_over_floor"] == 2.0
    assert found["fraction_of_copy_bandwidth"] == 0.5
    assert found["peak_mb"] == {"eager": 4.0, "fused": 1.0}
    assert found["peak_fused_over_eager"] == 0.25
    assert found["samples_us"]["eager"] == [9000.0, 3000.0, 3001.0]


def test_a_loss_has_no_floor() -> None:
    found = _measurements(Case("generator_loss", (64,), kind="hinge"), eager=2.0)
    assert found["kind"] == "hinge"
    assert found["ratio_to_fused"] == {"eager": 2.0, "compiled": 4.0}
    assert not {"gb_per_s", "floor_ms", "fused_over_floor"} & found.keys()


def test_geometric_means_of_an_op_and_of_its_layouts_and_dtypes() -> None:
    half = Case("bias_leaky_relu", (10, 25, 20, 50), "bfloat16", "channels_last")
    rows = summaries(
        [_measurements(eager=2.0), _measurements(eager=8.0), _measurements(half, eager=0.5)]
    )
    whole, *parts = rows
    assert (whole["op"], whole["layout"], whole["dtype"]) == ("bias_leaky_relu", None, None)
    assert whole["cases"] == 3
    assert whole["eager"] == 2.0  # the cube root of 2·8·½
    assert whole["least_eager"] == 0.5
    assert whole["compiled"] == 4.0
    assert whole["fused_over_floor"] == pytest.approx(1 / 0.75, abs=1e-3)
    assert [(row["layout"], row["dtype"], row["eager"]) for row in parts] == [
        ("contiguous", "float32", 4.0),
        ("channels_last", "bfloat16", 0.5),
    ]


def test_however_slow_the_fused_op_is_there_is_a_mean() -> None:
    whole, _ = summaries([_measurements(eager=1e-5)])
    assert whole["eager"] == 0
    assert whole["least_eager"] == pytest.approx(1e-5)


def test_the_report_has_a_row_for_each_case_and_dashes_for_what_was_not_measured() -> None:
    loss = Case("discriminator_loss", (64,), kind="hinge")
    cases = [_measurements(eager=2.0), case_measurements(loss, {"eager": [30.0], "fused": [10.0]})]
    text = report({"cases": cases, "summary": summaries(cases)})
    (of_images,) = [line for line in text.splitlines() if line.startswith("10x25x20x50")]
    assert of_images.split()[3:] == (
        ["2.000", "4.000", "1.000", "0.300", "2.00", "4.00", "5.0", "75", "1.33", "-"]
    )
    of_loss, of_mean = (line for line in text.splitlines() if "discriminator_loss  hinge" in line or
                        line.startswith("discriminator_loss  all"))  # fmt: skip
    assert of_loss.split()[3:] == ["0.030", "-", "0.010", "3.00", "-"]
    assert of_mean.split()[-1] == "-"


def test_samples_are_one_line_of_the_file() -> None:
    record = {"text": "[1, 2]", "samples": [1.5, -2, 3e-7], "empty": [], "names": ["a", "b"]}
    text = as_text({"cases": [record]})
    assert json.loads(text) == {"cases": [record]}
    assert '"samples": [1.5, -2, 3e-07],' in text

"""What ``research.parity`` says of planted trainings: equal, worse, better, diverged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from research.parity_measurements import first_below, reach, summary
from research.parity_report import report

Curve = list[tuple[float, float]]


def run(seed: int, *points: tuple[float, float | None], rate: float = 10.0) -> dict[str, Any]:
    """A training by its (seconds, FID) at each snapshot."""
    snapshots = [
        {"step": number, "images": 100 * number, "seconds": seconds, "fid": value}
        for number, (seconds, value) in enumerate(points, 1)
    ]
    if snapshots[-1]["fid"] is not None:
        snapshots[-1] |= {"kid": snapshots[-1]["fid"] / 100, "nearest_neighbour": 0.8}
    return {"seed": seed, "images_per_second": rate + seed, "snapshots": snapshots}


def planted(means: dict[str, float], deviation: float, seeds: int) -> dict[str, Any]:
    """Trainings whose last FIDs have exactly these means and this deviation."""
    runs = {}
    for number, (name, mean) in enumerate(means.items()):
        values = np.random.default_rng(number).normal(size=seeds)
        values = mean + deviation * (values - values.mean()) / values.std(ddof=1)
        runs[name] = [run(seed, (1, 90.0), (2, value)) for seed, value in enumerate(values)]
    return runs


def verdicts(measurements: dict[str, Any], variant: str, test: str = "Welch") -> list[str]:
    return [row["verdict"] for row in measurements["comparisons"][variant][test]["equivalence"]]


def test_equal_variants_of_small_spread_are_equivalent_and_others_not() -> None:
    means = {"reference": 50.0, "fp32": 50.2, "bf16": 53.0, "fp16": 46.0}
    measurements = summary(planted(means, 1.0, 5))
    assert measurements["variants"]["reference"]["fid"]["mean"] == pytest.approx(50)
    assert measurements["variants"]["reference"]["fid"]["deviation"] == pytest.approx(1)
    fp32 = measurements["comparisons"]["fp32"]["Welch"]
    assert fp32["differences"]["fid"]["value"] == pytest.approx(0.2)
    assert fp32["differences"]["fid"]["share"] == pytest.approx(0.004)
    # The interval by hand: t of 8 degrees at 95 % is 1.8595, the error sqrt(2/5).
    half = 1.8595 * (2 / 5) ** 0.5
    wanted = (0.2 - half, 0.2 + half)
    assert fp32["differences"]["fid"]["interval_90"] == pytest.approx(wanted, abs=1e-4)
    five_percent, half_a_deviation = fp32["equivalence"]
    assert five_percent["margin"] == pytest.approx(2.5)
    assert five_percent["equivalent"] is True
    assert half_a_deviation["margin"] == pytest.approx(0.5)
    assert half_a_deviation["equivalent"] is False
    assert half_a_deviation["p_not_worse"] < half_a_deviation["p_equivalent"] + 1e-12
    assert verdicts(measurements, "fp32") == ["equivalent", "not shown"]
    assert verdicts(measurements, "bf16") == ["not shown: it is worse"] * 2
    assert verdicts(measurements, "fp16") == ["not shown: it is better"] * 2
    assert measurements["comparisons"]["fp16"]["Welch"]["equivalence"][0]["p_not_worse"] < 1e-4


def test_equal_means_of_large_spread_are_not_called_equal() -> None:
    measurements = summary(planted({"reference": 50.0, "fp32": 50.0}, 8.0, 5))
    assert verdicts(measurements, "fp32") == ["not shown", "not shown"]
    row = measurements["comparisons"]["fp32"]["Welch"]["equivalence"][0]
    assert row["power"] < 0.1
    assert row["smallest_margin"] > 8
    assert row["smallest_share"] == pytest.approx(row["smallest_margin"] / 50)
    assert 40 < row["seeds_needed"] < 250


def test_pairs_that_go_together_show_what_two_samples_do_not() -> None:
    fids = [18.0, 23.0, 17.0, 21.0, 21.5]
    shifts = [0.2, -0.1, 0.3, -0.2, 0.1]
    runs = {
        "reference": [run(seed, (1, value)) for seed, value in enumerate(fids)],
        "bf16": [
            run(seed, (1, value + shift))
            for seed, (value, shift) in enumerate(zip(fids, shifts, strict=True))
        ],
    }
    measurements = summary(runs)
    compared = measurements["comparisons"]["bf16"]
    assert compared["correlation"] > 0.99
    assert verdicts(measurements, "bf16") == ["not shown"] * 2
    assert verdicts(measurements, "bf16", "pairs") == ["equivalent"] * 2
    expected = stats.ttest_1samp(shifts, 0)
    difference = compared["pairs"]["differences"]["fid"]
    assert difference["value"] == pytest.approx(np.mean(shifts))
    wanted = expected.confidence_interval(0.9)
    assert difference["interval_90"] == pytest.approx((wanted.low, wanted.high))
    row = compared["pairs"]["equivalence"][0]
    beyond = [stats.ttest_1samp(shifts, sign * row["margin"]).pvalue / 2 for sign in (-1, 1)]
    assert row["p_equivalent"] == pytest.approx(max(beyond))
    assert row["seeds_needed"] < 5 < compared["Welch"]["equivalence"][0]["seeds_needed"]
    # A pair of which one diverged is no pair; those that are left are not enough to say more.
    runs["bf16"][0] = run(0, (1, None))
    measurements = summary(runs)
    left = measurements["comparisons"]["bf16"]["pairs"]["differences"]["fid"]
    assert left["value"] == pytest.approx(np.mean(shifts[1:]))
    assert verdicts(measurements, "bf16", "pairs") == ["not shown: 1 diverged"] * 2


def test_a_variant_that_diverged_is_never_equivalent() -> None:
    runs = planted({"reference": 50.0, "fp32": 50.0}, 0.1, 4)
    assert verdicts(summary(runs), "fp32")[0] == "equivalent"
    runs["fp32"][2] = run(2, (1, 90.0), (2, None))
    measurements = summary(runs)
    assert verdicts(measurements, "fp32") == ["not shown: 1 diverged"] * 2
    assert measurements["variants"]["fp32"]["fid"]["values"][2] is None
    assert measurements["variants"]["fp32"]["kid"]["values"][2] is None
    assert measurements["reach"]["variants"]["fp32"]["mean"] is None  # at the end; nor is it before
    runs["fp32"] = [run(seed, (1, None), (2, None)) for seed in range(4)]
    measurements = summary(runs)
    assert "equivalence" not in measurements["comparisons"]["fp32"]["Welch"]
    assert measurements["variants"]["fp32"]["fid"]["mean"] is None


def test_rates_are_medians_and_their_ratio_is_to_the_reference() -> None:
    runs = {
        "reference": [run(seed, (1, 9.0 + seed), rate=10) for seed in range(3)],
        "bf16": [run(seed, (1, 9.0 + seed), rate=32) for seed in range(3)],
    }
    measurements = summary(runs)["variants"]
    assert measurements["reference"]["images_per_second"]["values"] == [10, 11, 12]
    assert measurements["bf16"]["images_per_second"]["median"] == 33
    assert measurements["bf16"]["times_reference"] == 3
    assert measurements["reference"]["times_reference"] == 1


@pytest.mark.parametrize(
    ("points", "target", "seconds"),
    [
        ([(1, 40.0), (3, 20.0), (5, 10.0)], 25.0, 2.5),
        ([(1, 40.0), (3, 20.0), (5, 10.0)], 20.0, 3.0),
        ([(1, 40.0), (3, 20.0), (5, 30.0), (7, 10.0)], 20.0, 3.0),  # the first time
        ([(1, 40.0), (3, 20.0)], 19.9, None),
        ([(4, 10.0), (8, 5.0)], 12.0, 4.0),  # by the first snapshot
        ([(1, 40.0), (2, None), (3, 10.0)], 20.0, 3.0),  # no line over what is not known
        ([(1, None)], 20.0, None),
    ],
)
def test_the_time_to_a_fid(points, target, seconds) -> None:
    found = first_below(run(0, *points)["snapshots"], target)
    assert (found and found["seconds"]) == (seconds and pytest.approx(seconds))


def test_who_reaches_the_references_last_fid_and_when() -> None:
    runs = {
        "reference": [run(0, (10, 30.0), (20, 12.0)), run(1, (12, 26.0), (24, 8.0))],
        "fp32": [run(0, (2, 20.0), (4, 6.0)), run(1, (2, 20.0), (4, 11.0))],
        "bf16": [run(0, (1, 40.0), (2, 11.0)), run(1, (1, 40.0), (2, 15.0))],
    }
    measurements = reach(runs)
    assert measurements["target"] == 10
    reference, fp32, bf16 = measurements["variants"].values()
    assert reference["mean"] == {"seconds": 22, "images": 200}
    assert reference["times_sooner"] == 1
    assert [each and each["images"] for each in reference["seeds"]] == [
        None,
        pytest.approx(188.9, abs=0.1),
    ]
    # The mean goes from 20 at 2 s to 8.5 at 4 s: 10 is 10 / 11.5 of the way.
    assert fp32["mean"]["seconds"] == pytest.approx(2 + 2 * 10 / 11.5)
    assert fp32["times_sooner"] == pytest.approx(22 / (2 + 2 * 10 / 11.5))
    assert fp32["seeds"][1] is None
    assert bf16["mean"] is None
    assert "times_sooner" not in bf16


def test_the_tables_say_what_is_not_known() -> None:
    runs = {
        "reference": [run(0, (10, 30.0), (20, 12.0)), run(1, (12, 26.0), (24, 8.0))],
        "bf16": [run(0, (1, 40.0), (2, 11.0)), run(1, (1, 40.0), (2, None))],
    }
    floor = {"mean": 1.5, "deviation": 0.25, "values": [1.25, 1.75]}
    record = {
        "device": "cpu",
        "data": "some, 9 images",
        "settings": {
            "steps": 7,
            "device": "cpu",
            "threads": 2,
            "training": {"resolution": 32, "batch_size": 4},
        },
        "evaluation": {"features": "f", "version": "v", "dimension": 3, "images": {"a": 2, "b": 3}},
        "complete": False,
        "wanted_seeds": 5,
        "floor": {"images": 4, "fid": floor, "kid": floor, "nearest_neighbour": floor},
        **summary(runs),
    }
    text = report(record)
    assert text.startswith(
        "some, 9 images, 32 pixels, batch 4, 7 steps, 2 seeds (NOT complete: 5 wanted); "
        "CPU, 2 threads\n"
        "features f (3 dimensions, version v), 5 generated and 5 real images\n"
    )
    (real,) = (line for line in text.splitlines() if line.startswith("real, 4 and as many "))
    assert real.split()[5:] == ["1.5", "0.25", "1.5", "0.25", "1.5", "0.25", "-", "-"]
    assert "until the mean FID is the reference's last, 10" in text
    for of_seeds in runs.values():
        for each in of_seeds:
            each["commit"] = "aaaaaaaa0"
    versioned = {**record, "runs": runs, "commit": "aaaaaaaa0"}
    assert report(versioned) == text
    versioned["commit"] = "bbbbbbbb0"
    assert report(versioned) == f"trained at aaaaaaaa, put together at bbbbbbbb\n{text}"
    (reached,) = (line for line in text.splitlines() if line.startswith("bf16") and "of 2" in line)
    assert reached.split() == ["bf16", "not", "reached", "-", "-", "0", "of", "2", "-"]
    (means,) = (line for line in text.splitlines() if line.startswith("bf16") and "10.5" in line)
    assert means.split()[1:7] == ["11", "-", "0.11", "-", "0.8", "-"]  # of the seed that has some

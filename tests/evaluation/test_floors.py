"""The mean of many divisions, and the difference from it."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest

from cxrgan_fast.evaluation.floors import differences, mean_of_divisions, most_divisions
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.metrics.metric import all_metrics
from cxrgan_fast.metrics.shared_images import MOST_IMAGES


class Divisions:
    """Drawn floors of two metrics, and what was asked of them."""

    def __init__(self, error: float | None = 0.1) -> None:
        rng = np.random.default_rng(0)
        self.values = {
            name: rng.normal(1, 0.1, 40).tolist() for name in ("fid", "nearest_neighbour")
        }
        self.error = error
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def __call__(self, division: int, metrics: Sequence[str]) -> Comparison:
        self.asked.append((division, tuple(metrics)))
        details = {"real_accuracy": division, "fake_accuracy": 1.0, "p_value": division}
        estimates = {
            name: Estimate(
                values[division], 9, 8, self.error if not division else None, dict(details)
            )
            for name, values in self.values.items()
            if name in metrics
        }
        return Comparison(estimates, {"kid": "why"} if "kid" in metrics else {})


def test_a_floor_is_the_mean_of_its_divisions() -> None:
    divisions = Divisions()
    found = mean_of_divisions(["fid", "kid", "nearest_neighbour"], divisions)
    assert found.omitted == {"kid": "why"}
    assert [number for number, _ in divisions.asked] == list(range(20))
    for name, values in divisions.values.items():
        floor = found.estimates[name]
        assert floor.value == pytest.approx(statistics.fmean(values[:20]))
        deviation = statistics.stdev(values[:20])
        assert floor.details["deviation"] == pytest.approx(deviation)
        assert (floor.details["divisions"], floor.details["values"]) == (20, values[:20])
        # 0.1² of one comparison, of which the divisions show less.
        expected = max(0.01 - deviation**2, 0) + deviation**2 / 20
        assert floor.standard_error == pytest.approx(math.sqrt(expected))
    details = found.estimates["nearest_neighbour"].details
    assert details["real_accuracy"] == pytest.approx(9.5)  # the mean of 0 to 19
    assert details["p_value"] == 0  # of the first


def test_a_metric_that_takes_long_has_fewer_divisions() -> None:
    asked = []

    def compare(division: int, metrics: Sequence[str]) -> Comparison:
        asked.append((division, list(metrics)))
        return Comparison({name: Estimate(1.0, 1, 1, 0.5) for name in metrics})

    found = mean_of_divisions(["fid", "fid_infinity", "creativity"], compare, MOST_IMAGES).estimates
    few = all_metrics()["fid_infinity"].divisions
    assert 1 < few < 20 == most_divisions(["fid"])
    others = [["fid", "fid_infinity", "creativity"], ["fid", "creativity"]]
    assert [names for _, names in asked[1:]] == others[:1] * (few - 1) + others[1:] * (20 - few)
    assert found["fid_infinity"].details["divisions"] == few
    assert found["creativity"].details["divisions"] == 20


def test_of_many_images_whose_pairs_are_not_kept_there_is_one_division() -> None:
    def compare(division: int, metrics: Sequence[str]) -> Comparison:
        return Comparison({name: Estimate(1.0, 1, 1, 0.5) for name in metrics})

    metrics = ["fid", "creativity", "power_spectrum"]
    found = mean_of_divisions(metrics, compare, MOST_IMAGES + 1).estimates
    assert [found[name].details["divisions"] for name in metrics] == [20, 1, 20]
    assert found["creativity"].details["deviation"] is None
    assert found["creativity"].standard_error == 0.5


def test_every_metric_has_the_divisions_that_are_promised() -> None:
    """All but one: FID infinity is dear, as docs/metrics.md says."""
    assert {
        name: metric.divisions
        for name, metric in all_metrics().items()
        if metric.function is not None and metric.divisions != 20
    } == {"fid_infinity": 3}


def test_the_error_of_equal_sets_is_that_of_a_floor() -> None:
    def compare(division: int, metrics: Sequence[str]) -> Comparison:
        return Comparison(
            {"fid": Estimate(division % 2, 1, 1, 9.0, {"error_if_equal": 1.0}, (-5.0, 5.0))}
        )

    floor = mean_of_divisions(["fid"], compare).estimates["fid"]
    variance = 20 / 19 / 4
    assert floor.standard_error == pytest.approx(math.sqrt(1 - variance + variance / 20))
    low, high = floor.interval
    assert (low + high) / 2 == pytest.approx(floor.value)


def test_the_difference_has_both_uncertainties() -> None:
    generated = Comparison(
        {"fid": Estimate(5.0, 1, 1, 1.0, bounds=(4.0, 8.0)), "kid": Estimate(1.0, 1, 1, 1.0)}
    )
    floor = Comparison(
        {"fid": Estimate(2.0, 1, 1, 2 / 1.959964, {"divisions": 20, "deviation": 3.0})}
    )
    found = differences(generated, floor)
    assert list(found) == ["fid"]
    assert found["fid"].difference == 3.0
    assert found["fid"].interval == pytest.approx((3 - 5**0.5, 3 + 13**0.5))
    assert (found["fid"].divisions, found["fid"].deviation) == (20, 3.0)


def test_without_an_uncertainty_there_is_no_interval() -> None:
    known, unknown = Estimate(1.0, 1, 1, 0.0), Estimate(2.0, 1, 1)
    sides = Comparison({"fid": known}), Comparison({"fid": unknown})
    assert differences(*sides)["fid"].interval is None
    assert differences(sides[0], sides[0])["fid"].interval is None  # 0 says nothing
    floor = Comparison({"fid": Estimate(0.5, 1, 1, 0.1)})
    low, high = differences(sides[0], floor)["fid"].interval
    assert (low, high) == pytest.approx((0.5 - 0.196, 0.5 + 0.196), abs=1e-4)

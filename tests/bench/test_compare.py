"""``python -m bench.compare``: what is slower is found, noise is not, what is missing is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import compare
from bench.compare import FASTER, SAME, SLOWER, UNKNOWN, interval
from bench.record import RESULTS
from commands import call

ENVIRONMENT = {"cpu": {"model": "some"}, "threads": 2, "packages": {"torch": "2.9"}}


def samples(median: float, seed: int, count: int = 60, spread: float = 0.05) -> list[float]:
    """Times around a median, a tenth of them of calls that something held up."""
    rng = np.random.default_rng(seed)
    times = median * (1 + spread * rng.standard_normal(count))
    times[rng.random(count) < 0.1] *= 3
    return list(times)


def kernels(times: dict[str, dict[str, list[float]]], **changes: Any) -> dict[str, Any]:
    """A result of ``bench.kernels``: of each shape the samples of each way."""
    cases = [
        {
            "op": "bias_leaky_relu",
            "kind": None,
            "shape": [int(each) for each in shape.split("x")],
            "layout": "contiguous",
            "dtype": "float32",
            "samples_us": ways,
        }
        for shape, ways in times.items()
    ]
    head = {"command": "python -m bench.kernels", "date": "2026-01-01", "commit": "0123456789ab"}
    return {**head, "device": "cpu", "cases": cases, "environment": ENVIRONMENT, **changes}


@pytest.fixture
def told(tmp_path: Path, capsys) -> Callable[..., tuple[int, str]]:
    """Compare two records: the exit status, and what is printed."""

    def run(old: dict[str, Any], new: dict[str, Any], *flags: object) -> tuple[int, str]:
        files = (tmp_path / "old.json", tmp_path / "new.json")
        for file, record in zip(files, (old, new), strict=True):
            file.write_text(json.dumps(record))
        status = call(compare.main, *files, *flags)
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def verdicts(printed: str) -> dict[str, tuple[str, float]]:
    """Of each case its verdict and its ratio, in the order of the table."""
    found = {}
    for line in printed.splitlines():
        for verdict in (SLOWER, FASTER, SAME, UNKNOWN):
            if f"  {verdict} " in line and ": " in line:
                name, _, rest = line.partition(f"  {verdict} ")
                found[name.strip().split(", ")[1]] = verdict, float(rest.split()[0])
    return found


def test_a_slow_case_is_found_and_noise_is_not(told) -> None:
    """The slow one is 10 % slower; the times of the others are drawn anew."""
    old = kernels({f"{n}x2x2x2": {"fused": samples(100, n)} for n in range(1, 9)})
    times = {f"{n}x2x2x2": {"fused": samples(100, 50 + n)} for n in range(1, 7)}
    times |= {"7x2x2x2": {"fused": samples(110, 57)}, "8x2x2x2": {"fused": samples(80, 58)}}
    status, printed = told(old, kernels(times))
    assert status == 1
    assert "1 of 8 cases are slower by more than 5%" in printed
    found = verdicts(printed.replace(": fused", ",: fused"))
    assert next(iter(found)) == "7x2x2x2"  # what lost most is first
    assert found["7x2x2x2"] == (SLOWER, pytest.approx(1.1, abs=0.04))
    assert list(found)[-1] == "8x2x2x2"
    assert found["8x2x2x2"] == (FASTER, pytest.approx(0.8, abs=0.04))
    assert [found[f"{n}x2x2x2"][0] for n in range(1, 7)].count(SAME) >= 5  # of 95 in 100
    status, printed = told(old, kernels(times), "--tolerance", 0.2)
    assert (status, "0 of 8 cases are slower by more than 20%" in printed) == (0, True)


def test_a_baseline_that_is_slower_is_the_machine(told) -> None:
    old = kernels({"1x2x2x2": {"fused": samples(100, 1), "eager": samples(100, 2)}})
    new = kernels({"1x2x2x2": {"fused": samples(100, 1), "eager": samples(200, 2)}})
    status, printed = told(old, new)
    assert status == 0
    baselines, package = printed.split("the package")
    assert SLOWER in baselines
    assert SLOWER not in package.split("0 of 1")[0]
    assert told(new, old)[0] == 0


def test_the_interval_holds_the_truth_and_narrows_with_more_samples() -> None:
    hits, widths = 0, {20: [], 500: []}
    for seed in range(60):
        for count, found in widths.items():
            low, high = interval(samples(10, 2 * seed, count), samples(11, 2 * seed + 1, count))
            found.append(high - low)
            hits += low <= 1.1 <= high
    assert hits >= 0.88 * 120
    assert np.mean(widths[500]) < np.mean(widths[20]) / 3
    assert interval([1, 2, 3], [2, 3, 4]) == interval([1, 2, 3], [2, 3, 4])
    # Of samples that stay alike for a while there are fewer than they are.
    runs = [list(np.repeat(samples(10, seed, 25), 10)) for seed in (1, 2)]
    mixed = [list(np.random.default_rng(0).permutation(each)) for each in runs]
    assert np.ptp(interval(*runs)) > 1.5 * np.ptp(interval(*mixed))


def test_cases_that_one_lacks_are_named_and_few_samples_are_not_judged(told) -> None:
    both = {"1x2x2x2": {"fused": samples(100, 1)}}
    old = kernels(both | {"2x2x2x2": {"fused": samples(1, 2)}})
    new = kernels(both | {"3x2x2x2": {"fused": samples(1, 2)}})
    status, printed = told(old, new)
    assert status == 0
    assert "new.json: bias_leaky_relu, 2x2x2x2, contiguous, float32: fused" in printed
    assert "old.json: bias_leaky_relu, 3x2x2x2, contiguous, float32: fused" in printed
    few = [kernels({"1x2x2x2": {"fused": [each] * 4}}) for each in (1.0, 9.0)]
    status, printed = told(*few)
    assert status == 2
    assert UNKNOWN in printed
    assert "no case of the package can be judged" in printed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device": "cuda"}, "device: cpu before, cuda now"),
        ({"environment": {**ENVIRONMENT, "threads": 4}}, "threads: 2 before, 4 now"),
        ({"environment": {**ENVIRONMENT, "packages": {"torch": "3"}}}, "torch: 2.9 before, 3 now"),
    ],
)
def test_other_circumstances_are_refused_unless_forced(told, change, words: str) -> None:
    times = {"1x2x2x2": {"fused": samples(100, 1)}}
    status, printed = told(kernels(times), kernels(times, **change))
    assert status == 2
    assert f"cannot be compared: {'packages.' * ('torch' in words)}{words}" in printed
    status, printed = told(kernels(times), kernels(times, **change), "--force")
    assert status == 0
    assert "NOT the same: " in printed
    assert words in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": "python -m bench.throughput", "points": []}, "expected bench.kernels"),
        ({"command": "python -m bench.profile_step"}, "have no samples to compare"),
        ({"cases": [{}]}, "not as python -m bench.kernels writes it: 'op'"),
    ],
)
def test_other_kinds_are_refused_forced_or_not(told, change, message: str) -> None:
    record = kernels({"1x2x2x2": {"fused": samples(100, 1)}})
    status, printed = told(record, {**record, **change}, "--force")
    assert status == 2
    assert message in printed


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("kernels_cpu", 262),
        ("throughput_cpu", 7),
        ("busy_cpu", 8),
        ("data", 6),
        ("parity_32_cpu", 3),
    ],
)
def test_every_kind_of_result_is_the_same_as_itself(told, name: str, cases: int) -> None:
    record = json.loads((RESULTS / f"{name}.json").read_text())
    found = list(compare.KINDS[compare.command_of(record)](record))
    assert len({case.name for case in found}) == len(found) == cases
    assert all(min(case.samples) > 0 for case in found)
    status, printed = told(record, record)
    enough = name not in ("busy_cpu", "data")  # of which the file has too few samples
    assert status == (0 if enough else 2)
    assert SLOWER not in printed.replace("cases are slower", "")
    assert not enough or "0 of " in printed

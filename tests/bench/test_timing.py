"""How the benchmark takes turns and finds the peak of memory."""

import pytest
import torch

from bench import timing

CPU = torch.device("cpu")


def test_variants_take_turns_and_each_turn_begins_with_a_call_that_is_not_timed() -> None:
    calls: list[str] = []
    variants = {name: lambda name=name: calls.append(name) for name in "abc"}
    samples = timing.measure(variants, CPU, seconds=1e-9)
    assert {len(each) for each in samples.values()} == {
        timing.MIN_ROUNDS * timing.MAX_REPETITIONS  # calls that take no time
    }
    warm_up = timing.WARM_UP + 1 + timing.MIN_REPETITIONS
    timed = calls[3 * warm_up :]
    turns = timed[:: timing.MAX_REPETITIONS + 1]
    assert timed == [name for name in turns for _ in range(timing.MAX_REPETITIONS + 1)]
    assert "".join(turns) == "abcbcacababcbca"


class Clock:
    """Nanoseconds, which pass when they are taken."""

    now = 0

    def take(self, nanoseconds: int) -> None:
        self.now += nanoseconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: made.now)
    return made


def test_what_goes_before_a_call_is_not_timed(clock: Clock) -> None:
    variants = {"a": lambda: clock.take(30_000_000)}
    samples = timing.measure(variants, CPU, seconds=1e-9, before=lambda: clock.take(5_000_000))
    assert samples == {"a": [30_000.0] * (timing.MIN_ROUNDS * timing.MIN_REPETITIONS)}
    assert clock.now > sum(samples["a"]) * 1e3  # it was called


def test_a_case_takes_about_as_long_as_it_may(clock: Clock) -> None:
    variants = {"slow": lambda: clock.take(30_000_000), "quick": lambda: clock.take(10_000_000)}
    samples = timing.measure(variants, CPU, seconds=1.7)
    # A round is 4 calls of each, 0.16 s; of the slow one 20 ms are less than the 3 that are timed.
    assert samples == {"slow": [30_000.0] * 30, "quick": [10_000.0] * 30}


def test_samples_are_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0, 1500, 2000, 4000])
    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: next(readings))
    assert timing.turn(lambda: None, CPU, 2) == [1.5, 2.0]


def test_peak_counts_what_is_held_at_once_and_not_what_was_there(
    capfd: pytest.CaptureFixture[str],
) -> None:
    there = torch.zeros(1000, 1000)

    def function() -> torch.Tensor:
        first = there + 1  # 4 MB
        second = first + 1  # 8 MB
        del first
        third = second + 1  # 8 MB again
        return third[:1].clone()

    peak = timing.peak_bytes(function, CPU)
    assert 8_000_000 <= peak < 8_100_000
    assert capfd.readouterr().err == ""  # the profiler's own lines do not reach the terminal


def test_peak_of_a_call_that_allocates_nothing_is_0() -> None:
    there = torch.zeros(10)
    assert timing.peak_bytes(lambda: there.add_(1), CPU) < 100

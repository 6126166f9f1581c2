"""Does the winner of a sweep stand? It and the default, both run again on new seeds.

The best of many trials looks better than it is, for it is the best by chance as well. Its runs on
new seeds know nothing of that choice. The default's run of the same seed begins with the same
random numbers and sees the images in the same order, so that differences are taken within seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxrgan_fast.metrics.metric import all_metrics
from cxrgan_fast.studies.differences import paired_difference, require_scipy

WINNER, DEFAULT = "winner", "default"
ARMS = (WINNER, DEFAULT)

STANDS, NO_DIFFERENCE, WORSE = "stands", "no difference shown", "worse"
NOT_COMPLETE = "not complete"
"""Verdicts. An interval that is looked at again and again until it excludes 0 is no interval: there
is none before all runs have ended."""

SEEDS = 6
"""New seeds, unless another number is asked for. With fewer the sign test cannot come below 0.05.
"""

VALUE = "log(FID / floor)"
_OF_RUN = {VALUE: "lower", "seconds": "lower", "images_per_second": "higher"}


@dataclass(frozen=True)
class Rerun:
    """A run of a confirmation.

    Attributes:
        arm: `WINNER` or `DEFAULT`.
        seed: random seed, which both arms have.
        value: log(FID / floor); None where the run failed or has not ended.
        reason: why it failed; empty for others.
        kept: what the run has kept of itself, as a trial does.
    """

    arm: str
    seed: int
    value: float | None
    reason: str
    kept: Mapping[str, Any]

    @property
    def has_ended(self) -> bool:
        """Tell whether the run has ended, well or not."""
        return self.value is not None or bool(self.reason)


def judge_confirmation(trial: int, seeds: Sequence[int], reruns: Sequence[Rerun]) -> dict[str, Any]:
    """Compare the winner's runs with the default's, seed by seed.

    Args:
        trial: number of the winner.
        seeds: the new ones.
        reruns: runs that there are of them.

    Returns:
        Plain values for JSON: ``verdict``, one of `STANDS`, `NO_DIFFERENCE`, `WORSE` and
        `NOT_COMPLETE`, with the sentence ``words``; ``differences``: by name, the winner less the
        default, as `paired_difference` gives them; ``runs``; ``failed``: reasons by arm and seed;
        ``noise``: mean, standard deviation and number of the default's log(FID / floor).
    """
    of_arms = {arm: {run.seed: run for run in reruns if run.arm == arm} for arm in ARMS}
    failed = {
        arm: {str(seed): run.reason for seed, run in of_arms[arm].items() if run.reason}
        for arm in ARMS
    }
    numbers = {
        arm: {seed: _numbers(run) for seed, run in of_arms[arm].items() if run.value is not None}
        for arm in ARMS
    }
    pairs = [seed for seed in seeds if all(seed in numbers[arm] for arm in ARMS)]
    waiting = sum(not (seed in of_arms[arm] and of_arms[arm][seed].has_ended)
                  for arm in ARMS for seed in seeds)  # fmt: skip
    differences = _differences([tuple(numbers[arm][seed] for arm in ARMS) for seed in pairs])
    verdict, words = _verdict(differences, waiting, failed, len(pairs))
    return {
        "trial": trial,
        "seeds": list(seeds),
        "verdict": verdict,
        "words": words,
        "pairs": len(pairs),
        "waiting": waiting,
        "differences": differences,
        "failed": failed,
        "noise": _noise([numbers[DEFAULT][seed][VALUE] for seed in seeds
                         if seed in numbers[DEFAULT]]),
        "runs": [
            {**run.kept, "arm": run.arm, "seed": run.seed, "value": run.value,
             "reason": run.reason or None}
            for arm in ARMS for seed in seeds if (run := of_arms[arm].get(seed)) is not None
        ],
    }  # fmt: skip


def _numbers(run: Rerun) -> dict[str, float]:
    """All that is compared of a run, by name."""
    assert run.value is not None
    found = {VALUE: run.value}
    found.update({name: run.kept[name] for name in _OF_RUN if _is_number(run.kept.get(name))})
    for place, (features, measured) in enumerate((run.kept.get("measurements") or {}).items()):
        for name, value in measured.items():
            if name in all_metrics() and _is_number(value):
                found[f"{features}: {name}"] = value
        # The first of the features decide: theirs is the value itself.
        both = [measured.get(name) for name in ("fid", "floor")]
        if place and all(_is_number(each) and each > 0 for each in both):
            found[f"{features}: {VALUE}"] = math.log(measured["fid"] / measured["floor"])
        for class_name, of_class in (measured.get("classes") or {}).items():
            if _is_number(of_class.get("fid")):
                found[f"{features}, {class_name}: fid"] = of_class["fid"]
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _direction(name: str) -> str | float:
    number = name.rpartition(": ")[2]
    return _OF_RUN[number] if number in _OF_RUN else all_metrics()[number].better


def _differences(pairs: Sequence[tuple[dict[str, float], ...]]) -> dict[str, Any]:
    names = dict.fromkeys(name for pair in pairs for name in pair[0])
    found = {}
    for name in names:
        both = [(winner[name], default[name]) for winner, default in pairs
                if name in winner and name in default]  # fmt: skip
        if both:
            found[name] = paired_difference(both, _direction(name))
    return found


def _verdict(
    differences: Mapping[str, Any],
    waiting: int,
    failed: Mapping[str, Mapping[str, str]],
    pairs: int,
) -> tuple[str, str]:
    if waiting:
        runs = f"{waiting} run{'s' if waiting > 1 else ''}"
        return NOT_COMPLETE, f"{NOT_COMPLETE}: {runs} of the confirmation have not ended"
    if failed[WINNER]:
        seed, reason = next(iter(failed[WINNER].items()))
        return NO_DIFFERENCE, (
            f"{NO_DIFFERENCE}: {len(failed[WINNER])} of the winner's runs failed, such as that of "
            f"seed {seed} ({reason})"
        )
    found = differences.get(VALUE)
    if found is None or found["interval_95"] is None:
        return NO_DIFFERENCE, f"{NO_DIFFERENCE}: two pairs or more are needed, there are {pairs}"
    low, high = found["interval_95"]
    verdict = STANDS if high < 0 else WORSE if low > 0 else NO_DIFFERENCE
    others = {name: each for name, each in differences.items()
              if name.endswith(f": {VALUE}") and each["interval_95"] is not None}  # fmt: skip
    opposed = [name for name, each in others.items() if each["interval_95"][0] > 0]
    words = (
        f"on {pairs} new seeds FID / floor is {_times(found)} that of the default, lower in "
        f"{found['better']} of {found['pairs']} (sign test: p = {found['p_signs']:.2g})"
    )
    for name, each in others.items():
        words += f"; by {name.removesuffix(f': {VALUE}')} it is {_times(each)}"
    if verdict == STANDS and opposed:
        # Better images are better by other features as well, or the first have been fooled.
        return NO_DIFFERENCE, f"{NO_DIFFERENCE}, for the features contradict each other: {words}"
    return verdict, f"{verdict}: {words}"


def _times(found: Mapping[str, Any]) -> str:
    """A difference of logarithms as a factor."""
    times, least, most = (
        f"{math.exp(each):.3g}" for each in (found["mean"], *found["interval_95"])
    )
    return f"{times} times (95 % interval {least} to {most})"


def _noise(values: Sequence[float]) -> dict[str, Any]:
    return {
        "n": len(values),
        "mean": statistics.fmean(values) if values else None,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
    }


def lowest_by_luck(deviation: float, count: int) -> float:
    """Compute how far the lowest of some equally good trials is below their mean, on average.

    Args:
        deviation: standard deviation of log(FID / floor) over seeds, taken to be normal.
        count: number of trials.

    Returns:
        The distance in log(FID / floor), at least 0.
    """
    stats, quad = require_scipy(), require_scipy("scipy.integrate").quad

    def density(z: float) -> float:
        return float(z * count * stats.norm.pdf(z) * stats.norm.cdf(z) ** (count - 1))

    return float(deviation * quad(density, -12, 12, limit=200)[0]) if count > 1 else 0.0

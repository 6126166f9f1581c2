"""The sentence at the top of a report: what was found, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cxrgan_fast.studies.augmentation.effects import LEVEL


def state_finding(record: Mapping[str, Any]) -> str:
    """Tell what the primary comparison shows at each size, and where it shows nothing.

    Args:
        record: what `cxrgan_fast.studies.augmentation.analysis.analyze` has put together.

    Returns:
        One sentence. A size without a difference is told with the smallest one that the study
        would have shown in 80 of 100 repetitions.
    """
    shown = [each for each in record["sizes"] if each["p_holm"] < LEVEL]
    better = [each for each in shown if each["difference"] > 0]
    worse = [each for each in shown if each["difference"] < 0]
    nothing = [each for each in record["sizes"] if each not in shown]
    parts = []
    for of_kind, verb in ((better, "raised"), (worse, "lowered")):
        if of_kind:
            told = _joined([_effect(each) for each in of_kind])
            parts.append(f"synthetic images {verb} the AUC on new patients {told}")
    if nothing:
        parts.append(f"no difference shown {_joined([_null(each) for each in nothing])}")
    sizes, seeds = record["sizes"], record["seeds"]
    folds = max(each["folds"] for each in sizes)
    design = (
        f"{record['primary']['arm']} against {record['primary']['against']}, "
        f"{_count(folds, 'fold')} of patients, {_count(seeds, 'seed')}"
    )
    if len(sizes) > 1:
        design += f", p corrected for {len(sizes)} sizes"
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]} ({design})."


def _effect(each: Mapping[str, Any]) -> str:
    low, high = each["interval_95"]
    return (
        f"{_at(each)} by {abs(each['difference']):.4f} (95 % interval {low:+.4f} to {high:+.4f}, "
        f"{_p(each['p_holm'])})"
    )


def _null(each: Mapping[str, Any]) -> str:
    low, high = each["interval_95"]
    return (
        f"{_at(each)} ({each['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}; "
        f"{each['smallest_effect']:.4f} would have been)"
    )


def _at(each: Mapping[str, Any]) -> str:
    if each["size"] == "all":
        return f"with all {each['images']} real images"
    return f"with {each['size']} real images"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

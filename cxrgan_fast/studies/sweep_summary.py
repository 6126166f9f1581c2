"""All that the report of a sweep shows, as plain values for JSON, from which it is drawn."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cxrgan_fast.studies.confirmation import lowest_by_luck
from cxrgan_fast.studies.effects import FEWEST, Effect, Group, effects, shown_value
from cxrgan_fast.studies.importances import REDRAWS, Importance, importances
from cxrgan_fast.studies.outcomes import (
    FINISHED,
    LAST_RUNG,
    PRUNED,
    RUNNING,
    Outcome,
    best_of,
    default_of,
    values_for_comparison,
)
from cxrgan_fast.studies.pruning import rank_correlation

NO_DIFFERENCE = "no difference shown"

_HOUR = 3600.0
_FEWEST_RANKS = 4
_NUMBER = re.compile(r"\d+(\.\d+)?(e[-+]?\d+)?")


def summarize(
    name: str,
    outcomes: Sequence[Outcome],
    settings: Mapping[str, Any],
    space: Mapping[str, Any],
    *,
    against: tuple[str, Sequence[Outcome]] | None = None,
    confirmation: Mapping[str, Any] | None = None,
    redraws: int = REDRAWS,
    progress: bool = True,
) -> dict[str, Any]:
    """Collect what a sweep has shown.

    Args:
        name: name of its study.
        outcomes: what became of its trials.
        settings: what all of them have in common.
        space: what they were drawn from.
        against: another sweep, whose best-so-far is shown beside this one's, and its name.
        confirmation: as `confirmation.judge_confirmation` gives it.
        redraws: times that a third of the trials is left out, for the intervals of the importances.
        progress: whether to show a bar on standard error.

    Returns:
        Plain values, those that are not finite as None.
    """
    best, default = best_of(outcomes), default_of(outcomes)
    ended = [each for each in outcomes if each.state != RUNNING]
    parameters = parameter_rows(
        outcomes,
        default.parameters if default is not None else {},
        learns=settings.get("sampler") != "random",
        redraws=redraws,
        progress=progress,
    )
    return _plain(
        {
            "name": name,
            "objective": settings.get("objective", "fid"),
            "settings": settings,
            "space": space,
            "counts": {
                state: sum(each.state == state for each in outcomes)
                for state in (FINISHED, PRUNED, "failed", RUNNING)
            },
            "hours": sum(each.seconds or 0.0 for each in ended) / _HOUR,
            "floor": _floor(outcomes),
            "best": None if best is None else best.number,
            "default": None if default is None else default.number,
            "trials": [_trial(each) for each in outcomes],
            "history": history(outcomes),
            "against": None if against is None else
            {"name": against[0], "history": history(against[1])},
            "front": front(outcomes),
            "rungs": rung_correlations(outcomes),
            "failures": failures(outcomes),
            "parameters": parameters,
            "strongest": [row["name"] for row in parameters if row["importance"]][:2],
            "confirmation": confirmation,
            "luck": _luck(outcomes, best, default, confirmation),
        }
    )  # fmt: skip


def _trial(each: Outcome) -> dict[str, Any]:
    return {
        **{name: value for name, value in each.kept.items() if name not in ("worker", "config")},
        "number": each.number,
        "state": each.state,
        "parameters": dict(each.parameters),
        "value": each.value,
        "ratio": each.ratio,
        "seconds": each.seconds,
        "reached": each.reached,
        "default": each.is_default,
    }


def _floor(outcomes: Sequence[Outcome]) -> float | None:
    """FID of real images by the features that decide, which is the same for all trials."""
    for each in outcomes:
        for measured in each.measurements.values():
            return float(measured["floor"]) if measured.get("floor") else None
    return None


def history(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """List the trials that have ended, in that order, with the hours of training so far.

    Pruned trials and failed ones take their time as well, so that two sweeps are compared by hours.

    Returns:
        For each its ``number``, ``state``, ``hours``, ``ratio`` (FID / floor; None unless it is
        finished) and ``best``, the lowest ratio so far.
    """
    ended = [each for each in outcomes if each.ended is not None]
    hours, best, found = 0.0, None, []
    for each in sorted(ended, key=lambda one: (one.ended, one.number)):
        hours += (each.seconds or 0.0) / _HOUR
        if each.ratio is not None:
            best = each.ratio if best is None else min(best, each.ratio)
        found.append({"number": each.number, "state": each.state, "hours": hours,
                      "ratio": each.ratio, "best": best})  # fmt: skip
    return found


def front(outcomes: Sequence[Outcome]) -> list[int]:
    """List the finished trials than which none is both faster and better, the fastest first."""
    finished = [each for each in outcomes if each.value is not None and each.reached is not None]
    found, lowest = [], math.inf
    for each in sorted(finished, key=lambda one: (one.reached, one.value)):
        if each.value is not None and each.value < lowest:
            lowest = each.value
            found.append(each.number)
    return found


def rung_correlations(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Compute Spearman's ρ of each rung's FID with the final one, over the finished trials.

    Where trials are pruned, later ones have only the rungs that prune, and are the better ones: ρ
    is over those that have all rungs.

    Returns:
        By rung ``rho`` (None where it is not defined, or of fewer than 4 trials, of which it is
        often 1 or -1) and ``trials``, their number.
    """
    of_trials = [each.rungs for each in outcomes if each.state == FINISHED]
    names = list(dict.fromkeys(name for rungs in of_trials for name in rungs))
    whole = [rungs for rungs in of_trials if all(name in rungs for name in names)]
    if LAST_RUNG not in names:
        return {}
    return {
        name: {
            "rho": rank_correlation([each[name] for each in whole],
                                    [each[LAST_RUNG] for each in whole])
            if len(whole) >= _FEWEST_RANKS else None,
            "trials": len(whole),
        }
        for name in sorted(names, key=float) if name != LAST_RUNG
    }  # fmt: skip


def failures(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Count the trials that failed by their cause, the most frequent first.

    Reasons that differ in numbers alone, such as the step, are one cause.

    Returns:
        For each ``cause`` (the reason of its first trial), ``count`` and ``trials``, their numbers.
    """
    causes: dict[str, list[Outcome]] = {}
    for each in outcomes:
        if each.reason:
            causes.setdefault(_NUMBER.sub("#", each.reason), []).append(each)
    found = [
        {"cause": trials[0].reason, "count": len(trials), "trials": [one.number for one in trials]}
        for trials in sorted(causes.values(), key=len, reverse=True)
    ]
    return found


def parameter_rows(
    outcomes: Sequence[Outcome],
    default: Mapping[str, Any],
    *,
    learns: bool,
    redraws: int,
    progress: bool,
) -> list[dict[str, Any]]:
    """Say of each setting what the trials show, those of the largest importance first.

    Args:
        outcomes: what became of the trials.
        default: value of each setting in the default.
        learns: whether the sampler looks at earlier trials.
        redraws: times that a third of the trials is left out, for the intervals of the importances.
        progress: whether to show a bar on standard error.

    Returns:
        For each setting ``name``, ``default`` (None where the default has no use for it), ``log``,
        ``choices``, ``low`` and ``high``, ``trials`` (in which it was drawn), ``importance`` with
        ``interval`` and ``by_chance``, ``p`` and ``adjusted``, ``groups`` of trials by its value,
        the place of the ``best`` one, and ``words``.
    """
    judged = values_for_comparison(outcomes)
    trials = [each for each in outcomes if each.number in judged]
    values = [judged[each.number] for each in trials]
    distributions = {name: of for each in outcomes for name, of in each.distributions.items()}
    shares = importances(
        [each.parameters for each in trials], distributions, values,
        redraws=redraws, progress=progress,
    )  # fmt: skip
    of_trials = {name: [each.parameters.get(name) for each in trials] for name in distributions}
    shown = effects(of_trials, distributions, values, learns=learns)
    rows = [
        _row(name, distributions[name], default.get(name), shares.get(name), shown[name])
        for name in distributions
    ]
    return sorted(rows, key=lambda row: -(row["importance"] or {}).get("share", 0.0))


def _row(
    name: str, distribution: Any, default: Any, importance: Importance | None, effect: Effect
) -> dict[str, Any]:
    choices, best = getattr(distribution, "choices", None), effect.best
    return {
        "name": name,
        "default": default,
        "log": getattr(distribution, "log", False),
        "choices": None if choices is None else list(choices),
        "low": getattr(distribution, "low", None),
        "high": getattr(distribution, "high", None),
        "trials": sum(group.count for group in effect.groups),
        "importance": None if importance is None else
        {"share": importance.share, "interval": list(importance.interval),
         "by_chance": importance.by_chance},
        "p": effect.p,
        "adjusted": effect.adjusted,
        "shown": effect.is_shown,
        "groups": [
            {"text": group.text, "low": group.low, "high": group.high, "trials": group.count,
             "median_ratio": math.exp(group.median)}
            for group in effect.groups
        ],
        "best": None if best is None else effect.groups.index(best),
        "words": _words(effect, default),
    }  # fmt: skip


def _words(effect: Effect, default: Any) -> str:
    """What may be said of a setting, and no more than that."""
    best, count = effect.best, sum(group.count for group in effect.groups)
    if best is None:
        return "not drawn in any trial that counts"
    if effect.p is None:
        if len(effect.groups) < 2:
            return f"{NO_DIFFERENCE}: all {count} trials have {best.text}"
        return f"{NO_DIFFERENCE}: {count} trials are too few, {FEWEST} are needed"
    if not effect.is_shown:
        return NO_DIFFERENCE
    others = [group.median for group in effect.groups if group is not best]
    where = " (that of the default)" if default is not None and _has(best, default) else ""
    return (
        f"it matters: FID / floor is lowest with {best.text}{where}, in the median "
        f"{math.exp(best.median):.3g}; with others {_span(others)}"
    )


def _has(group: Group, value: Any) -> bool:
    if isinstance(value, str | bool):
        return bool(value == group.low)
    return bool(group.low <= value <= group.high)


def _span(logarithms: Sequence[float]) -> str:
    ends = [shown_value(math.exp(each)) for each in (min(logarithms), max(logarithms))]
    return " to ".join(dict.fromkeys(ends))


def _luck(
    outcomes: Sequence[Outcome],
    best: Outcome | None,
    default: Outcome | None,
    confirmation: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """How far the best trial is below the default, and how far it would be by luck alone."""
    deviation = None if confirmation is None else confirmation["noise"]["deviation"]
    if deviation is None or best is None or best.value is None:
        return None
    finished = sum(each.state == FINISHED for each in outcomes)
    by_luck = lowest_by_luck(deviation, finished)
    below = None if default is None or default.value is None else default.value - best.value
    return {"deviation": deviation, "finished": finished, "by_luck": by_luck, "below": below}


def _plain(value: Any) -> Any:
    """A value as JSON has it, without NaN and infinities, which JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in itertools.chain(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

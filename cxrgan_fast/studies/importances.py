"""How much of the objective each setting explains: fANOVA, with intervals.

Of Optuna's evaluators this is fANOVA (Hutter, Hoos and Leyton-Brown, An Efficient Approach for
Assessing Hyperparameter Importance, 2014): a random forest predicts the objective, and a setting's
importance is the share of the forest's variance that it explains alone. PED-ANOVA compares the
settings of the best trials with those of all, that is with where the sampler went: a setting that
TPE has settled on early then has next to none, however much it matters. With few trials it would
also have to decide by three or four of them.

fANOVA knows no settings that are drawn only beside some others, such as momentum: Optuna leaves
them out. Here such a setting has the middle of its range, or its first choice, where it does
nothing, as its authors do; so all settings are in one forest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.library import INSTALL, load_optuna

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 10
"""Trials below which no importance is computed."""
REDRAWS = 40
"""Times that a third of the trials is left out for an interval."""

_SHUFFLES = 20
_TREES = 8  # more change an importance by far less than other trials do
_LEFT_OUT = 3  # one of so many trials
_DEVIATIONS = 2.0  # to either side
_SEED = 0

Trials = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Importance:
    """How much of the objective a setting explains.

    Attributes:
        share: share of what all settings explain alone, from 0 to 1.
        interval: two standard deviations to either side, within 0 and 1, where the deviation is
            that over sets of trials with a third left out, scaled to all (delete-d jackknife: Shao
            and Wu, A General Theory for Jackknife Variance Estimation, 1989). It covers the share
            that random sweeps of as many trials have on average in 95 of 100 or more. Drawing with
            replacement does not: with copies among the trials a forest sees fewer of them. Of few
            trials the average itself favors the strongest setting, and a sweep of TPE's is none
            at random.
        by_chance: mean share where the objective is shuffled over all trials; what a setting
            without any effect has, since the shares sum to 1.
    """

    share: float
    interval: tuple[float, float]
    by_chance: float


def importances(
    trials: Trials,
    distributions: Mapping[str, BaseDistribution],
    values: Sequence[float],
    *,
    redraws: int = REDRAWS,
    progress: bool = True,
) -> dict[str, Importance]:
    """Compute the importance of each setting, the largest first.

    Args:
        trials: for each trial the values that were drawn for it.
        distributions: for each setting what its values were drawn from.
        values: for each trial log(FID / floor).
        redraws: times that a third of the trials is left out, two at least.
        progress: whether to show a bar on standard error.

    Returns:
        Nothing for fewer than `FEWEST` trials, or where their values are all equal.

    Raises:
        UserError: scikit-learn is missing.
    """
    of_trials = {name: each for name, each in distributions.items() if not each.single()}
    if len(trials) < FEWEST or not of_trials or len(set(values)) == 1:
        return {}
    varied = {name: _plain(each) for name, each in of_trials.items()}
    complete = [
        {
            name: _on_scale(drawn[name], each) if name in drawn else _middle(varied[name])
            for name, each in of_trials.items()
        }
        for drawn in trials
    ]
    objective, rng = np.asarray(values, np.float64), np.random.default_rng(_SEED)
    n = len(trials)
    orders = [
        *(("redraw", rng.permutation(n)[n // _LEFT_OUT :]) for _ in range(redraws)),
        *(("shuffle", rng.permutation(n)) for _ in range(_SHUFFLES)),
    ]
    found: dict[str, list[dict[str, float]]] = {"redraw": [], "shuffle": []}
    shares = _fanova(complete, varied, objective)
    bar = tqdm(orders, desc="importances", unit="forest", disable=None if progress else True)
    for kind, order in bar:
        chosen = [complete[place] for place in order] if kind == "redraw" else complete
        found[kind].append(_fanova(chosen, varied, objective[order]))
    importance = {
        name: Importance(
            share,
            _interval(share, [each[name] for each in found["redraw"]]),
            float(np.mean([each[name] for each in found["shuffle"]])),
        )
        for name, share in shares.items()
    }
    return dict(sorted(importance.items(), key=lambda item: -item[1].share))


def _interval(share: float, of_parts: Sequence[float]) -> tuple[float, float]:
    scale = math.sqrt(_LEFT_OUT - 1)  # of the deviation over parts, to that over all trials
    half = _DEVIATIONS * scale * float(np.std(of_parts, ddof=1))
    return max(0.0, share - half), min(1.0, share + half)


def _plain(distribution: BaseDistribution) -> BaseDistribution:
    """What a setting is drawn from, on the scale on which it is drawn.

    fANOVA weighs parts of a range by their length, of a learning rate as well: nine tenths of it
    would be the highest decade.
    """
    known: Any = distribution
    if hasattr(known, "choices"):
        return distribution
    ends = (_on_scale(end, distribution) for end in (known.low, known.high))
    scaled: BaseDistribution = load_optuna().distributions.FloatDistribution(*ends)
    return scaled


def _on_scale(value: Any, distribution: BaseDistribution) -> Any:
    known: Any = distribution
    if hasattr(known, "choices"):
        return value
    return math.log(value) if known.log else float(value)


def _middle(distribution: BaseDistribution) -> Any:
    known: Any = distribution
    return known.choices[0] if hasattr(known, "choices") else (known.low + known.high) / 2


def _fanova(
    trials: Trials, distributions: Mapping[str, BaseDistribution], values: NDArray[np.float64]
) -> dict[str, float]:
    """Optuna's importances, of trials that have all settings."""
    optuna = load_optuna()
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(
            params=dict(drawn), distributions=dict(distributions), value=value
        )
        for drawn, value in zip(trials, values.tolist(), strict=True)
    )
    if len(set(values.tolist())) == 1:  # a redraw of one trial alone explains nothing
        return dict.fromkeys(distributions, 1 / len(distributions))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=_SEED)
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except ImportError as error:
        raise UserError(f"importances need scikit-learn ({error}): {INSTALL}") from None
    return {name: float(share) for name, share in found.items()}
